//! The command line: what can be typed, and which part does it.
//!
//! Commands that change something work whether or not a server runs: see `target`.

mod audit;
mod backup;
mod devices;
mod diagnose;
mod hooks;
mod journal;
mod key_file;
mod output;
mod secrets;
mod seed;
mod server_keys;
mod span;
mod status;
mod target;
mod tokens;
mod users;

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, LogFormat};
use crate::priority::Priority;
use crate::{demo, logging, server};

use output::Output;
use target::Target;

/// A self-hosted device cloud for Particle Device OS devices.
#[derive(Parser, Debug)]
#[command(name = "holdfast", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Common {
    /// Configuration file; without it the defaults hold
    #[arg(long, global = true, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    config: Option<PathBuf>,
    /// Data directory, instead of the configured one
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How log lines look, instead of as configured
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// Print JSON instead of tables and sentences
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server until it is told to stop
    Serve,
    /// Run a server with simulated devices, to look around
    Demo(DemoArgs),
    /// Register, list and remove devices
    #[command(subcommand)]
    Device(devices::DeviceCommand),
    /// Create and list accounts, and help those who forgot their password
    #[command(subcommand)]
    User(users::UserCommand),
    /// Create, list and revoke access tokens
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Show and check the log of acts: who changed what, when and from where
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check and seal anew what is stored of hooks, and drop master keys
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Say how the running server is; fails if a part of it is not well
    Status,
    /// Say what is wrong and why, the likeliest cause first; fails if something is
    ///
    /// Without a server it says what changed last and how the server ended.
    Diagnose,
    /// Copy the data directory into a new one, while the server runs or not
    ///
    /// The copy holds the server's private keys and the keys of all sessions, in clear.
    Backup(backup::BackupArgs),
    /// Make the data directory, which must be empty, from a backup
    ///
    /// Devices go on with the sessions they have. The server that was backed up must not run any more.
    Restore(backup::RestoreArgs),
    /// Print the page about configuration, docs/configuration.md
    #[command(hide = true)]
    Configuration,
    /// Fill a fresh data directory with devices that have sessions, for measurements
    #[command(hide = true)]
    Seed(SeedArgs),
    /// What the journal holds
    #[command(subcommand, hide = true)]
    Journal(journal::JournalCommand),
    /// List and show hooks, their deliveries and replays, and try them
    #[command(subcommand)]
    Hook(hooks::HookCommand),
    /// The server's own keys, which devices need to know
    #[command(subcommand)]
    Keys(server_keys::KeysCommand),
}

#[derive(Args, Debug)]
struct DemoArgs {
    /// Devices to simulate
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1000))]
    devices: u16,
    /// Check that everything works, and end
    #[arg(long)]
    check: bool,
}

#[derive(Args, Debug)]
struct SeedArgs {
    /// Devices to make
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(seed::DEVICES_MAX)))]
    devices: u32,
    /// Decides their ids and keys
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Where they all are, instead of anywhere
    #[arg(long, value_name = "ADDRESS")]
    at: Option<SocketAddr>,
    /// Where to write the keys of their sessions: of each its connection id (8 bytes) and its key block (40 bytes)
    #[arg(long, value_name = "FILE")]
    keys_out: Option<PathBuf>,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: a demonstration prints by itself.
    let mut out = io::stdout();
    match run(cli, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<diagnose::Wrong>() => ExitCode::FAILURE,
        Err(error) => {
            // Standard error being closed is no reason to fail otherwise.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut config = Config::load(cli.common.config.as_deref(), variables())?;
    if let Some(directory) = cli.common.data_dir {
        config.data_dir = directory;
    }
    match cli.common.log_format.as_deref() {
        Some("json") => config.log.format = LogFormat::Json,
        Some(_) => config.log.format = LogFormat::Text,
        None => {}
    }
    let target = Target::new(&config.data_dir, &config.secrets.keys);
    let mut output = Output::new(out, cli.common.json);
    match cli.command {
        Command::Serve => serve(config),
        Command::Demo(DemoArgs { devices, check }) => show(&config, devices, check),
        Command::Device(command) => devices::run(command, &target, &mut output),
        Command::User(command) => users::run(command, &target, &mut output),
        Command::Token(command) => tokens::run(command, &target, &mut output),
        Command::Audit(command) => audit::run(command, &target, &mut output),
        Command::Secrets(command) => secrets::run(command, &target, &mut output),
        Command::Status => status::run(&target, &mut output),
        Command::Diagnose => diagnose::run(&target, &mut output),
        Command::Backup(args) => backup::make(&args, &target, &mut output),
        Command::Restore(args) => backup::restore(&args, &config.data_dir, &mut output),
        Command::Configuration => Ok(output.bytes(config::page(config::DEFAULT_FILE).as_bytes())?),
        Command::Seed(args) => fill(&config, &args),
        Command::Journal(command) => journal::run(&command, &config.data_dir, &mut output),
        Command::Hook(command) => hooks::run(command, &mut io::stdin().lock(), &target, &mut output),
        Command::Keys(command) => server_keys::run(command, &target, &mut output),
    }
}

/// Variables whose name or value is no UTF-8 cannot be ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn show(config: &Config, devices: u16, check: bool) -> anyhow::Result<()> {
    logging::start(&config::Log { filter: "warn".to_owned(), ..config.log.clone() });
    let runtime = runtime()?;
    match runtime.block_on(demo::run(devices, check))? {
        true => Ok(()),
        false => anyhow::bail!("the check failed"),
    }
}

fn fill(config: &Config, args: &SeedArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let plan = seed::Plan { devices: args.devices, seed: args.seed, at: args.at, keys_out: args.keys_out.as_deref() };
    runtime.block_on(seed::seed(&config.data_dir, plan))
}

fn serve(config: Config) -> anyhow::Result<()> {
    logging::start(&config.log);
    Ok(runtime()?.block_on(server::run(config))?)
}

/// Its threads serve callers, and give way to those that serve devices. The calling thread, which starts these, does not.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("api").on_thread_start(|| Priority::Requests.take()).build()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_options_may_stand_anywhere() {
        let parse = |words: &[&str]| Cli::try_parse_from(words).expect("it is understood");
        let cli = parse(&["holdfast", "device", "list", "--json", "--data-dir", "/srv/x"]);
        assert!(cli.common.json && cli.common.data_dir == Some("/srv/x".into()));
        let cli = parse(&["holdfast", "--config", "/etc/h.toml", "serve"]);
        assert_eq!(cli.common.config, Some("/etc/h.toml".into()));
    }

    #[test]
    fn every_command_explains_itself() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments().filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version")) {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
