//! The real server as a child process, with a data directory of its own: started, asked whether it is ready, killed, started again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::CpuSet;
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::api::Api;
use crate::cli::Cli;
use crate::cores::Moved;
use crate::http;
use crate::metrics::Metrics;
use crate::sick_disk::SickDisk;
use crate::threads::{self, Ticks};

/// Longest start.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest orderly end.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Between two questions whether the server is ready.
const READY_POLL: Duration = Duration::from_micros(500);
/// A benchmark has few devices that send as much as many.
const NO_LIMITS: &str = "\n[limits]\ndevice_events_per_s = \"unlimited\"\ndevice_records_per_s = \"unlimited\"\n";
/// As much of the server's log as an error shows.
const LOG_SHOWN: u64 = 2000;

/// Loopback ports that were free a moment ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// Devices on UDP.
    pub udp: u16,
    /// Devices on TCP.
    pub tcp: u16,
    /// REST.
    pub http: u16,
    /// Metrics and health.
    pub admin: u16,
}

/// What a server does about a shard that has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WantedCure {
    /// Another thread takes it over.
    Takeover,
    /// The process ends.
    Restart,
    /// Nothing.
    None,
}

impl WantedCure {
    fn word(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Restart => "restart",
            Self::None => "none",
        }
    }
}

/// A server that can be started and killed.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    dir: TempDir,
    ports: Ports,
    child: Option<Child>,
    cores: Option<CpuSet>,
    disk: Option<SickDisk>,
    faults: Option<PathBuf>,
}

impl Server {
    /// Chooses ports, writes a configuration. `program` is looked for beside this program if it is not given.
    pub fn prepare(program: Option<&Path>) -> Result<Self> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe()?.with_file_name("holdfast"),
        };
        ensure!(program.is_file(), "there is no server at {}: name one with --holdfast", program.display());
        let (dir, ports) = (tempfile::Builder::new().prefix("holdfast-load-").tempdir()?, Ports::free()?);
        let server = Self { program, dir, ports, child: None, cores: None, disk: None, faults: None };
        server.configure(NO_LIMITS, "")?;
        Ok(server)
    }

    /// Limits devices as a server does that nobody told otherwise. For its next start.
    pub fn limit_devices(&self) -> Result<()> {
        self.configure("", "")
    }

    /// Lets each device publish no more than so many events in a second. For its next start.
    pub(crate) fn limit_device_events(&self, per_second: u32) -> Result<()> {
        self.configure("", &format!("\n[limits]\ndevice_events_per_s = {per_second}\n"))
    }

    /// Lets it begin no more handshakes than so many in a second. For its next start.
    pub fn pace_handshakes(&self, per_second: u32) -> Result<()> {
        self.configure(NO_LIMITS, &format!("\n[handshakes]\nper_second = {per_second}\n"))
    }

    /// Lets it keep callers waiting for so long and no longer. For its next start.
    pub(crate) fn answer_within(&self, call_timeout_s: u64) -> Result<()> {
        self.configure(NO_LIMITS, &format!("\n[calls]\ntimeout_s = {call_timeout_s}\n"))
    }

    /// Lets one address log in as often as it likes, rightly or not. For its next start.
    pub(crate) fn admit_logins(&self) -> Result<()> {
        self.configure(NO_LIMITS, "\n[accounts]\nfailed_logins = \"unlimited\"\nlogins_per_address = \"unlimited\"\n")
    }

    /// What it does about a shard that has stopped. For its next start.
    pub(crate) fn cure_by(&self, cure: WantedCure) -> Result<()> {
        self.configure(NO_LIMITS, &format!("\n[watchdog]\ncure = \"{}\"\n", cure.word()))
    }

    /// Lets hooks go to receivers on this machine, whose certificates may be of these issuers: a file of them in PEM. For its next start.
    pub(crate) fn admit_receivers(&self, issuers: Option<&Path>) -> Result<()> {
        let certificates = issuers.map(|issuers| format!("certificates = {issuers:?}\n")).unwrap_or_default();
        self.configure(NO_LIMITS, &format!("\n[webhooks]\nallow = [\"127.0.0.0/8\"]\n{certificates}"))
    }

    /// Lets it work on a disk that can be made sick. For its next start.
    pub(crate) fn work_on(&mut self, disk: SickDisk) {
        self.disk = Some(disk);
    }

    /// Lets faults into it, through the socket at the path that is returned. For its next start.
    pub(crate) fn admit_faults(&mut self) -> PathBuf {
        self.faults.insert(self.dir.path().join("faults")).clone()
    }

    /// Lets it run on these processors only. For its next start.
    pub(crate) fn keep_to(&mut self, cores: CpuSet) {
        self.cores = Some(cores);
    }

    /// Writes its configuration: its addresses, `limits`, and what else is wanted.
    fn configure(&self, limits: &str, more: &str) -> Result<()> {
        let addresses = config(&self.dir.path().join("data"), self.ports);
        Ok(std::fs::write(self.config_path(), addresses + limits + more)?)
    }

    /// Where devices on UDP find it.
    pub fn devices(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.udp).into()
    }

    /// Where devices on TCP find it.
    pub fn tcp_devices(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.tcp).into()
    }

    /// Its API, for the account that owns the fleet. To be asked while it runs.
    pub(crate) fn api(&self) -> Result<Api> {
        Ok(self.api_with(self.cli().access_token()?))
    }

    /// The same for another account.
    pub(crate) fn api_of(&self, user: &str) -> Result<Api> {
        Ok(self.api_with(self.cli().access_token_of(user)?))
    }

    fn api_with(&self, token: String) -> Api {
        Api::new((Ipv4Addr::LOCALHOST, self.ports.http).into(), token)
    }

    /// Where it tells its metrics.
    pub(crate) fn admin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.admin).into()
    }

    /// What it has counted since it was started.
    pub(crate) fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::new(http::body(self.admin(), "/metrics").context("the server does not tell its metrics")?))
    }

    /// A directory for files that go with the server and are removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its command line.
    pub fn cli(&self) -> Cli {
        Cli::new(self.program.clone(), self.config_path(), self.dir.path())
    }

    fn config_path(&self) -> PathBuf {
        self.dir.path().join("holdfast.toml")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts it and waits until it says that it is ready: how long that took.
    pub fn start(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.spawn()?;
        self.wait_ready()?;
        Ok(begun.elapsed())
    }

    /// Starts it.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(self.config_path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(disk) = &self.disk {
            disk.load(&mut command);
        }
        if let Some(socket) = &self.faults {
            // Left over from one that was killed.
            let _ = std::fs::remove_file(socket);
            command.env("HOLDFAST_FAULTS", socket);
        }
        let moved = self.cores.map(Moved::to).transpose()?;
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.program.display()))?);
        drop(moved);
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        let admin = self.admin();
        let child = self.child.as_mut().context("the server does not run")?;
        ready(child, admin).map_err(|error| error.context(self.last_words()))
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the server does not run")?;
        Ok(kill(pid(child)?, signal)?)
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("the server does not run")?;
        kill(pid(child)?, Signal::SIGTERM)?;
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if child.try_wait()?.is_some() {
                self.child = None;
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill()?;
        bail!("the server did not end within {STOP_LIMIT:?} of SIGTERM")
    }

    /// Whether it still runs.
    pub fn check_alive(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("the server does not run")?;
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended by itself ({status}); {}", self.last_words()),
        }
    }

    /// Whether it has ended by itself. If so, it can be started again.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        let child = self.child.as_mut().context("the server does not run")?;
        let has_ended = child.try_wait()?.is_some();
        if has_ended {
            self.child = None;
        }
        Ok(has_ended)
    }

    /// Stops it as a whole, or lets it go on.
    pub(crate) fn pause(&self, pauses: bool) -> Result<()> {
        self.signal(if pauses { Signal::SIGSTOP } else { Signal::SIGCONT })
    }

    /// What it has logged since its log had so many bytes.
    pub(crate) fn log_since(&self, len: u64) -> Result<String> {
        let mut log = File::open(self.log_path())?;
        log.seek(SeekFrom::Start(len))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How many bytes its log has.
    pub(crate) fn log_len(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.log_path())?.len())
    }

    /// Processor time of all its threads since it was started.
    pub fn cpu_time(&self) -> Result<Duration> {
        let child = self.child.as_ref().context("the server does not run")?;
        Ok(ClockId::pid_cpu_clock_id(pid(child)?)?.now()?.into())
    }

    /// The same by thread.
    pub(crate) fn cpu_by_thread(&self) -> Result<Ticks> {
        let child = self.child.as_ref().context("the server does not run")?;
        Ok(threads::ticks(child.id())?)
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        let child = self.child.as_ref().context("the server does not run")?;
        field_kib(&std::fs::read_to_string(format!("/proc/{}/status", child.id()))?, "VmRSS:").context("no VmRSS")
    }

    /// Resident memory in KiB, pages that it shares with other processes counted in part.
    pub fn pss_kib(&self) -> Result<u64> {
        let child = self.child.as_ref().context("the server does not run")?;
        field_kib(&std::fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id()))?, "Pss:").context("no Pss")
    }

    /// Leaves its directory behind, and says where.
    pub fn keep(self) -> PathBuf {
        let mut server = self;
        if server.child.is_some() {
            // It ends one way or the other.
            let _ = server.stop();
        }
        server.dir.disable_cleanup(true);
        server.dir.path().to_owned()
    }

    /// Its threads of this name.
    pub(crate) fn threads(&self, name: &str) -> Result<Vec<u32>> {
        let child = self.child.as_ref().context("the server does not run")?;
        Ok(threads::named(child.id(), name)?)
    }

    fn last_words(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.log_path())?;
            let len = log.metadata()?.len();
            log.seek(SeekFrom::Start(len.saturating_sub(LOG_SHOWN)))?;
            let mut bytes = Vec::new();
            log.take(LOG_SHOWN).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        format!("the server's last words:\n{}", read().unwrap_or_else(|error| error.to_string()).trim_end())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            // Nobody is left to hear that it failed.
            let _ = self.kill();
        }
    }
}

/// Waits for a child to answer 200 to `GET /ready`.
pub(crate) fn ready(child: &mut Child, admin: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < READY_LIMIT {
        if http::status(admin, "/ready") == Some(200) {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended before it was ready ({status})");
        }
        thread::sleep(READY_POLL);
    }
    bail!("it was not ready within {READY_LIMIT:?}")
}

fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

impl Ports {
    /// Asks the kernel for four.
    pub fn free() -> Result<Self> {
        let here = (Ipv4Addr::LOCALHOST, 0);
        let (udp, tcp) = (UdpSocket::bind(here)?, TcpListener::bind(here)?);
        let (http, admin) = (TcpListener::bind(here)?, TcpListener::bind(here)?);
        Ok(Self {
            udp: udp.local_addr()?.port(),
            tcp: tcp.local_addr()?.port(),
            http: http.local_addr()?.port(),
            admin: admin.local_addr()?.port(),
        })
    }
}

fn config(data_dir: &Path, ports: Ports) -> String {
    let Ports { udp, tcp, http, admin } = ports;
    format!(
        "data_dir = {data_dir:?}\n\n[udp]\nlisten = \"127.0.0.1:{udp}\"\n\n[tcp]\nlisten = \"127.0.0.1:{tcp}\"\n\n[http]\nlisten = \"127.0.0.1:{http}\"\n\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n\n[log]\nfilter = \"warn\"\n"
    )
}

fn field_kib(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_every_address() {
        let text = config(Path::new("/tmp/a \"b\""), Ports { udp: 1, tcp: 4, http: 2, admin: 3 });
        let expected = "data_dir = \"/tmp/a \\\"b\\\"\"\n\n[udp]\nlisten = \"127.0.0.1:1\"\n\n[tcp]\nlisten = \"127.0.0.1:4\"\n\n[http]\nlisten = \"127.0.0.1:2\"\n\n\
                        [admin]\nlisten = \"127.0.0.1:3\"\n\n[log]\nfilter = \"warn\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn memory_is_read_from_what_the_kernel_says_of_a_process() -> Result<()> {
        assert_eq!(field_kib("Name:\tx\nVmRSS:\t    5120 kB\nThreads:\t1\n", "VmRSS:"), Some(5120));
        assert_eq!(field_kib("Name:\tx\n", "VmRSS:"), None);
        assert!(field_kib(&std::fs::read_to_string("/proc/self/status")?, "VmRSS:").is_some());
        assert!(field_kib(&std::fs::read_to_string("/proc/self/smaps_rollup")?, "Pss:").is_some());
        Ok(())
    }

    #[test]
    fn devices_are_limited_only_where_that_is_wanted() -> Result<()> {
        let server = Server::prepare(Some(Path::new("/bin/ls")))?;
        assert!(std::fs::read_to_string(server.config_path())?.ends_with(NO_LIMITS));
        server.limit_devices()?;
        assert!(!std::fs::read_to_string(server.config_path())?.contains("limits"));
        Ok(())
    }

    #[test]
    fn a_program_that_ends_at_once_is_told_with_its_last_words() -> Result<()> {
        let mut server = Server::prepare(Some(Path::new("/bin/ls")))?;
        let error = format!("{:#}", server.start().expect_err("ls serves nothing"));
        assert!(error.contains("the server's last words:") && error.contains("ended before it was ready"), "{error}");
        Ok(())
    }

    #[test]
    fn without_a_program_there_is_no_server() {
        assert!(Server::prepare(Some(Path::new("/nowhere/holdfast"))).is_err());
    }
}
