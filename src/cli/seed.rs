//! `holdfast seed`: a data directory as a server leaves it that a whole fleet has connected to, without the fleet: for measuring what many sessions cost.
//!
//! It goes through the registry and the journal that the server itself uses. The keys and sessions come from a seed: whoever knows it knows them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use firmware_protocol::crypto::{Curve, KeyPair, digest64};
use firmware_protocol::dtls::cid::{ConnectionId, ConnectionIds};
use firmware_protocol::dtls::keys::KeyBlock;
use firmware_protocol::dtls::server::FinalFlight;
use firmware_protocol::entropy::{Entropy, SeededEntropy};
use firmware_protocol::id::{DeviceId, Identity, OwnerId};
use firmware_protocol::path::Path as NetworkPath;
use firmware_protocol::session::describe::Application;
use firmware_protocol::session::hello::{Hello, flag};
use firmware_protocol::session::stored::{Floor, Generation, StoredSession};
use firmware_protocol::session::variable::VariableType;
use firmware_protocol::time::UnixMillis;
use router::journal::{DescribeKind, HandlerKind, Record, Subscription};

use crate::data_dir::DataDir;
use crate::entropy::SystemEntropy;
use crate::generation;
use crate::journal::{Journal, Options};
use crate::keys::ServerKeys;
use crate::store::registry::NewDevice;
use crate::store::{PublicKey, Registry};
use crate::{dates, terminators};

/// Most devices in one directory.
pub(super) const DEVICES_MAX: u32 = 1_000_000;
/// Devices registered, and written to the journal, at a time.
const BATCH: u32 = 5_000;
/// The account that owns them all.
const OWNER: &str = "seed@example.com";
/// A cellular platform: its sessions count as online for the longest time without a word.
const PLATFORM: u16 = 13;
/// A system describe (protobuf `SystemDescribe`) with one system part.
const SYSTEM_DESCRIBE: [u8; 19] = [0x0a, 0x11, 0x08, 4, 0x10, 1, 0x18, 0xb8, 0x30, 0x35, 0x1e, 0, 0, 0, 0x3d, 0x1e, 0, 0, 0];

/// What to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) devices: u32,
    /// Decides their ids and keys.
    pub(super) seed: u64,
    /// Where they all are, if not anywhere.
    pub(super) at: Option<SocketAddr>,
    /// Where the keys of their sessions go, if anywhere.
    pub(super) keys_out: Option<&'a Path>,
}

/// Fills the fresh data directory at `path` with devices that are registered and have sessions.
///
/// # Errors
/// The directory is in use, or has been; the file for the keys is there.
pub(super) async fn seed(path: &Path, plan: Plan<'_>) -> Result<()> {
    let Plan { devices, seed, at: peer, keys_out } = plan;
    ensure!((1..=DEVICES_MAX).contains(&devices), "the number of devices goes from 1 to {DEVICES_MAX}");
    let data = DataDir::lock(path)?;
    ensure!(!data.has_history(), "{} has been in use: only a fresh data directory is seeded", path.display());
    ServerKeys::open(&data)?;
    let registry = Registry::open(&data.registry_file()).await?;
    let owner = registry.add_user(OWNER, &hex::encode(SystemEntropy.array::<16>())).await?.id;
    let at = dates::now();
    let birth = generation::raise(data.path(), at)?;
    let ids = terminators::cid_keys::load(&data.keys_dir(), 1, true)?;
    let (mut journal, _) = Journal::open(&data.journal_dir(), Options::new(u64::from_be_bytes(SystemEntropy.array())))?;
    let keys_out =
        keys_out.map(|file| File::options().write(true).create_new(true).mode(0o600).open(file)).transpose()?.map(BufWriter::new);
    let (entropy, curve, given) = (SeededEntropy::new(seed), Curve::new()?, HashSet::new());
    let mut nursery = Nursery { entropy, curve, ids, given, owner, birth, at, peer, keys_out };
    let mut left = devices;
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        let (mut registered, mut records) = (Vec::new(), Vec::new());
        for _ in 0..count {
            registered.push(nursery.device(&mut records)?);
        }
        registry.add_devices(registered).await?;
        journal.commit(&records)?;
    }
    registry.close().await;
    Ok(nursery.keys_out.iter_mut().try_for_each(Write::flush)?)
}

/// Makes devices.
struct Nursery {
    entropy: SeededEntropy,
    curve: Curve,
    ids: ConnectionIds,
    given: HashSet<ConnectionId>,
    owner: OwnerId,
    birth: Generation,
    at: UnixMillis,
    peer: Option<SocketAddr>,
    keys_out: Option<BufWriter<File>>,
}

impl Nursery {
    /// One more device, with the records of its first second.
    fn device(&mut self, records: &mut Vec<Record>) -> Result<NewDevice> {
        let device = DeviceId(self.entropy.array());
        let key = PublicKey::from_spki(KeyPair::generate(&mut self.curve, &mut self.entropy)?.public().spki())?;
        let connection = self.connection().context("no connection id is free")?;
        let keys = KeyBlock(self.entropy.array());
        self.keys_out.iter_mut().try_for_each(|file| file.write_all(&connection.0).and_then(|()| file.write_all(&keys.0)))?;
        records.push(Record::SessionOpened(StoredSession {
            connection,
            id_on_wire: true,
            identity: Identity { device, key: key.hash(), owner: Some(self.owner), product: None },
            keys,
            birth: self.birth,
            established_at: self.at,
            path: self.path(),
            final_flight: FinalFlight { verify: self.entropy.array(), message_sequence: 5, record_sequence: 5 },
        }));
        let mut sequence = 0;
        let mut floor = || {
            sequence += 1;
            let message_id = u16::try_from(sequence).unwrap_or_default();
            Floor { connection, sequence, message_id, digest: digest64(&[connection.0, sequence.to_be_bytes()].concat()) }
        };
        let (at, own) = (self.at, hello(device).encode());
        records.push(Record::Hello { floor: floor(), device, payload: own, at });
        for (kind, payload) in [(DescribeKind::System, SYSTEM_DESCRIBE.to_vec()), (DescribeKind::Application, application().encode())] {
            records.push(Record::Describe { floor: Some(floor()), device, kind, payload, at });
        }
        for prefix in ["particle", "spark", "weather", "alarm/all", "setpoint"] {
            let subscription = Subscription::new(prefix, HandlerKind::Text);
            records.push(Record::Subscribed { floor: floor(), device, subscription });
        }
        Ok(NewDevice { id: device, key, owner: Some(self.owner), product: None, platform_id: Some(PLATFORM), name: None })
    }

    /// An id that no other session has.
    fn connection(&mut self) -> Option<ConnectionId> {
        (0..16).find_map(|_| {
            let [bucket] = self.entropy.array();
            let drawn = self.ids.allocate(bucket, &mut self.entropy);
            self.given.insert(drawn).then_some(drawn)
        })
    }

    /// Anywhere in 10.0.0.0/8, unless it was said.
    fn path(&mut self) -> NetworkPath {
        if let Some(peer) = self.peer {
            return NetworkPath { peer, local: Some(peer.ip()) };
        }
        let [a, b, c, high, low] = self.entropy.array();
        let peer = SocketAddr::from((Ipv4Addr::new(10, a, b, c), u16::from_be_bytes([high | 0x80, low])));
        NetworkPath { peer, local: Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1))) }
    }
}

/// As Device OS 6.2 says it.
fn hello(device: DeviceId) -> Hello {
    Hello {
        product: PLATFORM,
        product_version: 0xffff,
        flags: flag::DIAGNOSTICS | flag::IMMEDIATE_UPDATES | flag::GOODBYE | flag::DEVICE_INITIATED_DESCRIBE | flag::OTA_V3,
        platform: PLATFORM,
        device: Some(device),
        system_version: Some(6200),
        message_max: Some(1152),
        binary_max: Some(0),
        ota_chunk: Some(512),
    }
}

/// Four functions, four variables.
fn application() -> Application {
    let variables = [
        ("temperature", VariableType::Double),
        ("humidity", VariableType::Double),
        ("uptime", VariableType::Int),
        ("place", VariableType::String),
    ];
    Application {
        functions: ["setRelay", "setPoint", "calibrate", "reboot"].map(str::to_owned).to_vec(),
        variables: variables.map(|(name, kind)| (name.to_owned(), kind)).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_seeded_directory_has_devices_with_sessions_that_have_said_everything() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let keys = dir.path().with_extension("keys");
        let plan = Plan { devices: 30, seed: 7, at: None, keys_out: Some(&keys) };
        seed(dir.path(), plan).await?;
        let told = std::fs::read(&keys)?;
        std::fs::remove_file(&keys)?;
        let data = DataDir::lock(dir.path())?;
        let registry = Registry::open(&data.registry_file()).await?;
        assert_eq!(registry.devices().len(), 30);
        let (_, recovered) = Journal::open(&data.journal_dir(), Options::new(1))?;
        assert_eq!((recovered.state.sessions.len(), recovered.state.devices.len()), (30, 30));
        for (id, device) in recovered.state.devices.iter() {
            assert!(device.hello.as_ref().and_then(|hello| Hello::parse(&hello.payload)) == Some(hello(*id)));
            assert!(device.system.is_some() && device.application.is_some() && device.subscriptions.len() == 5);
        }
        for session in recovered.state.sessions.values() {
            let identity = session.stored.identity;
            assert_eq!(registry.keys().identity(&identity.key), Some(identity), "the registry knows the session's holder");
            assert_eq!(session.highest, Some(8));
            let entry = [&session.stored.connection.0[..], &session.stored.keys.0].concat();
            assert!(told.chunks(entry.len()).any(|told| told == entry));
        }
        drop(data);
        assert!(seed(dir.path(), plan).await.is_err(), "only a fresh directory is seeded");
        Ok(())
    }
}
