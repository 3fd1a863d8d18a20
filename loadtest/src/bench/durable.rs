//! Publishes that are acknowledged because they are on disk, for each second of one server core.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::syncs::{self, Syncs};
use super::{RUNS, Rig, Run, WINDOW, echo, median};
use crate::fleet::{Transport, Work};
use crate::report::Measure;
use crate::server::Server;

/// Publishes under way at a time.
const DEVICES: u32 = 4_000;
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// Datagrams under way in the loop that sends them back.
const ECHOES: usize = 256;

/// What the journal has done so far.
#[derive(Clone, Copy)]
struct Written {
    events: u64,
    commits: u64,
    bytes: u64,
}

impl Written {
    fn so_far(server: &Server) -> Result<Self> {
        let metrics = server.metrics()?;
        let (events, commits) = (metrics.sum("holdfast_journal_events_total", None), metrics.sum("holdfast_journal_commits_total", None));
        Ok(Self { events, commits, bytes: journal_bytes(&server.dir().join("data").join("journal"))? })
    }
}

pub(super) fn measure(holdfast: Option<&Path>) -> Result<Measure> {
    let mut rig = Rig::new(holdfast, Transport::Udp, DEVICES, Work::Publishes)?;
    rig.wait_connected(DEVICES, CONNECT_LIMIT)?;
    let (mut runs, mut batches, mut rates, mut syncs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let before = Written::so_far(&rig.server)?;
        let (acknowledged, cpu_s) = rig.window(|fleet| fleet.moment().acknowledged)?;
        let after = Written::so_far(&rig.server)?;
        let events = (after.events - before.events) as f64;
        let batch = events / (after.commits - before.commits).max(1) as f64;
        let bytes = (after.bytes.saturating_sub(before.bytes)) as f64 / events;
        let bare = syncs::measure(rig.server.dir(), batch * bytes)?;
        let each = echo::measure(ECHOES)?.as_secs_f64() + bare.cpu.as_secs_f64() / batch;
        let value = acknowledged as f64 / cpu_s;
        runs.push(Run { value, limit: 1.0 / each, ratio: value * each });
        batches.push(batch);
        rates.push(acknowledged as f64 / WINDOW.as_secs_f64());
        syncs.push(bare);
    }
    let note = note(&batches, &rates, &syncs, &rig.end()?)?;
    super::measure(&runs, "1/core-s", note)
}

fn note(batches: &[f64], rates: &[f64], syncs: &[Syncs], spent: &str) -> Result<String> {
    let middle = |values: &[f64]| median(values).context("no run");
    let (batch, rate) = (middle(batches)?, middle(rates)?);
    let bare: Vec<f64> = syncs.iter().map(|syncs| syncs.per_s).collect();
    let cpu_us: Vec<f64> = syncs.iter().map(|syncs| syncs.cpu.as_secs_f64() * 1e6).collect();
    let bytes: Vec<f64> = syncs.iter().map(|syncs| syncs.bytes as f64).collect();
    Ok(format!(
        "{DEVICES} devices on UDP, each publishes again as soon as it is acknowledged: {rate:.0} publishes and {:.0} commits a second on the machine that \
         it shares with them, {batch:.0} to a commit. Limit: one thread that receives and sends back a datagram, and its share of one that writes {:.0} \
         bytes behind the last ones and calls fdatasync, by their own processor time; that one does {:.0} a second, at {:.0} µs of processor time. The \
         server's time by thread: {spent}.",
        rate / batch,
        middle(&bytes)?,
        middle(&bare)?,
        middle(&cpu_us)?,
    ))
}

/// Bytes of all segments. Each is made a little longer than what is in it.
fn journal_bytes(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let path: PathBuf = entry?.path();
        if path.extension().is_some_and(|extension| extension == "segment") {
            sum += path.metadata()?.len();
        }
    }
    Ok(sum)
}
