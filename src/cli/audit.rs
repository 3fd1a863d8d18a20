//! `holdfast audit`.

use anyhow::bail;
use clap::{Args, Subcommand};

use super::output::Output;
use super::target::Target;
use crate::control::{ActLine, ActsVerdict, Request, Response};
use crate::store::registry::AUDIT_PAGE_MAX;

#[derive(Subcommand, Debug)]
pub(super) enum AuditCommand {
    /// List acts, the newest first
    List(ListArgs),
    /// Check that the log is as it was written; fails if it is not, and says which act is the first that is wrong
    ///
    /// Keep the last hash elsewhere: whoever can write to the data directory can make the whole log anew.
    Verify,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(AUDIT_PAGE_MAX)))]
    count: u32,
    /// Only acts before the one with this number
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
}

pub(super) fn run(command: AuditCommand, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    match command {
        AuditCommand::List(args) => list(&args, target, output),
        AuditCommand::Verify => verify(target, output),
    }
}

fn list(args: &ListArgs, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let request = Request::ListActs { before: args.before, count: args.count };
    let Response::Acts { acts } = target.ask(request)? else { bail!("unexpected answer") };
    let row = |line: &ActLine| {
        let detail = Some(line.detail.clone()).filter(|detail| !detail.is_empty());
        let [number, at, who, act, object] =
            [line.number.to_string(), line.at.clone(), line.who.clone(), line.act.clone(), line.object.clone()];
        [Some(number), Some(at), Some(who), line.address.clone(), Some(act), Some(object), detail]
    };
    Ok(output.list(["NUMBER", "AT", "WHO", "FROM", "ACT", "ON", "DETAIL"], &acts, row)?)
}

fn verify(target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Response::ActsVerified(verdict) = target.ask(Request::VerifyActs {})? else { bail!("unexpected answer") };
    match &verdict {
        ActsVerdict::Whole { rows, last_hash } => {
            let sentence = format!("The log of {rows} acts is as it was written. Its last hash is {last_hash}.");
            Ok(output.say(&sentence, &verdict)?)
        }
        ActsVerdict::Broken { number, why } => bail!("the log of acts is wrong from number {number} on: {why}"),
    }
}
