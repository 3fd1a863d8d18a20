//! Passwords: hashed with Argon2id, a bounded number at a time, on threads of their own that come after everybody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{Semaphore, oneshot};

use super::RegistryError;

/// Each hash takes 19 MiB and some 20 ms of a core.
const AT_ONCE: usize = 2;
/// How far the threads stand back: devices with sessions come first, then handshakes and chores, then logins.
const NICENESS: i32 = 10;
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
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // The turn ends with the work, not with the caller, who may have left.
            let _turn = turn;
            stand_back();
            // Whoever left needs no answer; one that is missing is an interruption.
            let _ = catch_unwind(AssertUnwindSafe(work)).map(|done| answer.send(done));
        };
        // A thread costs a thousandth of the work, and its priority cannot be raised again.
        thread::Builder::new().name("password".to_owned()).spawn(work).map_err(|_| RegistryError::Busy)?;
        answered.await.map_err(|_| RegistryError::Interrupted)
    }
}

/// Lowers the calling thread's priority.
fn stand_back() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::warn!(%error, "passwords are hashed at the priority of everything else");
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

    #[tokio::test]
    async fn a_long_queue_turns_callers_away() {
        let passwords = Passwords::new();
        let places: Vec<_> = (0..AT_ONCE + WAITING_MAX).map(|_| Place::take(&passwords.waiting).expect("a place")).collect();
        assert!(matches!(passwords.hash("correct horse".into()).await, Err(RegistryError::Busy)));
        drop(places);
        assert!(passwords.hash("correct horse".into()).await.is_ok());
    }

    #[tokio::test]
    async fn passwords_come_after_everything_else_and_leave_no_thread_that_does() {
        let passwords = Passwords::new();
        let own = || rustix::process::nice(0).expect("its own priority");
        let (before, within) = (own(), passwords.in_turn(own).await.expect("a turn"));
        assert_eq!((within, own()), (before + NICENESS, before));
    }

    #[tokio::test]
    async fn a_panic_costs_neither_the_turn_nor_the_caller() {
        let passwords = Passwords::new();
        for _ in 0..=AT_ONCE {
            assert!(matches!(passwords.in_turn(|| panic!("a fault that was injected")).await, Err::<(), _>(RegistryError::Interrupted)));
        }
        assert!(passwords.in_turn(|| ()).await.is_ok());
    }
}
