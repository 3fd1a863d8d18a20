//! Drills: something is done to a real server while a fleet uses it, and afterwards it is checked what became of every message.

mod bystanders;
mod chaos;
mod flood;
mod frost;
mod frozen_shard;
mod frozen_threads;
mod gray_faults;
mod incidents;
mod judge;
mod kill_restart;
mod listeners;
mod loud;
mod mass_return;
mod overload;
mod page;
mod schedule;
mod stall;
mod webhooks;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::fleet::{Crew, Devices};
use crate::keys::{self, DeviceKeys};
use crate::report::DrillReport;
use crate::server::Server;

pub use self::bystanders::Bystanders;
pub use self::chaos::{Chaos, chaos};
pub use self::flood::{FloodDrill, flood};
pub use self::frozen_shard::{FrozenShard, frozen_shard};
pub use self::frozen_threads::{FrozenThreads, Threads, frozen_threads};
pub use self::gray_faults::{CASES, GrayFaults, gray_faults};
pub use self::incidents::{Incident, Incidents, incidents};
pub use self::judge::{Verdict, judge};
pub use self::kill_restart::{KillRestart, kill_restart};
pub use self::loud::{LoudDrill, loud};
pub use self::mass_return::{MassReturn, RETURNING_MAX, mass_return};
pub use self::overload::{Overload, overload};
pub use self::page::{Case, PageDrill, page};
pub use self::stall::{StallDrill, stall};
pub use self::webhooks::{WebhooksDrill, webhooks};

/// The server that a drill has for itself.
#[derive(Clone, Default, Debug)]
pub struct Ground {
    /// Where its program is, if not beside this one.
    pub holdfast: Option<PathBuf>,
    /// Whether to leave its directory behind, however the drill ends.
    pub keep: bool,
}

impl Ground {
    /// Prepares a server, which `drill` starts, and does with its directory what is wanted. The report, or the error, says where that is left.
    fn drill(&self, drill: impl FnOnce(&mut Server) -> Result<DrillReport>) -> Result<DrillReport> {
        let (report, kept) = self.play(drill)?;
        let figure = kept.map(|kept| ("kept".into(), json!(kept)));
        Ok(DrillReport { figures: report.figures.into_iter().chain(figure).collect(), ..report })
    }

    /// The same of a drill that is a part of another. The server's directory, if that is left behind.
    fn play<T>(&self, drill: impl FnOnce(&mut Server) -> Result<T>) -> Result<(T, Option<PathBuf>)> {
        let mut server = Server::prepare(self.holdfast.as_deref())?;
        let outcome = drill(&mut server);
        if !self.keep {
            return outcome.map(|outcome| (outcome, None));
        }
        let kept = server.keep();
        match outcome {
            Ok(outcome) => Ok((outcome, Some(kept))),
            Err(error) => Err(error.context(format!("the server's directory is left behind: {}", kept.display()))),
        }
    }
}

/// Registers devices with a running server under an account of their own, so that a fleet of them can come to it.
pub(crate) fn register(server: &Server, devices: DeviceKeys) -> Result<Crew> {
    let [list, key, tcp_key] = ["keys.csv", "server_key.der", "server_key_tcp.der"].map(|name| server.dir().join(name));
    let cli = server.cli();
    cli.add_owner()?;
    keys::write_public(&list, &devices)?;
    cli.import_devices(&list)?;
    cli.export_server_key("udp", &key)?;
    cli.export_server_key("tcp", &tcp_key)?;
    let (server_key, tcp_server_key) = (keys::read_server_key(&key)?, keys::read_tcp_server_key(&tcp_key)?);
    let DeviceKeys { udp, tcp } = devices;
    Ok(Crew {
        udp: (!udp.is_empty()).then(|| Devices { server: server.devices(), server_key, keys: udp }),
        tcp: (!tcp.is_empty()).then(|| Devices { server: server.tcp_devices(), server_key: tcp_server_key, keys: tcp }),
    })
}
