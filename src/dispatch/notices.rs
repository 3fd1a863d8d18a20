//! Tells owners how their hooks are, by another way than the receiver.

use webhooks::dispatcher::messages::Notice;

use super::book::Listed;
use crate::deliveries::Standing;

/// Who tells owners. A handle: clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Notices;

impl Notices {
    /// Tells the owner of a hook.
    pub(super) async fn tell(&self, listed: &Listed, notice: Notice, standing: &Standing) {
        tracing::warn!(hook = %listed.hook.id, name = &*listed.name, ?notice, state = standing.health.name(), "a hook");
    }
}
