//! Prometheus and Alertmanager as processes, with the files that are shipped: only the addresses in them are others.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::PageDrill;
use crate::http;

/// Where the files take everybody to be.
const ADMIN: &str = "127.0.0.1:8081";
const ALERTMANAGER: &str = "127.0.0.1:9093";
const RECEIVER: &str = "127.0.0.1:9095";
/// Longest time until Prometheus has seen the server twice.
const UP_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// `count_over_time(up{job="holdfast"}[1m]) > 1`, as it stands in an address.
const SEEN_TWICE: &str = "/api/v1/query?query=count_over_time%28up%7Bjob%3D%22holdfast%22%7D%5B1m%5D%29%20%3E%201";

/// Both.
#[derive(Debug)]
pub(super) struct Watchers {
    prometheus: Process,
    alertmanager: Process,
    address: SocketAddr,
}

impl Watchers {
    /// Starts them, with their files and logs in `dir`.
    pub(super) fn start(drill: &PageDrill, admin: SocketAddr, receiver: SocketAddr, dir: &Path) -> Result<Self> {
        let (address, manager) = (free()?, free()?);
        let here = |name: &str| dir.join(name);
        let places = [(ADMIN, admin), (ALERTMANAGER, manager), (RECEIVER, receiver)];
        for name in ["prometheus.yml", "rules.yml", "alerts.yml", "alertmanager.yml"] {
            let source = drill.files.join(name);
            let text =
                fs::read_to_string(&source).with_context(|| format!("reading {}: name its folder with --files", source.display()))?;
            fs::write(here(name), moved(&text, &places))?;
        }
        let mut command = Command::new(&drill.prometheus);
        command.arg("--config.file").arg(here("prometheus.yml")).arg("--storage.tsdb.path").arg(here("prometheus"));
        // What fires before it has found Alertmanager would be sent again after a minute.
        command.arg("--web.listen-address").arg(address.to_string()).arg("--rules.alert.resend-delay=5s");
        let prometheus = Process::spawn(command, &here("prometheus.log"))?;
        let mut command = Command::new(&drill.alertmanager);
        command.arg("--config.file").arg(here("alertmanager.yml")).arg("--storage.path").arg(here("alertmanager"));
        command.arg("--web.listen-address").arg(manager.to_string()).arg("--cluster.listen-address=");
        let alertmanager = Process::spawn(command, &here("alertmanager.log"))?;
        Ok(Self { prometheus, alertmanager, address })
    }

    /// Waits until Prometheus has seen the server twice.
    pub(super) fn wait_until_up(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < UP_LIMIT {
            self.check_alive()?;
            if http::body(self.address, SEEN_TWICE).is_some_and(|answer| answer.contains("\"instance\"")) {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        bail!("Prometheus did not see the server within {UP_LIMIT:?}")
    }

    /// Whether both still run.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        for (name, process) in [("Prometheus", &mut self.prometheus), ("Alertmanager", &mut self.alertmanager)] {
            let ended = process.0.try_wait()?;
            ensure!(ended.is_none(), "{name} ended by itself: {ended:?}");
        }
        Ok(())
    }
}

/// One of them. It is killed when it is dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let program = command.get_program().to_owned();
        let log = File::create(log)?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().with_context(|| format!("starting {}", program.display()))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to hear that it failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The same text with other addresses.
fn moved(text: &str, places: &[(&str, SocketAddr)]) -> String {
    places.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, &to.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_shipped_ones_but_for_addresses() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards/prometheus");
        let place: SocketAddr = ([127, 0, 0, 1], 7).into();
        for (name, address) in [("prometheus.yml", ADMIN), ("prometheus.yml", ALERTMANAGER), ("alertmanager.yml", RECEIVER)] {
            let text = fs::read_to_string(folder.join(name)).expect("it is shipped");
            let moved = moved(&text, &[(address, place)]);
            assert!(text.contains(address) && !moved.contains(address) && moved.contains("127.0.0.1:7"), "{name}");
        }
    }
}
