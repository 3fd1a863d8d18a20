//! Events that go out on event streams: two thousand readers, of whom each wants the events of one device in a hundred, so that every event goes to
//! twenty of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firmware_protocol::id::DeviceId;

use super::audience::{Audience, writes};
use super::{RUNS, Rig, Run, SEED, WINDOW, median};
use crate::dial::allow_sockets;
use crate::fleet::{Transport, Work};
use crate::keys::DeviceKeys;
use crate::report::Measure;

/// Who publishes.
const DEVICES: u32 = 100;
/// Readers of each.
const READERS_EACH: usize = 20;
/// From one publish of a device to the next: 1 600 events a second, and 32 000 writes. What is late makes it fewer.
const EVERY: Duration = Duration::from_micros(62_500);
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Longest time until all readers have all events.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a stream to open.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn measure(holdfast: Option<&Path>) -> Result<Measure> {
    let readers = DEVICES as usize * READERS_EACH;
    // The loop beside it has both ends of each connection.
    allow_sockets(readers * 2)?;
    let mut rig = Rig::new(holdfast, Transport::Udp, DEVICES, Work::Publish { every: EVERY })?;
    rig.wait_connected(DEVICES, CONNECT_LIMIT)?;
    let audience = listen(&rig)?;
    let (mut runs, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let limit = writes(readers)?.as_secs_f64() * 1e6;
        let (written, cpu_s) = rig.window(|_| audience.heard())?;
        let value = cpu_s * 1e6 / written as f64;
        runs.push(Run { value, limit, ratio: limit / value });
        rates.push(written as f64 / WINDOW.as_secs_f64());
    }
    let lost = lost(&rig, &audience)?;
    audience.stop()?;
    let (spent, rate) = (rig.end()?, median(&rates).context("no run")?);
    let note = format!(
        "{readers} readers, each of the events of one of {DEVICES} devices; {rate:.0} events written to them in a second, {:.0} published and acknowledged \
         for that, {lost} lost in all. Processor time for each thousand writes, receiving and keeping the {:.0} events included. Limit: one thread that \
         writes as many bytes to as many connections. The server's time by thread: {spent}.",
        rate / READERS_EACH as f64,
        1000.0 / READERS_EACH as f64
    );
    ensure!(lost == 0, "readers missed events: {note}");
    super::measure(&runs, "ms/1000 writes", note)
}

fn listen(rig: &Rig) -> Result<Audience> {
    let (api, keys) = (rig.server.api()?, DeviceKeys::derive(DEVICES, 0, SEED)?);
    let ids: Vec<DeviceId> = keys.udp.iter().flat_map(|key| std::iter::repeat_n(key.id, READERS_EACH)).collect();
    let streams = ids.into_iter().map(|id| api.stream_of(id, PATIENCE)).collect::<Result<Vec<_>>>()?;
    let (readers, audience) = (streams.len(), Audience::start(streams)?);
    ensure!(audience.wait_opened(readers as u64, CONNECT_LIMIT), "{} of {readers} streams were opened", audience.opened());
    Ok(audience)
}

/// Events that were acknowledged and have not reached all their readers, when nothing is under way any more.
fn lost(rig: &Rig, audience: &Audience) -> Result<u64> {
    ensure!(rig.fleet.wait(SETTLE_LIMIT, |_| {}, |moment| moment.open == 0), "publishes stay open");
    let moment = rig.fleet.moment();
    ensure!(moment.failed == 0, "{} publishes failed", moment.failed);
    let (expected, begun) = (moment.acknowledged * READERS_EACH as u64, Instant::now());
    while audience.heard() < expected && begun.elapsed() < SETTLE_LIMIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(expected.abs_diff(audience.heard()))
}
