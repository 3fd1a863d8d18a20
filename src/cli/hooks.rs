//! `holdfast hook`.

mod print;
mod render;

use std::io::BufRead;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use firmware_protocol::time::UnixMillis;
use serde_json::json;

use super::output::Output;
use super::span;
use super::target::Target;
use crate::control::{HookAnswer, HookRequest, Request, Response};
use crate::dates::{self, Iso};
use crate::hook_view::{DeliveryQuery, PER_PAGE_MAX, ReplayFields};

#[derive(Subcommand, Debug)]
pub(super) enum HookCommand {
    /// List hooks
    List {
        /// Only hooks of this account
        #[arg(long, value_name = "EMAIL")]
        account: Option<String>,
        /// Only hooks of this product
        #[arg(long, value_name = "ID", conflicts_with = "account")]
        product: Option<u32>,
    },
    /// Show a hook: how it is, what became of its deliveries, and what went wrong last
    Show(OfHook),
    /// List deliveries of a hook, the newest first
    Deliveries(DeliveriesArgs),
    /// Show a delivery of a hook with its attempts
    Delivery {
        #[command(flatten)]
        of: OfHook,
        /// Id of the delivery
        delivery: String,
    },
    /// Make deliveries of a hook again that are done with
    Replay(ReplayArgs),
    /// List replays of a hook, the newest first
    Replays(OfHook),
    /// End a replay of a hook; what is under way is not called back
    Cancel {
        #[command(flatten)]
        of: OfHook,
        /// Id of the replay
        replay: String,
    },
    /// Send one request of a hook for an event that nobody published; fails if the receiver does not take it
    Test {
        #[command(flatten)]
        of: OfHook,
        /// Data of the event
        #[arg(long)]
        data: Option<String>,
    },
    /// Let a hook do something again
    Enable(OfHook),
    /// Let a hook do nothing until it is enabled
    Disable(OfHook),
    /// Fill in templates: each line of standard input is one with its view, `{"template","view"}`; each line of the output has its `text` or `error`
    #[command(hide = true)]
    Render,
}

#[derive(Args, Debug)]
pub(super) struct OfHook {
    /// Id of the hook, 24 hex digits
    #[arg(value_name = "HOOK")]
    id: String,
}

#[derive(Args, Debug)]
pub(super) struct DeliveriesArgs {
    #[command(flatten)]
    of: OfHook,
    /// Only those in this state; `dead` are expired and rejected ones that were not made in a replay
    #[arg(long, value_parser = ["pending", "delivered", "expired", "rejected", "dead"])]
    state: Option<String>,
    /// Only those of events of this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only those of events whose names begin so
    #[arg(long, value_name = "PREFIX")]
    event: Option<String>,
    #[command(flatten)]
    span: SpanArgs,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=i64::from(PER_PAGE_MAX)))]
    limit: u32,
    /// Only those that come after this, which a list ends with
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Args, Debug)]
struct SpanArgs {
    /// Of events that were accepted at this time or later: 2026-11-21T10:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<String>,
    /// Of events that were accepted before this time, likewise
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    of: OfHook,
    /// This delivery, by its id; may be given several times
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "before", "failed_since"])]
    delivery: Vec<String>,
    #[command(flatten)]
    span: SpanArgs,
    /// Those that expired or were rejected at this time or later and were not made in a replay since
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["from", "before"])]
    failed_since: Option<String>,
    /// Only say how many that are
    #[arg(long)]
    dry_run: bool,
}

/// A time, or how long ago it was.
fn time(text: &str) -> Result<String, String> {
    if dates::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    let ago: Duration =
        span::parse(text).map_err(|_| format!("{text:?} is no time such as 2026-11-21T10:00:00Z, and no span such as 2h"))?;
    let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    Ok(Iso(UnixMillis(dates::now().0.saturating_sub(ago))).to_string())
}

pub(super) fn run(command: HookCommand, input: &mut dyn BufRead, target: &Target, output: &mut Output<'_>) -> Result<()> {
    match command {
        HookCommand::List { account, product } => {
            let HookAnswer::Hooks(hooks) = ask(target, HookRequest::List { account, product })? else { bail!(UNEXPECTED) };
            Ok(print::hooks(&hooks, output)?)
        }
        HookCommand::Show(OfHook { id }) => {
            let HookAnswer::Hook(report) = ask(target, HookRequest::Show { id })? else { bail!(UNEXPECTED) };
            Ok(print::hook(&report, output)?)
        }
        HookCommand::Deliveries(args) => deliveries(args, target, output),
        HookCommand::Delivery { of, delivery } => {
            let asked = ask_server(target, HookRequest::Delivery { id: of.id, delivery })?;
            let HookAnswer::Delivery(delivery) = asked else { bail!(UNEXPECTED) };
            Ok(print::delivery(&delivery, output)?)
        }
        HookCommand::Replay(args) => replay(args, target, output),
        HookCommand::Replays(OfHook { id }) => {
            let HookAnswer::Replays(replays) = ask_server(target, HookRequest::Replays { id })? else { bail!(UNEXPECTED) };
            Ok(print::replays(&replays, output)?)
        }
        HookCommand::Cancel { of, replay } => {
            let asked = ask_server(target, HookRequest::CancelReplay { id: of.id, replay })?;
            let HookAnswer::Replay(replay) = asked else { bail!(UNEXPECTED) };
            Ok(print::replay("has ended", &replay, output)?)
        }
        HookCommand::Test { of, data } => test(of.id, data, target, output),
        HookCommand::Enable(OfHook { id }) => enable(id, true, target, output),
        HookCommand::Disable(OfHook { id }) => enable(id, false, target, output),
        HookCommand::Render => render::run(input, output),
    }
}

const UNEXPECTED: &str = "unexpected answer";

/// Asks the server that runs or, without one, the registry.
fn ask(target: &Target, hook: HookRequest) -> Result<HookAnswer> {
    answer(target.ask(Request::Hook { hook })?)
}

/// Asks the server that runs: nobody else carries hooks out.
fn ask_server(target: &Target, hook: HookRequest) -> Result<HookAnswer> {
    answer(target.ask_server(&Request::Hook { hook })?)
}

fn answer(response: Response) -> Result<HookAnswer> {
    let Response::Hook { hook } = response else { bail!(UNEXPECTED) };
    Ok(*hook)
}

fn deliveries(args: DeliveriesArgs, target: &Target, output: &mut Output<'_>) -> Result<()> {
    let DeliveriesArgs { of, state, device, event, span: SpanArgs { from, before }, limit, cursor } = args;
    let query = DeliveryQuery { state, device, event, from, before, per_page: Some(limit), cursor };
    let asked = ask_server(target, HookRequest::Deliveries { id: of.id, query })?;
    let HookAnswer::Deliveries(page) = asked else { bail!(UNEXPECTED) };
    Ok(print::deliveries(&page, output)?)
}

fn replay(args: ReplayArgs, target: &Target, output: &mut Output<'_>) -> Result<()> {
    let ReplayArgs { of, delivery, span: SpanArgs { from, before }, failed_since, dry_run } = args;
    let deliveries = Some(delivery).filter(|delivery| !delivery.is_empty());
    let fields = ReplayFields { deliveries, from, before, failed_since, dry_run };
    match ask_server(target, HookRequest::Replay { id: of.id, fields })? {
        HookAnswer::Counted(counted) => {
            let least = if counted.at_least { "at least " } else { "" };
            Ok(output.say(&format!("{least}{} deliveries would be made again", counted.count), &counted)?)
        }
        HookAnswer::Replay(replay) => Ok(print::replay("has begun", &replay, output)?),
        _ => bail!(UNEXPECTED),
    }
}

fn test(id: String, data: Option<String>, target: &Target, output: &mut Output<'_>) -> Result<()> {
    let answer = ask_server(target, HookRequest::Test { id, data })?;
    let HookAnswer::Tested { pass, status, text, took_ms } = answer else { bail!(UNEXPECTED) };
    if !pass {
        let status = status.map_or_else(String::new, |status| format!("error status {status}: "));
        bail!("it does not pass: {status}{}", print::plain(&text));
    }
    let value = json!({ "pass": pass, "status": status, "text": text, "took_ms": took_ms });
    Ok(output.say(&format!("It passes: status {} after {took_ms} ms", status.unwrap_or_default()), &value)?)
}

fn enable(id: String, enabled: bool, target: &Target, output: &mut Output<'_>) -> Result<()> {
    target.ask(Request::Hook { hook: HookRequest::Enable { id: id.clone(), enabled } })?;
    let word = if enabled { "Enabled" } else { "Disabled" };
    Ok(output.say(&format!("{word} {id}."), &json!({ "id": id, "enabled": enabled }))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_said_as_how_long_ago_it_was() {
        assert_eq!(time("2026-11-21T10:00:00Z").as_deref(), Ok("2026-11-21T10:00:00Z"));
        let ago = dates::parse(&time("2h").unwrap()).unwrap();
        assert!((7_199_000..7_260_000).contains(&(dates::now().0 - ago.0)));
        assert!(time("yesterday").is_err() && time("").is_err());
    }
}
