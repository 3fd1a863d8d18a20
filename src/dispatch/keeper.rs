//! Keeps the book as the registry says: reads hooks and their keys when they change, and all of them every now and then, and disables those whose receivers
//! are gone. A registry that cannot be asked leaves the book as it is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use webhooks::dispatcher::TenantId;
use webhooks::hook::{HookId, Signature};
use webhooks::sign::{Scheme, SigningKey};

use super::book::Listed;
use super::message::{Message, Taken};
use crate::dates;
use crate::store::registry::{self, StoredHook};
use crate::store::{Realm, Registry, RegistryError};

/// How often all hooks are read, whatever was said of changes.
const READ_EVERY: Duration = Duration::from_secs(30);
/// How long to wait before a registry that could not be asked is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the key before signs too, if a hook gets another because it is signed in another way.
const OVERLAP_MS: u64 = 24 * 3_600_000;
/// So that no number of a product is one of an account.
const PRODUCTS: u64 = 1 << 63;

/// What the keeper is asked.
#[derive(Debug)]
pub(super) enum Errand {
    /// Read a hook.
    Read(HookId, Taken),
    /// Read all hooks.
    ReadAll(Taken),
    /// Disable a hook.
    Disable(HookId),
}

/// Who keeps the book.
pub(super) struct Keeper {
    registry: Registry,
    errands: UnboundedReceiver<Errand>,
    inbox: Sender<Message>,
    /// The server's own hook.
    own: Option<Listed>,
    to_disable: Vec<HookId>,
    read_at: Instant,
    is_failing: bool,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("to_disable", &self.to_disable).finish_non_exhaustive()
    }
}

impl Keeper {
    /// One who tells `inbox`, and where it is asked. `own` is in every book.
    pub(super) fn new(registry: Registry, inbox: Sender<Message>, own: Option<Listed>) -> (Self, UnboundedSender<Errand>) {
        let (sender, errands) = unbounded_channel();
        let (to_disable, read_at) = (Vec::new(), Instant::now());
        (Self { registry, errands, inbox, own, to_disable, read_at, is_failing: false }, sender)
    }

    /// Keeps it until nobody asks any more.
    pub(super) async fn run(mut self) {
        self.registry.filled().await;
        loop {
            let pause = if self.to_disable.is_empty() { self.read_at } else { self.read_at.min(Instant::now() + PAUSE) };
            let errand = tokio::select! {
                errand = self.errands.recv() => match errand {
                    Some(errand) => Some(errand),
                    None => return,
                },
                () = tokio::time::sleep_until(pause) => None,
            };
            match errand {
                Some(Errand::Read(id, taken)) => self.read(id, taken).await,
                Some(Errand::ReadAll(taken)) => self.read_all(vec![taken]).await,
                Some(Errand::Disable(id)) => self.to_disable.push(id),
                None => {}
            }
            self.disable().await;
            if Instant::now() >= self.read_at {
                self.read_all(Vec::new()).await;
            }
        }
    }

    async fn read(&mut self, id: HookId, taken: Taken) {
        match self.look_up(id).await {
            Ok(listed) => _ = self.inbox.send(Message::Hook { id, listed: listed.map(Box::new), taken }),
            Err(error) => self.complain(&error),
        }
    }

    async fn look_up(&self, id: HookId) -> Result<Option<Listed>, RegistryError> {
        let Some(stored) = self.registry.any_hook(id).await? else { return Ok(None) };
        let keys = self.registry.signing_keys(stored.realm, id).await?;
        self.list(&stored, keys).await.map(Some)
    }

    async fn read_all(&mut self, mut taken: Vec<Taken>) {
        // Those who ask for the same meanwhile are served by one reading.
        while let Ok(errand) = self.errands.try_recv() {
            match errand {
                Errand::Read(_, also) | Errand::ReadAll(also) => taken.push(also),
                Errand::Disable(id) => self.to_disable.push(id),
            }
        }
        match self.try_read_all().await {
            Ok((listed, present)) => {
                (self.is_failing, self.read_at) = (false, Instant::now() + READ_EVERY);
                let _ = self.inbox.send(Message::Hooks { listed, present, taken });
            }
            Err(error) => {
                self.complain(&error);
                self.read_at = Instant::now() + PAUSE;
            }
        }
    }

    async fn try_read_all(&self) -> Result<(Vec<Listed>, BTreeSet<HookId>), RegistryError> {
        let mut present = self.registry.hook_ids().await?;
        let mut keys = HashMap::new();
        for read in self.registry.all_signing_keys().await? {
            match read {
                Ok((hook, read)) => _ = keys.insert(hook, read),
                Err(error) => tracing::error!(%error, "the signing keys of a hook cannot be read; it is left as it was"),
            }
        }
        let mut listed: Vec<_> = self.own.iter().cloned().collect();
        for stored in self.registry.all_hooks().await? {
            let read = match stored {
                Ok(stored) => self.list(&stored, keys.remove(&stored.id)).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(hook) => listed.push(hook),
                Err(error) => tracing::error!(%error, "a hook cannot be read; it is left as it was"),
            }
        }
        present.extend(self.own.iter().map(|own| own.hook.id));
        Ok((listed, present))
    }

    /// A hook as it stands in the book. One that is to be signed and has no key of that kind gets one.
    async fn list(&self, stored: &StoredHook, keys: Option<registry::SigningKeys>) -> Result<Listed, RegistryError> {
        let hook = stored.read().map_err(|error| {
            tracing::error!(hook = %stored.id, %error, "the definition of a hook cannot be carried out");
            RegistryError::Damaged("the definition of a hook")
        })?;
        let keys = match scheme(hook.signature) {
            Some(scheme) => Some(Arc::new(self.keys(stored, scheme, keys).await?)),
            None => None,
        };
        Ok(Listed {
            hook: Arc::new(hook),
            name: stored.text.name.as_str().into(),
            keys,
            tenant: self.tenant(stored.realm),
            updated_at: stored.updated_at,
            publishes: true,
            is_own: false,
        })
    }

    async fn keys(
        &self,
        stored: &StoredHook,
        scheme: Scheme,
        keys: Option<registry::SigningKeys>,
    ) -> Result<webhooks::sign::SigningKeys, RegistryError> {
        let read = |text: &str| SigningKey::parse(text).map_err(|_| RegistryError::Damaged("the signing key of a hook"));
        let keys = match keys {
            Some(keys) if read(&keys.current)?.scheme() == scheme => keys,
            _ => {
                let key = SigningKey::generate(scheme).and_then(|key| key.to_text())?;
                let until = UnixMillis(dates::now().0 + OVERLAP_MS);
                self.registry.set_signing_key(stored.realm, stored.id, key.to_string(), until).await?
            }
        };
        let current = webhooks::sign::SigningKeys::new(read(&keys.current)?);
        Ok(match &keys.previous {
            Some((previous, until)) => current.with_previous(read(previous)?, until.0 / 1_000),
            None => current,
        })
    }

    /// An account's products take its share.
    fn tenant(&self, realm: Realm) -> TenantId {
        TenantId(match realm {
            Realm::User(owner) => owner.0,
            Realm::Product(product) => {
                self.registry.products().find(product).map_or(PRODUCTS | u64::from(product.0), |product| product.owner.0)
            }
        })
    }

    async fn disable(&mut self) {
        let mut left = Vec::new();
        for id in std::mem::take(&mut self.to_disable) {
            match self.registry.disable_hook(id).await {
                Ok(()) => {
                    let (taken, _) = tokio::sync::oneshot::channel();
                    self.read(id, taken).await;
                }
                Err(RegistryError::NoSuch(_) | RegistryError::Damaged(_)) => {}
                Err(error) => {
                    self.complain(&error);
                    left.push(id);
                }
            }
        }
        self.to_disable = left;
    }

    fn complain(&mut self, error: &RegistryError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%error, "hooks cannot be read; those that are known go on as they are");
        }
    }
}

fn scheme(signature: Signature) -> Option<Scheme> {
    match signature {
        Signature::Ed25519 => Some(Scheme::Ed25519),
        Signature::Hmac => Some(Scheme::Hmac),
        Signature::None => None,
    }
}
