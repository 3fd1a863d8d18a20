//! How many attempts a destination may have in flight: a little more while it answers as fast as ever, half as many when it does not.

use std::time::Duration;

use firmware_protocol::time::Millis;

use super::schedule::Class;

/// Attempts in flight to begin with.
pub const START: f32 = 4.0;
/// The most there ever are.
pub const CAP: u16 = 64;
/// The fewest.
pub const FLOOR: f32 = 1.0;
/// A destination is slow if half of its answers take longer.
pub const SLOW: Duration = Duration::from_secs(2);
/// First pause of one that wants less and does not say for how long; twice as long each time, up to [`PAUSE_STEP_MAX`].
pub const PAUSE_STEP: Duration = Duration::from_secs(1);
/// Longest pause of one that does not say for how long.
pub const PAUSE_STEP_MAX: Duration = Duration::from_secs(60);
/// Longest pause that one can ask for.
pub const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Answers of the last 16 that have to be slow before a destination is.
const SLOW_OF_16: u32 = 8;
/// Answers of the last 16 that may be slow when it is not any more.
const FAST_AGAIN_OF_16: u32 = 4;
/// Answers that take so much longer than twice the usual are a sign of overload, in milliseconds.
const TOLERANCE_MS: f32 = 100.0;

/// The pace of one destination.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    limit: f32,
    /// What an answer usually takes and what it took lately, in milliseconds.
    usual_ms: f32,
    lately_ms: f32,
    /// When the limit was last cut: what began before says nothing of the limit since then.
    cut_at: Millis,
    /// Of the last 16 attempts, which were slow.
    slow: u16,
    is_slow: bool,
    throttled: u8,
    pause_until: Millis,
}

impl Default for Pace {
    /// That of a destination nothing is known of.
    fn default() -> Self {
        Self {
            limit: START,
            usual_ms: 0.0,
            lately_ms: 0.0,
            cut_at: Millis(0),
            slow: 0,
            is_slow: false,
            throttled: 0,
            pause_until: Millis(0),
        }
    }
}

impl Pace {
    /// Takes it for slow until it has shown otherwise.
    pub fn distrust(&mut self) {
        (self.slow, self.is_slow) = (u16::MAX, true);
    }

    /// Attempts that may be in flight.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to 64")]
    pub fn limit(&self) -> u16 {
        (self.limit as u16).clamp(1, CAP)
    }

    /// Half of its answers take longer than 2 s.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Nothing is sent before that.
    pub fn pause_until(&self) -> Millis {
        self.pause_until
    }

    /// Notes how an attempt ended that had begun at `began`, with so many in flight then.
    pub fn ended(&mut self, now: Millis, began: Millis, class: Class, took: Duration, in_flight: u16) {
        if class == Class::Unmade {
            return;
        }
        self.clock(took);
        let was_late = class == Class::Done && self.learn(took);
        if class.is_overload() || was_late {
            self.cut(now, began, if was_late { 0.8 } else { 0.5 });
        } else if class == Class::Done && f32::from(in_flight) * 2.0 >= self.limit {
            self.limit = (self.limit + 1.0 / self.limit).min(f32::from(CAP));
        }
        if class != Class::Throttled {
            self.throttled = 0;
        }
    }

    /// Notes that it wants nothing for a while.
    pub fn throttle(&mut self, now: Millis, asked: Option<Duration>) {
        let step = (PAUSE_STEP * (1 << self.throttled.min(10))).min(PAUSE_STEP_MAX);
        // Those in flight together are told so together: once is enough.
        if now >= self.pause_until {
            self.throttled = self.throttled.saturating_add(1);
        }
        self.pause_until = self.pause_until.max(now + asked.map_or(step, |asked| asked.clamp(PAUSE_STEP, PAUSE_MAX)));
    }

    /// Whether it takes much longer lately than it usually does.
    fn learn(&mut self, took: Duration) -> bool {
        let ms = took.as_secs_f32().min(60.0) * 1_000.0;
        if self.usual_ms == 0.0 {
            (self.usual_ms, self.lately_ms) = (ms.max(1.0), ms);
        }
        self.usual_ms += (ms - self.usual_ms) * if ms < self.usual_ms { 0.1 } else { 0.002 };
        self.lately_ms += (ms - self.lately_ms) * 0.2;
        self.lately_ms > 2.0 * self.usual_ms + TOLERANCE_MS
    }

    fn cut(&mut self, now: Millis, began: Millis, factor: f32) {
        if began >= self.cut_at {
            self.limit = (self.limit * factor).max(FLOOR);
            self.cut_at = now;
        }
    }

    fn clock(&mut self, took: Duration) {
        self.slow = self.slow << 1 | u16::from(took > SLOW);
        let slow = self.slow.count_ones();
        self.is_slow = if self.is_slow { slow > FAST_AGAIN_OF_16 } else { slow >= SLOW_OF_16 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(50);

    fn run(pace: &mut Pace, from: u64, count: u64, class: Class, took: Duration) {
        for at in from..from + count {
            pace.ended(Millis(at), Millis(at), class, took, pace.limit());
        }
    }

    #[test]
    fn it_starts_with_four_and_grows_to_sixty_four() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit(), 4);
        run(&mut pace, 1, 4, Class::Done, FAST);
        assert!(pace.limit() <= 5, "by one for each that many answers");
        run(&mut pace, 10, 10_000, Class::Done, FAST);
        assert_eq!(pace.limit(), 64);
    }

    #[test]
    fn it_does_not_grow_without_need() {
        let mut pace = Pace::default();
        (0..1_000).for_each(|at| pace.ended(Millis(at), Millis(at), Class::Done, FAST, 1));
        assert_eq!(pace.limit(), 4);
    }

    #[test]
    fn overload_halves_it_once_for_all_that_were_in_flight() {
        for class in [Class::Throttled, Class::Troubled, Class::Unreachable] {
            let mut pace = Pace::default();
            run(&mut pace, 1, 10_000, Class::Done, FAST);
            for _ in 0..64 {
                pace.ended(Millis(20_050), Millis(20_000), class, FAST, 64);
            }
            assert_eq!(pace.limit(), 32);
            run(&mut pace, 30_000, 20, class, FAST);
            assert_eq!(pace.limit(), 1, "and never below one");
        }
    }

    #[test]
    fn answers_that_take_much_longer_than_usual_cut_it() {
        let mut pace = Pace::default();
        run(&mut pace, 1, 10_000, Class::Done, FAST);
        run(&mut pace, 20_000, 30, Class::Done, Duration::from_millis(600));
        assert!(pace.limit() < 16, "{}", pace.limit());
    }

    #[test]
    fn refusals_are_no_overload() {
        let mut pace = Pace::default();
        run(&mut pace, 1, 100, Class::Refused(404), FAST);
        assert_eq!(pace.limit(), 4);
    }

    #[test]
    fn it_is_slow_by_half_and_fast_again_by_three_quarters() {
        let mut pace = Pace::default();
        let slow = Duration::from_millis(2_001);
        run(&mut pace, 1, 7, Class::Done, slow);
        assert!(!pace.is_slow());
        run(&mut pace, 10, 1, Class::Troubled, slow);
        assert!(pace.is_slow());
        run(&mut pace, 20, 8, Class::Done, FAST);
        assert!(pace.is_slow());
        run(&mut pace, 30, 8, Class::Done, FAST);
        assert!(!pace.is_slow());
        pace.distrust();
        assert!(pace.is_slow());
    }

    #[test]
    fn pauses_double_until_something_else_is_heard() {
        let mut pace = Pace::default();
        let mut at = 1_000;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            (0..5).for_each(|_| pace.throttle(Millis(at), None));
            assert!(pace.pause_until().0 - at >= wait * 1_000 && pace.pause_until().0 - at <= 2 * wait * 1_000);
            at = pace.pause_until().0;
        }
        pace.throttle(Millis(at), Some(Duration::from_secs(90)));
        assert_eq!(pace.pause_until(), Millis(at + 90_000));
        pace.throttle(Millis(at), Some(Duration::from_secs(86_400)));
        assert_eq!(pace.pause_until(), Millis(at) + PAUSE_MAX);
    }
}
