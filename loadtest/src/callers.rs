//! Callers of a REST API, all on one thread: each has a connection of its own, asks one thing after the other, and counts what it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::stats::Latencies;

/// Longest time without a look at what there is to do.
const NAP_MS: u8 = 5;
const BATCH: usize = 256;
const READ_LEN: usize = 16 * 1024;
/// Whoever is told nothing for so long gives up and connects again.
const PATIENCE: Duration = Duration::from_secs(35);
/// After a connection that could not be made.
const PAUSE: Duration = Duration::from_millis(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// They at work.
#[derive(Debug)]
pub(crate) struct Callers {
    post: Arc<Post>,
    thread: JoinHandle<Result<()>>,
}

/// What all of them do.
#[derive(Clone, Debug)]
pub(crate) struct CallersPlan {
    /// Whom they ask.
    pub(crate) server: SocketAddr,
    /// How many they are.
    pub(crate) callers: usize,
    /// What they ask, as it is sent: each goes round all of it, and begins at another place.
    pub(crate) requests: Vec<Arc<[u8]>>,
    /// From one request of a caller to the next; none means as soon as it is answered.
    pub(crate) every: Option<Duration>,
}

/// What they were told so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    /// Answers 200.
    pub(crate) served: u64,
    /// Answers 429 and 503 that said when to come again.
    pub(crate) refused: u64,
    /// All other answers.
    pub(crate) others: u64,
    /// Requests without an answer.
    pub(crate) unanswered: u64,
}

#[derive(Default, Debug)]
struct Post {
    served: AtomicU64,
    refused: AtomicU64,
    others: AtomicU64,
    unanswered: AtomicU64,
    works: AtomicBool,
    stops: AtomicBool,
    latencies: Mutex<Latencies>,
}

impl Callers {
    /// They connect and rest.
    pub(crate) fn start(plan: CallersPlan) -> Result<Self> {
        let (post, epoll) = (Arc::new(Post::default()), Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let own = Arc::clone(&post);
        let thread = thread::Builder::new().name("callers".into()).spawn(move || Crowd::new(plan, epoll, own).run())?;
        Ok(Self { post, thread })
    }

    /// Lets them ask, or rest once they were answered.
    pub(crate) fn work(&self, works: bool) {
        self.post.works.store(works, Ordering::Release);
    }

    pub(crate) fn counts(&self) -> Counts {
        let Post { served, refused, others, unanswered, .. } = &*self.post;
        let [served, refused, others, unanswered] = [served, refused, others, unanswered].map(|count| count.load(Ordering::Relaxed));
        Counts { served, refused, others, unanswered }
    }

    /// How long answers 200 took that came since the last call.
    pub(crate) fn take_latencies(&self) -> Latencies {
        std::mem::take(&mut self.post.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<()> {
        self.post.stops.store(true, Ordering::Release);
        self.thread.join().ok().context("the thread of the callers panicked")?
    }
}

/// All callers, as their thread has them.
struct Crowd {
    plan: CallersPlan,
    epoll: Epoll,
    post: Arc<Post>,
    callers: Vec<Caller>,
    latencies: Latencies,
}

#[derive(Default)]
struct Caller {
    stream: Option<TcpStream>,
    /// When the request was sent that is open.
    asked: Option<Instant>,
    /// When it asks next, at the earliest.
    due: Option<Instant>,
    /// Which request is its next.
    next: usize,
    answer: Vec<u8>,
}

impl Crowd {
    fn new(plan: CallersPlan, epoll: Epoll, post: Arc<Post>) -> Self {
        let now = Instant::now();
        // Those with a pace do not all begin at once.
        let due = |index: usize| plan.every.map(|every| now + every.mul_f64(index as f64 / plan.callers as f64));
        let callers = (0..plan.callers).map(|index| Caller { due: due(index), next: index, ..Caller::default() }).collect();
        Self { plan, epoll, post, callers, latencies: Latencies::default() }
    }

    fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); BATCH];
        while !self.post.stops.load(Ordering::Acquire) {
            self.ask_all()?;
            let ready = self.epoll.wait(&mut events, NAP_MS)?;
            for event in &events[..ready] {
                self.hear(usize::try_from(event.data())?)?;
            }
            self.post.latencies.lock().unwrap_or_else(PoisonError::into_inner).merge(&self.latencies);
            self.latencies = Latencies::default();
        }
        Ok(())
    }

    /// Lets everybody ask whose turn it is, and gives up what takes too long.
    fn ask_all(&mut self) -> Result<()> {
        let (now, works) = (Instant::now(), self.post.works.load(Ordering::Acquire));
        for index in 0..self.callers.len() {
            let caller = &self.callers[index];
            match caller.asked {
                Some(asked) if now.duration_since(asked) > PATIENCE => self.part(index, true),
                Some(_) => {}
                None if works && caller.due.is_none_or(|due| due <= now) => self.ask(index, now)?,
                None => {}
            }
        }
        Ok(())
    }

    fn ask(&mut self, index: usize, now: Instant) -> Result<()> {
        if self.callers[index].stream.is_none() && !self.connect(index)? {
            self.callers[index].due = Some(now + PAUSE);
            return Ok(());
        }
        let (caller, requests) = (&mut self.callers[index], &self.plan.requests);
        let request = &requests[caller.next % requests.len()];
        caller.next += 1;
        caller.asked = Some(now);
        caller.due = self.plan.every.map(|every| caller.due.unwrap_or(now).max(now.checked_sub(every).unwrap_or(now)) + every);
        // A request is so short that it fits, unless the connection has ended.
        let written = caller.stream.as_mut().map(|stream| stream.write_all(request));
        if written.is_none_or(|written| written.is_err()) {
            self.part(index, false);
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Result<bool> {
        let Ok(stream) = TcpStream::connect_timeout(&self.plan.server, CONNECT_LIMIT) else { return Ok(false) };
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        self.callers[index].stream = Some(stream);
        Ok(true)
    }

    fn hear(&mut self, index: usize) -> Result<()> {
        let mut buffer = [0; READ_LEN];
        let caller = &mut self.callers[index];
        let Some(stream) = &mut caller.stream else { return Ok(()) };
        let read = match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            read => read.unwrap_or(0),
        };
        caller.answer.extend_from_slice(&buffer[..read]);
        let Some(answer) = Answer::parse(&caller.answer) else {
            if read == 0 {
                self.part(index, self.callers[index].asked.is_some());
            }
            return Ok(());
        };
        caller.answer.clear();
        let asked = caller.asked.take();
        self.count(answer, asked);
        if read == 0 || answer.closes {
            self.part(index, false);
        }
        let now = Instant::now();
        let (works, due) = (self.post.works.load(Ordering::Acquire), self.callers[index].due);
        if works && due.is_none_or(|due| due <= now) { self.ask(index, now) } else { Ok(()) }
    }

    fn count(&mut self, answer: Answer, asked: Option<Instant>) {
        let counter = match answer.status {
            200 => {
                asked.into_iter().for_each(|asked| self.latencies.record(asked.elapsed()));
                &self.post.served
            }
            429 | 503 if answer.says_when => &self.post.refused,
            _ => &self.post.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a connection. The next request begins another.
    fn part(&mut self, index: usize, unanswered: bool) {
        let caller = &mut self.callers[index];
        caller.answer.clear();
        caller.asked = None;
        // Closing it takes it out of what is waited for.
        caller.stream = None;
        self.post.unanswered.fetch_add(unanswered.into(), Ordering::Relaxed);
    }
}

/// What matters of an answer that has come as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answer {
    status: u16,
    says_when: bool,
    closes: bool,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length: usize = field("content-length")?.parse().ok()?;
        let whole = bytes.len() >= end + 4 + length;
        let status = head.get(9..12)?.parse().ok()?;
        whole.then(|| Self { status, says_when: field("retry-after").is_some(), closes: field("connection") == Some("close") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_answer_counts_when_it_is_whole() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nbusy";
        assert_eq!(Answer::parse(text), Some(Answer { status: 503, says_when: true, closes: false }));
        assert_eq!(Answer::parse(&text[..text.len() - 1]), None);
        let closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(Answer::parse(closing), Some(Answer { status: 200, says_when: false, closes: true }));
    }

    #[test]
    fn callers_ask_again_as_soon_as_they_are_answered() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                thread::spawn(move || {
                    let mut buffer = [0; 64];
                    while stream.read(&mut buffer).is_ok_and(|len| len > 0) {
                        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let request: Arc<[u8]> = b"GET / HTTP/1.1\r\n\r\n".as_slice().into();
        let callers = Callers::start(CallersPlan { server, callers: 3, requests: vec![request], every: None })?;
        callers.work(true);
        let begun = Instant::now();
        while callers.counts().served < 30 && begun.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(2));
        }
        callers.work(false);
        let (counts, latencies) = (callers.counts(), callers.take_latencies());
        callers.stop()?;
        assert!(counts.served >= 30 && counts.others + counts.refused + counts.unanswered == 0, "{counts:?}");
        assert!(latencies.count() > 0);
        Ok(())
    }
}
