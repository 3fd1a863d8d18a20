//! `holdfast diagnose`: what is wrong, and why, for somebody who is tired and has never seen this server.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use firmware_protocol::time::{Millis, Now};
use thiserror::Error;

use super::output::Output;
use super::target::Target;
use crate::changes;
use crate::control::{self, ClientError, Request, Response};
use crate::data_dir::{self, control_socket};
use crate::dates;
use crate::diagnose::{CauseLine, ChangeLine, Diagnosis, RateLine, WRONG, span};
use crate::watchdog::last_words;

/// How long a server may take for each step of an answer: one that takes longer is what is wrong.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something is wrong, and everything has been said.
#[derive(Debug, Error)]
#[error("something is wrong")]
pub(super) struct Wrong;

/// Prints it. That something is wrong is an error, so that a script notices.
pub(super) fn run(target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let diagnosis = match control::ask_within(&control_socket(target.path()), &Request::Diagnose {}, PATIENCE) {
        Ok(Response::Diagnosis(diagnosis)) => *diagnosis,
        Ok(Response::Refused { error }) => bail!(error),
        Ok(_) => bail!("unexpected answer"),
        Err(error) => offline(target.path(), &error)?,
    };
    output.whole(&diagnosis, |output| print(&diagnosis, output))?;
    if diagnosis.wrong { Err(Wrong.into()) } else { Ok(()) }
}

/// What can be told without a server: nobody is asked and nothing is locked.
fn offline(directory: &Path, error: &ClientError) -> anyhow::Result<Diagnosis> {
    let words = last_words::read(directory)?;
    let register = changes::read(directory)?;
    let process = data_dir::holder_of(directory);
    let sentence = match (&process, error) {
        (Some((process, 'T' | 't')), _) => format!("The server, process {process}, is stopped by a signal: nothing is served."),
        (Some((process, 'D')), _) => format!("The server, process {process}, does not answer; it waits for the disk."),
        (Some((process, _)), ClientError::Unreachable { .. }) => {
            format!("Process {process} has the data directory and takes no commands: it is starting, or a command of its own.")
        }
        (Some((process, _)), _) => format!("The server, process {process}, does not answer."),
        (None, _) => format!("No server runs in {}.", directory.display()),
    };
    let because = match words {
        Some((at, words)) => format!("{error}; the last words of a server here were at {}: {words}", dates::Iso(at)),
        None => format!("{error}; no server here left last words"),
    };
    let now = Now { at: Millis(0), unix: dates::now() };
    Ok(Diagnosis::offline(now, sentence, because, register.changes))
}

fn print(diagnosis: &Diagnosis, output: &mut Output<'_>) -> io::Result<()> {
    let (wrong, suspects): (Vec<_>, Vec<_>) = diagnosis.causes.iter().partition(|cause| cause.score >= WRONG);
    output.line(wrong.first().map_or("", |first| first.sentence.as_str()))?;
    for (number, cause) in (1..).zip(wrong) {
        print_cause(number, cause, output)?;
    }
    if !suspects.is_empty() {
        output.line("\nLess likely:")?;
        let row = |cause: &CauseLine| [Some(cause.score.to_string()), Some(cause.sentence.clone()), Some(cause.against.clone())];
        output.list(["SCORE", "WHAT", "AGAINST IT"], &suspects.into_iter().cloned().collect::<Vec<_>>(), row)?;
    }
    if let Some(noticed) = &diagnosis.noticed {
        output.line(&format!("\nNoticed first by {}, {} ago ({}).", noticed.by, ms(noticed.since_ms), noticed.cause))?;
    }
    print_progress(diagnosis, output)?;
    if !diagnosis.noisy.is_empty() {
        let who: Vec<String> = diagnosis.noisy.iter().map(|line| format!("{} ({})", line.who, line.refused)).collect();
        output.line(&format!("\nRefused most in the last minute: {}.", who.join(", ")))?;
    }
    if !diagnosis.rates.is_empty() {
        output.line("\nWhat moves, in a minute:")?;
        let row = |rate: &RateLine| [Some(rate.what.clone()), Some(rate.now.to_string()), rate.before.map(|before| before.to_string())];
        output.list(["WHAT", "NOW", "BEFORE"], &diagnosis.rates, row)?;
    }
    if diagnosis.changes.is_empty() {
        return output.line("\nNothing changed in the last 24 hours.");
    }
    output.line("\nWhat changed in the last 24 hours:")?;
    let row = |change: &ChangeLine| [Some(ms(change.ago_ms)), change.before_onset_ms.map(before), Some(change.what.clone())];
    output.list(["AGO", "BEFORE IT BEGAN", "WHAT"], &diagnosis.changes, row)
}

fn print_cause(number: usize, cause: &CauseLine, output: &mut Output<'_>) -> io::Result<()> {
    let since = cause.since_ms.map_or_else(String::new, |since| format!(", since {}", ms(since)));
    output.line(&format!("\n{number}. {} (score {}){since}", cause.cause, cause.score))?;
    if number > 1 {
        output.line(&format!("   {}", cause.sentence))?;
    }
    output.line(&format!("   for:      {}", cause.because))?;
    output.line(&format!("   against:  {}", cause.against))?;
    output.line(&format!("   read:     {}", cause.runbook))
}

/// Who is late, and how old the oldest progress of the others is.
fn print_progress(diagnosis: &Diagnosis, output: &mut Output<'_>) -> io::Result<()> {
    let Some(status) = &diagnosis.status else { return Ok(()) };
    output.line(&format!(
        "\nholdfast {} ({}), configuration {}, up for {}; the watchdog judged {} ago.",
        status.version,
        status.revision,
        status.config,
        ms(status.up_ms),
        ms(status.judged_ms_ago)
    ))?;
    let is_late = |part: &str| status.parts.iter().any(|line| line.part == part && !line.is_healthy());
    for line in status.parts.iter().filter(|line| !line.is_healthy()) {
        let stages = diagnosis.progress.iter().filter(|stage| stage.part == line.part);
        let stages: Vec<String> = stages
            .map(|stage| format!("{} {}", stage.stage, stage.ago_ms.map_or_else(|| "never".to_owned(), |ago| format!("{} ago", ms(ago)))))
            .collect();
        output.line(&format!("{} is {} for {}; moved last: {}.", line.part, line.state, ms(line.for_ms), stages.join(", ")))?;
    }
    let others = diagnosis.progress.iter().filter(|stage| !is_late(&stage.part)).max_by_key(|stage| stage.ago_ms);
    let others = others.and_then(|stage| Some((stage, stage.ago_ms?)));
    if let Some((oldest, ago)) = others {
        output.line(&format!("Everything else moved in the last {} ({} of {}).", ms(ago), oldest.stage, oldest.part))?;
    }
    Ok(())
}

fn ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

fn before(before_ms: i64) -> String {
    let words = ms(before_ms.unsigned_abs());
    if before_ms < 0 { format!("{words} after") } else { words }
}
