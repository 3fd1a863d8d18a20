//! Receivers that are away while events are published, and come back: how fast what waits is delivered, and how much memory the server has meanwhile.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{EVENTS, EVENTS_BEFORE, HOOKS, Rig, Signing, counting};
use crate::bench::median;
use crate::hooks::Receivers;
use crate::report::Measure;

/// Runs with receivers that are there, for the figure beside it.
const RUNS_BEFORE: usize = 3;
/// Longest time until everything waits.
const FILL_LIMIT: Duration = Duration::from_secs(900);
/// Longest time until most of it has come, and until the rest has: an attempt that failed may have to wait for ten minutes.
const DRAIN_LIMIT: Duration = Duration::from_secs(900);
const REST_LIMIT: Duration = Duration::from_secs(780);
/// What is counted, in percent: the last are those that failed before, and wait for their time.
const COUNTED_PERCENT: u64 = 99;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How fast it is drained, and the memory in between.
pub(in crate::bench) fn drain(holdfast: Option<&Path>, backlog: u64) -> Result<(Measure, Measure)> {
    let mut rig = Rig::new(holdfast)?;
    rig.hooks(HOOKS, Signing::Hmac)?;
    let straight = straight(&mut rig)?;
    let empty = rig.server.rss_kib()?;
    rig.receivers = None;
    let (before, begun) = (pending(&rig)?, Instant::now());
    let published = rig.publish(backlog / HOOKS)?;
    let waiting = before + published * HOOKS;
    fill(&mut rig, waiting)?;
    let (filled, full) = (begun.elapsed().as_secs_f64(), rig.server.rss_kib()?);

    rig.spent.clear();
    let heard = rig.heard();
    let drained = rig.spend(|rig| {
        come_back(rig)?;
        rig.wait(heard + waiting * COUNTED_PERCENT / 100, DRAIN_LIMIT)
    })?;
    rig.wait(heard + waiting, REST_LIMIT)?;
    let after = rig.server.rss_kib()?;
    let note = format!(
        "{waiting} deliveries, {published} events of each of {HOOKS} hooks of one account, signed (hmac), were accepted within {filled:.0} s while their receivers \
         refused connections. Then these came back, and each hook was said once more, so that it was tried at once: {COUNTED_PERCENT} % came within {:.1} s, \
         and the rest followed. Limit: the same server with receivers that are there, events published meanwhile. The server's time by thread: {}.",
        drained.took_s,
        rig.end()?
    );
    let (value, limit) = (drained.rate(), straight);
    let drain = Measure { value, unit: "1/core-s", limit: Some(limit), ratio: Some(value / limit), note };
    Ok((drain, memory(waiting, empty, full, after)))
}

fn memory(waiting: u64, empty: u64, full: u64, after: u64) -> Measure {
    let note = format!(
        "Resident memory of the server while {waiting} deliveries wait, in MiB; {:.0} before, with nothing waiting, and {:.0} after all were made.",
        mib(empty),
        mib(after)
    );
    Measure { value: mib(full), unit: "MiB", limit: None, ratio: None, note }
}

/// Deliveries to receivers that are there, for each second of one core.
fn straight(rig: &mut Rig) -> Result<f64> {
    rig.deliver(EVENTS_BEFORE, HOOKS)?;
    let rates = (0..RUNS_BEFORE).map(|_| Ok(rig.deliver(EVENTS, HOOKS)?.rate())).collect::<Result<Vec<_>>>()?;
    median(&rates).context("no run")
}

/// Waits until so many deliveries wait.
fn fill(rig: &mut Rig, waiting: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let pending = pending(rig)?;
        if pending >= waiting {
            return Ok(());
        }
        ensure!(begun.elapsed() < FILL_LIMIT, "{pending} of {waiting} deliveries wait after {FILL_LIMIT:?}");
        thread::sleep(LOOK_EVERY);
        rig.server.check_alive()?;
    }
}

fn pending(rig: &Rig) -> Result<u64> {
    rig.hooks.iter().map(|(hook, _)| Ok(rig.owner.view(hook)?.pending())).sum()
}

/// The receivers are there again, where they were, and their hooks are tried at once.
fn come_back(rig: &mut Rig) -> Result<()> {
    let receivers = Receivers::start()?;
    receivers.open_at(rig.address, counting(&rig.heard))?;
    rig.receivers = Some(receivers);
    rig.hooks.iter().try_for_each(|(hook, definition)| rig.owner.replace(hook, definition))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_mib() {
        let memory = memory(9, 2_048, 10_240, 4_096);
        assert_eq!((memory.value, memory.unit), (10.0, "MiB"));
        assert!(
            memory.note.contains("9 deliveries") && memory.note.contains("; 2 before") && memory.note.contains("4 after"),
            "{}",
            memory.note
        );
    }
}
