//! Recorded handshakes of the real device library, with their secrets: what is deterministic must come out byte for byte, what was signed with
//! a random nonce must verify. Two conversations with a server of the same shape as ours, with connection id and without, and one with the
//! server of mbedTLS, whose flight has a session id and another order of extensions.

use super::*;
use crate::crypto::SPKI_LEN;
use crate::dtls::client::{ClientFailure, ClientHandshake};
use crate::dtls::demux::{Datagram, demux};
use crate::dtls::keys::DirectionKeys;
use crate::dtls::sequence::SendSequence;
use crate::entropy::{RecordedEntropy, SeededEntropy};
use crate::id::DeviceId;
use crate::session::stored::Generation;
use crate::time::Millis;

struct Conversation {
    client: Vec<Vec<u8>>,
    server: Vec<Vec<u8>>,
    master: MasterSecret,
    keys: KeyBlock,
    connection: Option<ConnectionId>,
    server_key: [u8; SPKI_LEN],
    device_key: Vec<u8>,
    /// Of the device's application records, in order.
    plaintexts: Vec<Vec<u8>>,
}

fn conversations() -> Vec<Conversation> {
    let text = include_str!("../../testdata/dtls-vectors.txt");
    let mut sections = text.split("\n## ");
    let common = sections.next().unwrap();
    let mut all: Vec<_> = sections.map(|section| from_text(common, section)).collect();
    all.push(from_json());
    assert_eq!(all.len(), 3);
    all
}

fn from_text(common: &str, section: &str) -> Conversation {
    let values = |wanted: &str| -> Vec<Vec<u8>> {
        let lines = common.lines().chain(section.lines()).filter_map(|line| line.split_once(' '));
        lines.filter(|(name, _)| *name == wanted).map(|(_, value)| hex::decode(value).unwrap()).collect()
    };
    let value = |name: &str| values(name).remove(0);
    let block = [value("client_write_key"), value("server_write_key"), value("client_write_iv"), value("server_write_iv")].concat();
    let master = MasterSecret::recorded(&value("master").try_into().unwrap());
    let (client_random, server_random) = (value("client_random").try_into().unwrap(), value("server_random").try_into().unwrap());
    let derived = MasterSecret::derive(&value("premaster").try_into().unwrap(), &client_random, &server_random);
    assert_eq!(derived.client_finished(&[7; 32]), master.client_finished(&[7; 32]), "the premaster gives the recorded master");
    Conversation {
        client: values("c2s"),
        server: values("s2c"),
        master,
        keys: KeyBlock(block.try_into().unwrap()),
        connection: connection_in(&values("s2c")[1]),
        server_key: value("server_spki").try_into().unwrap(),
        device_key: value("device_spki"),
        plaintexts: values("plaintext"),
    }
}

fn from_json() -> Conversation {
    let json: serde_json::Value = serde_json::from_str(include_str!("../../testdata/vectors.json")).unwrap();
    let dtls = &json["dtls"];
    let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
    let datagrams = |direction: &str| -> Vec<Vec<u8>> {
        let all = dtls["datagrams"].as_array().unwrap().iter();
        all.filter(|datagram| datagram["dir"] == direction).map(|datagram| bytes(&datagram["hex"])).collect()
    };
    // "ck … sk … civ … siv …", then one line for each record: "… pt …".
    let derived: Vec<&str> = dtls["derived_and_decrypted"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let block: String = derived[0].split(' ').skip(1).step_by(2).collect();
    let sent = derived.iter().filter(|line| line.starts_with("C->S"));
    let plaintexts = sent.map(|line| {
        let mut inner = hex::decode(line.rsplit(' ').next().unwrap()).unwrap();
        while inner.pop() != Some(content::APPLICATION) {}
        inner
    });
    let connection = ConnectionId(bytes(&dtls["cid"]).try_into().unwrap());
    let conversation = Conversation {
        client: datagrams("C->S"),
        server: datagrams("S->C"),
        master: MasterSecret::recorded(&bytes(&dtls["master_secret"]).try_into().unwrap()),
        keys: KeyBlock(hex::decode(block).unwrap().try_into().unwrap()),
        connection: Some(connection),
        server_key: bytes(&dtls["server_ec_spki_der"]).try_into().unwrap(),
        device_key: KeyPair::from_der(&bytes(&dtls["device_ec_private_sec1_der"])).unwrap().public().spki().to_vec(),
        plaintexts: plaintexts.collect(),
    };
    assert_eq!(KeyPair::from_der(&bytes(&dtls["server_ec_private_sec1_der"])).unwrap().public().spki(), &conversation.server_key);
    assert_eq!(connection_in(&conversation.server[1]), Some(connection));
    let randoms = bytes(&dtls["client_random_then_server_random"]);
    let pending = conversation.pending();
    assert_eq!([pending.client_random, pending.server_random].concat(), randoms);
    conversation
}

/// The id in the ServerHello that `datagram` begins with.
fn connection_in(datagram: &[u8]) -> Option<ConnectionId> {
    let (record, _) = Record::parse(datagram).unwrap();
    let at = record.body.windows(5).position(|window| window == [0, 0xfe, 0, 9, 8])?;
    Some(ConnectionId(record.body[at + 5..at + 13].try_into().unwrap()))
}

impl Conversation {
    /// A pending handshake as the recorded server had it, except for its ephemeral scalar, which was not recorded.
    fn pending(&self) -> Pending {
        let hello = ClientHello::parse(&self.client[1]).unwrap();
        let mut messages = Vec::new();
        let mut rest = &self.server[1][..];
        while let Some((record, tail)) = Record::parse(rest) {
            messages.extend_from_slice(record.body);
            rest = tail;
        }
        let (server_hello, _) = HandshakeMessage::parse(&messages).unwrap();
        Pending {
            transcript: Transcript::of(&[hello.raw]),
            client_random: *hello.random,
            server_random: server_hello.body[2..34].try_into().unwrap(),
            messages,
            ephemeral: Curve::new().unwrap().ephemeral(&mut SeededEntropy::new(0)).unwrap(),
            connection: self.connection,
            next_message: 5,
            next_record: 1,
        }
    }

    /// The device's side as it was before its first hello.
    fn device(&self, server_key: &PublicKey) -> (ClientHandshake, RecordedEntropy) {
        let (random, scalar) = (self.pending().client_random, [1; 32]);
        let key = KeyPair::generate(&mut Curve::new().unwrap(), &mut SeededEntropy::new(1)).unwrap();
        let mut entropy = RecordedEntropy::new([random, scalar].concat());
        (ClientHandshake::new(Millis(0), key, *server_key, self.connection.is_some(), &mut entropy), entropy)
    }
}

#[test]
fn the_recorded_hellos_parse_and_the_recorded_flights_are_repeated_byte_for_byte() {
    for conversation in conversations() {
        let client = &conversation.client;
        let (first, second) = (ClientHello::parse(&client[0]).unwrap(), ClientHello::parse(&client[1]).unwrap());
        assert!(first.cookie.is_empty() && !second.cookie.is_empty());
        assert_eq!((first.message_sequence, second.message_sequence), (0, 1));
        assert_eq!((first.random, first.around_cookie), (second.random, second.around_cookie));
        assert_eq!(first.offers_connection_id, conversation.connection.is_some());
        assert_eq!(demux(&client[1]), Datagram::Hello(second));
        assert_eq!(conversation.pending().flight(1), conversation.server[1]);
    }
}

#[test]
fn our_server_hello_is_the_recorded_one() {
    // Not mbedTLS', which is another server's.
    for conversation in &conversations()[..2] {
        let pending = conversation.pending();
        let (hello, _) = HandshakeMessage::parse(&pending.messages).unwrap();
        assert_eq!(messages::server_hello(&pending.server_random, pending.connection), hello.body);
    }
}

#[test]
fn our_device_sends_the_recorded_hellos_and_takes_the_recorded_flights() {
    let (mut curve, mut aead) = (Curve::new().unwrap(), Aead::new().unwrap());
    for conversation in conversations() {
        let pinned = PublicKey::from_spki(&conversation.server_key).unwrap();
        let mut run = |server_key: &PublicKey| {
            let (mut device, mut entropy) = conversation.device(server_key);
            let hellos = [device.datagram().to_vec(), {
                let came = device.handle_datagram(Millis(1), &conversation.server[0], &mut curve, &mut aead, &mut entropy);
                assert_eq!(came, Ok((true, None)));
                device.datagram().to_vec()
            }];
            assert_eq!(hellos[..], conversation.client[..2]);
            let came = device.handle_datagram(Millis(2), &conversation.server[1], &mut curve, &mut aead, &mut entropy);
            (came, device.datagram().to_vec())
        };
        let (came, answer) = run(&pinned);
        assert_eq!(came, Ok((true, None)));
        assert_eq!(demux(&answer), Datagram::Flight { connection: conversation.connection });
        let flight = ClientFlight::parse(&answer).unwrap();
        let recorded = ClientFlight::parse(&conversation.client[2]).unwrap();
        let sequences = |flight: &ClientFlight<'_>| [&flight.certificate, &flight.key_exchange, &flight.verify].map(|m| m.sequence);
        assert_eq!(sequences(&flight), sequences(&recorded));
        assert_eq!(flight.finished.body.len(), recorded.finished.body.len());

        let stranger = *KeyPair::generate(&mut Curve::new().unwrap(), &mut SeededEntropy::new(2)).unwrap().public();
        assert!(matches!(run(&stranger).0, Err(ClientFailure::Protocol(_))), "signed with a key that is not pinned");
    }
}

#[test]
fn the_recorded_flights_prove_themselves_and_our_answer_is_the_recorded_one() {
    let mut aead = Aead::new().unwrap();
    for (index, conversation) in conversations().into_iter().enumerate() {
        let (pending, datagram) = (conversation.pending(), &conversation.client[2]);
        let flight = ClientFlight::parse(datagram).unwrap();
        assert_eq!(flight.key.spki()[..], conversation.device_key);
        assert_eq!(flight.finished.connection, conversation.connection);
        assert_eq!(demux(datagram), Datagram::Flight { connection: conversation.connection });

        let mut transcript = flight.signed_after(&pending);
        assert!(Curve::new().unwrap().verify(&flight.key, &transcript.hash(), flight.signature));
        transcript.add(flight.verify.raw);
        if index == 2 {
            assert_eq!(hex::encode(transcript.hash()), "b8d18b73fb16b08d171f1664bb809cf6f4b8b5df38c37bc287423c194b84c5dc");
            assert_eq!(hex::encode(conversation.master.client_finished(&transcript.hash())), "d7b811a3ab3e8dc17d9abe25");
        }
        let mut established = conclude(&mut aead, &pending, &flight, &conversation.master, transcript, ()).unwrap();
        assert!(established.keys == conversation.keys);
        assert_eq!(established.finished_sequence, 0);
        established.final_flight.record_sequence = 5;
        assert_eq!(established.final_flight.write(&mut aead, &established.keys, 0).unwrap(), conversation.server[2]);
    }
}

#[test]
fn recorded_records_open_and_both_sides_seal_the_recorded_ones() {
    let mut aead = Aead::new().unwrap();
    for conversation in conversations() {
        let (keys, connection) = (&conversation.keys, conversation.connection);
        let mut sequence = SendSequence::new(Generation(0), Generation(0)).unwrap();
        sequence.take();
        assert_eq!(conversation.client.len() - 3, conversation.plaintexts.len());
        for ((sent, reply), plaintext) in conversation.client[3..].iter().zip(&conversation.server[3..]).zip(&conversation.plaintexts) {
            let number = sequence.take().unwrap();
            let mut ours = Vec::new();
            record::write_sealed(&mut ours, &mut aead, &keys.client(), connection, content::APPLICATION, number, plaintext).unwrap();
            let device: DeviceId = "e00fce680102030405060708".parse().unwrap();
            let told = match (sent[0], connection) {
                (content::CID | content::MOVED, Some(connection)) => Datagram::Record { connection },
                (content::APPLICATION, None) => Datagram::Unlabelled,
                (content::MOVED_UNLABELLED, None) => Datagram::Resumed { device },
                other => panic!("{other:?}"),
            };
            if matches!(sent[0], content::MOVED | content::MOVED_UNLABELLED) {
                record::mark_moved(&mut ours, connection, device);
            }
            assert_eq!((demux(sent), &ours), (told, sent));
            assert_eq!(opened(sent, &mut aead, &keys.client()), (content::APPLICATION, plaintext.clone()));
            let (content_type, plain) = opened(reply, &mut aead, &keys.server());
            let mut ours = Vec::new();
            record::write_sealed(&mut ours, &mut aead, &keys.server(), None, content_type, number, &plain).unwrap();
            assert_eq!(ours, *reply);
        }
    }
}

fn opened(datagram: &[u8], aead: &mut Aead, keys: &DirectionKeys) -> (u8, Vec<u8>) {
    let (record, rest) = Record::parse(datagram).unwrap();
    assert!(rest.is_empty() || record.content_type == content::MOVED_UNLABELLED);
    let (content_type, plaintext) = record.open(aead, keys).unwrap();
    (content_type, plaintext.to_vec())
}
