//! `holdfast demo`: a whole server in a temporary directory with simulated devices on it, and commands to paste that reach them.

#![allow(clippy::print_stdout, reason = "a demonstration talks to whoever started it")]

mod check;
mod fleet;
mod line;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use firmware_protocol::crypto::{Curve, DeviceKeyPair, KeyPair};
use firmware_protocol::entropy::Entropy;
use firmware_protocol::id::{DeviceId, OwnerId};

use crate::config::Config;
use crate::entropy::SystemEntropy;
use crate::server::Server;
use crate::store::registry::{NewDevice, NewToken};
use crate::store::{PublicKey, Scopes};

use self::fleet::{Fleet, FleetStatus, ServerSeen};

/// How long the devices may take to come online before the check gives up.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// Every third device is on TCP.
const TCP_EVERY: usize = 3;

/// One simulated device as the commands name it.
#[derive(Clone, Debug)]
struct DemoDevice {
    id: DeviceId,
    name: String,
    key: DemoKey,
}

/// Its key pair, which says on what it is.
#[derive(Clone, Debug)]
enum DemoKey {
    Udp(KeyPair),
    Tcp(DeviceKeyPair),
}

impl DemoKey {
    /// Platform id of a Photon 2, or of a Photon.
    fn platform(&self) -> u16 {
        match self {
            Self::Udp(_) => 32,
            Self::Tcp(_) => 6,
        }
    }

    fn spki(&self) -> &[u8] {
        match self {
            Self::Udp(pair) => pair.public().spki(),
            Self::Tcp(pair) => pair.public().spki(),
        }
    }
}

/// Everything that runs.
struct Demo {
    server: Server,
    token: String,
    devices: Vec<DemoDevice>,
    fleet: Fleet,
    began: Instant,
}

/// Runs the demo until interrupted, or with `check` until every device has been listed, called and watched. Returns whether that went well.
pub async fn run(devices: u16, check: bool) -> Result<bool> {
    let directory = tempfile::Builder::new().prefix("holdfast-demo-").tempdir().context("no temporary directory")?;
    let demo = Demo::start(directory.path(), devices.into()).await?;
    let passed = if check { demo.check().await } else { demo.show().await };
    let Demo { server, fleet, .. } = demo;
    fleet.stop();
    server.stop().await;
    passed
}

impl Demo {
    async fn start(directory: &Path, count: usize) -> Result<Self> {
        let began = Instant::now();
        let server = start_server(directory).await?;
        let registry = &server.opened().registry;
        let password = hex::encode(SystemEntropy.array::<16>());
        let owner = registry.add_user("demo@holdfast.example", &password).await?.id;
        let token = registry
            .issue_token(NewToken { user: owner, client: "demo".to_owned(), scopes: Scopes::All, life_ms: None, refreshable: false })
            .await?;
        let devices = make_devices(count)?;
        registry.add_devices(devices.iter().map(|device| device.registration(owner)).collect::<Result<_>>()?).await?;
        let keys = &server.opened().keys;
        let (key, tcp_key) = (*keys.ec().public(), *keys.rsa().public());
        let seen = ServerSeen { udp: loopback(server.udp()), key, tcp: loopback(server.tcp()), tcp_key };
        let fleet = Fleet::start(&devices, &seen)?;
        Ok(Self { token: token.access.reveal().to_owned(), server, devices, fleet, began })
    }

    /// Waits until all devices are online; `false` if that takes too long.
    async fn all_online(&self) -> bool {
        while self.began.elapsed() < CONNECT_LIMIT {
            if self.fleet.status().online == self.devices.len() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    async fn check(&self) -> Result<bool> {
        let count = self.devices.len();
        if !self.all_online().await {
            println!("only {} of {count} devices came online", self.fleet.status().online);
            return Ok(false);
        }
        println!("{} online {:.1} s after the start", kinds(&self.devices), self.began.elapsed().as_secs_f64());
        check::run(self.server.http(), &self.token, &self.devices).await
    }

    async fn show(&self) -> Result<bool> {
        let url = format!("http://{}", self.server.http());
        let header = format!("-H \"Authorization: Bearer {}\"", self.token);
        let name = &self.devices[0].name;
        let (udp, tcp) = (self.server.udp(), self.server.tcp());
        println!("Holdfast is running in a temporary directory: REST on {url}, devices on udp {udp} and tcp {tcp}.");
        println!("{} are connecting. Try, in another terminal:\n", kinds(&self.devices));
        println!("  curl {header} {url}/v1/devices");
        println!("  curl {header} {url}/v1/devices/{name}/led -d arg=on");
        println!("  curl -N {header} {url}/v1/devices/events/sensor\n");
        println!("Ctrl-C ends it.");
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let mut shown = FleetStatus::default();
        loop {
            tokio::select! {
                signal = &mut interrupted => {
                    signal?;
                    println!();
                    return Ok(true);
                }
                () = tokio::time::sleep(Duration::from_millis(500)) => show_status(&self.fleet.status(), &mut shown, self.devices.len()),
            }
        }
    }
}

/// `24 simulated devices (16 on UDP, 8 on TCP)`
fn kinds(devices: &[DemoDevice]) -> String {
    let tcp = devices.iter().filter(|device| device.is_on_tcp()).count();
    format!("{} simulated devices ({} on UDP, {tcp} on TCP)", devices.len(), devices.len() - tcp)
}

/// One line that is written over on a terminal; elsewhere a line whenever the number of devices online changes.
fn show_status(status: &FleetStatus, shown: &mut FleetStatus, count: usize) {
    let line = format!("{}/{count} online · {} events acknowledged · {} calls answered", status.online, status.acknowledged, status.calls);
    if std::io::stdout().is_terminal() {
        print!("\r\x1b[2K{line}");
        let _ = std::io::stdout().flush();
    } else if status.online != shown.online {
        println!("{line}");
    }
    *shown = *status;
}

/// A server on the usual ports, or on others if those are taken.
async fn start_server(directory: &Path) -> Result<Server> {
    let config = |udp: &str, tcp: &str, http: &str, admin: &str| {
        let directory = toml::Value::String(directory.display().to_string());
        let sections = [("udp", udp), ("tcp", tcp), ("http", http), ("admin", admin)];
        let listens: String = sections.iter().map(|(section, address)| format!("[{section}]\nlisten = \"{address}\"\n")).collect();
        let text = format!("data_dir = {directory}\n{listens}");
        Config::parse(&text, [])
    };
    match Server::start(&config("127.0.0.1:5684", "127.0.0.1:5683", "127.0.0.1:8080", "127.0.0.1:8081")?).await {
        Ok(server) => Ok(server),
        Err(error) => {
            tracing::info!(%error, "the usual ports cannot be had, taking others");
            Ok(Server::start(&config("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0")?).await?)
        }
    }
}

fn loopback(bound: SocketAddr) -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), bound.port())
}

fn make_devices(count: usize) -> Result<Vec<DemoDevice>> {
    let mut curve = Curve::new()?;
    let width = count.to_string().len().max(2);
    let device = |number: usize| {
        let mut id = [0xde, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        id[8..].copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
        let key = match number.is_multiple_of(TCP_EVERY) {
            true => DemoKey::Tcp(DeviceKeyPair::generate()?),
            false => DemoKey::Udp(KeyPair::generate(&mut curve, &mut SystemEntropy)?),
        };
        Ok(DemoDevice { id: DeviceId(id), name: format!("kelp-{number:0width$}"), key })
    };
    (1..=count).map(device).collect()
}

impl DemoDevice {
    fn is_on_tcp(&self) -> bool {
        matches!(self.key, DemoKey::Tcp(_))
    }

    fn registration(&self, owner: OwnerId) -> Result<NewDevice> {
        Ok(NewDevice {
            id: self.id,
            key: PublicKey::from_spki(self.key.spki())?,
            owner: Some(owner),
            product: None,
            platform_id: Some(self.key.platform()),
            name: Some(self.name.clone()),
        })
    }
}
