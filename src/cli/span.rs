//! Spans of time as people type them: `90s`, `10m`, `12h`, `90d`.

use std::time::Duration;

/// Longest span that is taken: 100 years.
const SPAN_S_MAX: u64 = 3_155_760_000;

/// Reads a number and its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a span of time such as 90s, 10m, 12h or 90d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit_s).filter(|seconds| (1..=SPAN_S_MAX).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        for (text, seconds) in [("1s", 1), ("10m", 600), ("2h", 7200), ("90d", 7_776_000)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "10", "m", "-1m", "1.5h", "1w", "0s", "99999999999999999999d", "9999999999d", "1µ"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
