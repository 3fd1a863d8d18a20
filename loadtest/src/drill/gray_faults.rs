//! Parts of a server fail, most of them only in part, while devices publish and callers ping them: heartbeats go on, and yet somebody is not served. Each
//! fault must be noticed, the right part be named and no other, in time. Where the server ends by itself, it is started again.

mod callers;
mod cases;
mod signs;
mod soak;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

pub use self::cases::CASES;

use self::callers::Callers;
use self::cases::{Case, Fault, Sign};
use self::signs::Signs;
use self::soak::{Busy, PAUSE, Pauses};
use super::bystanders::CONNECT_LIMIT;
use super::{Ground, register};
use crate::api::Api;
use crate::faults;
use crate::fleet::{Fleet, FleetPlan, Work};
use crate::herald::{Herald, HeraldPlan};
use crate::keys::DeviceKeys;
use crate::progress::Progress;
use crate::report::{Check, DrillReport};
use crate::server::{Server, WantedCure};
use crate::sick_disk::{SickDisk, Sickness};

/// How often the server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long after the time in which a fault must be noticed it is still waited for.
const BEYOND: Duration = Duration::from_secs(10);
/// Longest time until all is well again.
const WELL_LIMIT: Duration = Duration::from_secs(60);
/// All is well once it has been so for this long.
const WELL_FOR: Duration = Duration::from_secs(3);
/// How long devices publish before the first fault: so long that what is late at the start is forgotten.
const PEACE: Duration = Duration::from_secs(12);
/// Longest time until the room is used up that the journal has made for itself.
const FILL_LIMIT: Duration = Duration::from_secs(90);
/// Text of each event that uses it up.
const FILL_BYTES: usize = 1_000;
/// The fleet stops by itself after this.
const LONGEST: Duration = Duration::from_secs(6 * 3_600);

/// What to drill.
#[derive(Clone, Debug)]
pub struct GrayFaults {
    /// The server.
    pub ground: Ground,
    /// Names of the faults; all if there are none.
    pub only: Vec<String>,
    /// No faults, but pauses and want of processor time for so long.
    pub soak: Option<Duration>,
    /// How many devices publish.
    pub devices: u32,
    /// From one publish of a device to the next.
    pub every: Duration,
    /// Threads of the fleet.
    pub threads: usize,
    /// Decides everything random.
    pub seed: u64,
}

/// What came of one fault.
struct Outcome {
    case: Case,
    /// How long it took until it was noticed, if it was.
    took: Option<Duration>,
    /// Parts and series that were named and should not have been.
    misnamed: Vec<String>,
    ended: bool,
    words: String,
}

impl Outcome {
    fn is_right(&self) -> bool {
        let in_time = self.took.is_some_and(|took| took <= self.case.within);
        self.misnamed.is_empty() && (in_time || self.case.sign == Sign::Nothing && !self.ended)
    }

    fn check(&self) -> Check {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Check { name: self.case.name, want: ms(self.case.within), got: self.took.map_or(0, ms), ok: self.is_right() }
    }

    fn line(&self) -> Value {
        let took = self.took.map_or("not noticed".to_owned(), |took| format!("after {:.1} s", took.as_secs_f64()));
        let ended = if self.ended { "; the process ended" } else { "" };
        let wrong = if self.misnamed.is_empty() { String::new() } else { format!("; wrongly: {}", self.misnamed.join(", ")) };
        json!(format!("{took}: {}{ended}{wrong}", self.words))
    }
}

/// Runs the drill.
pub fn gray_faults(drill: &GrayFaults) -> Result<DrillReport> {
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &GrayFaults, server: &mut Server) -> Result<DrillReport> {
    let (disk, socket) = (SickDisk::build(server.dir())?, server.admit_faults());
    server.work_on(disk.clone());
    // This is about what is found, and after three takeovers in a while the fourth would be none.
    server.cure_by(WantedCure::Restart)?;
    let keys = DeviceKeys::derive(drill.devices, 0, drill.seed)?;
    let ids: Vec<_> = keys.udp.iter().map(|key| key.id).collect();
    server.start()?;
    let (crew, api) = (register(server, keys)?, server.api()?);
    let fleet = Fleet::start(FleetPlan {
        crew,
        work: Work::Publish { every: drill.every },
        seed: drill.seed,
        run: 1,
        per_socket: 1,
        audit: false,
        threads: drill.threads,
        lasts: LONGEST,
    })?;
    let progress = Progress::new(drill.devices as usize);
    progress.phase("connecting");
    let all = u64::from(drill.devices);
    ensure!(fleet.wait(CONNECT_LIMIT, |moment| progress.show(moment), |moment| moment.connected == all), "not all devices connected");
    fleet.work(true)?;
    let callers = Callers::start(&api, &ids)?;
    progress.phase("calm");
    fleet.wait(PEACE, |moment| progress.show(moment), |_| false);
    let mut scene = Scene { server, socket, disk, api, fleet, progress };
    let played = match drill.soak {
        Some(lasts) => scene.soak(lasts),
        None => scene.play(drill),
    };
    // A server that hangs does not end.
    scene.disk.be(Sickness::Healthy)?;
    drop(callers);
    let report = played?;
    scene.fleet.stop()?;
    scene.server.stop()?;
    Ok(report)
}

/// Everybody who takes part.
struct Scene<'a> {
    server: &'a mut Server,
    socket: PathBuf,
    disk: SickDisk,
    api: Api,
    fleet: Fleet,
    progress: Progress,
}

impl Scene<'_> {
    fn play(&mut self, drill: &GrayFaults) -> Result<DrillReport> {
        let (mut checks, mut figures) = (Vec::new(), Map::new());
        for case in CASES.into_iter().filter(|case| drill.only.is_empty() || drill.only.iter().any(|name| name == case.name)) {
            self.progress.phase(case.name);
            self.be_well().with_context(|| format!("before {}", case.name))?;
            let outcome = self.suffer(case).with_context(|| case.name)?;
            checks.push(outcome.check());
            figures.insert(case.name.to_owned(), outcome.line());
        }
        figures.insert("devices".into(), drill.devices.into());
        Ok(DrillReport::new(checks, figures))
    }

    /// Does what is wrong, waits until that is noticed, and makes it well again.
    fn suffer(&mut self, case: Case) -> Result<Outcome> {
        let mut since = self.server.log_len()?;
        let mut begun = Instant::now();
        match case.fault {
            Fault::Line(line) => faults::inject(&self.socket, line)?,
            Fault::DiskHangs(_) => self.disk.be(Sickness::Hangs)?,
            Fault::DiskIsFull => {
                self.fill()?;
                (since, begun) = (self.server.log_len()?, Instant::now());
            }
        }
        let (mut took, mut ended, mut signs) = (None, false, Signs::default());
        while begun.elapsed() < case.within + BEYOND {
            if matches!(case.fault, Fault::DiskHangs(lasts) if begun.elapsed() >= lasts) {
                self.disk.be(Sickness::Healthy)?;
            }
            ended = ended || self.server.has_ended()?;
            signs = Signs::read(self.server, since)?;
            if signs.show(case.sign) {
                took = Some(begun.elapsed());
                break;
            }
            let is_over = case.sign == Sign::Nothing && begun.elapsed() >= case.within;
            if ended || is_over {
                break;
            }
            self.rest(LOOK_EVERY);
        }
        let ended = ended || self.has_ended_soon(case)?;
        self.mend(case, ended)?;
        // The watchdog is missed by its name, too.
        let is_right = |name: &String| case.sign.name().as_ref() == Some(name) || name == case.name;
        let misnamed = signs.named().into_iter().filter(|name| !is_right(name)).collect();
        Ok(Outcome { case, took, misnamed, ended, words: signs.words() })
    }

    /// A server that says that something has stalled ends, unless it is the disk.
    fn has_ended_soon(&mut self, case: Case) -> Result<bool> {
        let ends = matches!((case.sign, case.fault), (Sign::Stalled(..) | Sign::Words(_), Fault::Line(line)) if line != "panic registry");
        let begun = Instant::now();
        while ends && begun.elapsed() < BEYOND {
            if self.server.has_ended()? {
                return Ok(true);
            }
            self.rest(LOOK_EVERY);
        }
        ensure!(!ends, "the server goes on");
        Ok(false)
    }

    fn mend(&mut self, case: Case, ended: bool) -> Result<()> {
        self.disk.be(Sickness::Healthy)?;
        if ended {
            self.server.start()?;
        } else if !case.cure.is_empty() {
            faults::inject(&self.socket, case.cure)?;
        }
        if matches!(case.fault, Fault::Line("panic registry")) {
            self.server.cli().access_token().context("the registry cannot be changed any more")?;
        }
        Ok(())
    }

    /// Waits until devices are served and nothing is said to be unwell.
    fn be_well(&mut self) -> Result<()> {
        let (begun, before) = (Instant::now(), self.fleet.moment().acknowledged);
        let mut well_since = None;
        while begun.elapsed() < WELL_LIMIT {
            let since = self.server.log_len()?;
            let is_well = Signs::read(self.server, since)?.are_well() && self.fleet.moment().acknowledged > before;
            let since = if is_well { Some(*well_since.get_or_insert_with(Instant::now)) } else { None };
            well_since = since;
            if since.is_some_and(|since| since.elapsed() >= WELL_FOR) {
                return Ok(());
            }
            self.rest(LOOK_EVERY * 4);
        }
        let signs = Signs::read(self.server, self.server.log_len()?)?;
        anyhow::bail!("the server was not well again within {WELL_LIMIT:?}: {signs:?}")
    }

    /// There is no room from now on; publishes until that is felt.
    fn fill(&mut self) -> Result<()> {
        self.disk.be(Sickness::Full)?;
        let plan = HeraldPlan { name: "gray/fill", every: Duration::ZERO, patience: BEYOND, padding: FILL_BYTES };
        let herald = Herald::start(self.api.clone(), plan)?;
        herald.speak(true);
        let is_full = self.fleet.wait(FILL_LIMIT, |_| {}, |_| herald.refused() > 0);
        herald.stop()?;
        ensure!(is_full, "the disk was not full within {FILL_LIMIT:?}");
        Ok(())
    }

    /// Nothing is wrong for so long, and nothing may be found.
    fn soak(&mut self, lasts: Duration) -> Result<DrillReport> {
        self.progress.phase("soak");
        let (begun, since, before) = (Instant::now(), self.server.log_len()?, self.fleet.moment());
        let (busy, mut pauses, mut alarms) = (Busy::start()?, Pauses::new(), Vec::new());
        while begun.elapsed() < lasts {
            match pauses.next() {
                None => self.rest(LOOK_EVERY * 4),
                Some(None) => {
                    self.server.pause(true)?;
                    thread::sleep(PAUSE);
                    self.server.pause(false)?;
                }
                Some(Some(place)) => {
                    faults::inject(&self.socket, &format!("freeze {place}"))?;
                    thread::sleep(PAUSE);
                    faults::inject(&self.socket, &format!("thaw {}", place.split(' ').next().unwrap_or_default()))?;
                }
            }
            self.server.check_alive()?;
            alarms = Signs::read(self.server, since)?.named();
            if !alarms.is_empty() {
                break;
            }
        }
        drop(busy);
        let after = self.fleet.moment();
        let mut figures = Map::new();
        figures.insert("seconds".into(), json!(begun.elapsed().as_secs()));
        figures.insert("pauses".into(), pauses.count().into());
        figures.insert("publishes_acknowledged".into(), (after.acknowledged - before.acknowledged).into());
        figures.insert("publishes_failed".into(), (after.failed - before.failed).into());
        figures.insert("named".into(), json!(alarms.join(", ")));
        Ok(DrillReport::new(vec![Check::equal("false_alarms", 0, alarms.len() as u64)], figures))
    }

    fn rest(&self, pause: Duration) {
        self.fleet.wait(pause, |moment| self.progress.show(moment), |_| false);
    }
}
