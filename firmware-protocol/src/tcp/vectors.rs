//! The recorded handshake and frames of `testdata/vectors.json`, byte for byte, and what a handshake refuses.

use serde_json::Value as Json;

use super::*;
use crate::crypto::{Cbc, DeviceKeyPair, ServerPublicKey};
use crate::entropy::{RecordedEntropy, SeededEntropy};
use crate::tcp::client::{ClientFailure, ClientHandshake, Step};
use crate::tcp::frame::{FROM_DEVICE_MAX, FrameReader, FrameWriter, TO_DEVICE_MAX};

fn vectors() -> Json {
    let json: Json = serde_json::from_str(include_str!("../../testdata/vectors.json")).unwrap();
    json["tcp"].clone()
}

fn bytes(json: &Json) -> Vec<u8> {
    hex::decode(json.as_str().unwrap()).unwrap()
}

fn server(json: &Json) -> ServerKeyPair {
    ServerKeyPair::from_der(&bytes(&json["server_private_key_pkcs8_der"])).unwrap()
}

fn device(json: &Json) -> DeviceKeyPair {
    DeviceKeyPair::from_der(&bytes(&json["device_private_key_pkcs1_der"])).unwrap()
}

fn secret(json: &Json) -> SessionSecret {
    SessionSecret(bytes(&json["session_credentials_40"]).try_into().unwrap())
}

/// The random part of the padding in `ciphertext`, got back with the private key.
fn padding_of(private_key_der: &[u8], ciphertext: &[u8], plaintext_len: usize) -> Vec<u8> {
    let key = openssl::pkey::PKey::private_key_from_der(private_key_der).unwrap().rsa().unwrap();
    let mut block = vec![0; ciphertext.len()];
    key.private_decrypt(ciphertext, &mut block, openssl::rsa::Padding::NONE).unwrap();
    block[2..block.len() - plaintext_len - 1].to_vec()
}

fn greeting(json: &Json) -> Greeting {
    Greeting::new(&mut RecordedEntropy::new(bytes(&json["nonce"])))
}

fn answered(mut greeting: Greeting, ciphertext: &[u8]) -> Answer {
    assert_eq!(greeting.take(ciphertext), ANSWER_LEN);
    greeting.answer().unwrap()
}

#[test]
fn the_recorded_keys_are_read_and_written() {
    let json = vectors();
    assert_eq!(server(&json).public().spki()[..], bytes(&json["server_public_key_spki_der"]));
    assert_eq!(device(&json).public().spki()[..], bytes(&json["device_spki"]));
}

#[test]
fn the_server_writes_the_recorded_reply() {
    let json = vectors();
    let (recorded, secret) = (bytes(&json["server_to_device_384"]), secret(&json));
    let padding = padding_of(&bytes(&json["device_private_key_pkcs1_der"]), &recorded[..128], SessionSecret::LEN);
    let mut entropy = RecordedEntropy::new([&secret.0[..], &padding].concat());
    let answer = answered(greeting(&json), &bytes(&json["device_to_server_256"]));
    let key = *device(&json).public();
    let established = Handshaker::new(server(&json))
        .finish(&answer, &mut entropy, |id, shown| {
            assert_eq!((id.to_string().as_str(), shown), ("e00fce680102030405060708", Some(&key)));
            Some(("holder", key))
        })
        .unwrap();
    assert_eq!((established.holder, established.public_key, established.secret), ("holder", key, secret));
    assert_eq!(hex::encode(&established.reply), hex::encode(&recorded));
    assert_eq!(hmac_sha1(&secret.0, &recorded[..128]).unwrap()[..], bytes(&json["hmac_sha1"]));
    assert_eq!(recorded[..128], bytes(&json["credentials_ciphertext_128"]));
    assert_eq!(recorded[128..], bytes(&json["signature_256"]));
}

#[test]
fn the_device_writes_the_recorded_answer_and_takes_the_recorded_reply() {
    let json = vectors();
    let (recorded, plaintext) = (bytes(&json["device_to_server_256"]), bytes(&json["handshake_plaintext"]));
    let padding = padding_of(&bytes(&json["server_private_key_pkcs8_der"]), &recorded, plaintext.len());
    let mut entropy = RecordedEntropy::new(padding);
    let id = DeviceId::from_slice(&bytes(&json["device_id"])).unwrap();
    let mut handshake = ClientHandshake::new(id, device(&json), *server(&json).public(), true);
    let stream = [bytes(&json["nonce"]), bytes(&json["server_to_device_384"])].concat();
    let mut steps = Vec::new();
    for mut piece in stream.chunks(7) {
        while !piece.is_empty() {
            steps.push(handshake.take(&mut piece, &mut entropy).unwrap());
        }
    }
    steps.retain(|step| *step != Step::Wait);
    assert_eq!(steps, [Step::Send(recorded), Step::Done(secret(&json))]);
}

/// The signed block, opened without removing its padding, is the recorded one: type 1, and no DigestInfo.
#[test]
fn the_signature_is_over_the_recorded_block() {
    let json = vectors();
    let signature = bytes(&json["signature_256"]);
    let key = openssl::rsa::Rsa::public_key_from_der(&bytes(&json["server_public_key_spki_der"])).unwrap();
    let mut block = vec![0; 256];
    key.public_decrypt(&signature, &mut block, openssl::rsa::Padding::NONE).unwrap();
    assert_eq!(hex::encode(&block), json["signature_em"].as_str().unwrap());
    assert_eq!(server(&json).public().recover(&signature).unwrap(), bytes(&json["hmac_sha1"]));
}

#[test]
fn the_recorded_frames_are_written_and_read() {
    let json = vectors();
    let (secret, mut cipher) = (secret(&json), Cbc::new().unwrap());
    assert_eq!(secret.key()[..], bytes(&json["aes_key"]));
    assert_eq!(secret.initial_vector()[..], bytes(&json["initial_iv_both_directions"]));
    assert_eq!(format!("0x{:04x}", secret.first_id().wrapping_add(1)), json["first_device_message_id"].as_str().unwrap());
    for direction in ["device_to_server_frames", "server_to_device_frames"] {
        let frames = json[direction].as_array().unwrap();
        let (mut writer, mut reader) = (FrameWriter::new(&secret, TO_DEVICE_MAX), FrameReader::new(&secret, FROM_DEVICE_MAX));
        assert_eq!(frames.len(), 2);
        for frame in frames {
            let (plain, wire) = (bytes(&frame["plain"]), bytes(&frame["wire"]));
            assert_eq!(hex::encode(writer.write(&mut cipher, &plain).unwrap()), hex::encode(&wire));
            assert_eq!(reader.take(&mut cipher, &mut &wire[..]).unwrap().unwrap(), plain);
        }
    }
}

/// Everything that can be wrong with an answer, and with its sender.
#[test]
fn what_is_not_an_answer_to_this_nonce_by_a_known_device_is_refused() {
    let json = vectors();
    let (handshaker, key, mut entropy) = (Handshaker::new(server(&json)), *device(&json).public(), SeededEntropy::new(1));
    let id = bytes(&json["device_id"]);
    let nonce = bytes(&json["nonce"]);
    let mut judge = |ciphertext: &[u8], known: Option<DevicePublicKey>| {
        let answer = answered(greeting(&json), ciphertext);
        handshaker.finish(&answer, &mut entropy, |_, _| known.map(|key| ((), key))).map(|established| established.device).err()
    };
    let encrypt = |parts: &[&[u8]]| server(&json).public().encrypt(&parts.concat(), &mut SeededEntropy::new(2)).unwrap();
    let (whole, keyless) = (encrypt(&[&nonce, &id, key.spki()]), encrypt(&[&nonce, &id]));
    assert_eq!(judge(&whole, Some(key)), None);
    assert_eq!(judge(&keyless, Some(key)), None, "old firmware shows no key");
    assert_eq!(judge(&whole, None), Some(Refusal::UnknownKey));
    assert_eq!(judge(&keyless, None), Some(Refusal::UnknownKey));
    let other = *DeviceKeyPair::generate().unwrap().public();
    assert_eq!(judge(&whole, Some(other)), Some(Refusal::WrongKey));

    let malformed: [&[&[u8]]; 6] =
        [&[], &[&nonce], &[&nonce, &id[1..]], &[&nonce, &id, &key.spki()[1..]], &[&nonce, &id, &[0x30; 162]], &[&[0; 40], &id, key.spki()]];
    for parts in malformed {
        assert_eq!(judge(&encrypt(parts), Some(key)), Some(Refusal::Malformed), "{parts:02x?}");
    }
    for garbage in [[0; 256], [0x77; 256], [0xff; 256]] {
        assert_eq!(judge(&garbage, Some(key)), Some(Refusal::Malformed));
    }
}

#[test]
fn an_answer_is_collected_from_pieces_and_no_byte_more_is_taken() {
    let mut greeting = Greeting::new(&mut SeededEntropy::new(4));
    for n in 0..25 {
        assert_eq!((greeting.wanted(), greeting.take(&[n; 10])), (256 - 10 * usize::from(n), 10));
    }
    assert_eq!((greeting.take(&[0; 10]), greeting.wanted(), greeting.take(&[0; 10])), (6, 0, 0));
    assert!(greeting.answer().is_some());
    assert!(Greeting::new(&mut SeededEntropy::new(4)).answer().is_none());
}

#[test]
fn a_device_refuses_whoever_is_not_its_server() {
    let json = vectors();
    let id = DeviceId::from_slice(&bytes(&json["device_id"])).unwrap();
    let reply = bytes(&json["server_to_device_384"]);
    let conclude = |key: DeviceKeyPair, server_key: ServerPublicKey, change: usize| {
        let mut reply = reply.clone();
        reply[change] ^= 1;
        let mut handshake = ClientHandshake::new(id, key, server_key, true);
        let mut entropy = SeededEntropy::new(5);
        handshake.take(&mut &bytes(&json["nonce"])[..], &mut entropy).unwrap();
        handshake.take(&mut &reply[..], &mut entropy)
    };
    let (own, server_key) = (device(&json), *server(&json).public());
    assert_eq!(conclude(own.clone(), server_key, 200), Err(ClientFailure::Authentication));
    assert!(conclude(own.clone(), server_key, 5).is_err(), "a changed secret");
    assert!(conclude(own, *ServerKeyPair::generate().unwrap().public(), 0).is_err(), "another server");
    assert!(conclude(DeviceKeyPair::generate().unwrap(), server_key, 0).is_err(), "another device");
}
