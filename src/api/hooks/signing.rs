//! The keys that a hook signs with: told to whoever has to check signatures, and changed without a gap.

use axum::extract::{Path, State};
use axum::response::Response;
use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use webhooks::hook::Signature;
use webhooks::sign::{Scheme, SigningKey};

use super::desk::{Told, change};
use super::{OfHook, refused, stored};
use crate::api::Context;
use crate::api::error::ApiError;
use crate::api::json::ok;
use crate::api::request::Call;
use crate::dates;
use crate::hook_view::{self, SigningView};
use crate::store::RegistryError;
use crate::store::registry::{SigningKeys, StoredHook};

/// How long the key before signs as well, in seconds, if nothing is said.
const OVERLAP_S: u32 = 86_400;
/// The longest that may be said.
const OVERLAP_S_MAX: u32 = 7 * 86_400;

/// How a key is changed.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(in crate::api) struct NewKey {
    /// A key of the caller's own: `whsec_` and 24 to 64 bytes in Base64 for `hmac`, `whsk_` and 32 bytes for `ed25519`. Made here if it is not said.
    secret: Option<String>,
    /// For how many seconds the key before signs as well: one day if it is not said, 7 days at most.
    overlap_s: Option<u32>,
}

/// The key of a hook, for whoever checks its signatures.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct KeyAnswer {
    #[serde(flatten)]
    signing: SigningView,
    /// The secret that both know, `whsec_…`, of the scheme `hmac`.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// `GET /v1/integrations/{hook}/signing_key`
#[utoipa::path(get, path = "/v1/integrations/{hook}/signing_key", tag = "hooks", security(("token" = ["integrations:update"])),
    responses((status = 200, description = "What signatures are checked with.", body = KeyAnswer)))]
pub(in crate::api) async fn show(
    State(context): State<Context>,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let stored = stored(&context, &call, &hook).await?;
    let keys = context.registry().signing_keys(stored.realm, stored.id).await?;
    let signature = signature(&stored)?;
    let signing = hook_view::signing(signature, keys.as_ref(), dates::now());
    let secret = keys.filter(|_| signature == Signature::Hmac).map(|keys| keys.current).filter(|key| is_of(key, Scheme::Hmac));
    Ok(ok(&json!(KeyAnswer { signing, secret })))
}

/// `POST /v1/integrations/{hook}/signing_key`: gives it another key. The answer does not have the secret, since answers may be kept to be given again.
#[utoipa::path(post, path = "/v1/integrations/{hook}/signing_key", tag = "hooks", request_body = NewKey,
    security(("token" = ["integrations:update"])),
    responses((status = 200, description = "It signs with the new key, and for a while with the one before.", body = SigningView)))]
pub(in crate::api) async fn rotate(
    State(context): State<Context>,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let stored = stored(&context, &call, &hook).await?;
    let NewKey { secret, overlap_s } = call.body.read()?;
    let signature = signature(&stored)?;
    let key = key(signature, secret)?;
    let overlap_s = overlap_s.unwrap_or(OVERLAP_S);
    if overlap_s > OVERLAP_S_MAX {
        return Err(ApiError::bad_request("overlap_s is at most 604800"));
    }
    let until = UnixMillis(dates::now().0.saturating_add(u64::from(overlap_s) * 1_000));
    let (registry, realm, id) = (context.registry_of(&call), stored.realm, stored.id);
    let rotated = async move { registry.set_signing_key(realm, id, key, until).await };
    let keys: SigningKeys = change(&context, rotated, move |_| Told::Hook(id)).await.map_err(refused)?;
    Ok(ok(&json!(hook_view::signing(signature, Some(&keys), dates::now()))))
}

fn signature(stored: &StoredHook) -> Result<Signature, ApiError> {
    let hook = stored.read().map_err(|error| ApiError::bad_request(&error))?;
    Ok(hook.signature)
}

/// The key that is to sign: the caller's own, or a new one.
fn key(signature: Signature, own: Option<String>) -> Result<String, ApiError> {
    let scheme = hook_view::scheme_of(signature);
    let scheme = scheme.ok_or_else(|| ApiError::bad_request("This webhook does not sign: its signature is none"))?;
    let Some(own) = own.filter(|own| !own.is_empty()) else {
        let made = SigningKey::generate(scheme).and_then(|key| key.to_text());
        return made.map(|key| key.to_string()).map_err(|error| RegistryError::Randomness(error).into());
    };
    let parsed = SigningKey::parse(&own).map_err(|error| ApiError::bad_request(&format!("secret: {error}")))?;
    if parsed.scheme() != scheme {
        let wanted = if scheme == Scheme::Hmac { "hmac takes whsec_" } else { "ed25519 takes whsk_" };
        return Err(ApiError::bad_request(&format!("secret is no key of the webhook's signature: {wanted}")));
    }
    Ok(own)
}

fn is_of(key: &str, scheme: Scheme) -> bool {
    SigningKey::parse(key).is_ok_and(|key| key.scheme() == scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_ones_own_has_to_fit_the_signature_of_the_hook() {
        let made = |scheme| SigningKey::generate(scheme).unwrap().to_text().unwrap().to_string();
        let (pair, secret) = (made(Scheme::Ed25519), made(Scheme::Hmac));
        assert!(key(Signature::Ed25519, Some(pair.clone())).is_ok_and(|key| key == pair));
        assert!(key(Signature::Hmac, Some(secret.clone())).is_ok_and(|key| key == secret));
        assert!(key(Signature::Ed25519, None).is_ok_and(|key| is_of(&key, Scheme::Ed25519)));
        assert!(key(Signature::Hmac, Some(String::new())).is_ok_and(|key| is_of(&key, Scheme::Hmac)));
        for (signature, own) in [
            (Signature::Ed25519, Some(secret)),
            (Signature::Hmac, Some(pair)),
            (Signature::Hmac, Some("whsec_c2hvcnQ=".to_owned())),
            (Signature::Hmac, Some("hunter2".to_owned())),
            (Signature::None, None),
        ] {
            assert!(key(signature, own.clone()).is_err(), "{signature:?} {own:?}");
        }
    }
}
