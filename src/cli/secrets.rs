//! `holdfast secrets`.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use super::target::Target;
use crate::control::{Request, Response};
use crate::store::registry::SecretsReport;

#[derive(Subcommand, Debug)]
pub(super) enum SecretsCommand {
    /// Open every stored secret, and say which master keys they need; fails if one cannot be read
    Check,
    /// Seal every stored secret anew with a new master key, or go on with that
    ///
    /// Keys that were there before stay in the file: backups that were made with them need them.
    Rotate,
    /// Remove a master key that no stored secret needs
    Drop(DropArgs),
}

#[derive(Args, Debug)]
pub(super) struct DropArgs {
    /// Its id, as `holdfast secrets check` says it
    #[arg(value_name = "KEY")]
    key: String,
}

pub(super) fn run(command: SecretsCommand, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    match command {
        SecretsCommand::Check => check(target, output),
        SecretsCommand::Rotate => rotate(target, output),
        SecretsCommand::Drop(DropArgs { key }) => {
            target.ask(Request::DropMasterKey { key: key.clone() })?;
            let sentence = format!("The master key {key} is dropped. Backups that were made with it need it all the same.");
            Ok(output.say(&sentence, &json!({ "dropped": key }))?)
        }
    }
}

fn check(target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Response::Secrets(report) = target.ask(Request::CheckSecrets {})? else { bail!("unexpected answer") };
    output.say(&sentence(&report), &report)?;
    match report.unreadable {
        0 => Ok(()),
        unreadable => bail!("{unreadable} secrets cannot be read: {}", report.reasons.join("; ")),
    }
}

fn sentence(report: &SecretsReport) -> String {
    let keys = report.by_key.iter().map(|(key, count)| {
        let role = if *key == report.current { ", which seals" } else { "" };
        format!("\n  {key}{role}: {count}")
    });
    format!("{} secrets are stored, by master key:{}", report.secrets, keys.collect::<String>())
}

fn rotate(target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Response::SecretsRotated(rotated) = target.ask(Request::RotateSecrets {})? else { bail!("unexpected answer") };
    let what = if rotated.is_new { "The new master key" } else { "An earlier run was gone on with. The master key" };
    let sentence = format!("{what} {} has sealed {} secrets; of {} none needs another.", rotated.key, rotated.sealed, rotated.secrets);
    Ok(output.say(&sentence, &rotated)?)
}
