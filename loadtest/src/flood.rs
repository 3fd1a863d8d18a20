//! Forged ClientHellos, as fast as the machine sends them: what anybody on the internet can send without a key.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use firmware_protocol::crypto::{Curve, KeyPair};
use firmware_protocol::dtls::client::ClientHandshake;
use firmware_protocol::entropy::{Entropy, SeededEntropy};
use firmware_protocol::time::Millis;

/// Sockets of one thread, each with an address of its own.
const SOCKETS: usize = 64;
/// Hellos from one look whether to stop to the next.
const BATCH: usize = 256;
const COOKIE_LEN: u8 = 32;
/// Places in a ClientHello: behind the record's header of 13 bytes and the handshake's of 12 come version, random, session id (empty), cookie.
const RECORD_LEN_AT: usize = 11;
const MESSAGE_LEN_AT: usize = 15;
const MESSAGE_SEQUENCE_AT: usize = 17;
const FRAGMENT_LEN_AT: usize = 23;
const RANDOM_AT: usize = 27;
const COOKIE_LEN_AT: usize = 60;

/// A flood under way. It ends when it is dropped.
#[derive(Debug)]
pub struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Begins: `threads` of them, every second hello with a cookie that is wrong.
    pub fn start(server: SocketAddr, threads: usize, seed: u64) -> Result<Self> {
        ensure!(server.ip().is_loopback() && server.is_ipv4(), "{server} is no loopback address: a flood stays on its machine");
        let mut flood = Self { over: Arc::default(), sent: Arc::default(), threads: Vec::new() };
        for number in 0..threads {
            let sockets = (0..SOCKETS).map(|index| socket(server, number, index)).collect::<Result<Vec<_>>>()?;
            let hellos = hellos(seed)?;
            let (over, sent, entropy) = (flood.over.clone(), flood.sent.clone(), SeededEntropy::new(seed ^ number as u64));
            let body = move || send(&sockets, hellos, entropy, &over, &sent);
            flood.threads.push(thread::Builder::new().name(format!("flood-{number}")).spawn(body)?);
        }
        Ok(flood)
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it: how many datagrams were sent.
    pub fn stop(mut self) -> Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().ok().context("a thread of the flood panicked")??;
        }
        Ok(self.sent())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// From an address that no device of a fleet has.
fn socket(server: SocketAddr, thread: usize, index: usize) -> Result<UdpSocket> {
    let ip = Ipv4Addr::new(127, 2, u8::try_from(thread)?, u8::try_from(index + 1)?);
    let socket = UdpSocket::bind((ip, 0))?;
    socket.connect(server)?;
    Ok(socket)
}

fn send(sockets: &[UdpSocket], mut hellos: [Vec<u8>; 2], mut entropy: SeededEntropy, over: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut taken = 0;
        for number in 0..BATCH {
            let hello = &mut hellos[number % 2];
            entropy.fill(&mut hello[RANDOM_AT..RANDOM_AT + 32]);
            // A refusal of the kernel is a datagram less.
            taken += u64::from(sockets[number / 2 % SOCKETS].send(hello).is_ok());
        }
        sent.fetch_add(taken, Ordering::Relaxed);
    }
    Ok(())
}

/// A first ClientHello, and one with a cookie that nobody made.
fn hellos(seed: u64) -> Result<[Vec<u8>; 2]> {
    let mut entropy = SeededEntropy::new(seed);
    let key = KeyPair::generate(&mut Curve::new()?, &mut entropy)?;
    let server_key = *key.public();
    let first = ClientHandshake::new(Millis(0), key, server_key, true, &mut entropy).datagram().to_vec();
    let second = with_cookie(&first, &mut entropy).context("the hello has an unknown shape")?;
    Ok([first, second])
}

fn with_cookie(hello: &[u8], entropy: &mut SeededEntropy) -> Option<Vec<u8>> {
    let (head, tail) = hello.split_at_checked(COOKIE_LEN_AT + 1)?;
    let mut cookie = vec![0; COOKIE_LEN.into()];
    entropy.fill(&mut cookie);
    let mut hello = [head, &cookie[..], tail].concat();
    *hello.get_mut(COOKIE_LEN_AT).filter(|len| **len == 0)? = COOKIE_LEN;
    for at in [RECORD_LEN_AT, MESSAGE_LEN_AT, FRAGMENT_LEN_AT] {
        let len = u16::from_be_bytes([hello[at], hello[at + 1]]) + u16::from(COOKIE_LEN);
        hello[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }
    hello[MESSAGE_SEQUENCE_AT + 1] = 1;
    Some(hello)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_protocol::dtls::cookie::Cookies;
    use firmware_protocol::dtls::demux::{Datagram, demux};

    #[test]
    fn both_hellos_are_well_formed_and_prove_nothing() -> Result<()> {
        let cookies = Cookies::new(Millis(0), &mut SeededEntropy::new(9));
        for (hello, cookie_len) in hellos(1)?.iter().zip([0, usize::from(COOKIE_LEN)]) {
            let Datagram::Hello(hello) = demux(hello) else { panic!("not a hello: {hello:02x?}") };
            assert_eq!(hello.cookie.len(), cookie_len);
            assert!(hello.offers_connection_id && !cookies.proves("127.0.0.1:9".parse()?, &hello));
        }
        Ok(())
    }

    #[test]
    fn a_flood_reaches_its_server_and_ends() -> Result<()> {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let flood = Flood::start(server.local_addr()?, 2, 1)?;
        let mut buffer = [0; 256];
        for _ in 0..100 {
            let (len, from) = server.recv_from(&mut buffer)?;
            assert!(matches!(demux(&buffer[..len]), Datagram::Hello(_)) && from.ip().is_loopback());
        }
        assert!(flood.stop()? >= 100);
        assert!(Flood::start("192.0.2.1:5684".parse()?, 1, 1).is_err());
        Ok(())
    }
}
