//! What commands ask of the running data plane.

use std::time::Duration;

use firmware_protocol::id::DeviceId;

use super::DataPlaneHandle;
use crate::changes::What;
use crate::control::{Operations, Status, UnknownKey, Views};
use crate::diagnose::Diagnosis;
use crate::journal::Mark;
use crate::orphans::Orphan;
use crate::store::PublicKey;
use crate::store::registry::Trouble;
use crate::strangers::Stranger;

impl Operations for DataPlaneHandle {
    fn open_unknown_keys(&self, span: Duration) -> Result<(), String> {
        self.strangers.open(self.clock.now().unix, span);
        Ok(())
    }

    fn unknown_keys(&self) -> Vec<UnknownKey> {
        self.strangers.list().into_iter().filter_map(unknown_key).collect()
    }

    fn orphans(&self) -> Vec<Orphan> {
        self.orphans.list(self.clock.now().unix)
    }

    fn views(&self, devices: Vec<DeviceId>) -> Views<'_> {
        Box::pin(async move { Some(DataPlaneHandle::views(self, &devices).await) })
    }

    fn status(&self) -> Option<Status> {
        Some(Status::new(self.clock.now(), self.witness.config_hash(), &self.bulletin, self.mark.get().next))
    }

    fn diagnosis(&self, registry: Option<Trouble>) -> Option<Diagnosis> {
        let (now, evidence) = self.witness.evidence(registry);
        let status = Status::new(now, self.witness.config_hash(), &self.bulletin, self.mark.get().next);
        Some(Diagnosis::new(now, status, &evidence))
    }

    fn note(&self, what: What) {
        self.witness.changes().note(self.clock.now().unix, what);
    }

    fn journal_mark(&self) -> Option<Mark> {
        Some(self.mark.get())
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
