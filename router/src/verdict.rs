//! What is said of each watched part: whether it makes progress, and if not, where it stopped and since when.
//!
//! A part is judged by the newest heartbeat that each of its stages has passed on: it is slow if that is old, and stalled if for long none came after it.
//! One that goes on after a long time first passes on what waited; it is slow then, and stalled no more. What it waits for is not held against it: a shard whose heartbeats
//! stop at the journal is well as long as the journal is not, and if more than a third of all shards seem to have stopped at once, it is something that
//! they share. Time counts only while whoever judges was running, by the monotonic clock: a machine that was asleep has no sick parts.

use std::collections::BTreeMap;
use std::time::Duration;

use firmware_protocol::time::Millis;

use crate::gray::{Findings, Gray};
use crate::progress::{Heartbeat, Part, Reading, Stage};

/// From one heartbeat to the next.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// A heartbeat that takes longer than this is a slow one.
pub const SLOW_AFTER: Duration = Duration::from_millis(1_000);
/// One that takes longer than this does not come: a pause of 1.5 s is none of these, and what is stalled is known within 3 s.
pub const STALLED_AFTER: Duration = Duration::from_millis(2_000);
/// If nobody judged for so long, it was whoever judges that did not run.
pub const OWN_PAUSE: Duration = Duration::from_millis(600);
/// Longest time until a part's first heartbeat: it may have a million sessions to take over.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// How a part is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// It makes progress.
    Healthy,
    /// Nobody can tell: whoever judges was not running.
    Blind,
    /// It makes progress late.
    Slow,
    /// It passes heartbeats on, and its users are not served (`gray.rs`).
    Gray,
    /// It makes none.
    Stalled,
}

impl State {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Blind, Self::Slow, Self::Gray, Self::Stalled];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Blind => "blind",
            Self::Slow => "slow",
            Self::Gray => "gray",
            Self::Stalled => "stalled",
        }
    }
}

/// What is said of one part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Of whom.
    pub part: Part,
    /// How it is.
    pub state: State,
    /// Where it stopped, unless it is healthy.
    pub stage: Option<Stage>,
    /// Since when it is in that state.
    pub since: Millis,
}

/// What is said of all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Judgement {
    /// Of each part, in the order of the readings.
    pub verdicts: Vec<Verdict>,
    /// Those that say something else than the last time.
    pub changed: Vec<Verdict>,
    /// So many shards seem stalled that it must be something that they share, and nothing that is watched is to blame.
    pub is_shared: bool,
    /// What users say of those that pass heartbeats on.
    pub gray: Vec<Gray>,
}

impl Judgement {
    /// Adds what users say. Who makes no progress at all is not gray. One of whom nothing comes through for long is as good as stalled, and said to be.
    pub fn add(&mut self, now: Millis, findings: Findings) {
        for verdict in &mut self.verdicts {
            let gray = findings.gray.iter().find(|gray| gray.part == verdict.part).filter(|_| verdict.state < State::Gray);
            if let Some(gray) = gray {
                let state = if gray.is_hopeless { State::Stalled } else { State::Gray };
                *verdict = Verdict { state, stage: gray.stage, since: gray.since, ..*verdict };
            }
            let is_new = findings.began.contains(&verdict.part) && verdict.state == State::Gray;
            let is_over = findings.ended.contains(&verdict.part) && verdict.state < State::Gray;
            if is_new || is_over || gray.is_some_and(|gray| gray.is_hopeless) {
                let since = if is_over { now } else { verdict.since };
                self.changed.push(Verdict { since, ..*verdict });
            }
        }
        self.gray = findings.gray;
    }

    /// The parts that are stalled, in the order of the readings.
    pub fn stalled(&self) -> impl Iterator<Item = Verdict> {
        self.verdicts.iter().copied().filter(|verdict| verdict.state == State::Stalled)
    }
}

/// Who judges.
#[derive(Debug)]
pub struct Judge {
    /// When it began, or went on after a pause of its own.
    running_since: Millis,
    began: Millis,
    last: Millis,
    standing: BTreeMap<Part, (State, Option<Stage>, Millis)>,
    /// The newest heartbeat of each stage, and when it was seen first.
    newest: BTreeMap<(Part, Stage), (Heartbeat, Millis)>,
}

impl Judge {
    /// Begins to judge.
    pub fn new(now: Millis) -> Self {
        Self { running_since: now, began: now, last: now, standing: BTreeMap::new(), newest: BTreeMap::new() }
    }

    /// Judges all parts by what they say now.
    pub fn judge(&mut self, now: Millis, readings: &[Reading]) -> Judgement {
        let was_away = now.since(self.last) >= OWN_PAUSE;
        if was_away {
            self.running_since = now;
        }
        self.last = now;
        let mut found: Vec<_> = readings.iter().map(|reading| (reading.part, self.look(now, reading))).collect();
        let is_shared = excuse(&mut found);
        let mut judgement = Judgement { is_shared, ..Judgement::default() };
        for (part, (state, stage)) in found {
            let state = if was_away { State::Blind } else { state };
            let stage = stage.filter(|_| state > State::Blind);
            let standing = self.standing.entry(part).or_insert((State::Healthy, None, now));
            let is_new = (standing.0, standing.1) != (state, stage);
            if is_new {
                *standing = (state, stage, if standing.0 == state { standing.2 } else { now });
            }
            let verdict = Verdict { part, state, stage, since: standing.2 };
            judgement.changed.extend(is_new.then_some(verdict));
            judgement.verdicts.push(verdict);
        }
        judgement
    }

    /// How a stage is that has passed on this heartbeat.
    fn state_of(&mut self, now: Millis, place: (Part, Stage), heartbeat: Heartbeat) -> State {
        let newest = self.newest.entry(place).or_insert((heartbeat, now));
        if newest.0 != heartbeat {
            *newest = (heartbeat, now);
        }
        let late_since = |moment: Millis| now.since(moment.max(self.running_since)).saturating_sub(HEARTBEAT_EVERY);
        if late_since(newest.1) >= STALLED_AFTER {
            State::Stalled
        } else if late_since(heartbeat.0) >= SLOW_AFTER {
            State::Slow
        } else {
            State::Healthy
        }
    }

    /// How a part is, by itself.
    fn look(&mut self, now: Millis, reading: &Reading) -> (State, Option<Stage>) {
        let (mut worst, mut mailbox) = ((State::Healthy, None), State::Healthy);
        for (stage, passed) in &reading.passed {
            // One that never passed any is starting.
            let state = match passed {
                Some(heartbeat) => self.state_of(now, (reading.part, *stage), *heartbeat),
                None if now.since(self.began) >= START_LIMIT => State::Stalled,
                None => State::Healthy,
            };
            if *stage == Stage::Mailbox {
                mailbox = state;
            }
            if state > worst.0 {
                worst = (state, Some(*stage));
            }
        }
        // A thread that does not even take its heartbeats is in the middle of something else: what it took before may be what is missed first.
        let is_stuck = mailbox > State::Blind && reading.doing != Stage::Wait;
        (worst.0, if is_stuck { Some(reading.doing) } else { worst.1 })
    }
}

/// Clears shards of what others do to them. Whether it must be something that they share.
fn excuse(found: &mut [(Part, (State, Option<Stage>))]) -> bool {
    let is_late = |part: Part| found.iter().any(|(other, (state, _))| *other == part && *state > State::Blind);
    let journal_is_late = is_late(Part::Journal);
    let mut terminators = found.iter().filter(|(part, _)| matches!(part, Part::Terminator(_))).peekable();
    let terminators_are_late = terminators.peek().is_some() && terminators.all(|(_, (state, _))| *state > State::Blind);
    for (_, verdict) in found.iter_mut().filter(|(part, _)| is_shard(*part)) {
        let excused = match verdict.1 {
            Some(Stage::Journal) => journal_is_late,
            Some(Stage::Output) => terminators_are_late,
            _ => false,
        };
        if excused {
            *verdict = (State::Healthy, None);
        }
    }
    let shards = found.iter().filter(|(part, _)| is_shard(*part));
    let stalled = shards.clone().filter(|(_, (state, _))| *state == State::Stalled).count();
    stalled > 1 && stalled * 3 > shards.count()
}

fn is_shard(part: Part) -> bool {
    matches!(part, Part::Shard(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::progress::Board;

    /// Parts that pass every heartbeat on, until they are told otherwise.
    struct Machine {
        board: Board,
        judge: Judge,
        now: Millis,
    }

    impl Machine {
        fn new() -> Self {
            let shards = (0..16).map(Part::Shard);
            let parts = [Part::Journal, Part::Terminator(0), Part::Terminator(1), Part::FanOut].into_iter().chain(shards);
            Self { board: Board::new(parts), judge: Judge::new(Millis(0)), now: Millis(0) }
        }

        /// Passes time, judging every 100 ms. `stops` says which stage of which part passes no heartbeat on. What changed, and when.
        fn run(&mut self, for_ms: u64, stops: impl Fn(Part, Stage) -> bool) -> Vec<(u64, Verdict)> {
            let mut changed = Vec::new();
            let end = Millis(self.now.0 + for_ms);
            while self.now < end {
                self.now = Millis(self.now.0 + 50);
                if self.now.0.is_multiple_of(250) {
                    self.beat(&stops);
                }
                if self.now.0.is_multiple_of(100) {
                    let readings: Vec<_> = self.board.rows().iter().map(|row| row.read()).collect();
                    changed.extend(self.judge.judge(self.now, &readings).changed.into_iter().map(|verdict| (self.now.0, verdict)));
                }
            }
            changed
        }

        fn beat(&self, stops: &impl Fn(Part, Stage) -> bool) {
            for row in self.board.rows() {
                for stage in row.part().stages().iter().take_while(|stage| !stops(row.part(), **stage)) {
                    row.pass(*stage, Heartbeat(self.now));
                }
            }
        }

        fn judgement(&mut self) -> Judgement {
            let readings: Vec<_> = self.board.rows().iter().map(|row| row.read()).collect();
            self.judge.judge(self.now, &readings)
        }
    }

    #[test]
    fn what_passes_its_heartbeats_on_is_healthy() {
        assert!(Machine::new().run(600_000, |_, _| false).is_empty());
    }

    #[test]
    fn a_stage_that_stops_is_named_within_three_seconds() {
        for part in [Part::Journal, Part::Terminator(1), Part::FanOut, Part::Shard(7)] {
            for stage in part.stages() {
                let mut machine = Machine::new();
                machine.run(10_000, |_, _| false);
                let changed = machine.run(3_000, |other, at| (other, at) == (part, *stage));
                let (at, stalled) = changed.iter().find(|(_, verdict)| verdict.state == State::Stalled).expect("it is stalled");
                assert_eq!((stalled.part, stalled.stage), (part, Some(*stage)));
                assert!(*at <= 13_000 && *at > 11_500, "{at}");
                assert!(changed.iter().all(|(_, verdict)| verdict.part == part), "nobody else is named: {changed:?}");
                let changed = machine.run(1_000, |_, _| false);
                assert_eq!(changed.last().map(|(_, verdict)| verdict.state), Some(State::Healthy));
            }
        }
    }

    #[test]
    fn a_thread_that_is_frozen_in_the_middle_of_something_is_stalled_there() {
        let mut machine = Machine::new();
        machine.run(10_000, |_, _| false);
        let row = Arc::clone(machine.board.row(Part::Shard(3)).unwrap());
        row.enter(Stage::Output);
        // It has taken one more than it passed on.
        row.pass(Stage::Mailbox, Heartbeat(Millis(10_250)));
        let changed = machine.run(3_000, |part, _| part == Part::Shard(3));
        let stalled = changed.iter().find(|(_, verdict)| verdict.state == State::Stalled).map(|(_, verdict)| (verdict.part, verdict.stage));
        assert_eq!(stalled, Some((Part::Shard(3), Some(Stage::Output))));
    }

    #[test]
    fn a_pause_of_a_second_and_a_half_stalls_nothing() {
        let mut machine = Machine::new();
        for _ in 0..20 {
            machine.run(5_000, |_, _| false);
            let changed = machine.run(1_500, |part, _| part == Part::Shard(1));
            assert!(changed.iter().all(|(_, verdict)| verdict.state != State::Stalled), "{changed:?}");
        }
    }

    #[test]
    fn one_that_goes_on_passes_on_what_waited_and_is_stalled_no_more() {
        let mut machine = Machine::new();
        machine.run(10_000, |_, _| false);
        machine.run(60_000, |part, _| part == Part::Journal);
        let row = Arc::clone(machine.board.row(Part::Journal).unwrap());
        for stage in Part::Journal.stages() {
            row.pass(*stage, Heartbeat(Millis(14_000)));
        }
        machine.now = Millis(machine.now.0 + 100);
        let judgement = machine.judgement();
        assert_eq!(
            judgement.changed.iter().map(|verdict| (verdict.part, verdict.state)).collect::<Vec<_>>(),
            [(Part::Journal, State::Slow)]
        );
        machine.run(500, |_, _| false);
        assert!(machine.judgement().verdicts.iter().all(|verdict| verdict.state == State::Healthy));
    }

    #[test]
    fn shards_that_wait_for_the_journal_or_for_terminators_are_not_to_blame() {
        let mut machine = Machine::new();
        machine.run(10_000, |_, _| false);
        let changed = machine.run(5_000, |part, stage| part == Part::Journal || is_shard(part) && stage == Stage::Journal);
        assert!(changed.iter().filter(|(_, verdict)| verdict.state == State::Stalled).all(|(_, verdict)| verdict.part == Part::Journal));
        assert_eq!(machine.judgement().stalled().next().map(|verdict| verdict.part), Some(Part::Journal));
        machine.run(5_000, |_, _| false);
        machine.run(5_000, |part, stage| matches!(part, Part::Terminator(_)) || is_shard(part) && stage == Stage::Output);
        assert_eq!(machine.judgement().stalled().next().map(|verdict| verdict.part), Some(Part::Terminator(0)));
        assert!(!machine.judgement().is_shared);
    }

    #[test]
    fn many_shards_at_once_share_what_stalls_them() {
        let mut machine = Machine::new();
        machine.run(10_000, |_, _| false);
        machine.run(4_000, |part, _| matches!(part, Part::Shard(number) if number < 5));
        assert!(!machine.judgement().is_shared, "five of sixteen may be five");
        machine.run(4_000, |part, _| matches!(part, Part::Shard(number) if number < 6));
        assert!(machine.judgement().is_shared);
    }

    #[test]
    fn who_was_asleep_can_tell_nothing_of_that_time() {
        let mut machine = Machine::new();
        machine.run(10_000, |_, _| false);
        machine.now = Millis(machine.now.0 + 60_000);
        assert!(machine.judgement().verdicts.iter().all(|verdict| verdict.state == State::Blind));
        let changed = machine.run(10_000, |_, _| false);
        assert!(!changed.is_empty() && changed.iter().all(|(_, verdict)| verdict.state == State::Healthy), "{changed:?}");
    }

    #[test]
    fn a_part_may_take_its_time_to_start_but_not_for_ever() {
        let mut machine = Machine::new();
        let never = |part: Part, _: Stage| part == Part::Shard(2);
        assert!(machine.run(59_000, never).is_empty());
        let changed = machine.run(2_000, never);
        assert_eq!(changed.first().map(|(_, verdict)| (verdict.part, verdict.state)), Some((Part::Shard(2), State::Stalled)));
    }
}
