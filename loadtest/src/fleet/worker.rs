//! One thread of a fleet: owns some devices of one transport with their timers, and lets a [`Carrier`] move bytes between them and the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use firmware_protocol::device::DeviceTools;
use firmware_protocol::time::Millis;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};

use super::member::{Ledger, Member, Turn};
use super::orders::{Orders, Post};
use super::plan::Transport;
use super::shout::Shouts;
use super::tally::Tally;
use crate::timers::Timers;

/// Longest time without a look at the orders.
const NAP: Duration = Duration::from_millis(20);
/// Most timers handled, and reads from one socket, before others have their turn.
pub(super) const BATCH: usize = 64;
const EVENTS: usize = 256;

/// The sockets of a worker's members. Members are named by their index.
pub(super) trait Carrier {
    /// The devices that it carries for.
    type Device: Shouts;
    /// What it is.
    const TRANSPORT: Transport;

    /// Has sockets watched that are there from the beginning.
    fn begin(&self, epoll: &Epoll) -> Result<()>;

    /// A socket is ready.
    fn ready(&mut self, deck: &mut Deck<Self::Device>, event: EpollEvent) -> Result<()>;

    /// Does with the sockets what the member's device wants, and sets its timer.
    fn carry(&mut self, deck: &mut Deck<Self::Device>, index: usize) -> Result<()>;

    /// Calls a member, and does what its device wants then.
    fn call(
        &mut self,
        deck: &mut Deck<Self::Device>,
        index: usize,
        action: impl FnOnce(&mut Member<Self::Device>, &mut Turn<'_>),
    ) -> Result<()> {
        deck.act(index, action);
        self.carry(deck, index)
    }
}

/// The members of one worker, and what they share.
pub(super) struct Deck<D> {
    origin: Instant,
    pub(super) epoll: Epoll,
    pub(super) members: Vec<Member<D>>,
    pub(super) tally: Tally,
    tools: DeviceTools,
    timers: Timers,
    working: bool,
}

impl<D: Shouts> Deck<D> {
    pub(super) fn new(origin: Instant, members: Vec<Member<D>>) -> Result<Self> {
        let (epoll, mut timers) = (Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, Timers::new(members.len()));
        members.iter().enumerate().for_each(|(index, member)| timers.set(index, member.timeout_at()));
        Ok(Self { origin, epoll, members, tally: Tally::default(), tools: DeviceTools::new()?, timers, working: false })
    }

    pub(super) fn now(&self) -> Millis {
        Millis(0) + self.origin.elapsed()
    }

    /// Calls a member.
    pub(super) fn act(&mut self, index: usize, action: impl FnOnce(&mut Member<D>, &mut Turn<'_>)) {
        let now = self.now();
        let mut turn = Turn { now, tools: &mut self.tools, tally: &mut self.tally, working: self.working };
        action(&mut self.members[index], &mut turn);
    }

    /// Looks when a member is due again.
    pub(super) fn schedule(&mut self, index: usize) {
        self.timers.set(index, self.members[index].timeout_at());
    }
}

/// One thread of a fleet.
pub(super) struct Worker<C: Carrier> {
    ends_at: Instant,
    post: Arc<Post>,
    carrier: C,
    deck: Deck<C::Device>,
    orders: Orders,
}

/// What a worker leaves behind.
pub(super) struct Legacy {
    pub(super) transport: Transport,
    pub(super) tally: Tally,
    pub(super) ledgers: Vec<Ledger>,
}

impl<C: Carrier> Worker<C> {
    pub(super) fn new(ends_at: Instant, post: Arc<Post>, carrier: C, deck: Deck<C::Device>) -> Result<Self> {
        carrier.begin(&deck.epoll)?;
        Ok(Self { ends_at, post, carrier, deck, orders: Orders::default() })
    }

    /// Works until it is told to stop, or its time is over.
    pub(super) fn run(mut self) -> Result<Legacy> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let orders = self.post.orders();
            if orders.stop() || Instant::now() >= self.ends_at {
                break;
            }
            self.follow(orders)?;
            for _ in 0..BATCH {
                let Some(index) = self.deck.timers.pop(self.deck.now()) else { break };
                self.carrier.call(&mut self.deck, index, Member::handle_timeout)?;
            }
            self.post.gauges.show(&self.deck.tally);
            self.post.have_followed(orders);
            let ready = self.wait(&mut events)?;
            for event in &events[..ready] {
                self.carrier.ready(&mut self.deck, *event)?;
            }
        }
        self.post.gauges.show(&self.deck.tally);
        let ledgers = self.deck.members.into_iter().map(Member::into_ledger).collect();
        Ok(Legacy { transport: C::TRANSPORT, tally: self.deck.tally, ledgers })
    }

    fn wait(&mut self, events: &mut [EpollEvent]) -> Result<usize> {
        let now = self.deck.now();
        let idle = self.deck.timers.next().map_or(NAP, |(at, _)| at.since(now).min(NAP));
        match self.deck.epoll.wait(events, u8::try_from(idle.as_millis())?) {
            Err(Errno::EINTR) => Ok(0),
            result => Ok(result?),
        }
    }

    fn follow(&mut self, orders: Orders) -> Result<()> {
        self.deck.working = orders.working();
        let before = std::mem::replace(&mut self.orders, orders);
        if orders != before && orders.hand_over() {
            self.post.leave(&std::mem::take(&mut self.deck.tally.publish_latency));
        }
        if orders != before && orders.roll_call() {
            let Deck { members, tally, .. } = &mut self.deck;
            members.iter_mut().for_each(|member| member.roll_call(tally));
        }
        if before.working() != orders.working() {
            for index in 0..self.deck.members.len() {
                self.carrier.call(&mut self.deck, index, Member::told_to_work)?;
            }
        }
        Ok(())
    }
}
