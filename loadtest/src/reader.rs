//! A reader of an account's event stream as browsers are: whenever its connection ends it comes back with the id of the last event it saw. It keeps
//! what it saw, to be compared with what the server says that it accepted.

mod parser;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firmware_protocol::crypto::digest64;

use self::parser::{Line, Parser};
use crate::api::Api;
use crate::cli::AcceptedEvent;

/// Longest time without a look at whether to go on.
const NAP: Duration = Duration::from_millis(100);
/// From the end of a connection to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes read at a time.
const READ_LEN: usize = 64 * 1024;

/// A reader at work.
#[derive(Debug)]
pub(crate) struct Reader {
    post: Arc<Post>,
    thread: JoinHandle<Seen>,
}

#[derive(Default, Debug)]
struct Post {
    /// Whether a stream was open.
    opened: AtomicBool,
    /// Whether the last event came.
    ended: AtomicBool,
    stops: AtomicBool,
}

/// What a reader saw.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    /// Position and digest of each event whose id is above all before.
    events: Vec<(u64, u64)>,
    /// Events whose id is not.
    pub(crate) out_of_order: u64,
    /// Gaps that it was told of.
    pub(crate) gaps: u64,
    /// How often it was cut with a reason.
    pub(crate) cuts: u64,
    /// Connections on which a stream was opened.
    pub(crate) connections: u64,
    /// Position of the event after which nothing counts.
    end: Option<u64>,
}

/// What a reader saw against what was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Difference {
    /// Accepted events that it did not see.
    pub(crate) missing: u64,
    /// Events that it saw and that are not there, or are others.
    pub(crate) unknown: u64,
}

impl Reader {
    /// Starts one with what is published from now on, up to the event named `end`; returns when its stream is open.
    pub(crate) fn start(api: Api, end: &'static str, limit: Duration) -> Result<Self> {
        let post = Arc::new(Post::default());
        let own = Arc::clone(&post);
        let thread = thread::Builder::new().name("reader".into()).spawn(move || own.run(&api, end))?;
        let reader = Self { post, thread };
        ensure!(reader.wait(limit, |post| &post.opened), "no event stream was opened within {limit:?}");
        Ok(reader)
    }

    /// Waits for the last event; says whether it came.
    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        self.wait(limit, |post| &post.ended)
    }

    fn wait(&self, limit: Duration, what: fn(&Post) -> &AtomicBool) -> bool {
        let begun = Instant::now();
        while !what(&self.post).load(Ordering::Acquire) && begun.elapsed() < limit && !self.thread.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        what(&self.post).load(Ordering::Acquire)
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<Seen> {
        self.post.stops.store(true, Ordering::Release);
        self.thread.join().ok().context("the thread that reads a stream panicked")
    }
}

impl Post {
    fn run(&self, api: &Api, end: &'static str) -> Seen {
        let mut seen = Seen::default();
        while !self.stops.load(Ordering::Acquire) {
            if let Ok(stream) = api.stream(seen.last(), NAP) {
                self.read(stream, end, &mut seen);
            }
            thread::sleep(PAUSE);
        }
        seen
    }

    /// Reads until the connection ends.
    fn read(&self, mut stream: TcpStream, end: &'static str, seen: &mut Seen) {
        let (mut parser, mut buffer) = (Parser::default(), vec![0; READ_LEN]);
        while !self.stops.load(Ordering::Acquire) {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => parser.feed(&buffer[..len], |line| self.note(line, end, seen)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(_) => break,
            }
        }
    }

    fn note(&self, line: Line<'_>, end: &'static str, seen: &mut Seen) {
        match line {
            Line::Opening => {
                seen.connections += 1;
                self.opened.store(true, Ordering::Release);
            }
            Line::Gap => seen.gaps += 1,
            Line::Cut => seen.cuts += 1,
            Line::Event { position, name, data } => {
                seen.note(position, name, data);
                if name == end {
                    seen.end = Some(position);
                    self.ended.store(true, Ordering::Release);
                }
            }
        }
    }
}

impl Seen {
    fn last(&self) -> Option<u64> {
        self.events.last().map(|(position, _)| *position)
    }

    /// How many events came in order.
    pub(crate) fn count(&self) -> usize {
        self.events.len()
    }

    fn note(&mut self, position: u64, name: &str, data: Option<&str>) {
        if self.last().is_some_and(|last| position <= last) {
            self.out_of_order += 1;
        } else {
            self.events.push((position, digest(name, data)));
        }
    }

    /// Begins to compare with what was accepted.
    pub(crate) fn compare(&self) -> Comparison<'_> {
        Comparison { left: &self.events, end: self.end.unwrap_or(u64::MAX), difference: Difference::default() }
    }
}

/// Comparing, event by event.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    left: &'a [(u64, u64)],
    end: u64,
    difference: Difference,
}

impl Comparison<'_> {
    /// Takes the next accepted event. They come in the order of their positions.
    pub(crate) fn note(&mut self, event: &AcceptedEvent) {
        let before = self.left.partition_point(|(position, _)| *position < event.position);
        self.difference.unknown += before as u64;
        self.left = &self.left[before..];
        match self.left.split_first() {
            Some(((position, digest), left)) if *position == event.position => {
                self.difference.unknown += u64::from(*digest != self::digest(&event.name, event.data.as_deref()));
                self.left = left;
            }
            _ => self.difference.missing += u64::from(event.position <= self.end),
        }
    }

    /// What is different.
    pub(crate) fn end(self) -> Difference {
        Difference { unknown: self.difference.unknown + self.left.len() as u64, ..self.difference }
    }
}

/// Of the fleet's own events the text counts. Others may be shown in another form than they are kept in.
fn digest(name: &str, data: Option<&str>) -> u64 {
    let text = data.filter(|_| name.starts_with("fleet/")).unwrap_or_default();
    digest64(format!("{name}\n{text}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: u64, name: &str, data: &str) -> AcceptedEvent {
        AcceptedEvent { position, name: name.into(), data: Some(data.into()), source: None }
    }

    fn compared(seen: &Seen, events: &[AcceptedEvent]) -> Difference {
        let mut comparison = seen.compare();
        events.iter().for_each(|event| comparison.note(event));
        comparison.end()
    }

    #[test]
    fn what_a_reader_missed_or_saw_otherwise_is_counted() {
        let mut seen = Seen::default();
        for (position, name, text) in [(1, "fleet/count", "a"), (3, "fleet/count", "c"), (2, "fleet/count", "b"), (5, "spark/status", "x")]
        {
            seen.note(position, name, Some(text));
        }
        assert_eq!((seen.out_of_order, seen.count(), seen.last()), (1, 3, Some(5)));
        let all = [event(1, "fleet/count", "a"), event(3, "fleet/count", "c"), event(5, "spark/status", "y")];
        assert_eq!(compared(&seen, &all), Difference::default());
        let others = [event(1, "fleet/count", "b"), event(2, "fleet/count", "b"), event(5, "spark/other", "x"), event(6, "n", "")];
        assert_eq!(compared(&seen, &others), Difference { missing: 2, unknown: 3 });
        seen.end = Some(5);
        assert_eq!(compared(&seen, &others), Difference { missing: 1, unknown: 3 }, "what comes after the end is nobody's loss");
        assert_eq!(compared(&seen, &[]), Difference { missing: 0, unknown: 3 });
    }
}
