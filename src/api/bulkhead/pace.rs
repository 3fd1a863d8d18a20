//! How many requests may be at work at the same time, found out by how long they are that: while it is about as short as in the best moment of the last
//! minute, and more would come, more are let in; when it is much longer, fewer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Answers are looked at together that came within so long.
const WINDOW: Duration = Duration::from_millis(100);
/// With fewer than so many a window stays open longer: a few tell nothing of all.
const SAMPLES_MIN: u32 = 8;
/// But no longer than this.
const WINDOW_MAX: Duration = Duration::from_secs(1);
/// How long the best moment counts.
const MEMORY: Duration = Duration::from_secs(60);
/// It is remembered in so many parts of that.
const PARTS: usize = 6;
/// Answers that take so many times as long as in the best moment are late…
const LATE_TIMES: u32 = 3;
/// …if that is more than so much longer: below it nobody notices.
const LATE_BY: Duration = Duration::from_millis(20);
/// What is left of the limit when answers are late.
const LESS: f64 = 0.85;

/// A limit that adapts.
pub(super) struct Pace {
    least: f64,
    most: f64,
    limit: f64,
    window: Window,
    best: Best,
}

struct Window {
    since: Instant,
    samples: u32,
    sum: Duration,
    was_full: bool,
}

/// The shortest means of windows, one for each part of the memory.
struct Best {
    parts: VecDeque<(Instant, Duration)>,
}

impl Pace {
    /// Between these, and in the middle of them to begin with, as doubling counts.
    pub(super) fn new(now: Instant, (least, most): (u64, u64)) -> Self {
        let (least, most) = (least as f64, most as f64);
        Self { least, most, limit: (least * most).sqrt(), window: Window::new(now), best: Best { parts: VecDeque::new() } }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two small numbers")]
    pub(super) fn limit(&self) -> u64 {
        self.limit as u64
    }

    /// One was answered that was at work for so long. `was_full` says that others could have been at work beside it, had the limit allowed it.
    pub(super) fn answered(&mut self, now: Instant, took: Duration, was_full: bool) {
        self.window.samples += 1;
        self.window.sum += took;
        self.window.was_full |= was_full;
        if self.window.is_over(now) {
            self.decide(now);
        }
    }

    fn decide(&mut self, now: Instant) {
        let window = std::mem::replace(&mut self.window, Window::new(now));
        let mean = window.sum / window.samples.max(1);
        let best = self.best.with(now, mean);
        if mean > best * LATE_TIMES && mean > best + LATE_BY {
            self.limit = (self.limit * LESS).max(self.least);
        } else if window.was_full {
            // By more where there is more: a large limit finds its place as soon as a small one.
            self.limit = (self.limit + self.limit.sqrt() / 2.0).min(self.most);
        }
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { since: now, samples: 0, sum: Duration::ZERO, was_full: false }
    }

    fn is_over(&self, now: Instant) -> bool {
        let open = now.saturating_duration_since(self.since);
        open >= WINDOW_MAX || (open >= WINDOW && self.samples >= SAMPLES_MIN)
    }
}

impl Best {
    /// The shortest of the last minute, this one included.
    fn with(&mut self, now: Instant, mean: Duration) -> Duration {
        while self.parts.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= MEMORY) {
            self.parts.pop_front();
        }
        let part = MEMORY / u32::try_from(PARTS).unwrap_or(1);
        match self.parts.back_mut() {
            Some((since, best)) if now.saturating_duration_since(*since) < part => *best = mean.min(*best),
            _ => self.parts.push_back((now, mean)),
        }
        self.parts.iter().map(|(_, best)| *best).min().unwrap_or(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A pace and a clock that goes on by a millisecond with each answer.
    struct Run(Pace, Instant);

    impl Run {
        fn new() -> Self {
            let now = Instant::now();
            Self(Pace::new(now, (4, 256)), now)
        }

        fn answers(&mut self, count: u32, took: Duration, was_full: bool) -> u64 {
            for _ in 0..count {
                self.1 += MS;
                self.0.answered(self.1, took, was_full);
            }
            self.0.limit()
        }
    }

    #[test]
    fn it_begins_in_the_middle_and_stays_there_while_nobody_wants_more() {
        let mut run = Run::new();
        assert_eq!(run.0.limit(), 32);
        assert_eq!(run.answers(5_000, MS, false), 32);
    }

    #[test]
    fn more_are_let_in_while_all_are_answered_soon_and_fewer_when_not() {
        let mut run = Run::new();
        let risen = run.answers(1_000, MS, true);
        assert!((40..=80).contains(&risen), "{risen}");
        assert_eq!(run.answers(10_000, MS, true), 256, "no further than to its bound");
        let fallen = run.answers(1_000, 50 * MS, true);
        assert!((40..=100).contains(&fallen), "{fallen}");
        assert_eq!(run.answers(10_000, 50 * MS, true), 4, "nor below it");
        assert!(run.answers(1_000, MS, true) > 4, "and back");
    }

    #[test]
    fn what_nobody_notices_changes_nothing() {
        let mut run = Run::new();
        run.answers(200, MS / 10, false);
        assert_eq!(run.answers(2_000, 15 * MS, false), 32, "a hundred times as long, and soon enough");
        run.answers(200, 100 * MS, false);
        let mut slow = Run::new();
        slow.answers(500, 100 * MS, false);
        assert_eq!(slow.answers(2_000, 250 * MS, false), 32, "not three times as long");
    }

    #[test]
    fn the_best_moment_is_forgotten_after_a_minute() {
        let mut run = Run::new();
        run.answers(1_000, MS, false);
        let low = run.answers(20_000, 60 * MS, false);
        assert_eq!(low, 4);
        assert!(run.answers(61_000, 60 * MS, true) > 4, "what is slow by nature is no longer late");
    }

    #[test]
    fn a_few_answers_are_looked_at_later() {
        let mut run = Run::new();
        run.0.answered(run.1, MS, true);
        run.0.answered(run.1 + 150 * MS, MS, true);
        assert_eq!(run.0.limit(), 32);
        run.0.answered(run.1 + WINDOW_MAX, MS, true);
        assert!(run.0.limit() > 32);
    }
}
