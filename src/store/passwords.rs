//! Passwords: hashed with Argon2id, a bounded number at a time, on threads of their own that give way to all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{Semaphore, oneshot};

use super::RegistryError;
use crate::priority::Priority;

/// Each hash takes 19 MiB and some 20 ms of a core.
const AT_ONCE: usize = 2;
/// Callers that may wait for their turn; beyond, they are sent away, since waiting would outlast their patience.
const WAITING_MAX: usize = 64;

/// Checked instead of a hash when there is no such user, so that the answer takes as long.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IGJ5dGVz$J5kQ9dzsOyxRdcQxbdQqL1yR4UKV1FTh0jUJ/pPPcrw";

/// The place where passwords are hashed.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), waiting: AtomicUsize::new(0) }
    }

    /// The hash to keep, with its salt and parameters.
    pub(super) async fn hash(&self, password: String) -> Result<String, RegistryError> {
        self.in_turn(move || Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()))
            .await?
            .map_err(|error| RegistryError::Password(error.to_string()))
    }

    /// Whether `password` is the one behind `hash`. Without a hash it is not, after the same time.
    pub(super) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, RegistryError> {
        self.in_turn(move || {
            let known = hash.is_some();
            let text = hash.as_deref().unwrap_or(NOBODY);
            let right = PasswordHash::new(text).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
            known && right
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, RegistryError> {
        let _place = Place::take(&self.waiting).ok_or(RegistryError::Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| RegistryError::Interrupted)?;
        let (done, told) = oneshot::channel();
        // A new thread for each: its priority can be lowered and never raised again, and beside the work it costs nothing.
        std::thread::Builder::new()
            .name("passwords".into())
            .spawn(move || {
                // The turn ends with the work, not with the caller, who may have left.
                let _turn = turn;
                Priority::Passwords.take();
                let _ = done.send(work());
            })
            .map_err(|error| RegistryError::Password(error.to_string()))?;
        told.await.map_err(|_| RegistryError::Interrupted)
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Place(waiting);
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        (before < AT_ONCE + WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognised_by_its_hash_only() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse".into()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.expect("checked"));
        assert!(!passwords.verify("wrong horse".into(), Some(hash.clone())).await.expect("checked"));
        assert!(!passwords.verify("correct horse".into(), None).await.expect("checked"));
        assert!(!passwords.verify("correct horse".into(), Some("nonsense".into())).await.expect("checked"));
    }

    #[test]
    fn the_stand_in_costs_what_a_real_hash_costs() {
        let stand_in = PasswordHash::new(NOBODY).expect("a well-formed hash");
        let real = Argon2::default().hash_password(b"password").expect("a hash");
        assert_eq!(stand_in.algorithm, real.algorithm);
        assert_eq!(stand_in.params.to_string(), real.params.to_string());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_than_two_are_hashed_at_a_time() {
        let passwords = Arc::new(Passwords::new());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let hashes: Vec<_> = (0..8)
            .map(|_| {
                let (passwords, now, most) = (Arc::clone(&passwords), Arc::clone(&now), Arc::clone(&most));
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        now.fetch_sub(1, Ordering::SeqCst);
                        std::thread::current().name().map(str::to_owned)
                    };
                    passwords.in_turn(work).await.expect("a turn")
                })
            })
            .collect();
        for hash in hashes {
            assert_eq!(hash.await.expect("it ends").as_deref(), Some("passwords"));
        }
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    }

    #[tokio::test]
    async fn a_long_queue_turns_callers_away() {
        let passwords = Passwords::new();
        let places: Vec<_> = (0..AT_ONCE + WAITING_MAX).map(|_| Place::take(&passwords.waiting).expect("a place")).collect();
        assert!(matches!(passwords.hash("correct horse".into()).await, Err(RegistryError::Busy)));
        drop(places);
        assert!(passwords.hash("correct horse".into()).await.is_ok());
    }
}
