//! What devices of the same firmware say alike is held once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use firmware_protocol::crypto::digest64;
use firmware_protocol::session::describe::{Application, DescribeKind};
use firmware_protocol::session::modules::Modules;
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};

use crate::shared::Shared;

/// What the devices of one shard have in common.
#[derive(Debug, Default)]
pub(crate) struct InCommon {
    applications: Shared<Application>,
    subscriptions: Shared<Vec<Subscription>>,
    restored: Restored,
}

/// What a describe says, as far as a shard keeps it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Described {
    /// Something of the application is missing on the device.
    pub(crate) lacks_modules: bool,
    /// Its functions and variables.
    pub(crate) application: Option<Arc<Application>>,
}

/// What was made of what restored devices share, by where that lies. It is held, so that nothing else comes to lie there.
#[derive(Debug, Default)]
struct Restored {
    describes: ByPlace<(usize, DescribeKind), Arc<[u8]>, Described>,
    subscriptions: ByPlace<usize, Arc<BTreeSet<Subscription>>, Arc<Vec<Subscription>>>,
}

/// What lies in a place, and what was made of it.
type ByPlace<P, T, U> = HashMap<P, (T, U)>;

impl InCommon {
    /// What a describe of this kind says.
    pub(crate) fn described(&mut self, kind: DescribeKind, payload: &[u8]) -> Described {
        let application = match kind {
            DescribeKind::Application => Application::parse(payload),
            // It may be one of firmware and application together.
            DescribeKind::System => Application::within_system(payload),
            DescribeKind::Metrics => None,
        };
        // A describe that is none says nothing.
        let modules = Modules::parse(payload).filter(|_| kind == DescribeKind::System);
        Described {
            lacks_modules: modules.is_some_and(|modules| modules.missing().next().is_some()),
            application: application.map(|application| self.applications.hold(digest64(payload), application)),
        }
    }

    /// [`InCommon::described`], looked at once for all restored devices that share `payload`.
    pub(crate) fn described_again(&mut self, kind: DescribeKind, payload: &Arc<[u8]>) -> Described {
        let place = (payload.as_ptr() as usize, kind);
        if let Some((_, said)) = self.restored.describes.get(&place) {
            return said.clone();
        }
        let said = self.described(kind, payload);
        self.restored.describes.insert(place, (Arc::clone(payload), said.clone()));
        said
    }

    /// `subscriptions`, or the same ones that others hold.
    pub(crate) fn subscriptions(&mut self, subscriptions: Vec<Subscription>) -> Arc<Vec<Subscription>> {
        let mut text = Vec::new();
        for Subscription { prefix, handler, publisher } in &subscriptions {
            text.extend_from_slice(prefix.as_bytes());
            publisher.iter().for_each(|device| text.extend_from_slice(&device.0));
            text.push(match handler {
                HandlerKind::Text => 0,
                HandlerKind::Binary => 1,
                HandlerKind::Cbor => 2,
            });
        }
        self.subscriptions.hold(digest64(&text), subscriptions)
    }

    /// [`InCommon::subscriptions`], looked at once for all restored devices that share them.
    pub(crate) fn subscriptions_again(&mut self, shared: &Arc<BTreeSet<Subscription>>) -> Arc<Vec<Subscription>> {
        let place = Arc::as_ptr(shared) as usize;
        if let Some((_, held)) = self.restored.subscriptions.get(&place) {
            return Arc::clone(held);
        }
        let held = self.subscriptions(shared.iter().cloned().collect());
        self.restored.subscriptions.insert(place, (Arc::clone(shared), Arc::clone(&held)));
        held
    }

    /// All devices have been restored.
    pub(crate) fn end_restoring(&mut self) {
        self.restored = Restored::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_restored_devices_share_is_looked_at_once_and_stays_shared() {
        let mut common = InCommon::default();
        let payload: Arc<[u8]> = br#"{"f":["fn"],"v":{}}"#[..].into();
        let other: Arc<[u8]> = payload.to_vec().into();
        let of = |common: &mut InCommon, payload| common.described_again(DescribeKind::Application, payload).application.unwrap();
        let (one, two, three) = (of(&mut common, &payload), of(&mut common, &payload), of(&mut common, &other));
        assert!(Arc::ptr_eq(&one, &two) && Arc::ptr_eq(&one, &three));
        assert_eq!(common.restored.describes.len(), 2);
        assert!(common.described_again(DescribeKind::Metrics, &payload).application.is_none(), "another kind says something else");
        let subscriptions = Arc::new(BTreeSet::from([Subscription::new("a", HandlerKind::Text)]));
        assert!(Arc::ptr_eq(&common.subscriptions_again(&subscriptions), &common.subscriptions_again(&subscriptions)));
        common.end_restoring();
        assert!(common.restored.describes.is_empty() && common.restored.subscriptions.is_empty());
        assert!(Arc::ptr_eq(&one, &of(&mut common, &other)), "and what is in use stays known");
    }
}
