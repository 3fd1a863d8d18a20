//! Errands of shards: what needs the registry, done away from the threads that serve devices. What a thread asks for that has its shard no more is not
//! done.

use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::entropy::Entropy;
use firmware_protocol::id::DeviceId;
use prometheus::IntCounter;
use router::device::Link;
use router::epoch::Tenure;
use router::errand::{Claim, Errand, Outcome, Task, Verdict};
use router::shard::Input;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use crate::entropy::SystemEntropy;
use crate::server::DataPlaneHandle;
use crate::store::registry::Claimed;
use crate::store::{ClaimHash, Registry};

/// Errands that wait.
pub const WAITING_MAX: usize = 1_024;
/// Claims under way; more fail at once, and their devices repeat them.
const CLAIMS_MAX: usize = 64;
/// How long a claim waits for the registry.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
/// Random bytes for a device that asks; it gets them as twice as many hex digits.
const RANDOM_BYTES: usize = 20;
/// How long to wait before a shard whose lane is full is told again.
const PAUSE: Duration = Duration::from_millis(5);

/// An errand, and who asks for it.
#[derive(Debug)]
pub struct Asked {
    /// The time of the thread that does, with its shard.
    pub by: Tenure,
    /// The errand.
    pub errand: Errand,
}

/// Runs errands until the shards are gone. Claims wait for the registry, each by itself: nothing else waits behind them. `refused` counts those of threads
/// that have their shard no more.
pub async fn run(registry: Registry, plane: Arc<DataPlaneHandle>, mut errands: Receiver<Asked>, refused: IntCounter) {
    let (registry, turns) = (registry.with_patience(CLAIM_PATIENCE), Arc::new(Semaphore::new(CLAIMS_MAX)));
    while let Some(Asked { by, errand }) = errands.recv().await {
        if by.is_over() {
            refused.inc();
            continue;
        }
        let (registry, plane) = (registry.clone(), Arc::clone(&plane));
        if !matches!(errand.task, Task::Claim(_)) {
            attempt(&registry, &plane, errand).await;
            continue;
        }
        match Arc::clone(&turns).try_acquire_owned() {
            Ok(turn) => {
                tokio::spawn(async move {
                    let _turn = turn;
                    attempt(&registry, &plane, errand).await;
                });
            }
            Err(_) => report(&plane, errand.device, errand.link, errand.task.failed()).await,
        }
    }
}

async fn attempt(registry: &Registry, plane: &DataPlaneHandle, errand: Errand) {
    let Errand { device, link, deadline, task } = errand;
    let left = deadline.since(plane.clock.now().at);
    let failed = task.clone().failed();
    let outcome = tokio::time::timeout(left, perform(registry, device, task)).await.unwrap_or(failed);
    report(plane, device, link, outcome).await;
}

/// The shard waits for this: without it a device could never be claimed again.
async fn report(plane: &DataPlaneHandle, device: DeviceId, link: Link, outcome: Outcome) {
    while !plane.tell(device, Input::ErrandDone { device, link, outcome: outcome.clone() }) {
        tokio::time::sleep(PAUSE).await;
    }
}

async fn perform(registry: &Registry, device: DeviceId, task: Task) -> Outcome {
    match task {
        Task::Claim(claim) => {
            let verdict = verdict(registry, device, &claim).await;
            Outcome::Claimed(claim, verdict)
        }
        Task::Name { event } => match registry.devices().find(device).and_then(|device| device.name().map(str::to_owned)) {
            Some(text) => Outcome::Text { event, text },
            None => Outcome::Nothing,
        },
        Task::Random { event } => Outcome::Text { event, text: hex::encode(SystemEntropy.array::<RANDOM_BYTES>()) },
    }
}

async fn verdict(registry: &Registry, device: DeviceId, claim: &Claim) -> Verdict {
    let Some(code) = ClaimHash::of(&claim.code) else { return Verdict::Refused };
    match registry.claim_device(device, code).await {
        Ok(Claimed::Refused) => Verdict::Refused,
        Ok(Claimed::Now(known) | Claimed::Before(known)) => known.identity().map_or(Verdict::Refused, Verdict::Owned),
        Err(error) => {
            // The registry has counted it, and said so once.
            tracing::debug!(%error, "a claim could not be looked at");
            Verdict::Failed
        }
    }
}
