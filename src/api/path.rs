//! Paths: what stands in them for handlers, and how clients write them → as routes expect them: repeated slashes count as one, and one at the end as none.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use serde::Deserialize;

/// A path with a device in it. Names and not positions: the same handler serves the path below a product.
#[derive(Deserialize)]
pub(super) struct OfDevice {
    pub(super) device: String,
}

/// A path with a device, and a function or variable of it.
#[derive(Deserialize)]
pub(super) struct OnDevice {
    pub(super) device: String,
    pub(super) name: String,
}

/// A path that ends with the prefix of event names.
#[derive(Deserialize)]
pub(super) struct WithPrefix {
    pub(super) prefix: String,
}

/// The same with a device in it.
#[derive(Deserialize)]
pub(super) struct OfDeviceWithPrefix {
    pub(super) device: String,
    pub(super) prefix: String,
}

/// What follows this is the prefix of event names, and stays as it is.
const EVENTS: &str = "/events/";

/// The same address with a tidy path. An address that needs nothing, or cannot be tidied, stays as it is.
pub(super) fn tidy(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let is_tidy = path == "/" || !path.contains("//") && !path.ends_with('/');
    if is_tidy {
        return None;
    }
    let mut tidied = tidied(path);
    if let Some(query) = uri.query() {
        tidied.push('?');
        tidied.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(tidied).ok()?);
    Uri::from_parts(parts).ok()
}

fn tidied(path: &str) -> String {
    let mut tidy = String::with_capacity(path.len());
    for (at, c) in path.char_indices() {
        if c == '/' && tidy.ends_with('/') {
            continue;
        }
        tidy.push(c);
        if tidy.ends_with(EVENTS) && at + 1 < path.len() {
            tidy.push_str(path[at + 1..].trim_start_matches('/'));
            return trim(tidy, EVENTS.len());
        }
    }
    trim(tidy, 0)
}

/// Takes the slash at the end away, unless it belongs to the prefix of event names.
fn trim(mut path: String, events_len: usize) -> String {
    let is_prefix = events_len > 0 && !path.ends_with(EVENTS);
    if path.len() > 1 && path.ends_with('/') && !is_prefix {
        path.pop();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidy_text(text: &str) -> String {
        let uri = text.parse().expect("an address");
        tidy(&uri).unwrap_or(uri).to_string()
    }

    #[test]
    fn slashes_too_many_are_tolerated() {
        for (written, meant) in [
            ("/", "/"),
            ("//", "/"),
            ("/v1/user", "/v1/user"),
            ("//v1/user", "/v1/user"),
            ("/v1///devices//x/", "/v1/devices/x"),
            ("/v1/webhooks/?access_token=a//b/", "/v1/webhooks?access_token=a//b/"),
            ("/v1/devices/events/", "/v1/devices/events"),
            ("/v1/devices/events//", "/v1/devices/events"),
        ] {
            assert_eq!(tidy_text(written), meant, "{written}");
        }
    }

    #[test]
    fn a_prefix_of_event_names_keeps_its_slashes() {
        for (written, meant) in [
            ("/v1/devices/events/temp/", "/v1/devices/events/temp/"),
            ("//v1/devices/x/events/a//b/", "/v1/devices/x/events/a//b/"),
            ("/v1//events/temp%2Fkit%20chen?nonce=1.5", "/v1/events/temp%2Fkit%20chen?nonce=1.5"),
            ("/v1/devices/events//temp", "/v1/devices/events/temp"),
        ] {
            assert_eq!(tidy_text(written), meant, "{written}");
        }
    }
}
