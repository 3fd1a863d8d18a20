//! A server that holds a million sessions: how soon it serves them after `kill -9`, what each takes in memory, and what a keep-alive costs it.
//!
//! The sessions are seeded, and this side has their keys: nobody could connect a million devices first.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firmware_protocol::coap::{Code, Kind, Message};
use firmware_protocol::crypto::Aead;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::keys::KeyBlock;
use firmware_protocol::dtls::record::{self, Record, content};
use firmware_protocol::entropy::{Entropy, SeededEntropy};

use super::packed::{pack, snapshot};
use super::{RUNS, Run, SEED, echo, memory};
use crate::report::Measure;
use crate::server::Server;
use crate::stats::median;

const SESSIONS: u32 = 1_000_000;
/// How a session stands in the file of keys: its connection id and its key block.
const ENTRY: usize = ConnectionId::LEN + KeyBlock::LEN;
/// Sessions that are asked after a restart.
const ASKED: usize = 1_000;
/// How often a ping is sent until it is answered.
const ASK_AGAIN: Duration = Duration::from_millis(200);
const ASK_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);
/// How long the server may take, once it is ready, to compare its sessions with the registry.
const COMPARED_WITHIN: Duration = Duration::from_secs(3);
/// Restarts that are measured.
const RESTARTS: usize = 3;
/// Keep-alives under way.
const UNDER_WAY: usize = 512;
const BATCH: usize = 64;
const WINDOW: Duration = Duration::from_secs(3);
/// Above all record numbers that seeded devices have used.
const FIRST_SEQUENCE: u64 = 1_000;
/// Bytes of a session that is packed without holes, as in the bench of idle sessions.
const PACKED_BYTES: f64 = 200.0;

/// The server, and the keys of all sessions.
pub(super) struct Million {
    server: Server,
    holdfast: Option<PathBuf>,
    sessions: Vec<u8>,
    /// Where the server believes all devices to be.
    devices: UdpSocket,
    entropy: SeededEntropy,
    aead: Aead,
    sequence: u64,
}

impl Million {
    /// Seeds a data directory and has a server pack it. Takes minutes.
    pub(super) fn new(holdfast: Option<&Path>) -> Result<Self> {
        let (mut server, devices) = (Server::prepare(holdfast)?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let keys = server.dir().join("keys.bin");
        server.cli().seed_sessions(SESSIONS, SEED, devices.local_addr()?, &keys)?;
        let sessions = std::fs::read(&keys)?;
        ensure!(sessions.len() == SESSIONS as usize * ENTRY, "the file of keys has {} bytes", sessions.len());
        pack(&mut server)?;
        devices.connect(server.devices())?;
        let (holdfast, entropy) = (holdfast.map(Path::to_owned), SeededEntropy::new(SEED));
        Ok(Self { server, holdfast, sessions, devices, entropy, aead: Aead::new()?, sequence: FIRST_SEQUENCE })
    }

    /// Milliseconds from the start of the process, after `kill -9`, until sessions chosen at random have all been answered.
    pub(super) fn restart(&mut self) -> Result<Measure> {
        let (mut runs, mut handshakes, mut ready) = (Vec::new(), 0, Vec::new());
        for _ in 0..RESTARTS {
            let file = snapshot(&self.server)?.context("there was a snapshot")?;
            let limit = reading(&file)?;
            let begun = Instant::now();
            self.server.spawn()?;
            self.ask()?;
            let value = begun.elapsed();
            self.server.wait_ready()?;
            ready.push(ms(begun.elapsed()));
            self.ensure_all_are_kept()?;
            handshakes += self.server.metrics()?.sum("holdfast_dtls_handshakes_total", None);
            self.server.kill()?;
            runs.push(Run { value: ms(value), limit: ms(limit), ratio: limit.as_secs_f64() / value.as_secs_f64() });
        }
        let note = format!(
            "{SESSIONS} sessions of seeded devices with describes and registry rows; elapsed time from exec after kill -9 until {ASKED} of them, chosen \
             at random, were answered from new addresses; the API was ready after {:.0} ms. Handshakes: {handshakes}. Limit: reading the snapshot once, from the page cache.",
            median(&ready).unwrap_or_default()
        );
        super::measure(&runs, "ms", note)
    }

    /// The registry has been read, and whoever is not in it has been told to go: nobody.
    fn ensure_all_are_kept(&self) -> Result<()> {
        thread::sleep(COMPARED_WITHIN);
        let sessions = self.server.metrics()?.sum("holdfast_sessions", None);
        ensure!(sessions == u64::from(SESSIONS), "{sessions} sessions are left of {SESSIONS}");
        Ok(())
    }

    /// Pings sessions chosen at random, each from a socket of its own, until all have been answered.
    fn ask(&mut self) -> Result<()> {
        let mut open = Vec::new();
        for _ in 0..ASKED {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(self.server.devices())?;
            socket.set_nonblocking(true)?;
            open.push((self.any(), socket));
        }
        let (begun, mut sent): (Instant, Option<Instant>) = (Instant::now(), None);
        let mut buffer = [0; 2048];
        while !open.is_empty() {
            ensure!(begun.elapsed() < ASK_LIMIT, "{} of {ASKED} sessions were not answered within {ASK_LIMIT:?}", open.len());
            if sent.is_none_or(|sent| sent.elapsed() >= ASK_AGAIN) {
                sent = Some(Instant::now());
                for (session, socket) in &open {
                    let ping = self.ping(*session)?;
                    // Nobody may listen there yet.
                    let _ = socket.send(&ping);
                }
            }
            thread::sleep(POLL);
            self.server.check_alive()?;
            let mut left = Vec::new();
            for (session, socket) in open {
                let answered = std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec()));
                if !answered.into_iter().any(|datagram| self.is_answer(session, &datagram)) {
                    left.push((session, socket));
                }
            }
            open = left;
        }
        Ok(())
    }

    /// What each session takes in memory, and then what the keep-alives of all of them cost.
    pub(super) fn bytes_and_keepalives(&mut self) -> Result<(Measure, Measure)> {
        let mut empty = Server::prepare(self.holdfast.as_deref())?;
        self.server.start()?;
        empty.start()?;
        let at_first = self.server.pss_kib()?;
        memory::settle(&mut self.server)?;
        let (with, without) = (self.server.pss_kib()?, empty.pss_kib()?);
        empty.stop()?;
        let value = with.saturating_sub(without) as f64 * 1024.0 / f64::from(SESSIONS);
        let note = format!(
            "{SESSIONS} sessions, as in idle_session_bytes. Proportional memory {with} KiB ({at_first} when it was ready) against {without} KiB of the \
             same server without any."
        );
        let bytes = Measure { value, unit: "bytes/session", limit: Some(PACKED_BYTES), ratio: Some(PACKED_BYTES / value), note };
        let keepalives = self.keepalives()?;
        self.server.stop()?;
        Ok((bytes, keepalives))
    }

    fn keepalives(&mut self) -> Result<Measure> {
        self.devices.set_nonblocking(true)?;
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let limit = 1.0 / echo::measure(256)?.as_secs_f64();
            let cpu = self.server.cpu_time()?;
            let answered = self.keep_alive(WINDOW)?;
            let cpu = (self.server.cpu_time()? - cpu).as_secs_f64();
            ensure!(answered > 0, "no keep-alive was answered");
            let value = answered as f64 / cpu;
            runs.push(Run { value, limit, ratio: value / limit });
        }
        let note = format!(
            "Keep-alives (empty confirmable messages) answered for each second of the server's processor time, of devices chosen at random among \
             {SESSIONS} sessions, {UNDER_WAY} under way. Limit: one thread that receives and sends back as many bytes."
        );
        super::measure(&runs, "1/core-s", note)
    }

    /// Keeps so many pings under way for a while; how many were answered.
    fn keep_alive(&mut self, span: Duration) -> Result<u64> {
        let (begun, mut progress) = (Instant::now(), Instant::now());
        let (mut under_way, mut answered, mut buffer) = (0, 0, [0; 2048]);
        while begun.elapsed() < span {
            for _ in 0..BATCH.min(UNDER_WAY - under_way) {
                let session = self.any();
                let ping = self.ping(session)?;
                if self.devices.send(&ping).is_ok() {
                    under_way += 1;
                }
            }
            loop {
                match self.devices.recv(&mut buffer) {
                    Ok(_) => {
                        (answered, progress) = (answered + 1, Instant::now());
                        under_way = under_way.saturating_sub(1);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if progress.elapsed() > Duration::from_millis(100) {
                // What is still under way was lost.
                (under_way, progress) = (0, Instant::now());
            }
        }
        Ok(answered)
    }

    fn any(&mut self) -> usize {
        let random = u64::from_be_bytes(self.entropy.array());
        usize::try_from(random % u64::from(SESSIONS)).unwrap_or_default()
    }

    fn session(&self, index: usize) -> (ConnectionId, KeyBlock) {
        let entry = &self.sessions[index * ENTRY..][..ENTRY];
        let (connection, keys) = entry.split_at(ConnectionId::LEN);
        let whole = "the file of keys has whole entries";
        (ConnectionId(connection.try_into().expect(whole)), KeyBlock(keys.try_into().expect(whole)))
    }

    /// A keep-alive of a device (docs/protocol.md): an empty confirmable message.
    fn ping(&mut self, session: usize) -> Result<Vec<u8>> {
        let (connection, keys) = self.session(session);
        self.sequence += 1;
        let [.., high, low] = self.sequence.to_be_bytes();
        let message = Message::new(Kind::Confirmable, Code::EMPTY, u16::from_be_bytes([high, low]), &[]).encode();
        let mut datagram = Vec::with_capacity(64);
        record::write_sealed(
            &mut datagram,
            &mut self.aead,
            &keys.client(),
            Some(connection),
            content::APPLICATION,
            self.sequence,
            &message,
        )?;
        Ok(datagram)
    }

    /// Whether this is the server's answer to a ping of this session.
    fn is_answer(&mut self, session: usize, datagram: &[u8]) -> bool {
        let (_, keys) = self.session(session);
        let opened = Record::parse(datagram).and_then(|(record, _)| record.open(&mut self.aead, &keys.server()));
        let message = opened.and_then(|(_, plaintext)| Message::decode(plaintext));
        message.is_some_and(|message| matches!(message.kind, Kind::Acknowledgement | Kind::Reset) && message.code == Code::EMPTY)
    }
}

/// How long it takes to read a file once.
fn reading(file: &Path) -> Result<Duration> {
    let begun = Instant::now();
    let read = std::fs::read(file)?;
    ensure!(!read.is_empty(), "the snapshot is empty");
    Ok(begun.elapsed())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
