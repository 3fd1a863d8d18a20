//! The server's command line, as far as drills and benchmarks use it. Whatever changes there, changes here and nowhere else.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use firmware_protocol::id::DeviceId;
use serde::Deserialize;

/// What events are called that the server publishes for a hook of its own. Nobody else hears of them.
const SERVERS_OWN: &str = "holdfast/synthetic";
/// Longest time for one command: seeding a million devices makes a key for each.
const LIMIT: Duration = Duration::from_secs(900);
/// The account that owns the fleet.
const OWNER: &str = "load@example.com";
const PASSWORD: &str = "load-load-load";

/// Runs `holdfast --config FILE …`.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    config: PathBuf,
    out: PathBuf,
    errors: PathBuf,
}

/// An event that the server accepted.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
pub struct AcceptedEvent {
    /// Its place in the journal.
    pub position: u64,
    /// Its name.
    pub name: String,
    /// Its payload, if it is text.
    pub data: Option<String>,
    /// The device that published it.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct Diagnosis {
    causes: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    cause: String,
    sentence: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Cli {
    /// With files for output in `dir`.
    pub(crate) fn new(program: PathBuf, config: PathBuf, dir: &Path) -> Self {
        Self { program, config, out: dir.join("cli.out"), errors: dir.join("cli.err") }
    }

    /// Creates the account that owns the fleet.
    pub fn add_owner(&self) -> Result<()> {
        self.add_user(OWNER)
    }

    /// A token of that account.
    pub fn access_token(&self) -> Result<String> {
        self.access_token_of(OWNER)
    }

    /// Registers the devices in the list at `keys`, with that owner.
    pub fn import_devices(&self, keys: &Path) -> Result<()> {
        self.import_devices_of(OWNER, keys)
    }

    /// Creates another account.
    pub(crate) fn add_user(&self, user: &str) -> Result<()> {
        self.run_with_input(&["user", "add", user], PASSWORD).map(drop)
    }

    /// A token of an account.
    pub(crate) fn access_token_of(&self, user: &str) -> Result<String> {
        let token: Token = serde_json::from_reader(self.run(&["token", "create", "--user", user, "--json"])?)?;
        Ok(token.token)
    }

    /// Registers the devices in the list at `keys`, with this account as their owner.
    pub(crate) fn import_devices_of(&self, user: &str, keys: &Path) -> Result<()> {
        self.run(&["device", "import", text(keys)?, "--owner", user]).map(drop)
    }

    /// Takes a device out of the registry.
    pub(crate) fn remove_device(&self, device: DeviceId) -> Result<()> {
        self.run(&["device", "remove", &device.to_string()]).map(drop)
    }

    /// Writes the key that devices on a transport, `udp` or `tcp`, have pinned to `out`.
    pub fn export_server_key(&self, transport: &str, out: &Path) -> Result<()> {
        self.run(&["keys", "export", "--protocol", transport, "--format", "der", "--out", text(out)?]).map(drop)
    }

    /// Fills a data directory that was never used with devices that have sessions.
    pub fn seed(&self, devices: u32, seed: u64) -> Result<()> {
        self.run(&["seed", "--devices", &devices.to_string(), "--seed", &seed.to_string()]).map(drop)
    }

    /// The same, with all devices at one address, and the keys of their sessions in a file: of each its connection id and key block.
    pub fn seed_sessions(&self, devices: u32, seed: u64, at: SocketAddr, keys: &Path) -> Result<()> {
        let (devices, seed, at) = (devices.to_string(), seed.to_string(), at.to_string());
        self.run(&["seed", "--devices", &devices, "--seed", &seed, "--at", &at, "--keys-out", text(keys)?]).map(drop)
    }

    /// What is likeliest the matter, by its name and in a sentence, whether or not anything is.
    pub fn diagnose(&self) -> Result<(String, String)> {
        let (_, out) = self.finish(&["diagnose", "--json"], "")?;
        let Diagnosis { causes } = serde_json::from_reader(out)?;
        let first = causes.into_iter().next().context("there is always a cause")?;
        Ok((first.cause, first.sentence))
    }

    /// Everything the server has accepted of others, one by one. Only to be asked while it does not run.
    pub fn accepted_events(&self) -> Result<impl Iterator<Item = Result<AcceptedEvent>>> {
        let lines = self.run(&["journal", "events", "--json-lines"])?.lines();
        let events = lines.map(|line| {
            let line = line?;
            serde_json::from_str(&line).with_context(|| format!("not an accepted event: {line}"))
        });
        Ok(events.filter(|event: &Result<AcceptedEvent>| event.as_ref().map_or(true, |event| event.name != SERVERS_OWN)))
    }

    fn run(&self, arguments: &[&str]) -> Result<BufReader<File>> {
        self.run_with_input(arguments, "")
    }

    /// Runs a command to its end with a line to read, and opens what it wrote.
    fn run_with_input(&self, arguments: &[&str], line: &str) -> Result<BufReader<File>> {
        let (status, out) = self.finish(arguments, line)?;
        if !status.success() {
            let mut words = String::new();
            File::open(&self.errors)?.take(2000).read_to_string(&mut words)?;
            bail!("`holdfast {}` failed ({status}): {}", arguments.join(" "), words.trim_end());
        }
        Ok(out)
    }

    /// The same, however it ends.
    fn finish(&self, arguments: &[&str], line: &str) -> Result<(ExitStatus, BufReader<File>)> {
        let (out, errors) = (File::create(&self.out)?, File::create(&self.errors)?);
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).args(arguments).stdin(Stdio::piped()).stdout(out).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        if let Some(mut input) = child.stdin.take() {
            // A command that reads nothing may have ended already.
            let _ = writeln!(input, "{line}");
        }
        let begun = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if begun.elapsed() < LIMIT => thread::sleep(Duration::from_millis(2)),
                None => {
                    child.kill()?;
                    child.wait()?;
                    bail!("`holdfast {}` did not end within {LIMIT:?}", arguments.join(" "));
                }
            }
        };
        Ok((status, BufReader::new(File::open(&self.out)?)))
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command line that does `script` with the words behind the configuration.
    fn cli(dir: &Path, script: &str) -> Result<Cli> {
        let config = dir.join("script");
        std::fs::write(&config, script)?;
        Ok(Cli::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cli.sh"), config, dir))
    }

    #[test]
    fn commands_are_the_agreed_words() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let words = dir.path().join("words");
        let cli = cli(dir.path(), &format!("read line; echo \"$*: $line\" >> {}; echo '{{\"token\": \"abc\"}}'", words.display()))?;
        cli.add_owner()?;
        assert_eq!(cli.access_token()?, "abc");
        cli.import_devices(Path::new("keys.csv"))?;
        cli.export_server_key("tcp", Path::new("key.der"))?;
        cli.seed(9, 2)?;
        let expected = "user add load@example.com: load-load-load\ntoken create --user load@example.com --json: \n\
                        device import keys.csv --owner load@example.com: \nkeys export --protocol tcp --format der --out key.der: \nseed --devices 9 --seed 2: \n";
        assert_eq!(std::fs::read_to_string(words)?, expected);
        Ok(())
    }

    #[test]
    fn accepted_events_are_lines_of_json() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let line = |data: &str| format!("echo '{{\"position\":7,\"name\":\"n\",\"data\":{data},\"source\":\"e00f\",\"more\":1}}'\n");
        let cli = cli(
            dir.path(),
            &format!(
                "[ \"$*\" = \"journal events --json-lines\" ] || exit 8\n{}{}{}echo nonsense",
                line("\"x\""),
                line("null").replace("\"n\"", "\"holdfast/synthetic\""),
                line("null")
            ),
        )?;
        let events: Vec<Result<AcceptedEvent>> = cli.accepted_events()?.collect();
        let [Ok(first), Ok(second), Err(_)] = &events[..] else { bail!("{events:?}") };
        assert_eq!((first.position, first.data.as_deref(), first.source.as_deref()), (7, Some("x"), Some("e00f")));
        assert_eq!(second.data, None);
        Ok(())
    }

    #[test]
    fn a_failed_command_is_told_with_its_words() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let error = cli(dir.path(), "echo no such user >&2; exit 3")?.add_owner().expect_err("it exits with 3");
        assert!(error.to_string().contains("no such user"), "{error}");
        Ok(())
    }
}
