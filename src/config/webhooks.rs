//! Where hooks may go, and what is kept of their deliveries.

use std::fmt::Display;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use webhooks::guard::{Allowed, Network};

use super::Limit;
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

/// What was typed, checked. `add` takes each problem with its key.
pub(super) fn check(section: WebhooksSection, mut add: impl FnMut(&str, String)) -> Webhooks {
    let mut number = |key: &str, value: i64, range: RangeInclusive<i64>| {
        if !range.contains(&value) {
            add(key, format!("{value} is not a number from {} to {}", range.start(), range.end()));
        }
        u64::try_from(value).unwrap_or(1)
    };
    let at_once = u32::try_from(number("webhooks.at_once", section.at_once, AT_ONCE)).unwrap_or(1);
    let pending_ms = number("webhooks.pending_hours", section.pending_hours, PENDING_HOURS).saturating_mul(HOUR_MS);
    let keep_ms = number("webhooks.keep_days", section.keep_days, KEEP_DAYS).saturating_mul(24 * HOUR_MS);
    Webhooks {
        allow: each(&section.allow, |text, error| add("webhooks.allow", format!("{text:?} {error}"))),
        deny: each(&section.deny, |text, error| add("webhooks.deny", format!("{text:?} {error}"))),
        ports: section.ports.iter().filter_map(|text| ports(text, &mut add)).collect(),
        plain_http: section.plain_http,
        certificates: certificates(&section.certificates, &mut add),
        at_once,
        pending_ms,
        pending_bytes: section.pending_bytes,
        keep_ms,
        keep_bytes: section.keep_bytes,
    }
}

fn each<T: FromStr<Err: Display>>(texts: &[String], mut refuse: impl FnMut(&str, T::Err)) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().map_err(|error| refuse(text, error)).ok()).collect()
}

fn ports(text: &str, add: &mut impl FnMut(&str, String)) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse::<u16>().ok().zip(last.trim().parse::<u16>().ok()).filter(|(first, last)| 0 < *first && first <= last);
    if range.is_none() {
        add("webhooks.ports", format!("{text:?} is neither a port nor a range such as 1024-65535"));
    }
    range.map(|(first, last)| first..=last)
}

fn certificates(path: &str, add: &mut impl FnMut(&str, String)) -> Option<Certificates> {
    if path.is_empty() {
        return None;
    }
    let read = fs::read(path).map_err(|error| add("webhooks.certificates", format!("{path:?} cannot be read: {error}")));
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
