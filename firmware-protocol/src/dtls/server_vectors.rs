//! Recorded handshakes of the real device library, with every secret: what is deterministic must come out byte for byte, what was signed with
//! a random nonce must verify.

use super::*;
use crate::dtls::keys::DirectionKeys;
use crate::dtls::sequence::SendSequence;
use crate::session::stored::Generation;

/// The first (connection id) conversation of `testdata/dtls-vectors.txt`.
struct Conversation {
    lines: Vec<(String, Vec<u8>)>,
}

impl Conversation {
    fn load() -> Self {
        let text = include_str!("../../testdata/dtls-vectors.txt");
        let section = text.split("## device-os < 3.1").next().unwrap();
        let lines = section
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), hex::decode(value).ok()?)))
            .collect();
        Self { lines }
    }

    fn value(&self, name: &str) -> &[u8] {
        &self.lines.iter().find(|(key, _)| key == name).unwrap().1
    }

    fn datagrams(&self, direction: &str) -> Vec<&[u8]> {
        self.lines.iter().filter(|(key, _)| key == direction).map(|(_, bytes)| &bytes[..]).collect()
    }

    /// A pending handshake as the recorded server had it, except for its ephemeral scalar, which was not recorded.
    fn pending(&self) -> Pending {
        let (client, server) = (self.datagrams("c2s"), self.datagrams("s2c"));
        let hello = ClientHello::parse(client[1]).unwrap();
        let mut transcript = hello.raw.to_vec();
        let mut rest = server[1];
        while let Some((record, tail)) = Record::parse(rest) {
            transcript.extend_from_slice(record.body);
            rest = tail;
        }
        Pending {
            hello_len: hello.raw.len(),
            transcript,
            client_random: *hello.random,
            server_random: self.value("server_random").try_into().unwrap(),
            ephemeral: Curve::new().unwrap().ephemeral(&mut crate::entropy::SeededEntropy::new(0)).unwrap(),
            connection: Some(ConnectionId(client[2][client[2].len() - 50 - 8..][..8].try_into().unwrap())),
            next_message: 5,
            next_record: 1,
        }
    }
}

#[test]
fn the_recorded_hellos_parse_and_our_flight_has_their_shape() {
    let conversation = Conversation::load();
    let client = conversation.datagrams("c2s");
    let (first, second) = (ClientHello::parse(client[0]).unwrap(), ClientHello::parse(client[1]).unwrap());
    assert_eq!((first.cookie.len(), second.cookie.len()), (0, 16));
    assert_eq!(first.random, second.random);
    assert_eq!(first.around_cookie, second.around_cookie);
    assert!(first.offers_connection_id);
    assert_eq!(conversation.pending().flight(1), conversation.datagrams("s2c")[1]);

    let server_random: [u8; 32] = conversation.value("server_random").try_into().unwrap();
    let recorded = conversation.pending();
    let (hello, _) = HandshakeMessage::parse(&recorded.transcript[recorded.hello_len..]).unwrap();
    assert_eq!(messages::server_hello(&server_random, recorded.connection), hello.body);
}

#[test]
fn the_recorded_flight_yields_the_recorded_keys_and_our_answer_is_the_recorded_one() {
    let conversation = Conversation::load();
    let (pending, mut aead) = (conversation.pending(), Aead::new().unwrap());
    let datagram = conversation.datagrams("c2s")[2];
    let flight = ClientFlight::parse(datagram).unwrap();
    assert_eq!(flight.key.spki()[..], *conversation.value("device_spki"));

    let mut transcript = Transcript::of(&[&pending.transcript, flight.certificate.raw, flight.key_exchange.raw]);
    assert!(Curve::new().unwrap().verify(&flight.key, &transcript.hash(), flight.signature));
    transcript.add(flight.verify.raw);
    let premaster = conversation.value("premaster").try_into().unwrap();
    let mut established = conclude(&mut aead, &pending, &flight, &premaster, transcript, ()).unwrap();

    let direction = |key: &str, iv: &str| DirectionKeys {
        key: conversation.value(key).try_into().unwrap(),
        iv: conversation.value(iv).try_into().unwrap(),
    };
    assert!(established.keys.client() == direction("client_write_key", "client_write_iv"));
    assert!(established.keys.server() == direction("server_write_key", "server_write_iv"));
    established.final_flight.record_sequence = 5;
    let answer = established.final_flight.write(&mut aead, &established.keys, 0).unwrap();
    assert_eq!(answer, conversation.datagrams("s2c")[2]);
}

#[test]
fn recorded_records_open_and_our_replies_are_the_recorded_ones() {
    let conversation = Conversation::load();
    let mut aead = Aead::new().unwrap();
    let mut block = [0; KeyBlock::LEN];
    for (at, name) in [(0, "client_write_key"), (16, "server_write_key"), (32, "client_write_iv"), (36, "server_write_iv")] {
        let value = conversation.value(name);
        block[at..at + value.len()].copy_from_slice(value);
    }
    let keys = KeyBlock(block);
    let plaintexts = conversation.datagrams("plaintext");
    let mut sequence = SendSequence::new(Generation(0), Generation(0)).unwrap();
    sequence.take();
    for (index, (sent, reply)) in conversation.datagrams("c2s")[3..].iter().zip(&conversation.datagrams("s2c")[3..]).enumerate() {
        let (record, rest) = Record::parse(sent).unwrap();
        assert!(rest.is_empty());
        assert_eq!(record.content_type == content::MOVED, index == 2);
        assert_eq!(record.open(&mut aead, &keys.client()), Some((content::APPLICATION, plaintexts[index])));

        let (recorded, _) = Record::parse(reply).unwrap();
        let (content_type, plain) = recorded.open(&mut aead, &keys.server()).unwrap();
        let (plain, mut ours) = (plain.to_vec(), Vec::new());
        let number = sequence.take().unwrap();
        record::write_sealed(&mut ours, &mut aead, &keys.server(), None, content_type, number, &plain).unwrap();
        assert_eq!(ours, *reply);
    }
}
