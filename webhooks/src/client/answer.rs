//! What is read of an answer: when to come again, what kind of body it has, and how long the connection may be kept.

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};

/// Longest that an answer can make us wait: a day.
pub const RETRY_AFTER_MAX_S: u64 = 24 * 3600;
/// Longest name of a kind of body.
const CONTENT_TYPE_LEN_MAX: usize = 128;
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// So much sooner than the other side we stop to use a connection, because of what is on its way.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// How long an answer asks to wait, in seconds: a number of them, or a moment (RFC 9110 §10.2.3). At most a day, and 0 for a moment that has passed. What is
/// neither says nothing. The clock is asked only for a moment.
pub fn retry_after(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number can have are a long time too.
        (!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX))?
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        at.duration_since(now()).map_or(0, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    };
    Some(seconds.min(RETRY_AFTER_MAX_S))
}

/// What the body is said to be.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    (text.len() <= CONTENT_TYPE_LEN_MAX).then(|| text.to_owned())
}

/// How long the other side says that it keeps the connection (`Keep-Alive: timeout=5`, RFC 2068 §19.7.1.1), less a margin.
pub(super) fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(KEEP_ALIVE).and_then(|value: &HeaderValue| value.to_str().ok())?;
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse().ok())?;
    Some(Duration::from_secs(seconds).saturating_sub(KEEP_ALIVE_MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_time_to_wait_is_read_as_seconds_and_as_a_date() {
        let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("86401", Some(RETRY_AFTER_MAX_S)),
            ("99999999999999999999999999", Some(RETRY_AFTER_MAX_S)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(RETRY_AFTER_MAX_S)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(retry_after(&headers(RETRY_AFTER, text), now), expected, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn how_long_the_other_side_keeps_a_connection_is_read() {
        for (text, expected) in
            [("timeout=5", Some(4)), ("timeout=5, max=100", Some(4)), ("max=100, timeout=0", Some(0)), ("5", None), ("timeout=x", None)]
        {
            assert_eq!(keep_alive(&headers(KEEP_ALIVE, text)), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn kinds_of_bodies_are_text_of_some_length() {
        assert_eq!(content_type(&headers(CONTENT_TYPE, "text/plain")).as_deref(), Some("text/plain"));
        assert_eq!(content_type(&headers(CONTENT_TYPE, &"x".repeat(129))), None);
    }
}
