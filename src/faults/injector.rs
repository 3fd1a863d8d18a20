//! All that a line can ask for: what befalls threads, and what befalls other things.

use super::Faults;
use crate::clock;
use crate::stale::Roll;
use crate::store::Registry;

/// What does it.
#[derive(Clone)]
pub struct Injector {
    threads: Faults,
    roll: Roll,
    registry: Registry,
}

impl Injector {
    /// Of these threads, what should move, and the registry.
    pub fn new(threads: Faults, roll: Roll, registry: Registry) -> Self {
        Self { threads, roll, registry }
    }

    /// Does what a line says: see `docs/faults.md`.
    ///
    /// # Errors
    /// It says nothing that can be done; what is the matter with it.
    pub fn perform(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["clock", seconds] => clock::shift(seconds.parse().map_err(|_| format!("{seconds} is no number of seconds"))?),
            ["stick", series] => self.roll.stick(series, true)?,
            ["unstick", series] => self.roll.stick(series, false)?,
            ["panic", "registry"] => drop(tokio::spawn(self.registry.clone().panic_in_a_change())),
            _ => self.threads.perform(line)?,
        }
        Ok(())
    }
}
