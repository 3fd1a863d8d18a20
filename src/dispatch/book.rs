//! The hooks that there are, as the registry said them last, and which of them an event is for.

use std::collections::HashMap;
use std::sync::Arc;

use firmware_protocol::time::UnixMillis;
use router::event::{Audience, Event, Whose};
use webhooks::dispatcher::messages::Ordering;
use webhooks::dispatcher::schedule::ATTEMPTS_MAX;
use webhooks::dispatcher::{Settings, TenantId};
use webhooks::hook::{self, Hook, HookId};
use webhooks::sign::SigningKeys;

/// A hook, and what is needed to send for it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// What it says.
    pub(super) hook: Arc<Hook>,
    /// Its name, for its owner.
    pub(super) name: Arc<str>,
    /// What its requests are signed with, if they are.
    pub(super) keys: Option<Arc<SigningKeys>>,
    /// Whose share of what everybody shares it takes.
    pub(super) tenant: TenantId,
    /// When its owner changed it last.
    pub(super) updated_at: UnixMillis,
    /// Whether what is answered is published.
    pub(super) publishes: bool,
    /// It is this server's own, whose receiver is in this process.
    pub(super) is_own: bool,
}

/// The hooks.
#[derive(Debug, Default)]
pub(super) struct Book {
    hooks: HashMap<HookId, Listed>,
    by_audience: HashMap<Audience, Vec<Arc<Hook>>>,
}

impl Listed {
    /// What the dispatcher has to know of it.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            tenant: self.tenant,
            ordering: match self.hook.ordering {
                hook::Ordering::PerDevice => Ordering::PerDevice,
                hook::Ordering::None => Ordering::None,
            },
            attempts_max: ATTEMPTS_MAX,
            is_disabled: self.hook.is_disabled,
            revision: self.updated_at.0,
        }
    }
}

impl Book {
    /// Puts a hook into it, in place of what it said before.
    pub(super) fn put(&mut self, listed: Listed) {
        self.remove(listed.hook.id);
        self.by_audience.entry(listed.hook.audience).or_default().push(Arc::clone(&listed.hook));
        self.hooks.insert(listed.hook.id, listed);
    }

    /// Takes a hook out of it. `false` if it was not there.
    pub(super) fn remove(&mut self, id: HookId) -> bool {
        let Some(listed) = self.hooks.remove(&id) else { return false };
        if let Some(hooks) = self.by_audience.get_mut(&listed.hook.audience) {
            hooks.retain(|hook| hook.id != id);
            if hooks.is_empty() {
                self.by_audience.remove(&listed.hook.audience);
            }
        }
        true
    }

    /// A hook.
    pub(super) fn get(&self, id: HookId) -> Option<&Listed> {
        self.hooks.get(&id)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Listed> {
        self.hooks.values()
    }

    /// Whether anybody may want events that are theirs.
    pub(super) fn may_want(&self, whose: Whose) -> bool {
        whose.audiences().any(|audience| self.by_audience.contains_key(&audience))
    }

    /// The hooks that an event is for.
    pub(super) fn matching(&self, event: &Event) -> Vec<HookId> {
        let heard = event.whose().audiences().filter_map(|audience| self.by_audience.get(&audience)).flatten();
        heard.filter(|hook| hook.matches(event)).map(|hook| hook.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
    use router::event::{NewEvent, Source};
    use serde_json::{Map, json};

    use super::*;

    fn listed(id: u8, audience: Audience, event: &str) -> Listed {
        let definition = Map::from_iter([("event".into(), json!(event)), ("url".into(), json!("https://example.com"))]);
        let hook = Arc::new(Hook::parse(HookId([id; 12]), audience, &definition).unwrap());
        let updated_at = UnixMillis(0);
        Listed { hook, name: "a hook".into(), keys: None, tenant: TenantId(0), updated_at, publishes: true, is_own: false }
    }

    fn event(name: &str, product: Option<ProductId>) -> Event {
        let source = Source::Device(DeviceId([1; 12]));
        let new = NewEvent { owner: OwnerId(1), product, source, name: name.into(), content_format: 0, data: None, ttl_s: 60 };
        new.accept(UnixMillis(0), [0; 10])
    }

    #[test]
    fn an_event_is_for_the_hooks_of_its_owner_and_of_its_product() {
        let mut book = Book::default();
        let (owner, product) = (Audience::Owner(OwnerId(1)), Audience::Product(ProductId(7)));
        book.put(listed(1, owner, "temp"));
        book.put(listed(2, product, "te"));
        book.put(listed(3, Audience::Owner(OwnerId(2)), "temp"));
        let matching = |book: &Book, name: &str, product| {
            let mut ids: Vec<_> = book.matching(&event(name, product)).into_iter().map(|id| id.0[0]).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(matching(&book, "temperature", Some(ProductId(7))), [1, 2]);
        assert_eq!(matching(&book, "temperature", Some(ProductId(8))), [1]);
        assert_eq!(matching(&book, "tea", None), [] as [u8; 0]);
        book.put(listed(1, owner, "hum"));
        assert_eq!(matching(&book, "temperature", None), [] as [u8; 0], "it says something else now");
        assert!(book.remove(HookId([2; 12])) && !book.remove(HookId([2; 12])));
        assert!(book.may_want(Whose { owner: OwnerId(1), product: None }));
        assert!(!book.may_want(Whose { owner: OwnerId(5), product: Some(ProductId(7)) }), "the product's only hook is gone");
        assert_eq!(book.all().count(), 2);
    }
}
