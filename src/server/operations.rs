//! What commands ask of the running server.

use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::id::DeviceId;

use super::DataPlaneHandle;
use crate::changes::What;
use crate::control::{Operations, Status, UnknownKey, Views};
use crate::diagnose::Diagnosis;
use crate::dispatch::Desk;
use crate::journal::Mark;
use crate::orphans::Orphan;
use crate::store::PublicKey;
use crate::store::registry::Trouble;
use crate::strangers::Stranger;

/// The parts of a server that commands ask.
#[derive(Debug)]
pub(super) struct Parts {
    /// Sessions and the journal.
    pub(super) plane: Arc<DataPlaneHandle>,
    /// Hooks.
    pub(super) desk: Desk,
}

impl Operations for Parts {
    fn open_unknown_keys(&self, span: Duration) -> Result<(), String> {
        self.plane.strangers.open(self.plane.clock.now().unix, span);
        Ok(())
    }

    fn unknown_keys(&self) -> Vec<UnknownKey> {
        self.plane.strangers.list().into_iter().filter_map(unknown_key).collect()
    }

    fn orphans(&self) -> Vec<Orphan> {
        self.plane.orphans.list(self.plane.clock.now().unix)
    }

    fn views(&self, devices: Vec<DeviceId>) -> Views<'_> {
        Box::pin(async move { Some(self.plane.views(&devices).await) })
    }

    fn status(&self) -> Option<Status> {
        Some(Status::new(self.plane.clock.now(), self.plane.witness.config_hash(), &self.plane.bulletin, self.plane.mark.get().next))
    }

    fn diagnosis(&self, registry: Option<Trouble>) -> Option<Diagnosis> {
        let (now, evidence) = self.plane.witness.evidence(registry);
        let status = Status::new(now, self.plane.witness.config_hash(), &self.plane.bulletin, self.plane.mark.get().next);
        Some(Diagnosis::new(now, status, &evidence))
    }

    fn note(&self, what: What) {
        self.plane.witness.changes().note(self.plane.clock.now().unix, what);
    }

    fn journal_mark(&self) -> Option<Mark> {
        Some(self.plane.mark.get())
    }

    fn desk(&self) -> Option<Desk> {
        Some(self.desk.clone())
    }
}

fn unknown_key(stranger: Stranger) -> Option<UnknownKey> {
    Some(UnknownKey {
        device: stranger.seen.device,
        // It was proved, so it is a key; one that the registry would not take is no use in a list.
        key: PublicKey::from_spki(&stranger.seen.spki).ok()?,
        platform_id: stranger.seen.platform,
        first_seen: stranger.first,
        last_seen: stranger.last,
    })
}
