//! `holdfast user`.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use clap::Subcommand;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use super::output::Output;
use super::target::Target;
use crate::control::{Request, Response, Secret, UserLine};

/// Longest line that is taken for a password.
const LINE_LEN_MAX: usize = 4096;

#[derive(Subcommand, Debug)]
pub(super) enum UserCommand {
    /// Create an account
    ///
    /// The password is asked for or, when standard input is no terminal, read as its first line.
    Add {
        /// Address that its holder logs in with
        email: String,
    },
    /// List accounts
    List,
    /// Print a code with which the holder of an account chooses another password, once and within the hour
    ///
    /// With `--set` the password is chosen here: it is asked for or, when standard input is no terminal, read as its first line. All tokens of the account
    /// end with the old password.
    ResetPassword {
        /// Address that its holder logs in with
        email: String,
        /// Choose the password here
        #[arg(long)]
        set: bool,
    },
}

pub(super) fn run(command: UserCommand, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { email } => {
            let password = Secret(password()?);
            target.ask(Request::AddUser { email: email.clone(), password })?;
            Ok(output.say(&format!("Created the account {email}."), &json!({ "created": email }))?)
        }
        UserCommand::ResetPassword { email, set } => reset_password(email, set, target, output),
        UserCommand::List => {
            let Response::Users { users } = target.ask(Request::ListUsers {})? else { bail!("unexpected answer") };
            let row = |user: &UserLine| [user.email.clone(), user.devices.to_string(), user.created_at.clone()].map(Some);
            Ok(output.list(["EMAIL", "DEVICES", "CREATED"], &users, row)?)
        }
    }
}

fn reset_password(email: String, set: bool, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let password = if set { Some(Secret(password()?)) } else { None };
    match target.ask(Request::ResetPassword { email: email.clone(), password })? {
        Response::Done {} => Ok(output.say(&format!("Changed the password of {email}."), &json!({ "changed": email }))?),
        Response::ResetCode { code, expires_at } => Ok(output.say(&code.0, &json!({ "code": code, "expires_at": expires_at }))?),
        _ => bail!("unexpected answer"),
    }
}

fn password() -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return line();
    }
    let first = asked("Password: ")?;
    if asked("The same again: ")? != first {
        bail!("the two passwords differ");
    }
    Ok(first)
}

fn asked(question: &str) -> anyhow::Result<String> {
    let mut terminal = io::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let _silence = Silence::begin()?;
    let answer = line();
    // The line end that was typed did not show either.
    writeln!(terminal)?;
    answer
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), LINE_LEN_MAX as u64).read_line(&mut line).context("cannot read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// While it is there, the terminal does not show what is typed.
struct Silence(Termios);

impl Silence {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
