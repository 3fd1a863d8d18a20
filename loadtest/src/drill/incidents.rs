//! Ten things go wrong, each on a server of its own that was restarted a little before, which has nothing to do with it. Somebody asks `holdfast diagnose` and
//! nothing else, and is to be told the right cause first within a minute.

mod incident;
mod trouble;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

pub use self::incident::Incident;

use self::trouble::{Trouble, others, part, prepare};
use super::bystanders::Bystanders;
use super::{Ground, register};
use crate::keys::DeviceKeys;
use crate::report::{Check, DrillReport};
use crate::server::Server;

/// How long devices publish before the restart, and between that and what goes wrong.
const PEACE: Duration = Duration::from_secs(20);
const AFTER_RESTART: Duration = Duration::from_secs(15);
/// The right cause comes first by then, or not at all.
const LIMIT: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How many may be named wrong.
const WRONG_MOST: u64 = 1;

/// What to drill.
#[derive(Clone, Debug)]
pub struct Incidents {
    /// The servers.
    pub ground: Ground,
    /// Which; nothing means all.
    pub only: Vec<Incident>,
    /// How many devices publish, twice a second each.
    pub devices: u32,
    /// Decides keys and moments.
    pub seed: u64,
}

/// What was told of one.
struct Told {
    incident: Incident,
    /// When the right cause came first.
    right_after: Option<Duration>,
    /// What came first at last, and in which words.
    cause: String,
    sentence: String,
}

/// Runs the drill.
pub fn incidents(drill: &Incidents) -> Result<DrillReport> {
    let chosen = Incident::ALL.into_iter().filter(|incident| drill.only.is_empty() || drill.only.contains(incident));
    let told = chosen.map(|incident| one(drill, incident).context(incident.name())).collect::<Result<Vec<_>>>()?;
    Ok(conclude(&told))
}

fn one(drill: &Incidents, incident: Incident) -> Result<Told> {
    let mut server = Server::prepare(drill.ground.holdfast.as_deref())?;
    let means = prepare(incident, &mut server)?;
    let others = others(incident);
    let all = DeviceKeys::derive(drill.devices + others, 0, drill.seed)?;
    server.start()?;
    let (crew, others) = part(register(&server, all.clone())?, others)?;
    let lasts = PEACE + AFTER_RESTART + LIMIT * 2;
    let bystanders = Bystanders { devices: drill.devices, every: Duration::from_millis(500), lasts, threads: 1, seed: drill.seed };
    let mut trouble = Trouble::new(incident, means, others, drill.seed, bystanders.longest());
    let publishing = DeviceKeys { udp: all.udp[..drill.devices as usize].to_vec(), tcp: Vec::new() };
    let mut watch = bystanders.come(crew)?;
    watch.connect(&mut server)?;
    trouble.settle_in()?;
    watch.work_in_peace(&server, PEACE)?;
    server.stop()?;
    server.start()?;
    watch.endure("restarted", AFTER_RESTART, &mut server)?;

    let begun = Instant::now();
    trouble.begin(&mut server, &publishing)?;
    let told = ask(incident, &mut server, begun)?;
    trouble.end()?;
    watch.stop()?;
    Ok(told)
}

/// Asks until the right cause is told first, or for a minute. A server that ends is started again.
fn ask(incident: Incident, server: &mut Server, begun: Instant) -> Result<Told> {
    let mut told = Told { incident, right_after: None, cause: String::new(), sentence: String::new() };
    while told.right_after.is_none() && begun.elapsed() < LIMIT {
        if server.has_ended()? {
            server.start()?;
        }
        if let Ok((cause, sentence)) = server.cli().diagnose() {
            told.right_after = (cause == incident.cause()).then(|| begun.elapsed());
            (told.cause, told.sentence) = (cause, sentence);
        }
        thread::sleep(ASK_EVERY);
    }
    Ok(told)
}

fn conclude(told: &[Told]) -> DrillReport {
    let right = told.iter().filter(|told| told.right_after.is_some()).count() as u64;
    let checks = vec![Check::at_least("right_cause_first", (told.len() as u64).saturating_sub(WRONG_MOST), right)];
    let line = |told: &Told| {
        let after = told.right_after.map_or("never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
        (told.incident.name().to_owned(), json!(format!("{after}: {}: {}", told.cause, told.sentence)))
    };
    DrillReport::new(checks, told.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(incident: Incident, right_after: Option<Duration>) -> Told {
        Told { incident, right_after, cause: "restart".into(), sentence: "It was started.".into() }
    }

    #[test]
    fn one_of_ten_may_be_named_wrong() {
        let of = |wrong: usize| {
            let right = |index| (index >= wrong).then_some(Duration::from_secs(3));
            conclude(&Incident::ALL.into_iter().enumerate().map(|(index, incident)| told(incident, right(index))).collect::<Vec<_>>())
        };
        assert!(of(0).pass && of(1).pass && !of(2).pass);
        assert_eq!(of(1).figures["bad_keys"], "never: restart: It was started.");
    }
}
