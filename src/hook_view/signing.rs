//! How the requests of a hook are signed: the scheme, and the halves of its keys that anybody may know.

use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use webhooks::hook::Signature;
use webhooks::sign::{Scheme, SigningKey};

use crate::dates::Iso;
use crate::store::registry::SigningKeys;

/// How requests are signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningView {
    /// `ed25519`, `hmac` or `none`.
    pub scheme: String,
    /// The key that tells whether a signature is right, if anybody may know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The key before, while it signs as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousKey>,
}

/// A key that signs for a while yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousKey {
    /// The key that tells whether its signatures are right, if anybody may know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Until when it signs.
    pub until: String,
}

/// The kind of key that a hook signs with; `None` if it does not sign.
pub fn scheme_of(signature: Signature) -> Option<Scheme> {
    match signature {
        Signature::Ed25519 => Some(Scheme::Ed25519),
        Signature::Hmac => Some(Scheme::Hmac),
        Signature::None => None,
    }
}

/// How a hook signs, with these keys.
pub fn signing(signature: Signature, keys: Option<&SigningKeys>, now: UnixMillis) -> SigningView {
    let scheme = match signature {
        Signature::Ed25519 => "ed25519",
        Signature::Hmac => "hmac",
        Signature::None => "none",
    };
    let keys = keys.filter(|_| signature != Signature::None);
    let previous = keys.and_then(|keys| keys.previous.as_ref()).filter(|(_, until)| *until > now);
    SigningView {
        scheme: scheme.to_owned(),
        public_key: keys.and_then(|keys| public_key(&keys.current)),
        previous: previous.map(|(key, until)| PreviousKey { public_key: public_key(key), until: Iso(*until).to_string() }),
    }
}

fn public_key(key: &str) -> Option<String> {
    SigningKey::parse(key).ok()?.public_text().ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scheme: Scheme) -> String {
        SigningKey::generate(scheme).unwrap().to_text().unwrap().to_string()
    }

    #[test]
    fn of_a_pair_the_public_half_is_shown_and_of_a_secret_nothing() {
        let keys = SigningKeys { current: key(Scheme::Ed25519), previous: Some((key(Scheme::Ed25519), UnixMillis(5_000))) };
        let shown = signing(Signature::Ed25519, Some(&keys), UnixMillis(4_999));
        assert!(shown.public_key.as_ref().is_some_and(|key| key.starts_with("whpk_")));
        let previous = shown.previous.clone().unwrap();
        assert!(previous.public_key.is_some() && previous.public_key != shown.public_key);
        assert_eq!(signing(Signature::Ed25519, Some(&keys), UnixMillis(5_000)).previous, None);

        let keys = SigningKeys { current: key(Scheme::Hmac), previous: Some((key(Scheme::Hmac), UnixMillis(5_000))) };
        let shown = signing(Signature::Hmac, Some(&keys), UnixMillis(0));
        assert!(!serde_json::to_string(&shown).unwrap().contains("wh"), "{shown:?}");
        let unsigned = SigningView { scheme: "none".into(), public_key: None, previous: None };
        assert_eq!(signing(Signature::None, Some(&keys), UnixMillis(0)), unsigned);
    }
}
