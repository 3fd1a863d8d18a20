//! `holdfast status`: how the running server is.

use std::time::Duration;

use anyhow::bail;

use super::output::Output;
use super::target::Target;
use crate::control::{PartLine, Request, Response};

/// The watchdog judges ten times a second.
const JUDGED_WITHIN: Duration = Duration::from_secs(1);

/// Prints it. What is not well is an error, so that a script notices.
pub(super) fn run(target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Response::Status(status) = target.ask_server(&Request::Status {})? else { bail!("unexpected answer") };
    output.whole(&status, |output| {
        let up = Duration::from_millis(status.up_ms).as_secs();
        output.line(&format!(
            "holdfast {} ({}), configuration {}, up for {up} s since {}, {} events in the journal so far",
            status.version,
            status.revision,
            status.config,
            status.started_at,
            status.next_position.saturating_sub(1)
        ))?;
        if let Some(window) = &status.pairing {
            let who = window.email.as_deref().unwrap_or("any account");
            output.line(&format!("pairing until {} for {who}, {} so far", window.until, window.paired))?;
        }
        let row = |line: &PartLine| {
            let lasts = format!("{:.1} s", Duration::from_millis(line.for_ms).as_secs_f64());
            [Some(line.part.clone()), Some(line.state.clone()), line.stage.clone(), Some(lasts)]
        };
        output.list(["PART", "STATE", "STAGE", "FOR"], &status.parts, row)
    })?;
    if Duration::from_millis(status.judged_ms_ago) > JUDGED_WITHIN {
        bail!("the watchdog judged {} ms ago: it has stopped", status.judged_ms_ago);
    }
    let sick: Vec<String> = status.parts.iter().filter(|line| !line.is_healthy()).map(sentence).collect();
    if sick.is_empty() { Ok(()) } else { bail!(sick.join("; ")) }
}

fn sentence(line: &PartLine) -> String {
    let stage = line.stage.as_ref().map_or(String::new(), |stage| format!(" in {stage}"));
    let noticed = if line.observers.is_empty() { String::new() } else { format!(", says {}", line.observers.join(" and ")) };
    format!("{} is {}{stage}{noticed}", line.part, line.state)
}
