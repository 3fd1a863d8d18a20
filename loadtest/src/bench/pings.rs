//! Processor time of the server for a CoAP ping of a device and its answer.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{RUNS, Rig, Run, echo};
use crate::fleet::{Transport, Work};
use crate::report::Measure;

/// Pings under way at a time.
const DEVICES: u32 = 256;
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn measure(holdfast: Option<&Path>) -> Result<Measure> {
    let mut rig = Rig::new(holdfast, Transport::Udp, DEVICES, Work::Pings)?;
    rig.wait_connected(DEVICES, CONNECT_LIMIT)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let limit = echo::measure(DEVICES as usize)?.as_secs_f64() * 1e6;
        let (pings, cpu_s) = rig.window(|fleet| fleet.moment().pings_answered)?;
        let value = cpu_s * 1e6 / pings as f64;
        runs.push(Run { value, limit, ratio: limit / value });
    }
    let spent = rig.end()?;
    let note = format!(
        "{DEVICES} devices, each pings again as soon as it is answered. Limit: one thread that receives and sends back the same bytes from as \
         many sockets, no batches, by its own processor time; most of that is the kernel's. The server's time by thread: {spent}."
    );
    super::measure(&runs, "µs/roundtrip", note)
}
