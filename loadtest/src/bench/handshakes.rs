//! Full handshakes for each second of one server core, over either transport.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Primitives, RUNS, Rig, Run, WINDOW, median, primitives, rsa};
use crate::fleet::{Transport, Work};
use crate::report::Measure;
use crate::server::Server;

/// Handshakes under way at a time.
const DEVICES: u32 = 128;
/// Runs where the figure is only something to compare with.
const FEW_RUNS: usize = 3;

/// DTLS: cookie round and storing the session are included.
pub(super) fn dtls(holdfast: Option<&Path>) -> Result<Measure> {
    measure(holdfast, Transport::Udp, primitives::measure, "cookie round and storing the session are included. Limit: one P-256")
}

/// TCP: making and closing the connection is included. Up to the server's reply; no Hello follows.
pub(super) fn tcp(holdfast: Option<&Path>) -> Result<Measure> {
    measure(holdfast, Transport::Tcp, rsa::measure, "connecting and closing are included, a Hello is not. Limit: one")
}

/// How fast a server does handshakes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// For each second of its processor time.
    pub(crate) per_core_s: f64,
    /// For each second, with so many devices at a time, whatever else the machine does.
    pub(crate) per_s: f64,
}

/// DTLS handshakes of a server that is not started yet: for a drill to compare with.
pub(crate) fn dtls_rate(server: Server) -> Result<Rate> {
    let mut rig = Rig::with(server, Transport::Udp, DEVICES, Work::Handshakes)?;
    let (mut per_core_s, mut per_s) = (Vec::new(), Vec::new());
    for _ in 0..FEW_RUNS {
        let (handshakes, cpu_s) = rig.window(|fleet| fleet.moment().handshakes_finished)?;
        per_core_s.push(handshakes as f64 / cpu_s);
        per_s.push(handshakes as f64 / WINDOW.as_secs_f64());
    }
    rig.end()?;
    Ok(Rate { per_core_s: median(&per_core_s).context("no run")?, per_s: median(&per_s).context("no run")? })
}

fn measure(holdfast: Option<&Path>, transport: Transport, limit: fn() -> Result<Primitives>, what: &str) -> Result<Measure> {
    let mut rig = Rig::new(holdfast, transport, DEVICES, Work::Handshakes)?;
    let (mut runs, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let primitives = limit()?;
        let (handshakes, cpu_s) = rig.window(|fleet| fleet.moment().handshakes_finished)?;
        let (value, limit) = (handshakes as f64 / cpu_s, 1.0 / primitives.sum().as_secs_f64());
        runs.push(Run { value, limit, ratio: value / limit });
        costs.push(primitives);
    }
    let (spent, costs) = (rig.end()?, Primitives::medians(&costs));
    let note = format!(
        "{DEVICES} devices handshake, forget the session and handshake again; {what} {costs}, the cheapest OpenSSL calls in this process. The \
         server's time by thread: {spent}."
    );
    super::measure(&runs, "handshakes/core-s", note)
}
