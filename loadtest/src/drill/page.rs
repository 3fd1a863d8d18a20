//! Something happens to the server, and somebody is paged. A real Prometheus and Alertmanager watch it with the files that are shipped, and a receiver of
//! web hooks notes when the first page of the right name comes. Each fault has a server, a Prometheus and an Alertmanager of its own, so that none hears
//! what became of another's.

mod case;
mod receiver;
mod watchers;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Map, json};

pub use self::case::Case;

use self::receiver::Receiver;
use self::watchers::Watchers;
use super::Ground;
use crate::faults;
use crate::herald::{Herald, HeraldPlan};
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::sick_disk::{SickDisk, Sickness};

/// A page is late after this.
const PAGE_LIMIT: Duration = Duration::from_secs(15);
/// Nobody waits longer for one.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// A supervisor starts a server again that ended, after so long.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// From one publish of a caller to the next: a journal without work does not wait for its disk.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
const PUBLISH_PATIENCE: Duration = Duration::from_secs(2);

/// What to drill.
#[derive(Clone, Debug)]
pub struct PageDrill {
    /// The server.
    pub ground: Ground,
    /// Which faults.
    pub cases: Vec<Case>,
    /// The program of Prometheus.
    pub prometheus: PathBuf,
    /// That of Alertmanager.
    pub alertmanager: PathBuf,
    /// Where the files for them are.
    pub files: PathBuf,
    /// How long everything is well before the fault, so that whatever would page by itself does.
    pub peace: Duration,
}

/// What came of one fault.
#[derive(Debug)]
struct Told {
    /// How long it took until the right page came, if it came.
    after: Option<Duration>,
    /// Whose it was.
    alert: String,
    /// Pages before anything had happened.
    in_peace: u64,
    /// How often the server was started again.
    restarts: u64,
    /// Whether the outside service was kept quiet.
    dead_man: bool,
}

/// Runs the drill.
pub fn page(drill: &PageDrill) -> Result<DrillReport> {
    let (mut checks, mut figures) = (Vec::new(), Map::new());
    for case in &drill.cases {
        let (told, kept) = drill.ground.play(|server| run(drill, *case, server)).with_context(|| format!("in {}", case.name()))?;
        let after_ms = millis(told.after.unwrap_or(WAIT_LIMIT));
        checks.push(Check::at_most(case.check(), millis(PAGE_LIMIT), after_ms));
        checks.push(Check::equal(case.quiet_check(), 0, told.in_peace));
        let figure = json!({"paged_after_ms": told.after.map(millis), "by": told.alert, "restarts": told.restarts, "kept": kept});
        checks.push(Check::equal(case.alive_check(), 1, u64::from(told.dead_man)));
        figures.insert(case.name().replace('-', "_"), figure);
    }
    Ok(DrillReport::new(checks, figures))
}

fn run(drill: &PageDrill, case: Case, server: &mut Server) -> Result<Told> {
    let socket = server.admit_faults();
    let disk = (case == Case::DiskHangs).then(|| SickDisk::build(server.dir())).transpose()?;
    disk.iter().for_each(|disk| server.work_on(disk.clone()));
    server.cure_by(case.cure())?;
    server.start()?;
    server.cli().add_owner()?;
    let receiver = Receiver::start()?;
    let mut watchers = Watchers::start(drill, server.admin(), receiver.address(), server.dir())?;
    let herald =
        Herald::start(server.api()?, HeraldPlan { name: "page/call", every: PUBLISH_EVERY, patience: PUBLISH_PATIENCE, padding: 0 })?;
    herald.speak(true);
    watchers.wait_until_up()?;
    thread::sleep(drill.peace);
    ensure!(herald.accepted() > 0, "nothing was accepted in peace");
    server.check_alive()?;
    let in_peace = receiver.pages().len() as u64;

    let begun = Instant::now();
    match case {
        Case::TakenOver | Case::Stalled | Case::Uncured => faults::inject(&socket, "freeze shard-3 apply")?,
        Case::DiskHangs => disk.iter().try_for_each(|disk| disk.be(Sickness::Hangs))?,
        Case::Frozen => server.signal(Signal::SIGSTOP)?,
        Case::Killed => server.kill()?,
    }
    let (mut restarts, mut paged) = (0, None);
    while begun.elapsed() < WAIT_LIMIT && paged.is_none() {
        if case.is_supervised() && server.has_ended()? {
            thread::sleep(RESTART_AFTER);
            server.spawn()?;
            restarts += 1;
        }
        watchers.check_alive()?;
        paged = receiver.pages().into_iter().find(|page| case.pages().contains(&page.alert.as_str()));
        thread::sleep(LOOK_EVERY);
    }
    disk.iter().try_for_each(|disk| disk.be(Sickness::Healthy))?;
    herald.stop()?;
    let alert = paged.as_ref().map_or_else(|| format!("none, but {:?}", receiver.pages()), |page| page.alert.clone());
    let after = paged.map(|page| page.at.saturating_duration_since(begun));
    Ok(Told { after, alert, in_peace, restarts, dead_man: receiver.dead_man_was_told() })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
