//! Times as text: ISO 8601 in UTC with milliseconds, as every answer of the API carries them.

use std::fmt;

use firmware_protocol::time::UnixMillis;

const DAY_MS: u64 = 86_400_000;

/// Shows a time as `2015-07-18T00:12:18.174Z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Iso(pub UnixMillis);

impl fmt::Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnixMillis(ms) = self.0;
        let (year, month, day) = date_of_day(ms / DAY_MS);
        let second = ms / 1000;
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

/// Reads `2026-11-21`, `2026-11-21T10:00`, `…:30`, `…:30.5`, with `Z`, an offset such as `+02:00`, or neither (UTC).
///
/// `None` for any other text and for times before 1970.
pub fn parse(text: &str) -> Option<UnixMillis> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let days = day_of_date(year, month, day)?;
    let (time, offset_minutes) = split_offset(time)?;
    let of_day = ms_of_day(time)?;
    let ms = i64::try_from(days * DAY_MS + of_day).ok()? - offset_minutes * 60_000;
    u64::try_from(ms).ok().map(UnixMillis)
}

fn ms_of_day(time: &str) -> Option<u64> {
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(whole, ':', [2, 2, 2]).or_else(|| numbers(&format!("{whole}:00"), ':', [2, 2, 2]))?;
    if hour > 23 || minute > 59 || second > 59 || fraction.is_empty() || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let ms: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Cuts the offset off a time of day: what is left, and the minutes to take away for UTC.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(utc) = time.strip_suffix('Z') {
        return Some((utc, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let [hours, minutes] = numbers(&time[at + 1..], ':', [2, 2])?;
    let minutes = i64::try_from(hours * 60 + minutes).ok()?;
    Some((&time[..at], if time.as_bytes()[at] == b'-' { -minutes } else { minutes }))
}

/// Exactly N groups of digits of the given lengths.
fn numbers<const N: usize>(text: &str, separator: char, lengths: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, length) in found.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length && part.bytes().all(|digit| digit.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// Days since 1970 → year, month, day. Counts in years that begin in March, so that the leap day comes last, and in eras of 400 years.
fn date_of_day(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Year, month, day → days since 1970, if there is such a day.
fn day_of_date(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let year_from_march = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year_from_march / 400, year_from_march % 400);
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (date_of_day(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(ms: u64) -> String {
        Iso(UnixMillis(ms)).to_string()
    }

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(1_437_178_338_174), "2015-07-18T00:12:18.174Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
    }

    #[test]
    fn what_is_shown_reads_back() {
        for day in (0..60_000).step_by(37) {
            let time = UnixMillis(day * DAY_MS + day * 1439);
            assert_eq!(parse(&Iso(time).to_string()), Some(time));
        }
    }

    #[test]
    fn other_forms_are_read_too() {
        for (text, shown) in [
            ("2026-11-21", "2026-11-21T00:00:00.000Z"),
            ("2026-11-21T10:30", "2026-11-21T10:30:00.000Z"),
            ("2026-11-21 10:30:05", "2026-11-21T10:30:05.000Z"),
            ("2026-11-21T10:30:05.25Z", "2026-11-21T10:30:05.250Z"),
            ("2026-11-21T10:30:05.123456Z", "2026-11-21T10:30:05.123Z"),
            ("2026-11-21T00:30:00+02:00", "2026-11-20T22:30:00.000Z"),
            ("2026-11-20T22:30:00-02:00", "2026-11-21T00:30:00.000Z"),
        ] {
            assert_eq!(parse(text).map(|time| Iso(time).to_string()).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for bad in [
            "",
            "soon",
            "2026",
            "2026-02-30",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "1969-12-31",
            "2026-1-1",
            "2026-01-01T24:00",
            "2026-01-01T10",
            "2026-01-01T10:00:00.",
            "2026-01-01T10:00:00.x",
            "2026-01-01T10:00+2",
            "+026-01-01",
            "2026-01-01T10:00:00ZZ",
            "１970-01-01",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
