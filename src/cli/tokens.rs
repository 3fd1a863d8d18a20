//! `holdfast token`.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use super::span;
use super::target::Target;
use crate::control::{Request, Response, Secret, TokenLine};

#[derive(Subcommand, Debug)]
pub(super) enum TokenCommand {
    /// Make a token and print it; it cannot be seen again
    Create(CreateArgs),
    /// List tokens by their public ids
    List {
        /// Only tokens of this account
        #[arg(long, value_name = "EMAIL")]
        user: Option<String>,
    },
    /// End a token
    Revoke {
        /// Its public id from `token list`, or the token itself
        token: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct CreateArgs {
    /// Account it shall stand for; may be left out while there is only one
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// What it is for, to find it in the list
    #[arg(long, value_name = "NAME", default_value = "holdfast-cli")]
    client: String,
    /// How long it is good, such as 90d; without it for ever
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    expires_in: Option<Duration>,
    /// What it may be used for, such as devices:list; may be given several times, and without it everything
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
}

pub(super) fn run(command: TokenCommand, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => create(args, target, output),
        TokenCommand::List { user } => list(user, target, output),
        TokenCommand::Revoke { token } => {
            target.ask(Request::RevokeToken { token: Secret(token) })?;
            Ok(output.say("Revoked.", &json!({ "revoked": true }))?)
        }
    }
}

fn create(args: CreateArgs, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let request = Request::CreateToken {
        email: args.user,
        client: args.client,
        life_s: args.expires_in.map(|span| span.as_secs()),
        scopes: (!args.scope.is_empty()).then(|| args.scope.join(" ")),
    };
    let Response::Token { token, id, expires_at } = target.ask(request)? else { bail!("unexpected answer") };
    Ok(output.say(&token.0, &json!({ "token": token, "id": id, "expires_at": expires_at }))?)
}

fn list(email: Option<String>, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Response::Tokens { tokens } = target.ask(Request::ListTokens { email })? else { bail!("unexpected answer") };
    let row = |token: &TokenLine| {
        let expires = token.expires_at.clone().unwrap_or_else(|| "never".to_owned());
        let token = token.clone();
        [Some(token.id), token.user, Some(token.client), Some(token.scopes), Some(expires), Some(token.created_at)]
    };
    Ok(output.list(["ID", "USER", "CLIENT", "SCOPES", "EXPIRES", "CREATED"], &tokens, row)?)
}
