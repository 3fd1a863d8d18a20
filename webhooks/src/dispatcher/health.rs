//! How a hook is, as its owner sees it, and what its owner is told.

use std::collections::VecDeque;
use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::messages::{Cause, DisableWhy, Notice, Output};
use super::schedule::{Class, later, passed};
use crate::hook::HookId;

/// Failures in a row after which it is failing.
pub const FAILING_AFTER: u32 = 5;
/// Or so long without a success after the first of them.
pub const FAILING_AFTER_TIME: Duration = Duration::from_secs(30);
/// How long it may be failing until its owner is told.
pub const NOTICE_AFTER: Duration = Duration::from_secs(120);
/// From the last failure until it is healthy again.
pub const HEALED_AFTER: Duration = Duration::from_secs(60);
/// How long it may be failing without a success until its owner is told that it will be disabled.
pub const DISABLE_NOTICE_AFTER: Duration = Duration::from_secs(96 * 3600);
/// How long it may be failing until it is disabled.
pub const DISABLE_AFTER: Duration = Duration::from_secs(120 * 3600);
/// And not sooner after that notice.
pub const DISABLE_NOTICE: Duration = Duration::from_secs(24 * 3600);

/// How a hook is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Deliveries succeed.
    #[default]
    Healthy,
    /// Some fail.
    Degraded,
    /// All fail.
    Failing,
    /// The breaker is open: deliveries wait.
    Open,
    /// Nothing is sent.
    Disabled,
}

/// What its owner was told last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Told {
    /// Nothing, or that all is well.
    Nothing,
    /// That it is failing.
    Failing,
    /// That it will be disabled; then.
    DisableSoon(UnixMillis),
}

/// How a hook is, in what has to be stored of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Health {
    /// So.
    pub state: State,
    /// Since then.
    pub since: UnixMillis,
    /// What went wrong last.
    pub cause: Option<Cause>,
    /// The first failure after the last success.
    pub failing_since: Option<UnixMillis>,
    /// What its owner was told.
    pub told: Told,
    /// Its owner was told that requests are refused.
    pub is_refusal_told: bool,
}

impl State {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
            Self::Open => "open",
            Self::Disabled => "disabled",
        }
    }
}

impl Health {
    /// That of a hook of which nothing is known.
    pub fn new(now: UnixMillis) -> Self {
        Self { state: State::Healthy, since: now, cause: None, failing_since: None, told: Told::Nothing, is_refusal_told: false }
    }
}

/// Watches over the health of one hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watch {
    hook: HookId,
    health: Health,
    failures: u32,
    last_failure: UnixMillis,
}

impl Watch {
    pub(super) fn new(now: UnixMillis, hook: HookId, health: Option<Health>) -> Self {
        Self { hook, health: health.unwrap_or(Health::new(now)), failures: 0, last_failure: now }
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Forgets everything, because the hook is another now, or enabled again.
    pub(super) fn reset(&mut self, now: UnixMillis, out: &mut VecDeque<Output>) {
        let before = *self;
        *self = Self::new(now, self.hook, None);
        self.say(before, out);
    }

    pub(super) fn disabled(&mut self, now: UnixMillis, out: &mut VecDeque<Output>) {
        let before = *self;
        self.enter(now, State::Disabled);
        self.say(before, out);
    }

    pub(super) fn succeeded(&mut self, now: UnixMillis, is_closed: bool, out: &mut VecDeque<Output>) {
        if self.health.state == State::Healthy {
            return;
        }
        let before = *self;
        self.failures = 0;
        self.health.failing_since = None;
        if is_closed && self.health.state != State::Disabled {
            self.enter(now, State::Degraded);
        }
        self.heal(now, out);
        self.say(before, out);
    }

    /// Notes a failure. Why the hook is to be disabled, if it is.
    pub(super) fn failed(
        &mut self,
        now: UnixMillis,
        class: Class,
        cause: Cause,
        is_closed: bool,
        out: &mut VecDeque<Output>,
    ) -> Option<DisableWhy> {
        let before = *self;
        self.failures = self.failures.saturating_add(1);
        self.last_failure = now;
        self.health.cause = Some(cause);
        let failing = passed(now, *self.health.failing_since.get_or_insert(now));
        let is_failing = self.failures >= FAILING_AFTER || failing >= FAILING_AFTER_TIME;
        let state = match (is_closed, is_failing) {
            (false, _) => State::Open,
            (true, true) => State::Failing,
            (true, false) => self.health.state.clamp(State::Degraded, State::Failing),
        };
        if self.health.state != State::Disabled {
            self.enter(now, state);
        }
        self.tell_refusal(class, out);
        let why = self.judge(now, class, failing, out);
        self.say(before, out);
        why
    }

    /// Notes that time has passed.
    pub(super) fn tick(&mut self, now: UnixMillis, out: &mut VecDeque<Output>) {
        let before = *self;
        if self.notice_at().is_some_and(|at| now >= at) {
            self.health.told = Told::Failing;
            self.notice(Notice::Failing, out);
        }
        self.heal(now, out);
        self.say(before, out);
    }

    /// When it has something to say without being told anything.
    pub(super) fn wake_at(&self) -> Option<UnixMillis> {
        self.notice_at().or(self.is_healing().then(|| later(self.last_failure, HEALED_AFTER)))
    }

    fn notice_at(&self) -> Option<UnixMillis> {
        let is_due = self.health.told == Told::Nothing && matches!(self.health.state, State::Failing | State::Open);
        self.health.failing_since.filter(|_| is_due).map(|since| later(since, NOTICE_AFTER))
    }

    fn is_healing(&self) -> bool {
        self.health.state == State::Degraded && self.health.failing_since.is_none()
    }

    fn heal(&mut self, now: UnixMillis, out: &mut VecDeque<Output>) {
        if !self.is_healing() || passed(now, self.last_failure) < HEALED_AFTER {
            return;
        }
        if self.health.told != Told::Nothing || self.health.is_refusal_told {
            self.notice(Notice::Recovered, out);
        }
        self.health = Health { cause: self.health.cause, ..Health::new(now) };
    }

    fn tell_refusal(&mut self, class: Class, out: &mut VecDeque<Output>) {
        if let Class::Refused(status) = class
            && !self.health.is_refusal_told
        {
            self.health.is_refusal_told = true;
            self.notice(Notice::Refused(status), out);
        }
    }

    fn judge(&mut self, now: UnixMillis, class: Class, failing: Duration, out: &mut VecDeque<Output>) -> Option<DisableWhy> {
        if class == Class::Gone {
            return Some(DisableWhy::Gone);
        }
        match self.health.told {
            Told::DisableSoon(at) if failing >= DISABLE_AFTER && passed(now, at) >= DISABLE_NOTICE => Some(DisableWhy::LongFailing),
            Told::Nothing | Told::Failing if failing >= DISABLE_NOTICE_AFTER => {
                self.health.told = Told::DisableSoon(now);
                self.notice(Notice::DisableSoon, out);
                None
            }
            _ => None,
        }
    }

    fn enter(&mut self, now: UnixMillis, state: State) {
        if self.health.state != state {
            (self.health.state, self.health.since) = (state, now);
        }
    }

    fn notice(&self, notice: Notice, out: &mut VecDeque<Output>) {
        out.push_back(Output::Notice { hook: self.hook, notice });
    }

    /// Says how it is, if that is news. Another cause of the same trouble is none.
    fn say(&self, before: Self, out: &mut VecDeque<Output>) {
        if (Health { cause: self.health.cause, ..before.health }) != self.health {
            out.push_back(Output::State { hook: self.hook, health: self.health });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        watch: Watch,
        out: VecDeque<Output>,
    }

    const HOUR_S: u64 = 3_600;

    impl Bench {
        fn new() -> Self {
            Self { watch: Watch::new(UnixMillis(0), HookId([1; 12]), None), out: VecDeque::new() }
        }

        fn fail(&mut self, at_s: u64, status: u16, is_closed: bool) -> Option<DisableWhy> {
            let class = Class::of(&crate::delivery::Outcome::Answered { status, retry_after_s: None });
            self.watch.failed(UnixMillis(at_s * 1_000), class, Cause::Status(status), is_closed, &mut self.out)
        }

        fn succeed(&mut self, at_s: u64) -> State {
            self.watch.succeeded(UnixMillis(at_s * 1_000), true, &mut self.out);
            self.watch.health.state
        }

        fn tick(&mut self, at_s: u64) -> State {
            self.watch.tick(UnixMillis(at_s * 1_000), &mut self.out);
            self.watch.health.state
        }

        fn notices(&mut self) -> Vec<Notice> {
            let notice = |output| if let Output::Notice { notice, .. } = output { Some(notice) } else { None };
            self.out.drain(..).filter_map(notice).collect()
        }
    }

    #[test]
    fn it_goes_through_all_states_and_back() {
        let mut bench = Bench::new();
        bench.fail(1, 500, true);
        assert_eq!(bench.watch.health.state, State::Degraded);
        (2..6).for_each(|at| _ = bench.fail(at, 500, true));
        assert_eq!((bench.watch.health.state, bench.watch.health.since), (State::Failing, UnixMillis(5_000)));
        bench.fail(6, 500, false);
        assert_eq!(bench.watch.health.state, State::Open);
        assert_eq!(bench.succeed(20), State::Degraded);
        assert_eq!(bench.watch.wake_at(), Some(UnixMillis(66_000)));
        assert_eq!([bench.tick(65), bench.tick(66)], [State::Degraded, State::Healthy]);
        assert!(bench.notices().is_empty(), "it was all over within two minutes");
    }

    #[test]
    fn one_event_that_fails_for_half_a_minute_is_enough_if_nothing_succeeds() {
        let mut bench = Bench::new();
        bench.fail(0, 500, true);
        bench.fail(5, 500, true);
        assert_eq!(bench.watch.health.state, State::Degraded);
        bench.fail(35, 500, true);
        assert_eq!(bench.watch.health.state, State::Failing);
    }

    #[test]
    fn its_owner_is_told_after_two_minutes_and_once() {
        let mut bench = Bench::new();
        (0..10).for_each(|at| _ = bench.fail(at, 500, false));
        assert_eq!(bench.watch.wake_at(), Some(UnixMillis(120_000)));
        bench.tick(119);
        assert!(bench.notices().is_empty());
        bench.tick(120);
        assert_eq!(bench.notices(), [Notice::Failing]);
        (120..300).for_each(|at| _ = (bench.tick(at), bench.fail(at, 500, false)));
        assert!(bench.notices().is_empty());
        bench.succeed(301);
        bench.fail(302, 500, true);
        bench.succeed(303);
        assert!(bench.notices().is_empty(), "that is the same trouble");
        bench.succeed(362);
        assert_eq!(bench.notices(), [Notice::Recovered]);
    }

    #[test]
    fn refusals_are_told_at_once_and_once() {
        let mut bench = Bench::new();
        (0..10).for_each(|at| _ = bench.fail(at, 403, true));
        assert_eq!(bench.notices(), [Notice::Refused(403)]);
        bench.succeed(100);
        assert_eq!(bench.notices(), [Notice::Recovered]);
    }

    #[test]
    fn it_is_disabled_after_five_days_and_a_notice_a_day_before() {
        let mut bench = Bench::new();
        for hour in 0..120 {
            assert_eq!(bench.fail(hour * HOUR_S, 500, false), None);
            bench.tick(hour * HOUR_S + 300);
        }
        assert_eq!(bench.notices(), [Notice::Failing, Notice::DisableSoon]);
        assert_eq!(bench.fail(120 * HOUR_S, 500, false), Some(DisableWhy::LongFailing));
    }

    #[test]
    fn nobody_is_disabled_without_notice_even_if_nobody_ran_for_a_week() {
        let mut bench = Bench::new();
        bench.fail(0, 500, false);
        assert_eq!(bench.fail(200 * HOUR_S, 500, false), None);
        assert_eq!(bench.notices(), [Notice::DisableSoon]);
        assert_eq!(bench.fail(223 * HOUR_S, 500, false), None);
        assert_eq!(bench.fail(224 * HOUR_S, 500, false), Some(DisableWhy::LongFailing));
    }

    #[test]
    fn one_success_starts_the_five_days_anew_and_410_needs_none() {
        let mut bench = Bench::new();
        bench.fail(0, 500, true);
        bench.succeed(100 * HOUR_S);
        assert_eq!(bench.fail(121 * HOUR_S, 500, true), None);
        assert_eq!(bench.fail(121 * HOUR_S, 410, true), Some(DisableWhy::Gone));
    }

    #[test]
    fn what_was_stored_is_gone_on_with() {
        let mut bench = Bench::new();
        (0..10).for_each(|at| _ = bench.fail(at, 500, false));
        bench.tick(130);
        let stored = bench.watch.health;
        bench.watch = Watch::new(UnixMillis(200_000), HookId([1; 12]), Some(stored));
        bench.out.clear();
        bench.fail(201, 500, false);
        bench.tick(400);
        assert!(bench.notices().is_empty());
    }
}
