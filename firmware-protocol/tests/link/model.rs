//! Sessions against a reference model: a device publishes and moves while the server is killed, its syncs fail, its disk stalls and is full.
//!
//! Whatever comes together, nothing acknowledged may be lost, nothing accepted twice, no record number used twice. And as long as the device could
//! reach somebody who could answer, it keeps its session.

use std::time::Duration;

use firmware_protocol::device::{Age, DeviceEvent};
use firmware_protocol::session::request::Request;
use firmware_protocol::time::Millis;
use proptest::prelude::*;

use crate::world::{Link, World};

/// A device says everything four times within so long, and then waits some more. After less trouble than this it must have an answer.
const PATIENCE: Duration = Duration::from_secs(95);
/// A stall ends before that: the longest that is tried is answered 5.03 twice over.
const STALL_MAX_S: u64 = 100;

#[derive(Clone, Debug)]
enum Operation {
    Wait(u16),
    Publish,
    Call,
    /// The process is killed, of its commits under way so many are durable all the same, and the next one comes so many milliseconds later.
    Kill(usize, u16),
    FailSync(usize),
    /// Nothing is written for so many seconds.
    Stall(u64),
    Full(bool),
    /// The device starts again with its session, from another address.
    Move,
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (0u16..9_000).prop_map(Operation::Wait),
        6 => Just(Operation::Publish),
        1 => Just(Operation::Call),
        2 => (0usize..4, 0u16..3_000).prop_map(|(kept, down)| Operation::Kill(kept, down)),
        1 => (0usize..4).prop_map(Operation::FailSync),
        1 => (0..STALL_MAX_S).prop_map(Operation::Stall),
        2 => any::<bool>().prop_map(Operation::Full),
        1 => Just(Operation::Move),
    ]
}

/// A world, and what was done in it.
struct Model {
    world: World,
    publishes: Vec<(String, u64)>,
    /// When the last trouble of each kind was over: a process that ended, and a disk that stalled.
    ended: Vec<Millis>,
    stalled: Millis,
    /// The device may have found nobody each time it spoke.
    is_excused: bool,
}

impl Model {
    fn new(seed: u64, age: Age) -> Self {
        let mut world = World::with_age(age, seed, Link::whole(seed));
        world.run_until(Duration::from_secs(300), |world| world.device.is_connected());
        Self { world, publishes: Vec::new(), ended: Vec::new(), stalled: Millis(0), is_excused: false }
    }

    fn run(&mut self, operation: &Operation) {
        match *operation {
            Operation::Wait(ms) => self.world.run(Duration::from_millis(ms.into())),
            Operation::Publish => {
                let name = format!("event/{}", self.publishes.len());
                let publish = self.world.publish(&name, b"data");
                self.publishes.push((name, publish));
            }
            Operation::Call => _ = self.world.request(Request::Call { function: "double".into(), argument: "21".into() }),
            Operation::Kill(kept, down) => {
                self.ends();
                self.world.die(kept, Duration::from_millis(down.into()));
            }
            Operation::FailSync(kept) => {
                self.ends();
                self.world.disk.fail_sync(kept);
                // It is a sync of something.
                self.run(&Operation::Publish);
                self.world.run(Duration::from_secs(1));
            }
            Operation::Stall(seconds) => {
                let until = self.world.now() + Duration::from_secs(seconds);
                self.stalled = self.stalled.max(until);
                self.world.disk.stall(until);
                self.excuse_a_kill_beside_a_stall();
            }
            Operation::Full(is_full) => self.world.disk.set_full(is_full),
            Operation::Move => {
                self.world.move_device();
                self.world.restart_device();
            }
        }
    }

    /// What was not answered yet is not known to the next process: two of a device's four tries may be spent in vain.
    fn ends(&mut self) {
        let now = self.world.now();
        self.ended.retain(|ended| now.since(*ended) < PATIENCE);
        self.ended.push(now);
        self.is_excused |= self.ended.len() > 2;
        self.excuse_a_kill_beside_a_stall();
    }

    fn excuse_a_kill_beside_a_stall(&mut self) {
        let stalled = self.stalled > Millis(0);
        let beside =
            |ended: &Millis| *ended < self.stalled + PATIENCE && self.stalled < *ended + PATIENCE + Duration::from_secs(STALL_MAX_S);
        self.is_excused |= stalled && self.ended.iter().any(beside);
    }

    /// All is well again: the device comes back if it was away, and what was promised holds.
    fn check(mut self) {
        self.world.disk.set_full(false);
        self.world.run(Duration::from_secs(STALL_MAX_S) + PATIENCE);
        self.world.run_until(Duration::from_secs(900), |world| world.device.is_connected());
        let last = self.world.publish("last", b"data");
        self.world.run(Duration::from_secs(30));
        assert_eq!((self.world.published_ok(last), self.world.accepted("last")), (1, 1));
        for (name, publish) in &self.publishes {
            let (acknowledged, accepted) = (self.world.published_ok(*publish), self.world.accepted(name));
            assert!(acknowledged <= accepted && accepted <= 1, "{name}: acknowledged {acknowledged} times, accepted {accepted} times");
            let ended = |event: &&DeviceEvent| matches!(event, DeviceEvent::Published { publish: own, .. } if own == publish);
            // Of one that was open when the device was switched off, nobody is told.
            assert!(self.world.events.iter().filter(ended).count() <= 1, "{name}");
        }
        assert!(self.world.outcomes.values().all(|outcomes| outcomes.len() == 1), "{:?}", self.world.outcomes);
        let happened = |wanted: fn(&DeviceEvent) -> bool| self.world.events.iter().any(wanted);
        assert!(!happened(|event| matches!(event, DeviceEvent::SequenceRepeated(_))));
        if !self.is_excused {
            assert_eq!(self.world.handshakes, 1, "{:?}", self.world.events);
        }
    }
}

/// How many cases are tried, unless `PROPTEST_CASES` says it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(300, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_keep_their_word(
        seed in any::<u64>(),
        age in prop_oneof![Just(Age::V2), Just(Age::V3), Just(Age::V6)],
        operations in prop::collection::vec(any_operation(), 1..60),
    ) {
        let mut model = Model::new(seed, age);
        operations.iter().for_each(|operation| model.run(operation));
        model.check();
    }
}
