//! Full DTLS handshakes for each second of one server core.

use std::path::Path;

use anyhow::Result;

use super::primitives::Primitives;
use super::{RUNS, Rig, Run};
use crate::fleet::Work;
use crate::report::Measure;
use crate::stats::median;

/// Handshakes under way at a time.
const DEVICES: u32 = 128;

pub(super) fn measure(holdfast: Option<&Path>) -> Result<Measure> {
    let mut rig = Rig::new(holdfast, DEVICES, Work::Handshakes)?;
    let (mut runs, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let primitives = Primitives::measure()?;
        let (handshakes, cpu_s) = rig.window(|fleet| fleet.moment().handshakes_finished)?;
        let (value, limit) = (handshakes as f64 / cpu_s, 1.0 / primitives.sum().as_secs_f64());
        runs.push(Run { value, limit, ratio: value / limit });
        costs.push(primitives);
    }
    rig.end()?;
    let us = |part: fn(&Primitives) -> std::time::Duration| {
        median(&costs.iter().map(|cost| part(cost).as_secs_f64() * 1e6).collect::<Vec<_>>()).unwrap_or_default()
    };
    let note = format!(
        "{DEVICES} devices handshake, forget the session and handshake again; cookie round and storing the session are included. Limit: one \
         P-256 keygen {:.1} + sign {:.1} + verify {:.1} + derive {:.1} µs, the cheapest OpenSSL calls in this process. What is left is PRF, \
         parsing, UDP and the journal.",
        us(|cost| cost.keygen),
        us(|cost| cost.sign),
        us(|cost| cost.verify),
        us(|cost| cost.derive),
    );
    super::measure(&runs, "handshakes/core-s", note)
}
