//! What commands about hooks print for people.

use std::io;

use crate::cli::output::Output;
use crate::control::{HookLine, HookReport};
use crate::hook_view::{AttemptView, DeliveryLine, DeliveryPage, DeliveryView, Ended, HookHealth, LogEntry, ReplayView};

/// Characters of an answer or an error that stand in a table.
const CELL_LEN_MAX: usize = 60;

pub(super) fn hooks(hooks: &[HookLine], output: &mut Output<'_>) -> io::Result<()> {
    let row = |hook: &HookLine| {
        let warnings = (!hook.warnings.is_empty()).then(|| hook.warnings.join("; "));
        let (id, event, owner) = (Some(hook.id.clone()), Some(hook.event.clone()), Some(hook.owner.clone()));
        [id, event, hook.target.clone(), owner, hook.state.clone(), hook.pending.map(|pending| pending.to_string()), warnings]
    };
    output.list(["HOOK", "EVENT", "TARGET", "OWNER", "STATE", "PENDING", "WARNINGS"], hooks, row)
}

pub(super) fn hook(report: &HookReport, output: &mut Output<'_>) -> io::Result<()> {
    output.whole(report, |output| {
        let HookReport { line, name, created_at, updated_at, signing, .. } = report;
        let unknown = "somewhere that a template says";
        output.line(&format!("{} {name:?} of {}", line.id, line.owner))?;
        output.line(&format!("events {}, to {}", line.event, line.target.as_deref().unwrap_or(unknown)))?;
        output.line(&format!("created {created_at}, replaced {updated_at}"))?;
        if let Some(signing) = signing {
            let key = signing.public_key.as_ref().map_or_else(String::new, |key| format!(" {key}"));
            output.line(&format!("signature {}{key}", signing.scheme))?;
            if let Some(previous) = &signing.previous {
                output.line(&format!("the key before signs until {}", previous.until))?;
            }
        }
        for warning in &line.warnings {
            output.line(&format!("warning: {warning}"))?;
        }
        match &report.health {
            Some(health) => print_health(health, output)?,
            None => output.line("no server runs that carries it out")?,
        }
        if report.errors.is_empty() { Ok(()) } else { errors(&report.errors, output) }
    })
}

fn print_health(health: &HookHealth, output: &mut Output<'_>) -> io::Result<()> {
    let HookHealth { state, since, why, last_error, oldest_pending, counts, .. } = health;
    let since = since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
    let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    output.line(&format!("{state}{since}{why}"))?;
    if let Some(last) = last_error {
        output.line(&format!("last error {}: {}", last.at, plain(&words(&last.ended))))?;
    }
    let rejected: u64 = counts.rejected.values().sum();
    output.line(&format!(
        "{} accepted = {} delivered + {} pending + {} expired + {rejected} rejected; {} dead letters, {} replayed",
        counts.accepted, counts.delivered, counts.pending, counts.expired, counts.dead_letters, counts.replayed
    ))?;
    for (reason, count) in &counts.rejected {
        output.line(&format!("rejected as {reason}: {count}"))?;
    }
    match oldest_pending {
        Some(oldest) => output.line(&format!("the oldest that waits is of {oldest}")),
        None => Ok(()),
    }
}

fn errors(errors: &[LogEntry], output: &mut Output<'_>) -> io::Result<()> {
    let row = |entry: &LogEntry| {
        let status = entry.response.as_ref().map(|response| response.status.to_string());
        let said = entry.error.clone().or_else(|| entry.response.as_ref().map(|response| response.body.clone()));
        let (id, at) = (Some(entry.id.clone()), Some(entry.request.at.clone()));
        [id, entry.event.name.as_deref().map(cell), at, status, said.map(|said| cell(&said))]
    };
    output.list(["DELIVERY", "EVENT", "AT", "STATUS", "ERROR"], errors, row)
}

pub(super) fn deliveries(page: &DeliveryPage, output: &mut Output<'_>) -> io::Result<()> {
    output.whole(page, |output| {
        let row = |line: &DeliveryLine| {
            let state = line.reason.as_ref().map_or_else(|| line.state.clone(), |reason| format!("{} ({reason})", line.state));
            let (id, at) = (Some(line.id.clone()), Some(line.published_at.clone()));
            let (attempts, last) = (Some(line.attempt_count.to_string()), line.last.as_ref().map(|last| cell(&words(last))));
            [id, line.event.as_deref().map(cell), line.device_id.clone(), at, Some(state), attempts, last]
        };
        output.list(["DELIVERY", "EVENT", "DEVICE", "ACCEPTED", "STATE", "ATTEMPTS", "LAST"], &page.deliveries, row)?;
        match &page.cursor {
            Some(cursor) => output.line(&format!("there may be more: --cursor {cursor}")),
            None => Ok(()),
        }
    })
}

pub(super) fn delivery(delivery: &DeliveryView, output: &mut Output<'_>) -> io::Result<()> {
    output.whole(delivery, |output| {
        let DeliveryView { line, data, attempts } = delivery;
        let event = cell(line.event.as_deref().unwrap_or("unknown"));
        output.line(&format!("{} {} of event {event}, accepted {}", line.id, line.state, line.published_at))?;
        output.line(&format!("webhook-id {}", line.webhook_id.as_deref().unwrap_or("unknown")))?;
        output.line(&format!("data {}", plain(&data.to_string())))?;
        let row = |attempt: &AttemptView| {
            let number = Some(attempt.number.to_string());
            let (at, took) = (Some(attempt.at.clone()), Some(format!("{} ms", attempt.took_ms)));
            let answer = Some(cell(&attempt.answer)).filter(|answer| !answer.is_empty());
            [number, at, took, Some(cell(&words(&attempt.ended))), answer]
        };
        output.list(["ATTEMPT", "AT", "TOOK", "ENDED", "ANSWER"], attempts, row)
    })
}

pub(super) fn replays(replays: &[ReplayView], output: &mut Output<'_>) -> io::Result<()> {
    let row = |replay: &ReplayView| {
        let numbers = [replay.found, replay.delivered, replay.failed, replay.waiting].map(|number| Some(number.to_string()));
        let [found, delivered, failed, waiting] = numbers;
        [Some(replay.id.clone()), Some(replay.state.clone()), Some(replay.created_at.clone()), found, delivered, failed, waiting]
    };
    output.list(["REPLAY", "STATE", "CREATED", "FOUND", "DELIVERED", "FAILED", "WAITING"], replays, row)
}

pub(super) fn replay(done: &str, replay: &ReplayView, output: &mut Output<'_>) -> io::Result<()> {
    let ReplayView { id, found, delivered, failed, .. } = replay;
    output.say(&format!("Replay {id} {done}: {found} found, {delivered} delivered, {failed} failed."), replay)
}

/// How an attempt ended, in words.
fn words(ended: &Ended) -> String {
    let Ended { status, phase, error, .. } = ended;
    let status = status.map(|status| format!("status {status}"));
    let parts = [status.as_deref(), phase.as_deref(), error.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// A text of others on one line, without what moves a terminal's cursor.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The same as it may stand in a table: short.
fn cell(text: &str) -> String {
    let mut cell: String = plain(text.trim()).chars().take(CELL_LEN_MAX + 1).collect();
    if cell.chars().count() > CELL_LEN_MAX {
        cell.pop();
        cell.push('…');
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cannot_write_over_a_terminal() {
        assert_eq!(cell("  a\u{1b}[2Jb\r\nc "), "a [2Jb  c");
        assert_eq!(cell(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
        assert_eq!(cell(&"ü".repeat(60)), "ü".repeat(60));
    }

    #[test]
    fn a_delivery_that_failed_says_how() {
        let ended = Ended { phase: Some("connect".into()), error: Some("nobody is there".into()), ..Ended::default() };
        assert_eq!(words(&ended), "connect: nobody is there");
        assert_eq!(words(&Ended { status: Some(503), ..Ended::default() }), "status 503");
    }
}
