//! The server's side of a handshake, from a hello whose cookie was right to an established session.
//!
//! There are no timers: the device repeats its flight until it is answered, and what is abandoned expires with its owner. A pending handshake
//! is never changed by what arrives: a flight is tried against it, so that forged ones leave nothing behind.
//!
//! ```text
//! ClientHello (cookie)  ─▶  begin      ServerHello ServerKeyExchange CertificateRequest ServerHelloDone
//! Certificate ClientKeyExchange CertificateVerify CCS Finished  ─▶  finish      (made durable)      CCS Finished
//! ```

use openssl::sha::Sha256;

use crate::crypto::{Aead, Curve, Ephemeral, KeyPair, PublicKey, equal};
use crate::dtls::cid::ConnectionId;
use crate::dtls::hello::ClientHello;
use crate::dtls::keys::{KeyBlock, MasterSecret, VERIFY_LEN};
use crate::dtls::messages::{self, HandshakeMessage, kind};
use crate::dtls::record::{self, Record, content};
use crate::entropy::Entropy;
use crate::error::KeyError;
use crate::wire::Reader;

/// Whether the server's Certificate message is part of the flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerCertificate {
    /// Left out: devices have the key pinned and take the message for an error.
    Omitted,
    /// Sent as a raw public key, as RFC 7250 has it: for conformant clients in tests.
    Sent,
}

/// Does handshakes, one at a time. One per thread.
#[derive(Debug)]
pub struct Handshaker {
    key: KeyPair,
    certificate: ServerCertificate,
    curve: Curve,
    aead: Aead,
}

/// What a handshake needs of a hello whose cookie was right: of the same length however long the hello was, so that it can wait.
#[derive(Clone, Debug)]
pub struct ProvenHello {
    random: [u8; 32],
    /// Has taken the hello.
    transcript: Transcript,
    record_sequence: u64,
    message_sequence: u16,
    offers_connection_id: bool,
}

/// A handshake between our flight and the device's answer to it.
#[derive(Debug)]
pub struct Pending {
    /// Has taken the ClientHello with cookie.
    transcript: Transcript,
    /// Our messages, from ServerHello to ServerHelloDone.
    messages: Vec<u8>,
    client_random: [u8; 32],
    server_random: [u8; 32],
    ephemeral: Ephemeral,
    connection: Option<ConnectionId>,
    next_message: u16,
    next_record: u64,
}

/// What a proved handshake leaves.
#[derive(Clone, Debug)]
pub struct Established<T> {
    /// What the key lookup said.
    pub holder: T,
    /// The key that was proved.
    pub public_key: PublicKey,
    /// The id the device will use.
    pub connection: Option<ConnectionId>,
    /// Record keys.
    pub keys: KeyBlock,
    /// Sequence number of the device's Finished, the first of its epoch.
    pub finished_sequence: u64,
    /// Our last flight.
    pub final_flight: FinalFlight,
}

/// What is needed to send our last flight, as often as the device repeats its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FinalFlight {
    /// `verify_data` of our Finished.
    pub verify: [u8; VERIFY_LEN],
    /// `message_seq` of our Finished.
    pub message_sequence: u16,
    /// Next record sequence of epoch 0, for ChangeCipherSpec. It rises with every repetition.
    pub record_sequence: u32,
}

/// Why a flight was not accepted. All are counted drops; the handshake stays as it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// Not the four messages and Finished, in order, in one datagram.
    Malformed,
    /// Nobody is registered under this key.
    UnknownKey,
    /// The device does not hold the key it showed.
    BadSignature,
    /// Its Diffie-Hellman share is not a point of the curve.
    BadPoint,
    /// Its Finished does not match.
    BadFinished,
}

impl Handshaker {
    /// With the key that devices have pinned.
    pub fn new(key: KeyPair, certificate: ServerCertificate) -> Result<Self, KeyError> {
        Ok(Self { key, certificate, curve: Curve::new()?, aead: Aead::new()? })
    }

    /// Answers a proven hello. `connection` goes to the client if it offered to use one.
    pub fn begin(
        &mut self,
        hello: impl Into<ProvenHello>,
        connection: Option<ConnectionId>,
        entropy: &mut impl Entropy,
    ) -> Result<Pending, KeyError> {
        let hello = hello.into();
        let connection = connection.filter(|_| hello.offers_connection_id);
        let server_random = entropy.array();
        let ephemeral = self.curve.ephemeral(entropy)?;

        let mut key_exchange = messages::key_exchange_params(ephemeral.public());
        let signature = self.key.sign(&sha256_of(&[&hello.random, &server_random, &key_exchange]))?;
        messages::write_signature(&mut key_exchange, &signature);

        let mut flight = Vec::with_capacity(1024);
        let mut next_message = hello.message_sequence;
        let mut add = |kind, body: &[u8]| {
            messages::write_message(&mut flight, kind, next_message, body);
            next_message = next_message.wrapping_add(1);
        };
        add(kind::SERVER_HELLO, &messages::server_hello(&server_random, connection));
        if self.certificate == ServerCertificate::Sent {
            add(kind::CERTIFICATE, &messages::certificate(self.key.public()));
        }
        add(kind::SERVER_KEY_EXCHANGE, &key_exchange);
        add(kind::CERTIFICATE_REQUEST, &messages::CERTIFICATE_REQUEST);
        add(kind::SERVER_HELLO_DONE, &[]);

        Ok(Pending {
            transcript: hello.transcript,
            messages: flight,
            client_random: hello.random,
            server_random,
            ephemeral,
            connection,
            next_message,
            next_record: hello.record_sequence,
        })
    }

    /// Tries a device's second flight. `lookup` says who holds a key; it is asked before anything expensive is done.
    pub fn finish<T>(
        &mut self,
        pending: &Pending,
        datagram: &[u8],
        lookup: impl FnOnce(&PublicKey) -> Option<T>,
    ) -> Result<Established<T>, Refusal> {
        let flight = ClientFlight::parse(datagram).ok_or(Refusal::Malformed)?;
        let holder = lookup(&flight.key).ok_or(Refusal::UnknownKey)?;

        let mut transcript = flight.signed_after(pending);
        if !self.curve.verify(&flight.key, &transcript.hash(), flight.signature) {
            return Err(Refusal::BadSignature);
        }
        let premaster = self.curve.agree(&pending.ephemeral, flight.point).map_err(|_| Refusal::BadPoint)?;
        transcript.add(flight.verify.raw);
        let master = MasterSecret::derive(&premaster, &pending.client_random, &pending.server_random);
        conclude(&mut self.aead, pending, &flight, &master, transcript, holder)
    }
}

/// Everything after the key agreement: derives the keys, checks the client's Finished, makes ours.
fn conclude<T>(
    aead: &mut Aead,
    pending: &Pending,
    flight: &ClientFlight<'_>,
    master: &MasterSecret,
    mut transcript: Transcript,
    holder: T,
) -> Result<Established<T>, Refusal> {
    let keys = master.key_block(&pending.client_random, &pending.server_random);
    if flight.finished.connection != pending.connection {
        return Err(Refusal::BadFinished);
    }
    let (content_type, inner) = flight.finished.open(aead, &keys.client()).ok_or(Refusal::BadFinished)?;
    let (finished, rest) = HandshakeMessage::parse(inner).ok_or(Refusal::BadFinished)?;
    let genuine = content_type == content::HANDSHAKE
        && finished.kind == kind::FINISHED
        && rest.is_empty()
        && equal(finished.body, &master.client_finished(&transcript.hash()));
    if !genuine {
        return Err(Refusal::BadFinished);
    }
    transcript.add(finished.raw);
    Ok(Established {
        holder,
        public_key: flight.key,
        connection: pending.connection,
        keys,
        finished_sequence: flight.finished.sequence,
        final_flight: FinalFlight {
            verify: master.server_finished(&transcript.hash()),
            message_sequence: pending.next_message,
            record_sequence: u32::try_from(pending.next_record).unwrap_or(u32::MAX),
        },
    })
}

impl Pending {
    /// Our flight as one datagram. `record_sequence` is that of the hello it answers; numbers rise with every repetition.
    pub fn flight(&mut self, record_sequence: u64) -> Vec<u8> {
        self.next_record = self.next_record.max(record_sequence);
        let mut datagram = Vec::with_capacity(self.messages.len() + 64);
        let mut rest = &self.messages[..];
        while let Some((message, tail)) = HandshakeMessage::parse(rest) {
            record::write_plain(&mut datagram, content::HANDSHAKE, self.next_record, message.raw);
            self.next_record += 1;
            rest = tail;
        }
        datagram
    }

    /// Whether a hello with this random is a repetition of the one that the handshake began with.
    pub fn answers(&self, random: &[u8; 32]) -> bool {
        *random == self.client_random
    }
}

impl ProvenHello {
    /// Client random.
    pub fn random(&self) -> &[u8; 32] {
        &self.random
    }

    /// Record sequence it came in.
    pub fn record_sequence(&self) -> u64 {
        self.record_sequence
    }
}

impl From<&ClientHello<'_>> for ProvenHello {
    fn from(hello: &ClientHello<'_>) -> Self {
        Self {
            random: *hello.random,
            transcript: Transcript::of(&[hello.raw]),
            record_sequence: hello.record_sequence,
            message_sequence: hello.message_sequence,
            offers_connection_id: hello.offers_connection_id,
        }
    }
}

impl FinalFlight {
    /// The same flight `generations` process starts later: its ChangeCipherSpec gets numbers that no former process has used.
    pub(crate) fn after(self, generations: u32) -> Self {
        Self { record_sequence: self.record_sequence.saturating_add(generations.saturating_mul(256)), ..self }
    }

    /// The flight as one datagram, its Finished under record number `sequence` of epoch 1.
    pub fn write(&mut self, aead: &mut Aead, keys: &KeyBlock, sequence: u64) -> Result<Vec<u8>, KeyError> {
        let (mut datagram, mut finished) = (Vec::with_capacity(80), Vec::with_capacity(24));
        record::write_plain(&mut datagram, content::CHANGE_CIPHER_SPEC, self.record_sequence.into(), &[1]);
        self.record_sequence = self.record_sequence.saturating_add(1);
        messages::write_message(&mut finished, kind::FINISHED, self.message_sequence, &self.verify);
        record::write_sealed(&mut datagram, aead, &keys.server(), None, content::HANDSHAKE, sequence, &finished)?;
        Ok(datagram)
    }
}

/// The device's second flight, taken apart; nothing in it is proved yet.
struct ClientFlight<'a> {
    key: PublicKey,
    point: &'a [u8],
    signature: &'a [u8],
    certificate: HandshakeMessage<'a>,
    key_exchange: HandshakeMessage<'a>,
    verify: HandshakeMessage<'a>,
    finished: Record<'a>,
}

impl<'a> ClientFlight<'a> {
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut rest = datagram;
        let mut next = || {
            let (record, tail) = Record::parse(rest)?;
            rest = tail;
            Some(record)
        };
        let mut message = |expected| HandshakeMessage::alone_in(&next()?).filter(|message| message.kind == expected);
        let certificate = message(kind::CERTIFICATE)?;
        let key_exchange = message(kind::CLIENT_KEY_EXCHANGE)?;
        let verify = message(kind::CERTIFICATE_VERIFY)?;
        next().filter(|ccs| ccs.content_type == content::CHANGE_CIPHER_SPEC && ccs.epoch == 0 && ccs.body == [1])?;
        let finished =
            next().filter(|record| record.epoch == 1 && (record.connection.is_some() || record.content_type == content::HANDSHAKE))?;

        let mut share = Reader::new(key_exchange.body);
        let point = messages::read_point(&mut share).filter(|_| share.is_empty())?;
        let flight = Self {
            key: messages::read_certificate(certificate.body)?,
            point,
            signature: messages::read_signature(verify.body)?,
            certificate,
            key_exchange,
            verify,
            finished,
        };
        rest.is_empty().then_some(flight)
    }
}

impl ClientFlight<'_> {
    /// What the device signed.
    fn signed_after(&self, pending: &Pending) -> Transcript {
        let mut transcript = pending.transcript.clone();
        [&pending.messages[..], self.certificate.raw, self.key_exchange.raw].iter().for_each(|part| transcript.add(part));
        transcript
    }
}

/// A running SHA-256 over handshake messages.
#[derive(Clone)]
pub(crate) struct Transcript(Sha256);

impl Transcript {
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut transcript = Self(Sha256::new());
        parts.iter().for_each(|part| transcript.add(part));
        transcript
    }

    pub(crate) fn add(&mut self, message: &[u8]) {
        self.0.update(message);
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        self.0.clone().finish()
    }
}

impl std::fmt::Debug for Transcript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transcript(..)")
    }
}

pub(crate) fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    Transcript::of(parts).hash()
}

#[cfg(test)]
#[path = "server_vectors.rs"]
mod vectors;
