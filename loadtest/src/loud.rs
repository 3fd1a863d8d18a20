//! A device with valid keys and a proper session that sends far more than it may: events without acknowledgement, from a thread of its own, at a
//! pace that takes no notice of anybody. When the server ends its connection it comes back as a device does.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::fleet::{Crew, Fleet, FleetPlan, Moment, Tally, Work};

/// Most events in a second.
pub const RATE_MAX_PER_S: u32 = 100_000;

/// A loud device. It is quiet until [`Loud::shout`].
#[derive(Debug)]
pub struct Loud {
    fleet: Fleet,
}

impl Loud {
    /// Lets the one device in `crew` come. It goes after `lasts`, if not before.
    pub fn start(crew: Crew, rate_per_s: u32, seed: u64, lasts: Duration) -> Result<Self> {
        let devices = crew.udp.as_ref().map_or(0, |udp| udp.keys.len()) + crew.tcp.as_ref().map_or(0, |tcp| tcp.keys.len());
        ensure!(devices == 1, "one device is loud, not {devices}");
        ensure!((1..=RATE_MAX_PER_S).contains(&rate_per_s), "a loud device sends from 1 to {RATE_MAX_PER_S} events a second");
        let work = Work::Shout { rate_per_s };
        let fleet = Fleet::start(FleetPlan { crew, work, seed, run: 1, per_socket: 1, audit: false, threads: 1, lasts })?;
        Ok(Self { fleet })
    }

    /// Waits until it is connected, or for `limit`; says whether it is.
    pub fn wait_connected(&self, limit: Duration) -> bool {
        self.fleet.wait(limit, |_| {}, |moment| moment.connected == 1)
    }

    /// Tells it to be loud, or to be quiet, and returns when it has heard it.
    pub fn shout(&self, loud: bool) -> Result<()> {
        self.fleet.work(loud)
    }

    /// Events sent so far.
    pub fn sent(&self) -> u64 {
        let Moment { shouted, .. } = self.fleet.moment();
        shouted
    }

    /// Ends it: what was counted.
    pub fn stop(self) -> Result<Tally> {
        Ok(self.fleet.stop()?.tally)
    }
}
