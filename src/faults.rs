//! Faults that tests and drills inject into threads that are watched. They come in over a Unix socket that exists only if `HOLDFAST_FAULTS` names it when
//! the server starts. Without it, each stage of a thread costs one relaxed load. What there is, and what a line says, is in `docs/faults.md`.

mod injector;
mod rule;
mod sifter;
mod socket;

use std::collections::BTreeMap;
use std::hint;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use router::progress::{Board, Part, Stage};

pub use self::injector::Injector;
pub use self::rule::{Kind, Message, Rule, Which};
pub use self::sifter::Sifter;
pub use self::socket::serve;

use crate::mailbox::Mailbox;

/// The variable of the environment that names the socket.
pub const VARIABLE: &str = "HOLDFAST_FAULTS";
/// How often a thread that is held looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// No stage: nothing happens.
const NONE: u8 = u8::MAX;

/// What happens to a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It stands still until it is thawed.
    Freeze,
    /// It turns in a circle until it is thawed.
    Spin,
    /// It panics.
    Panic,
    /// It goes on, and this befalls its messages.
    Rule(Rule),
}

impl Fault {
    /// What happens, and at which stage, by the words that follow the name of a part.
    fn parse(fault: &str, words: &[&str]) -> Option<(Stage, Self)> {
        let of_thread = match fault {
            "freeze" => Some(Self::Freeze),
            "spin" => Some(Self::Spin),
            "panic" => Some(Self::Panic),
            _ => None,
        };
        match (of_thread, words) {
            (Some(fault), [stage]) => Some((Stage::named(stage)?, fault)),
            (Some(_), _) => None,
            (None, words) => Rule::parse(fault, words).map(|(stage, rule)| (stage, Self::Rule(rule))),
        }
    }

    /// Whether it can happen to a thread of this name. Only shards look at single messages, and only those who hand over messages note evidence.
    fn befalls(self, part: &str) -> bool {
        let part = Part::named(part);
        match self {
            Self::Freeze | Self::Spin | Self::Panic => true,
            Self::Rule(Rule::Evidence) => matches!(part, Some(Part::Terminator(_))),
            Self::Rule(Rule::Timers) => matches!(part, Some(Part::Shard(_) | Part::Terminator(_))),
            Self::Rule(_) => matches!(part, Some(Part::Shard(_))),
        }
    }
}

/// What a thread passes whenever it begins something.
#[derive(Debug)]
pub struct Gate {
    /// Where something happens.
    stage: AtomicU8,
    fault: Mutex<Option<Fault>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { stage: AtomicU8::new(NONE), fault: Mutex::new(None) }
    }
}

impl Gate {
    /// The thread begins this. What befalls its messages there.
    pub fn pass(&self, stage: Stage) -> Option<Rule> {
        if self.stage.load(Ordering::Relaxed) == stage as u8 { self.hold(stage) } else { None }
    }

    #[cold]
    fn hold(&self, stage: Stage) -> Option<Rule> {
        while self.stage.load(Ordering::Acquire) == stage as u8 {
            let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            match fault {
                Some(Fault::Freeze) => thread::sleep(LOOK_EVERY),
                Some(Fault::Spin) => (0..1_000_000).for_each(|_| hint::spin_loop()),
                Some(Fault::Panic) => panic!("a fault that was injected"),
                Some(Fault::Rule(rule)) => return Some(rule),
                None => return None,
            }
        }
        None
    }

    fn set(&self, stage: Stage, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        self.stage.store(stage as u8, Ordering::Release);
    }

    fn clear(&self) {
        self.stage.store(NONE, Ordering::Release);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Takes nothing but heartbeats from a mailbox, whose lane is the last: a fault that tests inject.
pub fn drain_heartbeats<T>(mailbox: &mut Mailbox<T>, take: impl FnMut(T)) -> usize {
    // It would not sleep: there is something in it.
    thread::sleep(LOOK_EVERY);
    mailbox.drain_last(take)
}

/// The gates of all threads that are watched, of the watchdog and of what takes over for it: one for each, and one more for each thread that took the place
/// of another. A fault is for the newest; all are thawed at once.
#[derive(Clone, Debug)]
pub struct Faults(Arc<BTreeMap<String, Mutex<Vec<Arc<Gate>>>>>);

/// Name of the watchdog, which is no part of its own board.
pub const WATCHDOG: &str = "watchdog";
/// Name of the thread that gives shards to other threads.
pub const TAKEOVER: &str = "takeover";

impl Faults {
    /// A gate for each part on `board`, and for those who watch them.
    pub fn new(board: &Board) -> Self {
        let names = board.rows().iter().map(|row| row.part().to_string()).chain([WATCHDOG, TAKEOVER].map(str::to_owned));
        Self(Arc::new(names.map(|name| (name, Mutex::new(vec![Arc::default()]))).collect()))
    }

    /// The gate of a part.
    pub fn gate(&self, part: Part) -> Arc<Gate> {
        self.named(&part.to_string())
    }

    /// The gate of that name; one that nothing comes through if there is none.
    pub fn named(&self, name: &str) -> Arc<Gate> {
        self.gates(name).and_then(|gates| gates.last().map(Arc::clone)).unwrap_or_default()
    }

    /// The gate of a thread that takes the place of another. What was done to that one is not done to it.
    pub fn next_gate(&self, part: Part) -> Arc<Gate> {
        let gate = Arc::default();
        if let Some(mut gates) = self.gates(&part.to_string()) {
            // Those of threads that are gone are held by nobody else.
            gates.retain(|former| Arc::strong_count(former) > 1);
            gates.push(Arc::clone(&gate));
        }
        gate
    }

    fn gates(&self, name: &str) -> Option<MutexGuard<'_, Vec<Arc<Gate>>>> {
        self.0.get(name).map(|gates| gates.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does what a line says: `FAULT PART STAGE` with what else the fault asks for, or `thaw PART`.
    ///
    /// # Errors
    /// It says nothing that can be done; what is the matter with it.
    pub fn perform(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let gates = |name: &str| self.gates(name).ok_or_else(|| format!("no part is called {name}"));
        match words[..] {
            ["thaw", part] => gates(part)?.iter().for_each(|gate| gate.clear()),
            [fault, part, ref rest @ ..] => {
                let gates = gates(part)?;
                let (stage, fault) = Fault::parse(fault, rest).ok_or("no fault is called so: see docs/faults.md")?;
                if !fault.befalls(part) {
                    return Err(format!("that cannot happen to {part}"));
                }
                gates.last().into_iter().for_each(|gate| gate.set(stage, fault));
            }
            _ => return Err("a line is FAULT PART STAGE, or thaw PART".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_thread_is_held_where_it_was_said_and_nowhere_else_until_it_is_thawed() {
        let faults = Faults::new(&Board::new([Part::Shard(3), Part::Journal]));
        let gate = faults.gate(Part::Shard(3));
        faults.perform("freeze shard-3 apply").unwrap();
        gate.pass(Stage::Mailbox);
        faults.gate(Part::Journal).pass(Stage::Apply);
        let through = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                gate.pass(Stage::Apply);
                through.store(true, Ordering::Release);
            });
            thread::sleep(Duration::from_millis(50));
            assert!(!through.load(Ordering::Acquire));
            faults.perform("thaw shard-3").unwrap();
        });
        assert!(through.load(Ordering::Acquire));
    }

    #[test]
    fn what_was_done_to_a_thread_is_not_done_to_the_one_in_its_place() {
        let faults = Faults::new(&Board::new([Part::Shard(3)]));
        let old = faults.gate(Part::Shard(3));
        faults.perform("freeze shard-3 apply").unwrap();
        let new = faults.next_gate(Part::Shard(3));
        new.pass(Stage::Apply);
        faults.perform("freeze shard-3 output").unwrap();
        assert_eq!([&old, &new].map(|gate| gate.stage.load(Ordering::Relaxed)), [Stage::Apply, Stage::Output].map(|stage| stage as u8));
        faults.perform("thaw shard-3").unwrap();
        assert_eq!([old, new].map(|gate| gate.stage.load(Ordering::Relaxed)), [NONE; 2]);
    }

    #[test]
    #[should_panic(expected = "a fault that was injected")]
    fn a_thread_panics_if_it_shall() {
        let faults = Faults::new(&Board::new([Part::FanOut]));
        faults.perform("panic fan-out read").unwrap();
        faults.gate(Part::FanOut).pass(Stage::Read);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let faults = Faults::new(&Board::new([Part::Shard(0)]));
        let lines = [
            "freeze shard-1 apply",
            "melt shard-0 apply",
            "freeze shard-0 nowhere",
            "freeze shard-0",
            "drop shard-0 apply 101",
            "delay shard-0 apply 5",
            "hold shard-0 journal all",
            "hold shard-0 apply everything",
            "drop watchdog apply 5",
            "stick shard-0 evidence",
            "",
        ];
        assert!(lines.iter().all(|line| faults.perform(line).is_err()));
        assert!(faults.perform("freeze watchdog apply").is_ok());
    }

    #[test]
    fn what_befalls_messages_is_told_where_it_was_said() {
        let faults = Faults::new(&Board::new([Part::Shard(0)]));
        faults.perform("drop shard-0 apply 5").unwrap();
        let gate = faults.gate(Part::Shard(0));
        assert_eq!((gate.pass(Stage::Mailbox), gate.pass(Stage::Apply)), (None, Some(Rule::Drop { percent: 5 })));
        for line in [
            "delay shard-0 output 20 10000",
            "hold shard-0 mailbox half",
            "hold shard-0 apply call",
            "full shard-0 mailbox",
            "stop shard-0 timers",
        ] {
            faults.perform(line).unwrap();
        }
        assert_eq!((gate.pass(Stage::Timers), gate.pass(Stage::Mailbox)), (Some(Rule::Timers), None), "one at a time");
        faults.perform("thaw shard-0").unwrap();
        assert_eq!(gate.pass(Stage::Timers), None);
    }
}
