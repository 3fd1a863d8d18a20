//! Who of a class is at work, who waits and who is refused. It knows no clock and wakes nobody: `now` is an argument, and whoever is next is handed
//! out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::config::Limit;

/// Nobody is told to stay away for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// What is served is counted over so long.
const FLOW_WINDOW: Duration = Duration::from_secs(1);

/// The gate of one class. `W` is how one that waits is told.
pub(super) struct Gate<W> {
    bound: Bound,
    waiting_max: usize,
    at_work: u64,
    waiting: VecDeque<Waiting<W>>,
    flow: Flow,
}

/// How many may be at work.
pub(super) enum Bound {
    /// As many as it was told.
    Fixed(Limit),
    /// As many as are answered soon.
    Paced(Pace),
}

struct Waiting<W> {
    until: Instant,
    who: W,
}

/// What becomes of a request that is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// It is at work.
    Begins,
    /// Its turn comes, or its time is over before.
    Waits,
}

/// There is no room for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    /// When there may be.
    pub(super) retry_after: Duration,
}

impl<W> Gate<W> {
    pub(super) fn new(now: Instant, bound: Bound, waiting_max: usize) -> Self {
        Self { bound, waiting_max, at_work: 0, waiting: VecDeque::new(), flow: Flow::new(now) }
    }

    /// Lets one in that can wait until `until`.
    pub(super) fn arrive(&mut self, now: Instant, until: Instant, who: W) -> Result<Arrival, Refused> {
        self.forget_late_in_front(now);
        if self.waiting.is_empty() && self.has_place() {
            self.at_work += 1;
            return Ok(Arrival::Begins);
        }
        if self.waiting.len() >= self.waiting_max || until <= now {
            return Err(Refused { retry_after: self.retry_after(now) });
        }
        self.waiting.push_back(Waiting { until, who });
        Ok(Arrival::Waits)
    }

    /// One is done that was at work for so long. Whoever calls asks for the [`next`](Self::next) ones then.
    pub(super) fn leave(&mut self, now: Instant, took: Duration) {
        let was_full = !self.has_place() || !self.waiting.is_empty();
        self.at_work = self.at_work.saturating_sub(1);
        self.flow.served(now);
        if let Bound::Paced(pace) = &mut self.bound {
            pace.answered(now, took, was_full);
        }
    }

    /// The next that waits, if there is a place for it. It is at work from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<W> {
        self.forget_late_in_front(now);
        if !self.has_place() {
            return None;
        }
        let Waiting { who, .. } = self.waiting.pop_front()?;
        self.at_work += 1;
        Some(who)
    }

    /// Those whose time is over wait no longer.
    pub(super) fn forget_late(&mut self, now: Instant) {
        self.waiting.retain(|waiting| waiting.until > now);
    }

    /// Whether one more would find neither a place nor one to wait in.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.len() >= self.waiting_max && !(self.waiting.is_empty() && self.has_place())
    }

    /// When those that wait now have been served and one more can be, at the pace of late.
    pub(super) fn retry_after(&self, now: Instant) -> Duration {
        let rate = self.flow.per_s(now);
        if rate <= 0.0 {
            return RETRY_AFTER_MAX;
        }
        let seconds = (self.waiting.len() + 1) as f64 / rate;
        Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64()))
    }

    pub(super) fn limit(&self) -> Limit {
        match &self.bound {
            Bound::Fixed(limit) => *limit,
            Bound::Paced(pace) => Limit::AtMost(pace.limit()),
        }
    }

    pub(super) fn at_work(&self) -> u64 {
        self.at_work
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    fn has_place(&self) -> bool {
        self.limit().admits_beside(self.at_work)
    }

    fn forget_late_in_front(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|waiting| waiting.until <= now) {
            self.waiting.pop_front();
        }
    }
}

/// How many are served in a second, of late.
struct Flow {
    since: Instant,
    served: u64,
    before: f64,
}

impl Flow {
    fn new(now: Instant) -> Self {
        Self { since: now, served: 0, before: 0.0 }
    }

    fn served(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= FLOW_WINDOW {
            *self = Self { since: now, served: 0, before: self.per_s(now) };
        }
        self.served += 1;
    }

    /// Of the window that is open and the one before, of which the older counts as much as the other is not over.
    fn per_s(&self, now: Instant) -> f64 {
        let open = now.saturating_duration_since(self.since).as_secs_f64() / FLOW_WINDOW.as_secs_f64();
        let (share, length) = ((1.0 - open).max(0.0), open.max(1.0));
        (self.before * share + self.served as f64) / length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate(limit: u64, waiting_max: usize) -> (Gate<u32>, Instant) {
        let now = Instant::now();
        (Gate::new(now, Bound::Fixed(Limit::AtMost(limit)), waiting_max), now)
    }

    #[test]
    fn beyond_the_limit_one_waits_and_beyond_that_is_refused() {
        let (mut gate, now) = gate(1, 1);
        let until = now + SECOND;
        assert_eq!(gate.arrive(now, until, 1), Ok(Arrival::Begins));
        assert!(!gate.is_crowded());
        assert_eq!(gate.arrive(now, until, 2), Ok(Arrival::Waits));
        assert!(gate.is_crowded());
        assert!(gate.arrive(now, until, 3).is_err());
        assert_eq!(gate.next(now), None);
        gate.leave(now, SECOND);
        assert_eq!(gate.next(now), Some(2));
        assert_eq!((gate.at_work(), gate.waiting()), (1, 0));
        gate.leave(now, SECOND);
        assert_eq!((gate.next(now), gate.at_work()), (None, 0));
    }

    #[test]
    fn nobody_overtakes_those_who_wait() {
        let (mut gate, now) = gate(1, 2);
        let until = now + SECOND;
        gate.arrive(now, until, 1).unwrap();
        gate.arrive(now, until, 2).unwrap();
        gate.leave(now, SECOND);
        assert_eq!(gate.arrive(now, until, 3), Ok(Arrival::Waits));
        assert_eq!(gate.next(now), Some(2));
    }

    #[test]
    fn one_whose_time_is_over_is_not_begun() {
        let (mut gate, now) = gate(1, 2);
        gate.arrive(now, now + SECOND, 1).unwrap();
        gate.arrive(now, now + SECOND, 2).unwrap();
        gate.arrive(now, now + 3 * SECOND, 3).unwrap();
        gate.leave(now + 2 * SECOND, SECOND);
        assert_eq!(gate.next(now + 2 * SECOND), Some(3));
        assert!(gate.arrive(now, now, 4).is_err(), "what has no time left does not wait");
        gate.arrive(now, now + SECOND, 5).unwrap();
        gate.forget_late(now + SECOND);
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn without_a_place_to_wait_in_a_free_one_is_enough() {
        let (mut gate, now) = gate(1, 0);
        assert!(!gate.is_crowded());
        assert_eq!(gate.arrive(now, now + SECOND, 1), Ok(Arrival::Begins));
        assert!(gate.is_crowded() && gate.arrive(now, now + SECOND, 2).is_err());
        let mut unlimited = Gate::new(now, Bound::Fixed(Limit::Unlimited), 0);
        assert!((0..10_000).all(|who| unlimited.arrive(now, now + SECOND, who) == Ok(Arrival::Begins)));
    }

    #[test]
    fn when_to_come_again_follows_from_what_waits_and_how_fast_it_is_served() {
        let (mut gate, start) = gate(1, 100);
        assert_eq!(gate.retry_after(start), RETRY_AFTER_MAX, "nothing was served yet");
        // Ten a second for two seconds.
        let mut now = start;
        for _ in 0..20 {
            now += SECOND / 10;
            gate.arrive(now, now + SECOND, 0).unwrap();
            gate.leave(now, SECOND / 10);
        }
        let seconds = |gate: &Gate<u32>, now| gate.retry_after(now).as_secs_f64();
        assert!((0.08..0.15).contains(&seconds(&gate, now)), "{}", seconds(&gate, now));
        gate.arrive(now, now + SECOND, 0).unwrap();
        (0..49).for_each(|who| assert_eq!(gate.arrive(now, now + SECOND, who), Ok(Arrival::Waits)));
        assert!((4.0..7.0).contains(&seconds(&gate, now)), "{}", seconds(&gate, now));
        assert_eq!(gate.retry_after(now + 1000 * SECOND), RETRY_AFTER_MAX);
    }
}
