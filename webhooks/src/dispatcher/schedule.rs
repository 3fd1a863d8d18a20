//! When a delivery is tried again, and what an outcome means.

use std::time::Duration;

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::UnixMillis;

use crate::delivery::{Outcome, Phase};

/// Waits before each attempt, in seconds.
pub const SCHEDULE_S: [u64; ATTEMPTS_MAX as usize] = [0, 5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 86_400];
/// Attempts of one delivery.
pub const ATTEMPTS_MAX: u8 = 12;
/// A wait is longer or shorter by up to this part of it, in percent.
pub const JITTER_PERCENT: u64 = 20;
/// Longest wait that an answer can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// How old a pending delivery may become.
pub const KEPT: Duration = Duration::from_secs(72 * 3600);
/// Failed attempts for which the events behind it wait.
pub const IN_ORDER_ATTEMPTS: u8 = 3;
/// Longest wait of a lane for its first event, unless the destination itself asked for a pause: the longest of the first three attempts.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(36);
/// Attempts of one delivery in one replay.
pub const REPLAY_ATTEMPTS_MAX: u8 = 3;

/// What an outcome means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Delivered.
    Done,
    /// The destination is there no more, by its own words (410).
    Gone,
    /// It wants less (429).
    Throttled,
    /// It does not want it at all, which people have to set right (401, 403, 404).
    Refused(u16),
    /// It is in trouble: an answer from 500 on, or none within the time.
    Troubled,
    /// It could not be reached.
    Unreachable,
    /// It answered with anything else.
    Failed,
    /// No request could be made: nothing was sent.
    Unmade,
}

impl Class {
    /// That of an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered { status, .. } => Self::of_status(*status),
            Outcome::Failed { phase, .. } => match phase {
                Phase::Render => Self::Unmade,
                Phase::Guard | Phase::Dns | Phase::Connect | Phase::Tls => Self::Unreachable,
                Phase::Write | Phase::Wait | Phase::Body => Self::Troubled,
            },
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            200..300 => Self::Done,
            401 | 403 | 404 => Self::Refused(status),
            410 => Self::Gone,
            429 => Self::Throttled,
            500.. => Self::Troubled,
            _ => Self::Failed,
        }
    }

    /// Whether it says something against the destination: a full one is not a sick one, and what was not sent says nothing of it.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Done | Self::Throttled | Self::Unmade)
    }

    /// Whether the destination should get less at once.
    pub fn is_overload(self) -> bool {
        matches!(self, Self::Throttled | Self::Troubled | Self::Unreachable)
    }
}

/// How long an answer asks to wait, within what is honoured.
pub fn asked_wait(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Answered { retry_after_s: Some(seconds), .. } => Some(Duration::from_secs(*seconds).min(RETRY_AFTER_MAX)),
        _ => None,
    }
}

/// When a delivery is due again after so many failed attempts: by the schedule, and not before the answer asks for it.
pub fn next_due(now: UnixMillis, attempts: u8, asked: Option<Duration>, entropy: &mut SeededEntropy) -> UnixMillis {
    let step = SCHEDULE_S[usize::from(attempts).min(SCHEDULE_S.len() - 1)];
    let wait = jittered(Duration::from_secs(step), entropy).max(asked.unwrap_or_default());
    later(now, wait)
}

/// So long, a little longer or a little shorter.
pub fn jittered(wait: Duration, entropy: &mut SeededEntropy) -> Duration {
    let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 400);
    let spread = ms.saturating_mul(JITTER_PERCENT) / 100;
    Duration::from_millis(ms - spread + entropy.below(2 * spread + 1))
}

/// The moment so much later.
pub fn later(at: UnixMillis, wait: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
}

/// Time passed since `earlier`; zero if that is later.
pub fn passed(now: UnixMillis, earlier: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(earlier.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after_s: Option<u64>) -> Outcome {
        Outcome::Answered { status, retry_after_s }
    }

    #[test]
    fn waits_follow_the_schedule_within_a_fifth() {
        let mut entropy = SeededEntropy::new(7);
        for (attempts, step) in SCHEDULE_S.iter().enumerate() {
            for _ in 0..200 {
                let due = next_due(UnixMillis(1_000), u8::try_from(attempts).unwrap(), None, &mut entropy).0 - 1_000;
                assert!((step * 800..=step * 1_200).contains(&due), "{attempts}: {due}");
            }
        }
        assert!(SCHEDULE_S.iter().sum::<u64>() < KEPT.as_secs(), "the last attempt comes before the end");
        assert!(Duration::from_secs(SCHEDULE_S[2] * 120 / 100) <= HEAD_WAIT_MAX);
    }

    #[test]
    fn jitter_uses_its_whole_range() {
        let mut entropy = SeededEntropy::new(1);
        let drawn: Vec<_> = (0..2_000).map(|_| jittered(Duration::from_secs(10), &mut entropy).as_millis()).collect();
        assert!(drawn.iter().min().is_some_and(|min| *min < 8_100) && drawn.iter().max().is_some_and(|max| *max > 11_900));
    }

    #[test]
    fn an_answer_can_only_ask_for_more_time_and_at_most_a_day() {
        let mut entropy = SeededEntropy::new(7);
        let mut due = |asked| next_due(UnixMillis(0), 2, asked_wait(&answered(503, asked)), &mut entropy).0;
        assert!(due(Some(1)) >= 24_000);
        assert_eq!(due(Some(3_600)), 3_600_000);
        assert_eq!(due(Some(u64::MAX)), 86_400_000);
    }

    #[test]
    fn outcomes_are_told_apart() {
        let class = |status| Class::of(&answered(status, None));
        assert_eq!([class(200), class(204), class(299)], [Class::Done; 3]);
        assert_eq!([class(0), class(199), class(302), class(400)], [Class::Failed; 4]);
        assert_eq!([class(401), class(404)], [Class::Refused(401), Class::Refused(404)]);
        assert_eq!([class(410), class(429), class(500), class(999)], [Class::Gone, Class::Throttled, Class::Troubled, Class::Troubled]);
        let failed = |phase| Class::of(&Outcome::Failed { phase, error: String::new() });
        assert_eq!([failed(Phase::Dns), failed(Phase::Tls), failed(Phase::Guard)], [Class::Unreachable; 3]);
        assert_eq!([failed(Phase::Wait), failed(Phase::Render)], [Class::Troubled, Class::Unmade]);
        assert!(!Class::Throttled.is_fault() && Class::Refused(403).is_fault() && Class::Gone.is_fault());
    }
}
