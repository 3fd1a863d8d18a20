//! Faults that tests and drills inject into threads that are watched. They come in over a Unix socket that exists only if `HOLDFAST_FAULTS` names it when
//! the server starts. Without it, each stage of a thread costs one relaxed load.

mod socket;

use std::collections::BTreeMap;
use std::hint;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use router::progress::{Board, Part, Stage};

pub use self::socket::serve;

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
}

impl Fault {
    /// The one of that name.
    fn named(name: &str) -> Option<Self> {
        match name {
            "freeze" => Some(Self::Freeze),
            "spin" => Some(Self::Spin),
            "panic" => Some(Self::Panic),
            _ => None,
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
    /// The thread begins this.
    pub fn pass(&self, stage: Stage) {
        if self.stage.load(Ordering::Relaxed) == stage as u8 {
            self.hold(stage);
        }
    }

    #[cold]
    fn hold(&self, stage: Stage) {
        while self.stage.load(Ordering::Acquire) == stage as u8 {
            let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            match fault {
                Some(Fault::Freeze) => thread::sleep(LOOK_EVERY),
                Some(Fault::Spin) => (0..1_000_000).for_each(|_| hint::spin_loop()),
                Some(Fault::Panic) => panic!("a fault that was injected"),
                None => return,
            }
        }
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

    /// Does what a line says: `freeze|spin|panic PART STAGE` or `thaw PART`.
    ///
    /// # Errors
    /// It says nothing that can be done; what is the matter with it.
    pub fn perform(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let gates = |name: &str| self.gates(name).ok_or_else(|| format!("no part is called {name}"));
        match words[..] {
            ["thaw", part] => gates(part)?.iter().for_each(|gate| gate.clear()),
            [fault, part, stage] => {
                let fault = Fault::named(fault).ok_or_else(|| format!("no fault is called {fault}"))?;
                let stage = Stage::named(stage).ok_or_else(|| format!("no stage is called {stage}"))?;
                gates(part)?.last().into_iter().for_each(|gate| gate.set(stage, fault));
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
        let lines = ["freeze shard-1 apply", "melt shard-0 apply", "freeze shard-0 nowhere", "freeze shard-0", ""];
        assert!(lines.iter().all(|line| faults.perform(line).is_err()));
        assert!(faults.perform("freeze watchdog apply").is_ok());
    }
}
