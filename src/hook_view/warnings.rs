//! What the owner of a hook should know about what it says.

use webhooks::hook::{Hook, Signature};

/// What its owner should know of a hook, in sentences.
pub fn warnings_of(hook: &Result<Hook, String>) -> Vec<String> {
    let hook = match hook {
        Ok(hook) => hook,
        Err(error) => return vec![format!("It cannot be carried out: {error}")],
    };
    let is_plain = hook.url.start().to_ascii_lowercase().starts_with("http:");
    let found = [
        (!hook.verifies_tls, "TLS certificates are not verified"),
        (is_plain, "Requests are not encrypted"),
        (hook.signature == Signature::None, "Requests are not signed"),
    ];
    found.into_iter().filter(|(is_so, _)| *is_so).map(|(_, words)| words.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::OwnerId;
    use firmware_protocol::time::UnixMillis;
    use serde_json::{Value as Json, json};
    use webhooks::hook::HookId;

    use router::event::Audience;

    use super::*;
    use crate::store::Realm;
    use crate::store::registry::{HookText, StoredHook};

    fn stored(definition: &Json) -> StoredHook {
        let text = HookText { event: "e".into(), name: "n".into(), url: "u".into(), enabled: true, definition: definition.to_string() };
        let (id, realm) = (HookId([1; 12]), Realm::User(OwnerId(3)));
        StoredHook { id, realm, text, created_at: UnixMillis(0), updated_at: UnixMillis(0) }
    }

    #[test]
    fn an_owner_is_warned_of_what_a_hook_leaves_open() {
        let warnings = |definition: Json| warnings_of(&stored(&definition).read());
        assert!(warnings(json!({ "event": "e", "url": "https://example.com" })).is_empty());
        let open = json!({ "event": "e", "url": "HTTP://example.com", "rejectUnauthorized": false, "signature": "none" });
        let words = ["TLS certificates are not verified", "Requests are not encrypted", "Requests are not signed"];
        assert_eq!(warnings(open), words);
        assert!(warnings(json!({ "event": "e" }))[0].starts_with("It cannot be carried out: url must be"));
        assert!(warnings(json!([]))[0].ends_with("no JSON object"));
    }

    #[test]
    fn a_stored_hook_is_its_owners() {
        let hook = stored(&json!({ "event": "e", "url": "https://example.com" })).read();
        assert_eq!(hook.map(|hook| (hook.id, hook.audience)), Ok((HookId([1; 12]), Audience::Owner(OwnerId(3)))));
    }
}
