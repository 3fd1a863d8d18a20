//! The device's side of a handshake, as mbedTLS in Device OS does it: strict about what devices are strict about.

use std::time::Duration;

use crate::crypto::{Aead, Curve, KeyPair, PublicKey, equal};
use crate::dtls::cid::ConnectionId;
use crate::dtls::hello::device_hello;
use crate::dtls::keys::{KeyBlock, MasterSecret, VERIFY_LEN};
use crate::dtls::messages::{self, CIPHER_SUITE, HandshakeMessage, SECP256R1, VERSION, extension, kind};
use crate::dtls::record::{self, Record, content};
use crate::dtls::server::{Transcript, sha256_of};
use crate::entropy::Entropy;
use crate::error::KeyError;
use crate::time::Millis;
use crate::wire::{Reader, Write};

const FIRST_TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24);
const PATIENCE: Duration = Duration::from_secs(45);

/// What a finished handshake leaves on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientKeys {
    /// Record keys.
    pub keys: KeyBlock,
    /// The id to put into records; none if the device knows of none.
    pub connection: Option<ConnectionId>,
    /// Next record sequence to send.
    pub next_sequence: u64,
}

/// Why a device gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientFailure {
    /// The server sent what a device takes for an error: a Certificate, another suite, a wrong signature.
    Protocol(&'static str),
    /// 45 seconds without an end.
    TimedOut,
    /// OpenSSL failed.
    Crypto,
}

impl From<KeyError> for ClientFailure {
    fn from(_: KeyError) -> Self {
        Self::Crypto
    }
}

/// One handshake from the device's side.
#[derive(Debug)]
pub struct ClientHandshake {
    connection_id: bool,
    random: [u8; 32],
    server_key: PublicKey,
    own_key: KeyPair,
    flight: Flight,
    datagram: Vec<u8>,
    started_at: Millis,
    resend_at: Millis,
    timeout: Duration,
    next_record: u64,
    next_message: u16,
    next_sealed: u64,
}

#[derive(Debug)]
enum Flight {
    Hello { transcript: Vec<u8> },
    Finished { records: Vec<u8>, finished: Vec<u8>, keys: KeyBlock, connection: Option<ConnectionId>, expected: [u8; VERIFY_LEN] },
}

impl ClientHandshake {
    /// Begins; the first datagram is in [`ClientHandshake::datagram`]. Firmware before 3.1 offers no connection id.
    pub fn new(now: Millis, own_key: KeyPair, server_key: PublicKey, connection_id: bool, entropy: &mut impl Entropy) -> Self {
        let mut handshake = Self {
            connection_id,
            random: entropy.array(),
            server_key,
            own_key,
            flight: Flight::Hello { transcript: Vec::new() },
            datagram: Vec::new(),
            started_at: now,
            resend_at: now + FIRST_TIMEOUT,
            timeout: FIRST_TIMEOUT,
            next_record: 0,
            next_message: 0,
            next_sealed: 0,
        };
        handshake.write_hello(&[]);
        handshake
    }

    /// What to send now.
    pub fn datagram(&self) -> &[u8] {
        &self.datagram
    }

    /// When [`ClientHandshake::handle_timeout`] wants to be called.
    pub fn timeout_at(&self) -> Millis {
        self.resend_at
    }

    /// Repeats the flight with new record numbers, or gives up.
    pub fn handle_timeout(&mut self, now: Millis, aead: &mut Aead) -> Result<(), ClientFailure> {
        if now.since(self.started_at) >= PATIENCE {
            return Err(ClientFailure::TimedOut);
        }
        self.timeout = (self.timeout * 2).min(LONGEST_TIMEOUT);
        self.resend_at = (now + self.timeout).min(self.started_at + PATIENCE);
        self.write_flight(aead).map_err(ClientFailure::from)
    }

    /// Takes a datagram of the server. `Some(keys)` ends the handshake; a new datagram to send is said by `true`.
    pub fn handle_datagram(
        &mut self,
        now: Millis,
        datagram: &[u8],
        curve: &mut Curve,
        aead: &mut Aead,
        entropy: &mut impl Entropy,
    ) -> Result<(bool, Option<ClientKeys>), ClientFailure> {
        if matches!(self.flight, Flight::Finished { .. }) {
            return Ok((false, self.take_finished(datagram, aead)));
        }
        let Some((record, _)) = Record::parse(datagram) else { return Ok((false, None)) };
        let Some(message) = HandshakeMessage::alone_in(&record) else { return Ok((false, None)) };
        let advanced = match message.kind {
            kind::HELLO_VERIFY_REQUEST => self.take_challenge(message.body).is_some(),
            kind::SERVER_HELLO => self.take_flight(datagram, curve, aead, entropy)?,
            _ => false,
        };
        if advanced {
            self.timeout = FIRST_TIMEOUT;
            self.resend_at = now + self.timeout;
        }
        Ok((advanced, None))
    }

    fn take_challenge(&mut self, body: &[u8]) -> Option<()> {
        let mut reader = Reader::new(body);
        reader.u16()?;
        let cookie = reader.vec8()?;
        if self.next_message > 1 {
            return None;
        }
        self.write_hello(cookie);
        Some(())
    }

    /// The server's flight; `false` if it is incomplete or stale.
    fn take_flight(
        &mut self,
        datagram: &[u8],
        curve: &mut Curve,
        aead: &mut Aead,
        entropy: &mut impl Entropy,
    ) -> Result<bool, ClientFailure> {
        let Flight::Hello { transcript } = &self.flight else { return Ok(false) };
        let mut transcript = transcript.clone();
        let mut messages = Vec::new();
        let mut rest = datagram;
        while let Some((record, tail)) = Record::parse(rest) {
            let Some(message) = HandshakeMessage::alone_in(&record) else { return Ok(false) };
            transcript.bytes(message.raw);
            messages.push(message);
            rest = tail;
        }
        let kinds: Vec<u8> = messages.iter().map(|message| message.kind).collect();
        if kinds.contains(&kind::CERTIFICATE) {
            return Err(ClientFailure::Protocol("a Certificate came"));
        }
        if kinds != [kind::SERVER_HELLO, kind::SERVER_KEY_EXCHANGE, kind::CERTIFICATE_REQUEST, kind::SERVER_HELLO_DONE] {
            return Ok(false);
        }
        let hello = ServerHello::parse(messages[0].body).ok_or(ClientFailure::Protocol("another profile"))?;
        if hello.connection.is_some() != self.connection_id {
            return Err(ClientFailure::Protocol("no 8-byte connection id, or one that was not asked for"));
        }
        let connection = hello.connection;
        let point = self.check_key_exchange(messages[1].body, &hello.random, curve)?;

        let ephemeral = curve.ephemeral(entropy)?;
        let premaster = curve.agree(&ephemeral, point)?;
        let records_from = transcript.len();
        let mut add = |transcript: &mut Vec<u8>, kind, body: &[u8]| {
            messages::write_message(transcript, kind, self.next_message, body);
            self.next_message += 1;
        };
        add(&mut transcript, kind::CERTIFICATE, &messages::certificate(self.own_key.public()));
        let mut share = Vec::new();
        share.vec8(ephemeral.public());
        add(&mut transcript, kind::CLIENT_KEY_EXCHANGE, &share);
        let mut verify = Vec::new();
        messages::write_signature(&mut verify, &self.own_key.sign(&sha256_of(&[&transcript]))?);
        add(&mut transcript, kind::CERTIFICATE_VERIFY, &verify);

        let master = MasterSecret::derive(&premaster, &self.random, &hello.random);
        let mut hash = Transcript::of(&[&transcript]);
        let mut finished = Vec::new();
        messages::write_message(&mut finished, kind::FINISHED, self.next_message, &master.client_finished(&hash.hash()));
        hash.add(&finished);
        self.flight = Flight::Finished {
            records: transcript.split_off(records_from),
            finished,
            keys: master.key_block(&self.random, &hello.random),
            connection,
            expected: master.server_finished(&hash.hash()),
        };
        self.write_flight(aead)?;
        Ok(true)
    }

    fn check_key_exchange<'a>(&self, body: &'a [u8], server_random: &[u8; 32], curve: &mut Curve) -> Result<&'a [u8], ClientFailure> {
        let malformed = ClientFailure::Protocol("malformed ServerKeyExchange");
        let mut reader = Reader::new(body);
        if reader.u8() != Some(3) || reader.u16() != Some(SECP256R1) {
            return Err(malformed);
        }
        let point = messages::read_point(&mut reader).ok_or(malformed)?;
        let signature = messages::read_signature(reader.rest()).ok_or(malformed)?;
        let params = &body[..body.len() - reader.rest().len()];
        let digest = sha256_of(&[&self.random, server_random, params]);
        match curve.verify(&self.server_key, &digest, signature) {
            true => Ok(point),
            false => Err(ClientFailure::Protocol("the server is not the one whose key is pinned")),
        }
    }

    fn take_finished(&mut self, datagram: &[u8], aead: &mut Aead) -> Option<ClientKeys> {
        let Flight::Finished { keys, connection, expected, .. } = &self.flight else { return None };
        let (ccs, rest) = Record::parse(datagram)?;
        let (record, _) = Record::parse(rest).filter(|_| ccs.content_type == content::CHANGE_CIPHER_SPEC)?;
        let (content_type, inner) = record.open(aead, &keys.server())?;
        let (finished, _) = HandshakeMessage::parse(inner)?;
        let genuine = content_type == content::HANDSHAKE && finished.kind == kind::FINISHED && equal(finished.body, expected);
        genuine.then_some(ClientKeys { keys: *keys, connection: *connection, next_sequence: self.next_sealed })
    }

    fn write_hello(&mut self, cookie: &[u8]) {
        let mut message = Vec::new();
        messages::write_message(
            &mut message,
            kind::CLIENT_HELLO,
            self.next_message,
            &device_hello(&self.random, cookie, self.connection_id),
        );
        self.next_message += 1;
        self.datagram.clear();
        record::write_plain(&mut self.datagram, content::HANDSHAKE, self.next_record, &message);
        self.next_record += 1;
        self.flight = Flight::Hello { transcript: message };
    }

    fn write_flight(&mut self, aead: &mut Aead) -> Result<(), KeyError> {
        self.datagram.clear();
        let (messages, sealed) = match &self.flight {
            Flight::Hello { transcript } => (transcript, None),
            Flight::Finished { records, finished, keys, connection, .. } => (records, Some((finished, keys, *connection))),
        };
        let mut rest = &messages[..];
        while let Some((message, tail)) = HandshakeMessage::parse(rest) {
            record::write_plain(&mut self.datagram, content::HANDSHAKE, self.next_record, message.raw);
            self.next_record += 1;
            rest = tail;
        }
        if let Some((finished, keys, connection)) = sealed {
            record::write_plain(&mut self.datagram, content::CHANGE_CIPHER_SPEC, self.next_record, &[1]);
            self.next_record += 1;
            let number = self.next_sealed;
            self.next_sealed += 1;
            record::write_sealed(&mut self.datagram, aead, &keys.client(), connection, content::HANDSHAKE, number, finished)?;
        }
        Ok(())
    }
}

struct ServerHello {
    random: [u8; 32],
    connection: Option<ConnectionId>,
}

impl ServerHello {
    fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        if reader.u16()? != VERSION {
            return None;
        }
        let random = reader.array()?;
        reader.vec8()?;
        if reader.u16()? != CIPHER_SUITE || reader.u8()? != 0 {
            return None;
        }
        let (mut extensions, mut connection) = (Reader::new(reader.vec16()?), None);
        while !extensions.is_empty() {
            let (number, value) = (extensions.u16()?, extensions.vec16()?);
            if number == extension::CONNECTION_ID {
                connection = value.strip_prefix(&[8]).and_then(|id| id.try_into().ok()).map(ConnectionId);
            }
        }
        Some(Self { random, connection })
    }
}
