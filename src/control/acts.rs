//! The log of acts, as commands show it.

use super::{ActLine, ActsVerdict, Response};
use crate::dates::Iso;
use crate::store::registry::{AuditRow, AuditVerdict};
use crate::store::{Registry, RegistryError};

/// Acts, the newest first.
pub(super) async fn list(registry: &Registry, before: Option<u64>, count: u32) -> Result<Response, RegistryError> {
    let line = |row: AuditRow| ActLine {
        number: row.number(),
        at: Iso(row.at()).to_string(),
        who: row.who,
        address: row.address,
        act: row.act,
        object: row.object,
        detail: row.detail,
        hash: row.hash,
    };
    Ok(Response::Acts { acts: registry.audit(before, count).await?.into_iter().map(line).collect() })
}

/// Whether the log is as it was written.
pub(super) async fn verify(registry: &Registry) -> Result<Response, RegistryError> {
    Ok(Response::ActsVerified(match registry.verify_audit().await? {
        AuditVerdict::Whole { rows, last_hash } => ActsVerdict::Whole { rows, last_hash },
        AuditVerdict::Broken { number, why } => ActsVerdict::Broken { number, why: why.to_owned() },
    }))
}
