//! Where hooks may go, and what is kept of their deliveries.

use std::fmt::Display;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use webhooks::guard::{Allowed, Network};

use super::Limit;
use super::check::{Problems, number};
use super::file::WebhooksSection;

/// What may be configured, in each key's unit.
const AT_ONCE: RangeInclusive<i64> = 8..=8_192;
const PENDING_HOURS: RangeInclusive<i64> = 1..=72;
const KEEP_DAYS: RangeInclusive<i64> = 1..=90;
const HOUR_MS: u64 = 3_600_000;

/// Where hooks may go, and what is kept of their deliveries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhooks {
    /// Networks that are not public and may be reached all the same.
    pub allow: Vec<Allowed>,
    /// Networks that may not be reached.
    pub deny: Vec<Network>,
    /// The ports that receivers may have.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Whether requests may go out without TLS.
    pub plain_http: bool,
    /// Certificates that are trusted beside the system's.
    pub certificates: Option<Certificates>,
    /// Requests under way at the same time.
    pub at_once: u32,
    /// How old an event may get that is not delivered, in milliseconds.
    pub pending_ms: u64,
    /// Bytes of events that may wait for one hook.
    pub pending_bytes: Limit,
    /// How long deliveries are kept that are done with, in milliseconds.
    pub keep_ms: u64,
    /// Bytes of these, of all hooks.
    pub keep_bytes: Limit,
}

/// A file with certificates, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificates {
    /// Where.
    pub path: PathBuf,
    /// PEM.
    pub pem: Vec<u8>,
}

/// What was typed, checked.
pub(super) fn check(problems: &mut Problems, section: WebhooksSection) -> Webhooks {
    let at_once = u32::try_from(number(problems, "webhooks.at_once", section.at_once, AT_ONCE)).unwrap_or(1);
    let pending_ms = number(problems, "webhooks.pending_hours", section.pending_hours, PENDING_HOURS).saturating_mul(HOUR_MS);
    let keep_ms = number(problems, "webhooks.keep_days", section.keep_days, KEEP_DAYS).saturating_mul(24 * HOUR_MS);
    Webhooks {
        allow: each(problems, "webhooks.allow", &section.allow),
        deny: each(problems, "webhooks.deny", &section.deny),
        ports: section.ports.iter().filter_map(|text| ports(problems, text)).collect(),
        plain_http: section.plain_http,
        certificates: certificates(problems, &section.certificates),
        at_once,
        pending_ms,
        pending_bytes: section.pending_bytes,
        keep_ms,
        keep_bytes: section.keep_bytes,
    }
}

fn each<T: FromStr<Err: Display>>(problems: &mut Problems, key: &str, texts: &[String]) -> Vec<T> {
    let mut read = |text: &String| text.parse().map_err(|error| problems.add(key, format_args!("{text:?} {error}"))).ok();
    texts.iter().filter_map(&mut read).collect()
}

fn ports(problems: &mut Problems, text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse::<u16>().ok().zip(last.trim().parse::<u16>().ok()).filter(|(first, last)| 0 < *first && first <= last);
    if range.is_none() {
        problems.add("webhooks.ports", format_args!("{text:?} is neither a port nor a range such as 1024-65535"));
    }
    range.map(|(first, last)| first..=last)
}

fn certificates(problems: &mut Problems, path: &str) -> Option<Certificates> {
    if path.is_empty() {
        return None;
    }
    let read = fs::read(path).map_err(|error| problems.add("webhooks.certificates", format_args!("{path:?} cannot be read: {error}")));
    read.ok().map(|pem| Certificates { path: PathBuf::from(path), pem })
}

/// Each key with its value, as text.
pub(super) fn settings(webhooks: &Webhooks) -> [(&'static str, String); 10] {
    fn list<T: ToString>(items: &[T]) -> String {
        items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
    }
    let Webhooks { allow, deny, ports, plain_http, certificates, at_once, pending_ms, pending_bytes, keep_ms, keep_bytes } = webhooks;
    let port = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    [
        ("webhooks.allow", list(allow)),
        ("webhooks.deny", list(deny)),
        ("webhooks.ports", ports.iter().map(port).collect::<Vec<_>>().join(", ")),
        ("webhooks.plain_http", plain_http.to_string()),
        ("webhooks.certificates", certificates.as_ref().map(|file| file.path.display().to_string()).unwrap_or_default()),
        ("webhooks.at_once", at_once.to_string()),
        ("webhooks.pending_hours", (pending_ms / HOUR_MS).to_string()),
        ("webhooks.pending_bytes", pending_bytes.to_string()),
        ("webhooks.keep_days", (keep_ms / (24 * HOUR_MS)).to_string()),
        ("webhooks.keep_bytes", keep_bytes.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn where_hooks_may_go_is_read() {
        let config = Config::parse(
            "[webhooks]\nallow = [\"192.168.1.5:25\", \"fd00::/8\"]\ndeny = [\"203.0.113.0/24\"]\nports = [\"443\", \"8000-9000\"]\nplain_http = false",
            [],
        );
        let webhooks = config.unwrap().webhooks;
        assert_eq!((webhooks.allow.len(), webhooks.deny.len(), webhooks.plain_http), (2, 1, false));
        assert_eq!(webhooks.ports, [443..=443, 8_000..=9_000]);
        let shown = settings(&webhooks).map(|(_, value)| value);
        assert_eq!(shown[..3], ["192.168.1.5/32:25, fd00::/8", "203.0.113.0/24", "443, 8000-9000"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let text =
            "[webhooks]\nallow = [\"nowhere\"]\nports = [\"9-8\", \"0\"]\ncertificates = \"/none/such\"\nat_once = 0\npending_hours = 0";
        let error = Config::parse(text, []).unwrap_err().to_string();
        for part in ["webhooks.allow", "\"9-8\"", "\"0\"", "webhooks.certificates", "webhooks.at_once", "webhooks.pending_hours"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
