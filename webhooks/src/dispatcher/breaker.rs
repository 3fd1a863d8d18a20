//! Keeps from a destination that is down what it could not take: while the breaker is open, events wait. Then one probe after another is let through,
//! and when three have succeeded, slowly more.

use std::time::Duration;

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::Millis;

use super::schedule::{Class, jittered};

/// The time over which failures are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Attempts in that time below which no share of failures opens it.
pub const ATTEMPTS_MIN: u32 = 10;
/// The share of failures that opens it, in percent.
pub const FAILED_PERCENT: u32 = 50;
/// Failed connections one after another that open it.
pub const UNREACHABLE_MAX: u8 = 5;
/// From its opening to the first probe. Each time that one fails, it is twice as long to the next.
pub const PROBE_FIRST: Duration = Duration::from_secs(10);
/// Longest time from one probe to the next.
pub const PROBE_LAST: Duration = Duration::from_secs(300);
/// Probes that have to succeed, one after another.
pub const PROBES: u8 = 3;
/// After it closed, twice as many attempts at a time are let through whenever this has passed.
pub const RAMP_STEP: Duration = Duration::from_secs(5);
/// When the ramp is over: more than that is never in flight.
const RAMP_STEPS: u32 = 6;

const SLICES: usize = 6;
const SLICE_MS: u64 = 10_000;

/// What has changed by an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is open now, or again.
    Opened,
    /// It is closed now.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed {
        is_ramping: bool,
    },
    Open {
        until: Millis,
    },
    /// So many probes have succeeded.
    HalfOpen {
        passed: u8,
    },
}

/// Attempts and failures of the last minute, in slices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tally {
    slices: [(u32, u32); SLICES],
    newest: u64,
}

impl Tally {
    fn add(&mut self, now: Millis, is_fault: bool) {
        let slice = now.0 / SLICE_MS;
        for old in (self.newest + 1..=slice).rev().take(SLICES) {
            self.slices[index(old)] = (0, 0);
        }
        self.newest = self.newest.max(slice);
        let (attempts, failed) = &mut self.slices[index(slice)];
        *attempts = attempts.saturating_add(1);
        *failed = failed.saturating_add(u32::from(is_fault));
    }

    fn is_bad(&self) -> bool {
        let sum = |part: fn(&(u32, u32)) -> u32| self.slices.iter().map(|slice| u64::from(part(slice))).sum::<u64>();
        let (attempts, failed) = (sum(|slice| slice.0), sum(|slice| slice.1));
        attempts >= u64::from(ATTEMPTS_MIN) && failed * 100 >= attempts * u64::from(FAILED_PERCENT)
    }
}

fn index(slice: u64) -> usize {
    usize::try_from(slice % SLICES as u64).unwrap_or_default()
}

/// The breaker of one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breaker {
    state: State,
    /// Since when it is in that state: what began before says nothing of it.
    since: Millis,
    tally: Tally,
    unreachable: u8,
    /// Probes that failed since it was last closed for as long as the ramp takes.
    failed_probes: u8,
}

impl Breaker {
    /// One that is closed.
    pub fn new(now: Millis) -> Self {
        Self { state: State::Closed { is_ramping: false }, since: now, tally: Tally::default(), unreachable: 0, failed_probes: 0 }
    }

    /// One that was open when it was last heard of: it lets a probe through at once.
    pub fn probing(now: Millis) -> Self {
        Self { state: State::HalfOpen { passed: 0 }, ..Self::new(now) }
    }

    /// Notes that time has passed: an open one is ready for a probe, a ramp is over.
    pub fn tick(&mut self, now: Millis) {
        match self.state {
            State::Open { until } if now >= until => self.enter(now, State::HalfOpen { passed: 0 }),
            State::Closed { is_ramping: true } if self.steps(now) > RAMP_STEPS => {
                self.failed_probes = 0;
                self.state = State::Closed { is_ramping: false };
            }
            _ => {}
        }
    }

    /// Attempts that may be in flight.
    pub fn limit(&self, now: Millis) -> u16 {
        match self.state {
            State::Closed { is_ramping: false } => u16::MAX,
            State::Closed { is_ramping: true } => 1 << self.steps(now).min(RAMP_STEPS + 1),
            State::Open { .. } => 0,
            State::HalfOpen { .. } => 1,
        }
    }

    /// When it lets more through without being told anything.
    pub fn wake_at(&self, now: Millis) -> Option<Millis> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed { is_ramping: true } => Some(self.since + RAMP_STEP * (self.steps(now) + 1)),
            _ => None,
        }
    }

    /// Nothing is let through.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// What is let through is a probe.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// Neither of both.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Notes how an attempt ended that had begun at `began`.
    pub fn ended(&mut self, now: Millis, began: Millis, is_probe: bool, class: Class, entropy: &mut SeededEntropy) -> Option<Change> {
        if class == Class::Unmade || (began < self.since && !is_probe) {
            return None;
        }
        match self.state {
            State::Closed { .. } => self.count(now, class, entropy),
            State::HalfOpen { passed } if is_probe => self.probed(now, passed, class, entropy),
            State::HalfOpen { .. } | State::Open { .. } => None,
        }
    }

    fn count(&mut self, now: Millis, class: Class, entropy: &mut SeededEntropy) -> Option<Change> {
        self.unreachable = if class == Class::Unreachable { self.unreachable.saturating_add(1) } else { 0 };
        if class != Class::Throttled {
            self.tally.add(now, class.is_fault());
        }
        let is_down = self.unreachable >= UNREACHABLE_MAX || (class.is_fault() && self.tally.is_bad());
        is_down.then(|| self.open(now, entropy))
    }

    fn probed(&mut self, now: Millis, passed: u8, class: Class, entropy: &mut SeededEntropy) -> Option<Change> {
        if class.is_fault() {
            self.failed_probes = self.failed_probes.saturating_add(1);
            return Some(self.open(now, entropy));
        }
        if passed + 1 < PROBES {
            self.state = State::HalfOpen { passed: passed + 1 };
            return None;
        }
        self.enter(now, State::Closed { is_ramping: true });
        Some(Change::Closed)
    }

    fn open(&mut self, now: Millis, entropy: &mut SeededEntropy) -> Change {
        let wait = (PROBE_FIRST * (1 << self.failed_probes.min(10))).min(PROBE_LAST);
        self.enter(now, State::Open { until: now + jittered(wait, entropy) });
        Change::Opened
    }

    fn enter(&mut self, now: Millis, state: State) {
        *self = Self { state, since: now, tally: Tally::default(), unreachable: 0, failed_probes: self.failed_probes };
    }

    fn steps(&self, now: Millis) -> u32 {
        u32::try_from(now.since(self.since).as_millis() / RAMP_STEP.as_millis()).unwrap_or(u32::MAX).min(RAMP_STEPS + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        breaker: Breaker,
        entropy: SeededEntropy,
    }

    impl Bench {
        fn new() -> Self {
            Self { breaker: Breaker::new(Millis(0)), entropy: SeededEntropy::new(3) }
        }

        fn end(&mut self, at: u64, class: Class) -> Option<Change> {
            let is_probe = self.breaker.is_probing();
            self.breaker.ended(Millis(at), Millis(at), is_probe, class, &mut self.entropy)
        }

        /// Opens it, and says when it probes.
        fn open(&mut self, at: u64) -> u64 {
            (0..UNREACHABLE_MAX).for_each(|_| _ = self.end(at, Class::Unreachable));
            assert!(self.breaker.is_open());
            self.breaker.wake_at(Millis(at)).unwrap().0
        }
    }

    #[test]
    fn half_of_ten_failures_in_a_minute_open_it() {
        let mut bench = Bench::new();
        (0..5).for_each(|_| assert_eq!(bench.end(1_000, Class::Done), None));
        (0..4).for_each(|_| assert_eq!(bench.end(2_000, Class::Troubled), None));
        assert_eq!(bench.end(3_000, Class::Refused(404)), Some(Change::Opened));
        assert_eq!(bench.breaker.limit(Millis(3_000)), 0);
    }

    #[test]
    fn nine_failures_or_old_ones_do_not() {
        let mut bench = Bench::new();
        (0..9).for_each(|_| assert_eq!(bench.end(1_000, Class::Troubled), None));
        assert_eq!(bench.end(75_000, Class::Troubled), None);
        (0..10).for_each(|_| assert_eq!(bench.end(75_000, Class::Done), None));
    }

    #[test]
    fn five_failed_connections_in_a_row_open_it() {
        let mut bench = Bench::new();
        (0..4).for_each(|_| assert_eq!(bench.end(1, Class::Unreachable), None));
        assert_eq!(bench.end(2, Class::Done), None);
        (0..4).for_each(|_| assert_eq!(bench.end(3, Class::Unreachable), None));
        assert_eq!(bench.end(4, Class::Unreachable), Some(Change::Opened));
    }

    #[test]
    fn throttling_and_what_was_not_sent_never_open_it() {
        let mut bench = Bench::new();
        for at in 0..100 {
            assert_eq!([bench.end(at, Class::Throttled), bench.end(at, Class::Unmade)], [None; 2]);
        }
    }

    #[test]
    fn probes_come_less_and_less_often() {
        let mut bench = Bench::new();
        let (mut at, mut until) = (0, bench.open(0));
        for wait in [10, 20, 40, 80, 160, 300, 300, 300] {
            assert!((wait * 800..=wait * 1_200).contains(&(until - at)), "{wait}: {}", until - at);
            bench.breaker.tick(Millis(until - 1));
            assert!(bench.breaker.is_open());
            bench.breaker.tick(Millis(until));
            assert_eq!(bench.breaker.limit(Millis(until)), 1);
            at = until;
            assert_eq!(bench.end(at, Class::Troubled), Some(Change::Opened));
            until = bench.breaker.wake_at(Millis(at)).unwrap().0;
        }
    }

    #[test]
    fn three_probes_close_it_and_then_more_and_more_is_let_through() {
        let mut bench = Bench::new();
        let at = bench.open(0);
        bench.breaker.tick(Millis(at));
        assert_eq!([bench.end(at, Class::Done), bench.end(at, Class::Done)], [None; 2]);
        assert_eq!(bench.end(at, Class::Done), Some(Change::Closed));
        let limits = (0..8).map(|step| {
            let now = Millis(at + step * 5_000);
            bench.breaker.tick(now);
            bench.breaker.limit(now)
        });
        assert_eq!(limits.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, u16::MAX]);
    }

    #[test]
    fn what_began_before_it_opened_says_nothing_of_it_after() {
        let mut bench = Bench::new();
        let at = bench.open(1_000);
        bench.breaker.tick(Millis(at));
        let Bench { breaker, entropy } = &mut bench;
        assert_eq!(breaker.ended(Millis(at + 1), Millis(900), false, Class::Troubled, entropy), None);
        assert!(breaker.is_probing());
    }

    #[test]
    fn one_that_fails_on_the_ramp_waits_no_shorter_than_before() {
        let mut bench = Bench::new();
        let mut at = bench.open(0);
        for _ in 0..3 {
            bench.breaker.tick(Millis(at));
            bench.end(at, Class::Troubled);
            at = bench.breaker.wake_at(Millis(at)).unwrap().0;
        }
        bench.breaker.tick(Millis(at));
        (0..3).for_each(|_| _ = bench.end(at, Class::Done));
        assert!(bench.open(at + 2_000) - at - 2_000 >= 64_000);
    }
}
