//! A caller of the API that publishes numbered events, one after the other, and keeps what it was told of each.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::api::{Api, Told};
use crate::cli::AcceptedEvent;

/// Longest time without a look at whether to go on.
const NAP: Duration = Duration::from_millis(20);

/// What a herald publishes.
#[derive(Clone, Debug)]
pub(crate) struct HeraldPlan {
    /// Name of its events. The text of each is its number, from 0.
    pub(crate) name: &'static str,
    /// From one publish to the next, at least: it waits for the answer.
    pub(crate) every: Duration,
    /// Longest wait for an answer.
    pub(crate) patience: Duration,
    /// Bytes that the text is made longer by.
    pub(crate) padding: usize,
}

/// A publish and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    /// When it began.
    pub(crate) begun: Instant,
    /// How long it took until the caller was told.
    pub(crate) took: Duration,
    /// What.
    pub(crate) told: Told,
}

/// One at work. It rests until [`Herald::speak`].
#[derive(Debug)]
pub(crate) struct Herald {
    name: &'static str,
    post: Arc<Post>,
    thread: JoinHandle<Vec<Word>>,
}

/// All that one has published, by number.
#[derive(Debug)]
pub(crate) struct Words {
    name: &'static str,
    /// What came of each.
    pub(crate) all: Vec<Word>,
}

#[derive(Default, Debug)]
struct Post {
    speaks: AtomicBool,
    stops: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Herald {
    /// Starts one.
    pub(crate) fn start(api: Api, plan: HeraldPlan) -> Result<Self> {
        let (post, name) = (Arc::new(Post::default()), plan.name);
        let own = Arc::clone(&post);
        let thread = thread::Builder::new().name("herald".into()).spawn(move || own.run(&api, &plan))?;
        Ok(Self { name, post, thread })
    }

    /// Tells it to publish, or to rest when the publish that is open is over.
    pub(crate) fn speak(&self, speaks: bool) {
        self.post.speaks.store(speaks, Ordering::Release);
    }

    /// How many were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.post.accepted.load(Ordering::Acquire)
    }

    /// How many came to another end so far.
    pub(crate) fn refused(&self) -> u64 {
        self.post.refused.load(Ordering::Acquire)
    }

    /// Ends it when the publish that is open is over.
    pub(crate) fn stop(self) -> Result<Words> {
        self.post.stops.store(true, Ordering::Release);
        Ok(Words::new(self.name, self.thread.join().ok().context("a thread that publishes panicked")?))
    }
}

impl Post {
    fn run(&self, api: &Api, plan: &HeraldPlan) -> Vec<Word> {
        let (mut words, mut next) = (Vec::new(), Instant::now());
        while !self.stops.load(Ordering::Acquire) {
            let now = Instant::now();
            if !self.speaks.load(Ordering::Acquire) || now < next {
                thread::sleep(NAP.min(plan.every));
                continue;
            }
            next = now + plan.every;
            let text = format!("{}{}", words.len(), "+".repeat(plan.padding));
            let told = api.publish(plan.name, &text, plan.patience);
            words.push(Word { begun: now, took: now.elapsed(), told });
            let count = if told == Told::Accepted { &self.accepted } else { &self.refused };
            count.fetch_add(1, Ordering::AcqRel);
        }
        words
    }
}

impl Words {
    /// All that was published under a name, in order.
    pub(crate) fn new(name: &'static str, all: Vec<Word>) -> Self {
        Self { name, all }
    }

    /// The numbers of those that were accepted.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = usize> {
        self.all.iter().enumerate().filter(|(_, word)| word.told == Told::Accepted).map(|(number, _)| number)
    }

    /// Looks for all that were accepted, and takes note of what the server says that it accepted.
    pub(crate) fn account(&self) -> Account {
        Account { name: self.name, missing: self.accepted().collect() }
    }
}

/// What was accepted and has not been found.
#[derive(Debug)]
pub(crate) struct Account {
    name: &'static str,
    missing: HashSet<usize>,
}

impl Account {
    /// Takes note of an event that the server says that it accepted.
    pub(crate) fn note(&mut self, event: &AcceptedEvent) {
        if event.name == self.name {
            // The padding is blanks by now: a plus stands for one in a form.
            if let Some(number) = event.data.as_deref().and_then(|text| text.trim_end().parse().ok()) {
                self.missing.remove(&number);
            }
        }
    }

    /// How many are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.missing.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_and_is_not_there_is_missing() {
        let word = |told| Word { begun: Instant::now(), took: Duration::ZERO, told };
        let words = Words::new("n", [Told::Accepted, Told::Later, Told::Accepted, Told::Accepted].map(word).to_vec());
        assert_eq!(words.accepted().collect::<Vec<_>>(), [0, 2, 3]);
        let mut account = words.account();
        let event = |name: &str, data: &str| AcceptedEvent { position: 1, name: name.into(), data: Some(data.into()), source: None };
        [event("n", "0  "), event("m", "2"), event("n", "1"), event("n", "3")].iter().for_each(|event| account.note(event));
        assert_eq!(account.missing(), 1);
    }

    #[test]
    fn a_herald_without_a_server_is_told_nothing_and_says_so() -> Result<()> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let plan = HeraldPlan { name: "n", every: Duration::ZERO, patience: Duration::from_secs(1), padding: 0 };
        let herald = Herald::start(Api::new(address, "t".into()), plan)?;
        herald.speak(true);
        while herald.refused() < 2 {
            thread::yield_now();
        }
        assert_eq!(herald.accepted(), 0);
        let words = herald.stop()?;
        assert!(words.all.len() >= 2 && words.all.iter().all(|word| word.told == Told::Nothing));
        Ok(())
    }
}
