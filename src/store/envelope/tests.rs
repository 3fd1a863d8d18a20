//! Tests of envelopes, and of their form.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const HERE: Place<'static> = Place { table: "hooks", row: "0123456789abcdef01234567", field: "definition" };

fn key(number: u8) -> MasterKey {
    MasterKey { id: format!("k-{number}"), key: [number; KEY_LEN] }
}

fn keys(numbers: &[u8]) -> MasterKeys {
    MasterKeys::new(numbers.iter().copied().map(key).collect()).unwrap()
}

#[test]
fn a_secret_comes_back_and_is_never_sealed_twice_alike() {
    let keys = keys(&[2, 1]);
    for secret in [&b""[..], b"hunter2", &[0xff; 70_000]] {
        let (one, other) = (keys.seal(HERE, secret).unwrap(), keys.seal(HERE, secret).unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with("hf1:a256gcm:k-2:") && one.starts_with(&keys.current_prefix()) && is_envelope(&one));
        assert_eq!((keys.open(HERE, &one).unwrap(), key_of(&one)), (secret.to_vec(), Some("k-2")));
    }
    assert_eq!(format!("{keys:?}"), r#"["k-2", "k-1"]"#);
}

#[test]
fn an_older_key_opens_and_an_unknown_or_a_wrong_one_is_told_apart() {
    let envelope = keys(&[1]).seal(HERE, b"hunter2").unwrap();
    assert_eq!(keys(&[2, 1]).open_text(HERE, &envelope).unwrap(), "hunter2");
    assert!(matches!(keys(&[2]).open(HERE, &envelope), Err(EnvelopeError::Key { key, .. }) if key == "k-1"));
    let impostor = MasterKeys::new(vec![MasterKey { id: "k-1".into(), key: [9; KEY_LEN] }]).unwrap();
    assert!(matches!(impostor.open(HERE, &envelope), Err(EnvelopeError::Forged { .. })));
}

#[test]
fn an_envelope_opens_where_it_was_sealed_and_nowhere_else() {
    let keys = keys(&[1]);
    let envelope = keys.seal(HERE, b"hunter2").unwrap();
    let elsewhere = [
        Place { row: "0123456789abcdef01234568", ..HERE },
        Place { field: "url", ..HERE },
        Place { table: "hook_keys", ..HERE },
        Place { table: "hooks", row: "", field: "0123456789abcdef01234567definition" },
    ];
    for place in elsewhere {
        assert!(matches!(keys.open(place, &envelope), Err(EnvelopeError::Forged { .. })), "{place}");
    }
}

#[test]
fn whatever_is_not_known_is_a_typed_error() {
    let keys = keys(&[1]);
    let envelope = keys.seal(HERE, b"hunter2").unwrap();
    let tail = envelope.strip_prefix("hf1:a256gcm:k-1:").unwrap();
    let open = |text: &str| keys.open(HERE, text).unwrap_err();
    for plain in ["", "{\"url\":1}", "https://example.com/", "hf:", "hf1", "hfx:a", "hf12345:a"] {
        assert!(matches!(open(plain), EnvelopeError::Plain(_)) && !is_envelope(plain), "{plain}");
    }
    assert!(matches!(open(&format!("hf2:a256gcm:k-1:{tail}")), EnvelopeError::Format { format, .. } if format == "hf2"));
    assert!(matches!(open(&format!("hf1:chacha:k-1:{tail}")), EnvelopeError::Algorithm { algorithm, .. } if algorithm == "chacha"));
    for bad in ["hf1:", "hf1:a256gcm", "hf1:a256gcm:k-1", "hf1:a256gcm:k-1:AAAA:AAAA", "hf1:a256gcm:K 1:AAAA:AAAA"] {
        assert!(matches!(open(bad), EnvelopeError::Malformed(_)), "{bad}");
    }
    assert!(matches!(open(&format!("{envelope}:")), EnvelopeError::Malformed(_)));
    assert!(!open(&envelope.replace("k-1", "k-2")).to_string().contains("hunter2"));
}

/// Made once. Whatever was sealed by any version is opened by every later one.
#[test]
fn envelopes_of_all_formats_are_opened() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/envelopes/hf1.txt");
    if std::env::var_os("HOLDFAST_TEST_WRITE_GOLDEN").is_some() {
        let lines = ["", "hunter2", "{\"headers\":{\"Authorization\":\"Bearer grüße\"}}"];
        let text: String = lines.iter().map(|line| format!("{} {line}\n", keys(&[7]).seal(HERE, line.as_bytes()).unwrap())).collect();
        std::fs::write(&golden, text).unwrap();
    }
    let text = std::fs::read_to_string(golden).unwrap();
    assert_eq!(text.lines().count(), 3);
    for line in text.lines() {
        let (envelope, secret) = line.split_once(' ').unwrap();
        assert_eq!(keys(&[8, 7]).open_text(HERE, envelope).unwrap(), secret);
    }
}

proptest! {
    #[test]
    fn no_changed_letter_opens(at in any::<usize>(), letter in "[A-Za-z0-9_:-]", secret in proptest::collection::vec(any::<u8>(), 0..60)) {
        let keys = keys(&[1]);
        let envelope = keys.seal(HERE, &secret).unwrap();
        let at = at % envelope.len();
        let changed = format!("{}{letter}{}", &envelope[..at], &envelope[at + 1..]);
        prop_assume!(changed != envelope);
        prop_assert!(keys.open(HERE, &changed).is_err());
        prop_assert!(keys.open(HERE, &envelope[..at]).is_err());
    }

    #[test]
    fn hostile_text_never_panics(text in ".{0,200}", tail in "[A-Za-z0-9_:-]{0,60}") {
        let _ = (keys(&[1]).open(HERE, &text), key_of(&text));
        let _ = keys(&[1]).open(HERE, &format!("hf1:a256gcm:k-1:{tail}"));
    }
}
