//! The pairing window of the running server: opened by command, shown by `holdfast status`, closed when its time is over.

use std::time::Duration;

use firmware_protocol::id::OwnerId;

use super::PairingLine;
use crate::dates::{self, Iso};
use crate::store::{PairingWindow, Registry};

/// Opens it, and sees to it that it closes, whatever happens to the wall clock.
pub(super) async fn open(registry: &Registry, user: Option<OwnerId>, span: Duration) -> PairingLine {
    let window = registry.pairing().open(dates::now(), span, user);
    let line = line(registry, window).await;
    tracing::info!(until = line.until, user = user.map(|user| user.0), "the pairing window is open");
    let registry = registry.clone();
    tokio::spawn(async move {
        tokio::time::sleep(span).await;
        if let Some(window) = registry.pairing().close(window.number) {
            tracing::info!(paired = window.paired, "the pairing window is closed");
        }
    });
    line
}

/// The window, if it is open.
pub(super) async fn view(registry: &Registry) -> Option<PairingLine> {
    let window = registry.pairing().view(dates::now())?;
    Some(line(registry, window).await)
}

/// Whoever cannot be named now has a number all the same.
async fn line(registry: &Registry, PairingWindow { until, user, paired, .. }: PairingWindow) -> PairingLine {
    let email = match user {
        None => None,
        Some(user) => {
            let found = registry.user(user).await.ok().flatten();
            Some(found.map_or_else(|| format!("account {}", user.0), |user| user.email))
        }
    };
    PairingLine { email, until: Iso(until).to_string(), paired }
}
