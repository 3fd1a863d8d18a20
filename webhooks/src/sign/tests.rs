use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// The example that implementations of Standard Webhooks share: the same message under a secret and under a pair.
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const AT: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HMAC: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const PRIVATE: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const SEED: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const ED25519: &str = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

fn keys(text: &str) -> SigningKeys {
    SigningKeys::new(SigningKey::parse(text).unwrap())
}

fn signed<'a>(timestamp: &'a str, signatures: &'a str) -> Signed<'a> {
    Signed { id: ID, timestamp, signatures }
}

fn at(text: &'static str, now_s: u64, signatures: &str) -> Result<(), VerifyError> {
    verify(&[VerifyingKey::parse(text).unwrap()], signed(&AT.to_string(), signatures), BODY, now_s)
}

#[test]
fn the_known_message_has_the_known_signatures() {
    for (key, signature) in [(SECRET, HMAC), (PRIVATE, ED25519), (SEED, ED25519)] {
        assert_eq!(keys(key).signatures(ID, AT, BODY).unwrap(), signature);
    }
    assert_eq!(at(SECRET, AT, HMAC), Ok(()));
    assert_eq!(at(PUBLIC, AT, ED25519), Ok(()));
    assert_eq!(at(PUBLIC, AT, HMAC), Err(VerifyError::Signature));
}

#[test]
fn keys_are_written_as_they_are_read() {
    for (text, written, public) in [(SECRET, SECRET, None), (PRIVATE, PRIVATE, Some(PUBLIC)), (SEED, PRIVATE, Some(PUBLIC))] {
        let key = SigningKey::parse(text).unwrap();
        assert_eq!(key.to_text().unwrap().as_str(), written);
        assert_eq!(key.public_text().unwrap().as_deref(), public);
        assert!(!format!("{key:?} {:?}", key.verifying().unwrap()).contains(&written[6..12]));
    }
    for scheme in [Scheme::Hmac, Scheme::Ed25519] {
        let (one, other) = (SigningKey::generate(scheme).unwrap(), SigningKey::generate(scheme).unwrap());
        assert_ne!(one.to_text().unwrap(), other.to_text().unwrap());
        assert_eq!(SigningKey::parse(&one.to_text().unwrap()).unwrap().to_text().unwrap(), one.to_text().unwrap());
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let short = format!("whsec_{}", BASE64_STANDARD.encode([7; 23]));
    let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 65]));
    let endless = format!("whsec_{}", "A".repeat(1 << 20));
    let swapped = PRIVATE.replace("fVKI", "fVKJ");
    for bad in [&short, &long, &endless, &swapped, "", "whsec_", "whsec_!!!!", "whsk_AAAA", PUBLIC, "sk_live", "whsec"] {
        assert!(SigningKey::parse(bad).is_err(), "{bad:.80}");
    }
    for bad in [PRIVATE, "whpk_AAAA", "whpk_", &short] {
        assert!(VerifyingKey::parse(bad).is_err(), "{bad:.80}");
    }
    for len in [24, 64] {
        assert!(SigningKey::parse(&format!("whsec_{}", BASE64_STANDARD.encode(vec![7; len]))).is_ok());
    }
}

#[test]
fn while_keys_are_changed_both_sign() {
    let keys = SigningKeys::new(SigningKey::parse(PRIVATE).unwrap()).with_previous(SigningKey::parse(SECRET).unwrap(), AT + 1);
    let both = keys.signatures(ID, AT, BODY).unwrap();
    assert_eq!(both, format!("{ED25519} {HMAC}"));
    assert_eq!((at(SECRET, AT, &both), at(PUBLIC, AT, &both)), (Ok(()), Ok(())));
    assert!(!keys.signatures(ID, AT + 1, BODY).unwrap().contains(' '), "then the old one is gone");
}

#[test]
fn only_what_was_signed_is_believed() {
    let other = SigningKey::generate(Scheme::Ed25519).unwrap().verifying().unwrap();
    assert_eq!(verify(&[other], signed(&AT.to_string(), ED25519), BODY, AT), Err(VerifyError::Signature));
    let key = [VerifyingKey::parse(PUBLIC).unwrap()];
    let (time, later) = (AT.to_string(), (AT + 1).to_string());
    assert_eq!(verify(&key, signed(&time, ED25519), b"{}", AT), Err(VerifyError::Signature));
    assert_eq!(verify(&key, signed(&later, ED25519), BODY, AT), Err(VerifyError::Signature));
    assert_eq!(verify(&key, Signed { id: "msg_other", ..signed(&time, ED25519) }, BODY, AT), Err(VerifyError::Signature));
    assert_eq!(verify(&[], signed(&time, ED25519), BODY, AT), Err(VerifyError::Signature));
    for bad in [
        "",
        "v1a",
        "v1a,",
        "v1a,!!!!",
        "v2,AAAA",
        &ED25519[4..],
        &ED25519.replace("v1a", "v1"),
        &ED25519[..40],
        &" ".repeat(4096),
        &"v1a,AAAA ".repeat(400),
    ] {
        assert_eq!(verify(&key, signed(&time, bad), BODY, AT), Err(VerifyError::Signature), "{bad:.40}");
    }
    let among = format!("v9,AAAA garbage {HMAC} {ED25519}");
    assert_eq!(verify(&key, signed(&time, &among), BODY, AT), Ok(()));
    assert_eq!(verify(&key, signed(&time, &"v1a,AAAA ".repeat(500)), BODY, AT), Err(VerifyError::Headers));
}

#[test]
fn a_signature_is_good_for_five_minutes() {
    assert_eq!((at(PUBLIC, AT + 300, ED25519), at(PUBLIC, AT - 300, ED25519)), (Ok(()), Ok(())));
    assert_eq!((at(PUBLIC, AT + 301, ED25519), at(PUBLIC, AT - 301, ED25519)), (Err(VerifyError::Old), Err(VerifyError::Future)));
    let key = [VerifyingKey::parse(PUBLIC).unwrap()];
    for bad in ["", "+1614265330", "-1", "1614265330 ", "16142653３0", "x", "1e9", "99999999999999999999999"] {
        assert_eq!(verify(&key, signed(bad, ED25519), BODY, AT), Err(VerifyError::Time), "{bad:?}");
    }
    assert_eq!(verify(&key, signed("18446744073709551615", ED25519), BODY, u64::MAX), Err(VerifyError::Signature));
}

#[test]
fn all_headers_of_an_attempt_are_written() {
    let id = message_id(EventId::new(firmware_protocol::time::UnixMillis(1_700_000_000_123), [0xab; 10]), HookId([0x5c; 12]));
    assert_eq!(id, "018bcfe5-687b-7bab-abab-abababababab_5c5c5c5c5c5c5c5c5c5c5c5c");
    let (mut headers, keys) = (HeaderMap::new(), keys(PRIVATE));
    headers.insert(WEBHOOK_SIGNATURE, HeaderValue::from_static("v1,forged"));
    headers.insert(WEBHOOK_REPLAY, HeaderValue::from_static("forged"));
    let envelope = Envelope { id: &id, timestamp_s: AT, attempt: 3, replay: None };
    envelope.write(&mut headers, BODY, Some(&keys)).unwrap();
    let key = [keys.current().verifying().unwrap()];
    assert_eq!(Signed::read(&headers).and_then(|signed| verify(&key, signed, BODY, AT)), Ok(()));
    assert_eq!((headers[WEBHOOK_ATTEMPT].as_bytes(), headers.get(WEBHOOK_REPLAY)), (&b"3"[..], None));
    Envelope { replay: Some("job 7"), ..envelope }.write(&mut headers, BODY, None).unwrap();
    assert_eq!((headers[WEBHOOK_REPLAY].as_bytes(), headers.get(WEBHOOK_SIGNATURE)), (&b"job 7"[..], None));
    assert_eq!(Signed::read(&headers), Err(VerifyError::Headers));
    for bad in ["", "a.b", "a\r\nb"] {
        assert!(matches!(Envelope { id: bad, ..envelope }.write(&mut headers, BODY, None), Err(SignError::Name)));
    }
    assert!(matches!(Envelope { replay: Some("a\nb"), ..envelope }.write(&mut headers, BODY, None), Err(SignError::Name)));
}

/// What the `openssl` command makes of the same text; `None` where there is no such command.
fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new("openssl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.ok()?;
    std::io::Write::write_all(&mut child.stdin.take()?, input).ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

#[test]
fn the_openssl_command_makes_the_same_code() {
    let secret = [0x42; 32];
    let key = SigningKeys::new(SigningKey::parse(&format!("whsec_{}", BASE64_STANDARD.encode(secret))).unwrap());
    let option = format!("hexkey:{}", hex::encode(secret));
    let arguments = ["dgst", "-sha256", "-mac", "HMAC", "-macopt", &option, "-binary"];
    let Some(code) = openssl(&arguments, b"msg_1.1700000000.{\"a\":1}") else { return };
    assert_eq!(key.signatures("msg_1", 1_700_000_000, b"{\"a\":1}").unwrap(), format!("v1,{}", BASE64_STANDARD.encode(code)));
}

#[test]
fn the_openssl_command_makes_the_same_signature() {
    let SigningKey::Ed25519(key) = SigningKey::parse(PRIVATE).unwrap() else { panic!("it is one") };
    let directory = tempfile::tempdir().unwrap();
    let (key_file, text_file) = (directory.path().join("key"), directory.path().join("text"));
    std::fs::write(&key_file, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    std::fs::write(&text_file, b"msg_1.1700000000.{\"a\":1}").unwrap();
    let arguments = ["pkeyutl", "-sign", "-rawin", "-inkey", key_file.to_str().unwrap(), "-in", text_file.to_str().unwrap()];
    let Some(signature) = openssl(&arguments, b"") else { return };
    assert_eq!(
        keys(PRIVATE).signatures("msg_1", 1_700_000_000, b"{\"a\":1}").unwrap(),
        format!("v1a,{}", BASE64_STANDARD.encode(signature))
    );
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_what_is_changed_does_not(body in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<prop::sample::Index>(), hmac: bool) {
        let key = SigningKey::parse(if hmac { SECRET } else { PRIVATE }).unwrap();
        let (verifying, keys) = ([key.verifying().unwrap()], SigningKeys::new(key));
        let signatures = keys.signatures(ID, AT, &body).unwrap();
        prop_assert_eq!(verify(&verifying, signed(&AT.to_string(), &signatures), &body, AT), Ok(()));
        let mut changed = body.clone();
        changed.push(0);
        let at = flip.index(changed.len());
        changed[at] ^= 1;
        prop_assert_eq!(verify(&verifying, signed(&AT.to_string(), &signatures), &changed, AT), Err(VerifyError::Signature));
    }

    #[test]
    fn headers_of_any_kind_are_refused_without_panic(id: String, timestamp: String, signatures: String) {
        let key = [VerifyingKey::parse(PUBLIC).unwrap(), VerifyingKey::parse(SECRET).unwrap()];
        let signed = Signed { id: &id, timestamp: &timestamp, signatures: &signatures };
        prop_assert!(verify(&key, signed, BODY, AT).is_err());
        prop_assert!(SigningKey::parse(&signatures).is_err() && VerifyingKey::parse(&id).is_err());
    }
}
