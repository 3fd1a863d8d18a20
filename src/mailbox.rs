//! Bounded queues between threads. A mailbox has one lane per producer, so that nobody waits for anybody: a producer whose lane is full is told
//! so at once, and one that is frozen in the middle of a push stops no one else.
//!
//! A producer that does not come back can be replaced: its lane is [exchanged](Exchange) for another's, and whatever it still says is refused.
//!
//! A consumer sleeps on an event file descriptor, which it can wait for together with a socket. A producer makes the system call that wakes it
//! only if it sleeps; being woken costs the consumer none besides the one it slept in.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use prometheus::IntCounter;

/// A mailbox under construction: lanes are made before its thread starts.
#[derive(Debug)]
pub struct MailboxBuilder<T> {
    lanes: Vec<rtrb::Consumer<T>>,
    bell: Arc<Bell>,
}

/// The consumer's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    lanes: Vec<rtrb::Consumer<T>>,
    next: usize,
    bell: Arc<Bell>,
    epoll: Epoll,
    /// Lanes of producers that were replaced.
    fenced: Vec<Fenced<T>>,
}

/// One producer's end.
#[derive(Debug)]
pub struct Lane<T> {
    queue: rtrb::Producer<T>,
    bell: Arc<Bell>,
    /// Something was pushed since the bell was rung.
    pushed: bool,
}

/// Which of a mailbox's lanes is whose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LanePlace(usize);

/// The other end of a lane that was made when its mailbox was in use already. It has to be brought there.
#[derive(Debug)]
pub struct Exchange<T> {
    place: LanePlace,
    queue: rtrb::Consumer<T>,
    refused: IntCounter,
}

/// The lane of a producer that was replaced, until that is gone. What still comes in it is refused, and counted.
#[derive(Debug)]
struct Fenced<T> {
    queue: rtrb::Consumer<T>,
    refused: IntCounter,
}

/// What a consumer sleeps on.
#[derive(Debug)]
pub struct Bell {
    event: EventFd,
    sleeping: AtomicBool,
}

impl LanePlace {
    /// So many places further.
    pub fn after(self, places: usize) -> Self {
        Self(self.0 + places)
    }
}

impl<T> MailboxBuilder<T> {
    /// An empty mailbox without lanes.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { lanes: Vec::new(), bell: Arc::new(Bell { event, sleeping: AtomicBool::new(false) }) })
    }

    /// A lane for one producer, with room for `capacity` items.
    pub fn lane(&mut self, capacity: usize) -> Lane<T> {
        let (queue, lane) = rtrb::RingBuffer::new(capacity);
        self.lanes.push(lane);
        Lane { queue, bell: Arc::clone(&self.bell), pushed: false }
    }

    /// The place that the next lane will have.
    pub fn next_place(&self) -> LanePlace {
        LanePlace(self.lanes.len())
    }

    /// What wakes the mailbox that this becomes.
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// The consumer's end, once all lanes are made.
    pub fn build(self) -> io::Result<Mailbox<T>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Edge-triggered: every ring is an edge, and the event need not be read before the next sleep.
        epoll.add(&self.bell.event, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
        Ok(Mailbox { lanes: self.lanes, next: 0, bell: self.bell, epoll, fenced: Vec::new() })
    }
}

impl<T> Lane<T> {
    /// A lane into the mailbox that `bell` wakes, instead of the one at `place`, and what its consumer has to [do](Mailbox::exchange) for it. What the
    /// former producer still sends counts as `refused`.
    pub fn instead_of(place: LanePlace, bell: &Arc<Bell>, capacity: usize, refused: IntCounter) -> (Self, Exchange<T>) {
        let (queue, end) = rtrb::RingBuffer::new(capacity);
        (Self { queue, bell: Arc::clone(bell), pushed: false }, Exchange { place, queue: end, refused })
    }

    /// Adds an item; gives it back if there is no room. [`Lane::ring`] must follow the last of a batch.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.pushed = true;
        self.queue.push(item).map_err(|rtrb::PushError::Full(item)| item)
    }

    /// Wakes the consumer if something was pushed since the last time and it sleeps.
    pub fn ring(&mut self) {
        if std::mem::take(&mut self.pushed) {
            self.bell.ring();
        }
    }

    /// Adds an item and wakes the consumer.
    pub fn send(&mut self, item: T) -> Result<(), T> {
        let result = self.push(item);
        self.ring();
        result
    }
}

impl<T> Mailbox<T> {
    /// Takes at most `limit` items, lane by lane in turn, so that a full lane does not starve the others; what these leave of the limit is its own.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(T)) -> usize {
        if !self.fenced.is_empty() {
            self.refuse_fenced();
        }
        let lanes = self.lanes.len().max(1);
        let mut taken = 0;
        loop {
            let share = (limit - taken).div_ceil(lanes);
            let before = taken;
            for step in 0..self.lanes.len() {
                let lane = &mut self.lanes[(self.next + step) % lanes];
                for _ in 0..share.min(limit - taken) {
                    let Ok(item) = lane.pop() else { break };
                    take(item);
                    taken += 1;
                }
            }
            if taken == before || taken == limit {
                break;
            }
        }
        self.next = (self.next + 1) % lanes;
        taken
    }

    /// Takes what comes from another producer instead of the one that had this lane until now. From here on nothing of that one is taken, not even what
    /// it has sent already.
    pub fn exchange(&mut self, Exchange { place: LanePlace(place), queue, refused }: Exchange<T>) {
        if let Some(lane) = self.lanes.get_mut(place) {
            let queue = std::mem::replace(lane, queue);
            self.fenced.push(Fenced { queue, refused });
            self.refuse_fenced();
        }
    }

    /// Empties the lanes of producers that were replaced, and lets go of those whose producers are gone.
    fn refuse_fenced(&mut self) {
        self.fenced.retain_mut(|Fenced { queue, refused }| {
            let is_gone = queue.is_abandoned();
            while queue.pop().is_ok() {
                refused.inc();
            }
            !is_gone
        });
    }

    /// Takes all that is in the lane that was made last.
    pub fn drain_last(&mut self, mut take: impl FnMut(T)) -> usize {
        let Some(lane) = self.lanes.last_mut() else { return 0 };
        std::iter::from_fn(|| lane.pop().ok()).map(&mut take).count()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(rtrb::Consumer::is_empty)
    }

    /// Lets `socket` wake the mailbox too, whenever it can be read. It stays watched until it is closed.
    pub fn watch(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?)
    }

    /// Sleeps until something arrives, a watched socket can be read, or the time is over.
    pub fn wait(&self, timeout: Duration) {
        if !self.is_empty() {
            return;
        }
        // Where there are more threads than cores, letting the others go first makes batches of what would be single wake-ups.
        std::thread::yield_now();
        self.bell.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.is_empty() {
            let timeout = EpollTimeout::try_from(timeout.as_millis().min(60_000)).unwrap_or(EpollTimeout::ZERO);
            // An interruption is a wake-up like any other.
            let _ = self.epoll.wait(&mut [EpollEvent::empty()], timeout);
        }
        self.bell.sleeping.store(false, Ordering::Relaxed);
    }

    /// What wakes this mailbox, for signals that are no messages.
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }
}

impl Bell {
    /// Wakes the consumer if it sleeps.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            // Nobody reads the counter; at a billion rings a second it would overflow in five centuries.
            let _ = self.event.write(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_refuses_and_the_others_go_on() {
        let mut builder = MailboxBuilder::new().unwrap();
        let (mut a, mut b) = (builder.lane(2), builder.lane(2));
        let mut mailbox = builder.build().unwrap();
        assert_eq!((a.push(1), a.push(2), a.push(3), b.push(4)), (Ok(()), Ok(()), Err(3), Ok(())));
        let mut taken = Vec::new();
        assert_eq!(mailbox.drain(2, |item| taken.push(item)), 2);
        assert_eq!(taken, [1, 4], "each lane gets its share");
        assert_eq!(b.push(5), Ok(()));
        assert_eq!(mailbox.drain_last(|item| taken.push(item)), 1);
        assert!(taken == [1, 4, 5] && !mailbox.is_empty());
    }

    #[test]
    fn what_some_lanes_leave_others_take() {
        let mut builder = MailboxBuilder::new().unwrap();
        let mut lanes: Vec<_> = (0..3).map(|_| builder.lane(64)).collect();
        let mut mailbox = builder.build().unwrap();
        (0..40).for_each(|n| lanes[1].push(n).unwrap());
        (100..103).for_each(|n| lanes[2].push(n).unwrap());
        let mut taken = Vec::new();
        assert_eq!(mailbox.drain(30, |item| taken.push(item)), 30);
        assert!((100..103).all(|n| taken.contains(&n)), "the full lane starves none");
        assert_eq!(mailbox.drain(30, |item| taken.push(item)), 13);
        taken.retain(|n| *n < 100);
        assert_eq!(taken, (0..40).collect::<Vec<_>>(), "in order");
    }

    #[test]
    fn of_a_producer_that_was_replaced_nothing_is_taken_any_more() {
        let mut builder = MailboxBuilder::new().unwrap();
        let mut other = builder.lane(4);
        let (place, bell) = (builder.next_place(), builder.bell());
        let mut old = builder.lane(4);
        let mut mailbox = builder.build().unwrap();
        let refused = IntCounter::new("refused", "refused").unwrap();
        let (mut new, exchange) = Lane::instead_of(place, &bell, 4, refused.clone());
        (1..=2).for_each(|n| old.push(n).unwrap());
        new.push(11).unwrap();
        mailbox.exchange(exchange);
        assert!(!mailbox.is_empty(), "what the new one sent before waits");
        old.push(3).unwrap();
        new.push(12).unwrap();
        other.push(21).unwrap();
        let mut taken = Vec::new();
        mailbox.drain(9, |item| taken.push(item));
        taken.sort_unstable();
        assert_eq!((taken, refused.get()), (vec![11, 12, 21], 3));
        (0..3).for_each(|n| old.push(n).unwrap());
        assert!(mailbox.is_empty(), "nobody wakes for it");
        drop(old);
        assert_eq!((mailbox.drain(9, |_| {}), refused.get(), mailbox.fenced.len()), (0, 6, 0));
    }

    #[test]
    fn nothing_is_slept_through() {
        let mut builder = MailboxBuilder::new().unwrap();
        let mut lanes: Vec<_> = (0..2).map(|_| builder.lane(8)).collect();
        let mut mailbox = builder.build().unwrap();
        let threads: Vec<_> = lanes
            .drain(..)
            .map(|mut lane| {
                std::thread::spawn(move || {
                    for mut n in 0..20_000u32 {
                        while let Err(back) = lane.send(n) {
                            n = back;
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut seen = 0;
        while seen < 40_000 {
            let before = seen;
            seen += mailbox.drain(16, |_| {});
            if seen == before {
                mailbox.wait(Duration::from_secs(60));
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(mailbox.is_empty());
    }
}
