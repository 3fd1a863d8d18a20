//! Many readers of event streams on one thread, which count the fleet's events; and what it costs this machine to write to as many connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::thread_cpu;

/// What an event begins with that a fleet publishes.
const EVENT: &[u8] = b"event: fleet/count";
/// What a stream begins with.
const OPENING: &[u8] = b":ok";
/// Longest line that matters.
const LINE_MAX: usize = 32;
/// An event as the server writes it, in a chunk.
const WRITTEN: &[u8] = b"9f\r\nevent: fleet/count\nid: 1234567\ndata: {\"data\":\"e00fce680000000000000000 00000001 12345\",\"ttl\":60,\
    \"published_at\":\"2026-01-01T00:00:00.000Z\",\"coreid\":\"e00fce680000000000000000\"}\n\n\r\n";
const WINDOW: Duration = Duration::from_secs(1);
/// Longest time without a look at whether to go on.
const NAP_MS: u8 = 20;
const BATCH: usize = 256;
const READ_LEN: usize = 16 * 1024;

/// They at work.
#[derive(Debug)]
pub(super) struct Audience {
    post: Arc<Post>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Default, Debug)]
struct Post {
    opened: AtomicU64,
    heard: AtomicU64,
    stops: AtomicBool,
}

/// One connection, and the beginning of the line that is not whole.
struct Seat {
    stream: TcpStream,
    line: Vec<u8>,
}

impl Audience {
    /// Reads these until it is stopped. None of them is to end before.
    pub(super) fn start(streams: Vec<TcpStream>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (index, stream) in streams.iter().enumerate() {
            stream.set_nonblocking(true)?;
            epoll.add(stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        let seats = streams.into_iter().map(|stream| Seat { stream, line: Vec::new() }).collect();
        let post = Arc::new(Post::default());
        let own = Arc::clone(&post);
        let thread = thread::Builder::new().name("audience".into()).spawn(move || own.run(&epoll, seats))?;
        Ok(Self { post, thread })
    }

    /// Streams that are open.
    pub(super) fn opened(&self) -> u64 {
        self.post.opened.load(Ordering::Relaxed)
    }

    /// Waits until so many are open; says whether they are.
    pub(super) fn wait_opened(&self, streams: u64, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.opened() < streams && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(1));
        }
        self.opened() >= streams
    }

    /// Events of the fleet that came, on all of them.
    pub(super) fn heard(&self) -> u64 {
        self.post.heard.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// One of the streams ended before.
    pub(super) fn stop(self) -> Result<()> {
        self.post.stops.store(true, Ordering::Release);
        self.thread.join().ok().context("the thread that reads streams panicked")?
    }
}

impl Post {
    fn run(&self, epoll: &Epoll, mut seats: Vec<Seat>) -> Result<()> {
        let (mut events, mut buffer) = ([EpollEvent::empty(); BATCH], vec![0; READ_LEN]);
        while !self.stops.load(Ordering::Acquire) {
            let ready = match epoll.wait(&mut events, NAP_MS) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            for event in &events[..ready] {
                let seat = seats.get_mut(usize::try_from(event.data())?).context("a connection of ours")?;
                match seat.stream.read(&mut buffer) {
                    Ok(0) => bail!("the server ended an event stream"),
                    Ok(len) => self.take(seat, &buffer[..len]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Counts the lines that matter, wherever reads divide them.
    fn take(&self, seat: &mut Seat, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LINE_MAX.saturating_sub(seat.line.len());
            seat.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if pieces.peek().is_some() {
                self.heard.fetch_add(u64::from(seat.line == EVENT), Ordering::Relaxed);
                self.opened.fetch_add(u64::from(seat.line == OPENING), Ordering::Relaxed);
                seat.line.clear();
            }
        }
    }
}

/// Processor time to write one event to one of so many connections, as somebody reads them.
pub(super) fn writes(connections: usize) -> Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (mut ours, mut theirs) = (Vec::with_capacity(connections), Vec::with_capacity(connections));
    for _ in 0..connections {
        theirs.push(TcpStream::connect(listener.local_addr()?)?);
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        ours.push(stream);
    }
    let audience = Audience::start(theirs)?;
    let (begun, before, mut written) = (Instant::now(), thread_cpu()?, 0);
    while begun.elapsed() < WINDOW {
        for stream in &mut ours {
            stream.write_all(WRITTEN)?;
            written += 1;
        }
    }
    let cpu = thread_cpu()? - before;
    audience.stop()?;
    ensure!(written > 0, "nothing was written");
    Ok(cpu / written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_counted_wherever_reads_divide_it() -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let theirs = TcpStream::connect(listener.local_addr()?)?;
        let (mut ours, _) = listener.accept()?;
        ours.set_nodelay(true)?;
        let audience = Audience::start(vec![theirs])?;
        ours.write_all(b"HTTP/1.1 200 OK\r\n\r\n5\r\n:ok\n\n\r\n")?;
        assert!(audience.wait_opened(1, Duration::from_secs(10)));
        [WRITTEN, WRITTEN].concat().chunks(7).try_for_each(|piece| ours.write_all(piece))?;
        while audience.heard() < 2 {
            thread::yield_now();
        }
        audience.stop()
    }

    #[test]
    fn a_write_has_a_cost() -> Result<()> {
        assert!(!writes(4)?.is_zero());
        Ok(())
    }

    #[test]
    fn a_stream_that_ends_is_said() -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let theirs = TcpStream::connect(listener.local_addr()?)?;
        let audience = Audience::start(vec![theirs])?;
        drop(listener.accept()?);
        while !audience.thread.is_finished() {
            thread::yield_now();
        }
        assert!(audience.stop().is_err());
        Ok(())
    }
}
