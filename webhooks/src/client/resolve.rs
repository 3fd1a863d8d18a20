//! Names of hosts are looked up by the system, on threads of their own, because the system's call waits and cannot be told to stop.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use thiserror::Error;
use tokio::sync::watch;

/// Names that are looked up at once.
const THREADS_MAX: usize = 64;
/// Names that wait for it.
const WAITING_MAX: usize = 4096;

/// The addresses of a name, later.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, LookupError>> + Send + 'a>>;

/// Who looks up names. Whoever waits does so only for a time; what was begun may go on.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// All addresses of a name.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// A name has no addresses, or nobody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LookupError {
    /// There is no such name, or no answer.
    #[error("the name of the host could not be looked up")]
    Failed,
    /// Too many names wait.
    #[error("too many names of hosts are being looked up")]
    Busy,
}

/// The system's way: files, name services, whatever it is set up for. A name that several ask for is looked up once at a time, so that one that never gets an answer
/// holds one thread.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    lookups: Arc<Mutex<Lookups>>,
    look_up: fn(&str) -> io::Result<Vec<IpAddr>>,
    threads_max: usize,
}

type Found = Option<Result<Vec<IpAddr>, LookupError>>;

#[derive(Debug, Default)]
struct Lookups {
    /// Those that run and those that wait.
    asked: HashMap<String, watch::Sender<Found>>,
    waiting: VecDeque<String>,
    threads: usize,
}

impl SystemResolver {
    /// A resolver.
    pub fn new() -> Self {
        Self::with(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()), THREADS_MAX)
    }

    fn with(look_up: fn(&str) -> io::Result<Vec<IpAddr>>, threads_max: usize) -> Self {
        Self { lookups: Arc::default(), look_up, threads_max }
    }

    fn ask(&self, name: &str) -> Result<watch::Receiver<Found>, LookupError> {
        let mut lookups = self.lock();
        if let Some(asked) = lookups.asked.get(name) {
            return Ok(asked.subscribe());
        }
        if lookups.waiting.len() >= WAITING_MAX {
            return Err(LookupError::Busy);
        }
        if lookups.threads < self.threads_max {
            let own = self.clone();
            let thread = thread::Builder::new().name("hook-names".to_owned()).spawn(move || own.work());
            lookups.threads += usize::from(thread.is_ok());
        }
        if lookups.threads == 0 {
            return Err(LookupError::Busy);
        }
        let (found, receiver) = watch::channel(None);
        lookups.waiting.push_back(name.to_owned());
        lookups.asked.insert(name.to_owned(), found);
        Ok(receiver)
    }

    /// What a thread does until no name waits.
    fn work(&self) {
        while let Some(name) = self.next() {
            let found = (self.look_up)(&name).map_err(|_| LookupError::Failed);
            let asked = self.lock().asked.remove(&name);
            if let Some(asked) = asked {
                asked.send_replace(Some(found));
            }
        }
    }

    /// The next name that somebody still waits for; if there is none, the thread is not counted any more.
    fn next(&self) -> Option<String> {
        let mut lookups = self.lock();
        while let Some(name) = lookups.waiting.pop_front() {
            if lookups.asked.get(&name).is_some_and(|asked| asked.receiver_count() > 0) {
                return Some(name);
            }
            lookups.asked.remove(&name);
        }
        lookups.threads -= 1;
        None
    }

    fn lock(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let mut receiver = self.ask(name)?;
            let found = receiver.wait_for(Option::is_some).await.map_err(|_| LookupError::Failed)?;
            found.clone().unwrap_or(Err(LookupError::Failed))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    const BRIEF: Duration = Duration::from_millis(50);

    fn hang_or_answer(name: &str) -> io::Result<Vec<IpAddr>> {
        if name.starts_with("hangs") {
            thread::sleep(Duration::from_secs(600));
        }
        Ok(vec![IpAddr::from([192, 0, 2, 1])])
    }

    #[tokio::test]
    async fn the_system_knows_itself_and_not_everything() {
        let resolver = SystemResolver::new();
        let found = timeout(SOON, resolver.resolve("localhost")).await.unwrap().unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        let unknown = timeout(SOON, resolver.resolve("no such name")).await.unwrap();
        assert_eq!(unknown, Err(LookupError::Failed));
    }

    #[tokio::test]
    async fn a_name_that_hangs_holds_one_thread_however_many_ask() {
        let resolver = SystemResolver::with(hang_or_answer, 2);
        for _ in 0..10 {
            assert!(timeout(BRIEF, resolver.resolve("hangs")).await.is_err());
        }
        assert_eq!(timeout(SOON, resolver.resolve("answers")).await.unwrap().map(|found| found.len()), Ok(1));
        assert_eq!(resolver.lock().asked.len(), 1);
    }

    #[tokio::test]
    async fn names_that_nobody_waits_for_any_more_are_passed_over() {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        fn count(_: &str) -> io::Result<Vec<IpAddr>> {
            COUNT.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(200));
            Ok(Vec::new())
        }
        let resolver = SystemResolver::with(count, 1);
        for name in ["a", "b", "c", "d"] {
            assert!(timeout(Duration::from_millis(5), resolver.resolve(name)).await.is_err());
        }
        assert_eq!(timeout(SOON, resolver.resolve("e")).await.unwrap(), Ok(Vec::new()));
        assert_eq!(COUNT.load(Ordering::SeqCst), 2, "the first, which had begun, and the last");
    }

    #[tokio::test]
    async fn no_more_names_wait_than_may() {
        let resolver = SystemResolver::with(hang_or_answer, 1);
        let names: Vec<String> = (0..=WAITING_MAX + 1).map(|index| format!("hangs{index}")).collect();
        let waits: Vec<_> = names.iter().map(|name| resolver.ask(name)).collect();
        assert!(waits[..WAITING_MAX].iter().all(Result::is_ok));
        assert_eq!(waits[WAITING_MAX + 1].as_ref().err(), Some(&LookupError::Busy));
    }
}
