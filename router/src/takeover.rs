//! What is done about a part that has stalled. If it is one shard and nothing else, another thread takes that shard over, and nobody else notices. Whatever
//! else it is, a restart cures it: the process ends. So it does if a takeover does not help, or too many were needed.

use std::collections::VecDeque;
use std::time::Duration;

use firmware_protocol::time::Millis;

use crate::progress::{Part, Reading};
use crate::verdict::{Judgement, State, Verdict};

/// Most takeovers in a while. Beyond that, something is wrong that no takeover cures.
pub const TAKEOVERS_MAX: usize = 3;
/// How long that while is.
pub const WHILE: Duration = Duration::from_secs(600);
/// A takeover after which the shard makes no progress by then has failed.
pub const LIMIT: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Nothing, or nothing more than is under way.
    Nothing,
    /// Another thread takes over what this verdict is about: the shard with this number.
    TakeOver(u16, Verdict),
    /// The process ends because of this verdict.
    End(Verdict, Reason),
}

/// What an operator wants to be done about parts that stall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cure {
    /// One shard alone is taken over by another thread; for anything else, the process ends.
    Takeover,
    /// The process ends, whatever stalls.
    Restart,
    /// Nothing: it is only told.
    None,
}

/// Why a restart is the cure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is not one shard alone, or takeovers are not wanted.
    NoShardAlone,
    /// So many shards at once that it must be something that they share.
    Shared,
    /// There were too many takeovers.
    TooMany,
    /// The shard was taken over, and that did not help.
    InVain,
}

/// The takeovers of a process.
#[derive(Debug)]
pub struct Takeovers {
    cure: Cure,
    /// When those of the last while began.
    begun: VecDeque<Millis>,
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    shard: u16,
    since: Millis,
    /// Another thread has the shard.
    is_done: bool,
}

impl Takeovers {
    /// None so far, of a process for which this cure is wanted.
    pub fn new(cure: Cure) -> Self {
        Self { cure, begun: VecDeque::new(), under_way: None }
    }

    /// Another thread has the shard now. Whether that helps is seen by the next judgements.
    pub fn done(&mut self, shard: u16) {
        if let Some(under_way) = self.under_way.as_mut().filter(|under_way| under_way.shard == shard) {
            under_way.is_done = true;
        }
    }

    /// What is to be done by this judgement, which was made of these readings. `stuck` are the parts that have stalled and are to be cured.
    pub fn remedy(&mut self, now: Millis, judgement: &Judgement, readings: &[Reading], stuck: &[Verdict]) -> Remedy {
        if self.cure == Cure::None {
            return Remedy::Nothing;
        }
        if let Some(under_way) = &mut self.under_way {
            let own = judgement.verdicts.iter().find(|verdict| verdict.part == Part::Shard(under_way.shard));
            match own {
                // Nobody could tell, so nobody was late.
                Some(verdict) if verdict.state == State::Blind => under_way.since = now,
                Some(verdict) if verdict.state < State::Stalled && under_way.is_done => self.under_way = None,
                Some(verdict) if now.since(under_way.since) >= LIMIT => return Remedy::End(*verdict, Reason::InVain),
                _ => {}
            }
        }
        let own = self.under_way.map(|under_way| Part::Shard(under_way.shard));
        let Some(stuck) = stuck.iter().copied().find(|verdict| Some(verdict.part) != own) else { return Remedy::Nothing };
        match (stuck.part, own) {
            _ if judgement.is_shared => Remedy::End(stuck, Reason::Shared),
            (Part::Shard(shard), None) if self.cure == Cure::Takeover && is_alone(judgement) && has_run(readings, stuck.part) => {
                while self.begun.front().is_some_and(|begun| now.since(*begun) >= WHILE) {
                    self.begun.pop_front();
                }
                if self.begun.len() >= TAKEOVERS_MAX {
                    return Remedy::End(stuck, Reason::TooMany);
                }
                self.begun.push_back(now);
                self.under_way = Some(UnderWay { shard, since: now, is_done: false });
                Remedy::TakeOver(shard, stuck)
            }
            _ => Remedy::End(stuck, Reason::NoShardAlone),
        }
    }
}

/// Whether nothing else has stalled.
fn is_alone(judgement: &Judgement) -> bool {
    judgement.stalled().count() == 1
}

/// Whether a part has come up. One that has not may have stumbled over what it was left, which the next would find as well.
fn has_run(readings: &[Reading], part: Part) -> bool {
    readings.iter().any(|reading| reading.part == part && reading.passed.iter().all(|(_, passed)| passed.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Heartbeat, Stage};

    /// Judgements as the watchdog makes them, of what a test says.
    struct World {
        takeovers: Takeovers,
        now: Millis,
    }

    impl World {
        fn new() -> Self {
            Self { takeovers: Takeovers::new(Cure::Takeover), now: Millis(100_000) }
        }

        fn verdict(part: Part, state: State) -> Verdict {
            let stage = (state > State::Blind).then_some(Stage::Apply);
            Verdict { part, state, stage, since: Millis(0) }
        }

        /// So much later, these parts are not healthy.
        fn see(&mut self, after_ms: u64, sick: &[(Part, State)]) -> Remedy {
            self.now.0 += after_ms;
            let parts = [Part::Journal, Part::FanOut, Part::Shard(0), Part::Shard(1), Part::Shard(2)];
            let state = |part| sick.iter().find(|(other, _)| *other == part).map_or(State::Healthy, |(_, state)| *state);
            let verdicts = parts.map(|part| Self::verdict(part, state(part))).to_vec();
            let judgement = Judgement { verdicts, ..Judgement::default() };
            let passed = |part: Part| part.stages().iter().map(|stage| (*stage, Some(Heartbeat(Millis(1))))).collect();
            let readings = parts.map(|part| Reading { part, doing: Stage::Wait, passed: passed(part) });
            let stuck: Vec<_> = judgement.stalled().collect();
            self.takeovers.remedy(self.now, &judgement, &readings, &stuck)
        }

        fn takes_over(&mut self, shard: u16) {
            let part = Part::Shard(shard);
            assert_eq!(self.see(100, &[(part, State::Stalled)]), Remedy::TakeOver(shard, Self::verdict(part, State::Stalled)));
            assert_eq!(self.see(100, &[(part, State::Stalled)]), Remedy::Nothing, "it is under way");
            self.takeovers.done(shard);
            assert_eq!(self.see(100, &[(part, State::Slow)]), Remedy::Nothing);
        }
    }

    const ONE: Part = Part::Shard(1);

    fn ends(remedy: Remedy) -> Option<(Part, Reason)> {
        match remedy {
            Remedy::End(verdict, reason) => Some((verdict.part, reason)),
            Remedy::Nothing | Remedy::TakeOver(..) => None,
        }
    }

    #[test]
    fn one_shard_alone_is_taken_over_and_anything_else_ends_the_process() {
        let mut world = World::new();
        assert_eq!(world.see(100, &[]), Remedy::Nothing);
        world.takes_over(1);
        assert_eq!(world.see(100, &[]), Remedy::Nothing);
        for part in [Part::Journal, Part::FanOut] {
            assert_eq!(ends(World::new().see(100, &[(part, State::Stalled)])), Some((part, Reason::NoShardAlone)));
            let both = [(part, State::Stalled), (ONE, State::Stalled)];
            assert_eq!(ends(World::new().see(100, &both)), Some((part, Reason::NoShardAlone)));
        }
        let two = [(ONE, State::Stalled), (Part::Shard(2), State::Stalled)];
        assert_eq!(ends(World::new().see(100, &two)), Some((ONE, Reason::NoShardAlone)));
        let unwanted = &mut World { takeovers: Takeovers::new(Cure::Restart), ..World::new() };
        assert_eq!(ends(unwanted.see(100, &[(ONE, State::Stalled)])), Some((ONE, Reason::NoShardAlone)));
    }

    #[test]
    fn without_a_cure_nothing_is_done_about_anything() {
        let mut world = World { takeovers: Takeovers::new(Cure::None), ..World::new() };
        for sick in [vec![ONE], vec![Part::Journal], vec![ONE, Part::Shard(2), Part::FanOut]] {
            let sick: Vec<_> = sick.into_iter().map(|part| (part, State::Stalled)).collect();
            assert_eq!(world.see(60_000, &sick), Remedy::Nothing);
        }
    }

    #[test]
    fn what_stalls_during_a_takeover_ends_the_process() {
        let mut world = World::new();
        world.see(100, &[(ONE, State::Stalled)]);
        for other in [Part::FanOut, Part::Shard(0), Part::Shard(2)] {
            let both = [(ONE, State::Stalled), (other, State::Stalled)];
            assert_eq!(ends(world.see(100, &both)), Some((other, Reason::NoShardAlone)));
        }
    }

    #[test]
    fn a_takeover_that_does_not_help_in_two_seconds_was_in_vain() {
        let mut world = World::new();
        world.see(100, &[(ONE, State::Stalled)]);
        world.takeovers.done(1);
        assert_eq!(world.see(1_999, &[(ONE, State::Stalled)]), Remedy::Nothing);
        assert_eq!(ends(world.see(1, &[(ONE, State::Stalled)])), Some((ONE, Reason::InVain)));
        let mut world = World::new();
        world.see(100, &[(ONE, State::Stalled)]);
        assert_eq!(world.see(1_900, &[(ONE, State::Slow)]), Remedy::Nothing, "the old thread goes on, and is no longer asked");
        assert_eq!(ends(world.see(100, &[])), Some((ONE, Reason::InVain)), "no other thread came");
    }

    #[test]
    fn nothing_was_in_vain_while_nobody_judged() {
        let mut world = World::new();
        world.see(100, &[(ONE, State::Stalled)]);
        assert_eq!(world.see(60_000, &[(ONE, State::Blind)]), Remedy::Nothing);
        assert_eq!(world.see(1_900, &[(ONE, State::Stalled)]), Remedy::Nothing);
        world.takeovers.done(1);
        assert_eq!(world.see(100, &[]), Remedy::Nothing);
        assert!(world.takeovers.under_way.is_none());
    }

    #[test]
    fn the_fourth_takeover_in_ten_minutes_is_a_restart() {
        let mut world = World::new();
        [0, 1, 0].iter().for_each(|shard| world.takes_over(*shard));
        assert_eq!(ends(world.see(100, &[(ONE, State::Stalled)])), Some((ONE, Reason::TooMany)));
        let mut world = World::new();
        [0, 1, 0].iter().for_each(|shard| world.takes_over(*shard));
        world.see(600_000, &[]);
        world.takes_over(2);
    }

    #[test]
    fn a_shard_that_never_came_up_is_not_taken_over() {
        let mut world = World::new();
        let verdict = World::verdict(ONE, State::Stalled);
        let judgement = Judgement { verdicts: vec![verdict], ..Judgement::default() };
        let readings = [Reading { part: ONE, doing: Stage::Mailbox, passed: vec![(Stage::Mailbox, None)] }];
        let remedy = world.takeovers.remedy(world.now, &judgement, &readings, &[verdict]);
        assert_eq!(remedy, Remedy::End(verdict, Reason::NoShardAlone));
    }
}
