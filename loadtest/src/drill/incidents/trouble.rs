//! Makes one thing go wrong on a server that a fleet uses.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::incident::Incident;
use crate::faults;
use crate::fleet::{Crew, Devices, Fleet, FleetPlan, UdpDevices, Work};
use crate::herald::{Herald, HeraldPlan};
use crate::keys::{self, DeviceKeys};
use crate::loud::Loud;
use crate::server::Server;
use crate::sick_disk::{SickDisk, Sickness};

/// Devices that come at once in a storm, and how many of them the server lets in each second.
const STORM: u32 = 2_000;
const LET_IN_PER_S: u32 = 20;
/// Events that the noisy device sends in a second.
const NOISE_PER_S: u32 = 2_000;
/// What devices may publish in a second once that is changed; they publish twice as much.
const LOWERED_PER_S: u32 = 1;
/// Bytes of each event that uses up the room on the disk.
const FILL_BYTES: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// By how much the clock is wrong, in seconds.
const CLOCK_STEP_S: u32 = 3_600;

/// What goes wrong, and what has to be there for that.
pub(super) struct Trouble {
    incident: Incident,
    faults: Option<PathBuf>,
    disk: Option<SickDisk>,
    /// Devices for a storm, or one for noise.
    others: UdpDevices,
    seed: u64,
    lasts: Duration,
    /// What is under way.
    fleet: Option<Fleet>,
    loud: Option<Loud>,
    herald: Option<Herald>,
}

/// How many devices it takes besides those that are simply there.
pub(super) fn others(incident: Incident) -> u32 {
    match incident {
        Incident::Storm => STORM,
        Incident::NoisyDevice => 1,
        _ => 0,
    }
}

/// Prepares a server that is not started yet.
pub(super) fn prepare(incident: Incident, server: &mut Server) -> Result<(Option<PathBuf>, Option<SickDisk>)> {
    let (mut faults, mut disk) = (None, None);
    match incident {
        Incident::FrozenShard | Incident::StuckTerminator | Incident::ClockStep => faults = Some(server.admit_faults()),
        Incident::SlowStore | Incident::FullDisk => {
            let sick = SickDisk::build(server.dir())?;
            server.work_on(sick.clone());
            disk = Some(sick);
        }
        Incident::Storm => server.pace_handshakes(LET_IN_PER_S)?,
        Incident::NoisyDevice | Incident::ConfigChange => server.limit_devices()?,
        Incident::BadKeys | Incident::RegistryGone => {}
    }
    Ok((faults, disk))
}

impl Trouble {
    /// With what [`prepare`] made, and `others` devices.
    pub(super) fn new(
        incident: Incident,
        (faults, disk): (Option<PathBuf>, Option<SickDisk>),
        others: UdpDevices,
        seed: u64,
        lasts: Duration,
    ) -> Self {
        Self { incident, faults, disk, others, seed, lasts, fleet: None, loud: None, herald: None }
    }

    /// Before anything goes wrong: who is noisy later is there.
    pub(super) fn settle_in(&mut self) -> Result<()> {
        if self.incident == Incident::NoisyDevice {
            let crew = Crew { udp: Some(self.others.clone()), tcp: None };
            let loud = Loud::start(crew, NOISE_PER_S, self.seed, self.lasts)?;
            loud.wait_connected(PATIENCE);
            self.loud = Some(loud);
        }
        Ok(())
    }

    /// It goes wrong. `devices` are those that publish.
    pub(super) fn begin(&mut self, server: &mut Server, devices: &DeviceKeys) -> Result<()> {
        match self.incident {
            Incident::BadKeys => self.import_other_keys(server, devices),
            Incident::FrozenShard => self.inject("freeze shard-3 apply"),
            Incident::StuckTerminator => self.inject("freeze terminator-0 receive"),
            Incident::ClockStep => self.inject(&format!("clock {CLOCK_STEP_S}")),
            Incident::SlowStore => self.disk()?.be(Sickness::Hangs),
            Incident::FullDisk => self.fill(server),
            Incident::Storm => self.storm(),
            Incident::NoisyDevice => self.loud.as_ref().context("it has settled in")?.shout(true),
            Incident::RegistryGone => {
                let registry = server.dir().join("data/registry.db");
                Ok(fs::rename(&registry, registry.with_file_name("registry.elsewhere"))?)
            }
            Incident::ConfigChange => {
                server.stop()?;
                server.limit_device_events(LOWERED_PER_S)?;
                server.start().map(drop)
            }
        }
    }

    /// It is over, so that the server can be stopped.
    pub(super) fn end(self) -> Result<()> {
        if let Some(disk) = &self.disk {
            disk.be(Sickness::Healthy)?;
        }
        self.herald.map(Herald::stop).transpose()?;
        self.loud.map(Loud::stop).transpose()?;
        self.fleet.map(Fleet::stop).transpose()?;
        Ok(())
    }

    fn inject(&self, line: &str) -> Result<()> {
        faults::inject(self.faults.as_deref().context("the server admits faults")?, line)
    }

    fn disk(&self) -> Result<&SickDisk> {
        self.disk.as_ref().context("the server works on a disk that can be sick")
    }

    /// As if somebody had removed devices to bring them back from an old list: a key is not changed by an import.
    fn import_other_keys(&self, server: &Server, devices: &DeviceKeys) -> Result<()> {
        let half = devices.udp.len() / 2;
        let mut wrong = DeviceKeys::derive(u32::try_from(half)?, 0, self.seed + 1)?;
        wrong.udp.iter_mut().zip(&devices.udp).for_each(|(wrong, right)| wrong.id = right.id);
        let (cli, list) = (server.cli(), server.dir().join("wrong.csv"));
        keys::write_public(&list, &wrong)?;
        wrong.udp.iter().try_for_each(|wrong| cli.remove_device(wrong.id))?;
        cli.import_devices(&list)
    }

    fn fill(&mut self, server: &Server) -> Result<()> {
        let plan = HeraldPlan { name: "incident/fill", every: Duration::ZERO, patience: PATIENCE, padding: FILL_BYTES };
        self.disk()?.be(Sickness::Full)?;
        let herald = Herald::start(server.api()?, plan)?;
        herald.speak(true);
        self.herald = Some(herald);
        Ok(())
    }

    fn storm(&mut self) -> Result<()> {
        let fleet = Fleet::start(FleetPlan {
            crew: Crew { udp: Some(self.others.clone()), tcp: None },
            work: Work::Return { kept: false },
            seed: self.seed,
            run: 1,
            per_socket: 1,
            audit: false,
            threads: 1,
            lasts: self.lasts,
        })?;
        fleet.work(true)?;
        self.fleet = Some(fleet);
        Ok(())
    }
}

/// The first devices, which publish, and the last `count`.
pub(super) fn part(mut crew: Crew, count: u32) -> Result<(Crew, UdpDevices)> {
    let udp = crew.udp.as_mut().context("there are devices")?;
    let keys = udp.keys.split_off(udp.keys.len().saturating_sub(count as usize));
    let others = Devices { server: udp.server, server_key: udp.server_key, keys };
    Ok((crew, others))
}
