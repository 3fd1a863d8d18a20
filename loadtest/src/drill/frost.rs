//! One thread of a server stands still while a fleet publishes: what the server says of it, what it does about it, and when every device is served again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::fleet::Fleet;
use crate::freezer::{Freezer, Frozen};
use crate::server::Server;

/// Shards of a server that nobody told otherwise.
pub(super) const SHARDS: u64 = 16;
/// What is neither cured nor served by then is not.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest time until a thread whose place was taken is gone, once it goes on.
const GONE_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// In the line that says so, with the thread's name.
const STALLED: &str = "has stalled";
const TAKEN_OVER: &str = "another thread has its devices";
const ENDING: &str = "ending the process";

/// What a server did about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cure {
    /// Another thread took its place.
    Takeover,
    /// The process ended, and was started again.
    Restart,
    /// Nothing.
    None,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) struct Struck {
    pub(super) cure: Cure,
    /// From the frost to the line that names the thread.
    pub(super) named: Option<Duration>,
    /// Where it was said to have stopped.
    pub(super) stage: Option<String>,
    /// From the frost until every device had a publish acknowledged that it began after the cure.
    pub(super) served: Option<Duration>,
    /// Threads of its name, once it could go on again.
    pub(super) left: usize,
}

/// Stops the thread of `server` that is called `name`, and sees what comes of it. `fleets` publish all the time.
pub(super) fn strike(freezer: &Freezer, server: &mut Server, fleets: &[&Fleet], name: &str) -> Result<Struck> {
    let thread = *server.threads(name)?.first().with_context(|| format!("no thread is called {name}"))?;
    let (log, mut struck) = (server.log_len()?, Struck { cure: Cure::None, named: None, stage: None, served: None, left: 0 });
    let mut frozen = Some(freezer.freeze(thread)?);
    let begun = Instant::now();
    while struck.served.is_none() && begun.elapsed() < LIMIT {
        let text = server.log_since(log)?;
        if struck.named.is_none()
            && let Some(line) = text.lines().find(|line| line.contains(STALLED) && names(line, name))
        {
            (struck.named, struck.stage) = (Some(begun.elapsed()), stage(line).map(str::to_owned));
        }
        if struck.cure == Cure::None {
            struck.cure = cure(&text, name, server, &mut frozen)?;
            if struck.cure != Cure::None {
                fleets.iter().try_for_each(|fleet| fleet.roll_call())?;
            }
        } else if fleets.iter().all(|fleet| fleet.moment().unserved == 0) {
            struck.served = Some(begun.elapsed());
        }
        thread::sleep(LOOK_EVERY);
    }
    drop(frozen);
    struck.left = left(server, name)?;
    Ok(struck)
}

/// What the server has done by now.
fn cure(text: &str, name: &str, server: &mut Server, frozen: &mut Option<Frozen<'_>>) -> Result<Cure> {
    if text.lines().any(|line| line.contains(TAKEN_OVER) && names(line, name)) {
        return Ok(Cure::Takeover);
    }
    if !text.contains(ENDING) {
        return Ok(Cure::None);
    }
    // The kernel ends no process of which a thread is frozen.
    *frozen = None;
    while !server.has_ended()? {
        thread::sleep(LOOK_EVERY);
    }
    server.start()?;
    Ok(Cure::Restart)
}

/// Threads of this name, after the one that is too many has had time to go.
fn left(server: &Server, name: &str) -> Result<usize> {
    let begun = Instant::now();
    loop {
        let left = server.threads(name)?.len();
        if left == 1 || begun.elapsed() >= GONE_LIMIT {
            return Ok(left);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether a line names this thread and not one whose name begins like its.
fn names(line: &str, name: &str) -> bool {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').any(|word| word == name)
}

/// The stage that a line names: as a field of the log, or in a sentence.
fn stage(line: &str) -> Option<&str> {
    let field = line.split_once("stage=\"").and_then(|(_, rest)| rest.split('"').next());
    let sentence = || line.split_once("has stalled in ").and_then(|(_, rest)| rest.split(';').next());
    field.or_else(sentence).filter(|stage| !stage.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_not_taken_for_one_whose_name_begins_like_its() {
        let line = "ERROR holdfast::watchdog: has stalled part=shard-12 stage=\"apply\"";
        assert!(names(line, "shard-12") && !names(line, "shard-1"));
    }

    #[test]
    fn a_stage_is_read_from_the_log_and_from_last_words() {
        assert_eq!(stage("ERROR holdfast::watchdog: has stalled part=shard-3 stage=\"apply\" for_ms=1"), Some("apply"));
        assert_eq!(stage("holdfast: journal has stalled in commit; ending the process"), Some("commit"));
        assert_eq!(stage("holdfast: the watchdog has stalled; ending the process"), None);
    }
}
