//! One thread of a fleet: owns some devices with their sockets and timers, and moves bytes between them and the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use firmware_protocol::crypto::Aead;
use firmware_protocol::device::DeviceTools;
use firmware_protocol::dtls::keys::DirectionKeys;
use firmware_protocol::dtls::record::Record;
use firmware_protocol::time::Millis;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::audit::Audit;
use super::member::{Ledger, Member, Turn};
use super::tally::Tally;
use super::wire::{DATAGRAM_MAX, Wire};
use super::{Orders, Post};
use crate::timers::Timers;

/// Longest time without a look at the orders.
const NAP: Duration = Duration::from_millis(20);
/// Most timers handled, and datagrams taken from one socket, before others have their turn.
const BATCH: usize = 64;
const EVENTS: usize = 256;

pub(super) struct Worker {
    origin: Instant,
    ends_at: Instant,
    post: Arc<Post>,
    epoll: Epoll,
    tools: DeviceTools,
    aead: Aead,
    audit: Option<Audit>,
    wires: Vec<Wire>,
    members: Vec<Member>,
    timers: Timers,
    tally: Tally,
    orders: Orders,
}

/// What a worker leaves behind.
pub(super) struct Legacy {
    pub(super) tally: Tally,
    pub(super) ledgers: Vec<Ledger>,
}

impl Worker {
    pub(super) fn new(
        origin: Instant,
        ends_at: Instant,
        post: Arc<Post>,
        wires: Vec<Wire>,
        members: Vec<Member>,
        audit: bool,
    ) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (index, wire) in wires.iter().enumerate() {
            epoll.add(&wire.socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        let mut timers = Timers::new(members.len());
        members.iter().enumerate().for_each(|(index, member)| timers.set(index, member.timeout_at()));
        Ok(Self {
            origin,
            ends_at,
            post,
            epoll,
            tools: DeviceTools::new()?,
            aead: Aead::new()?,
            audit: audit.then(Audit::new).transpose()?,
            wires,
            members,
            timers,
            tally: Tally::default(),
            orders: Orders::default(),
        })
    }

    /// Works until it is told to stop, or its time is over.
    pub(super) fn run(mut self) -> Result<Legacy> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let orders = self.post.orders();
            if orders.stop() || Instant::now() >= self.ends_at {
                break;
            }
            self.follow(orders);
            for _ in 0..BATCH {
                let Some(index) = self.timers.pop(self.now()) else { break };
                self.timer(index);
            }
            self.post.gauges.show(&self.tally);
            self.post.have_followed(orders);
            let ready = self.wait(&mut events)?;
            for event in &events[..ready] {
                self.readable(usize::try_from(event.data())?);
            }
        }
        self.post.gauges.show(&self.tally);
        Ok(Legacy { tally: self.tally, ledgers: self.members.into_iter().map(Member::into_ledger).collect() })
    }

    fn now(&self) -> Millis {
        Millis(0) + self.origin.elapsed()
    }

    fn wait(&mut self, events: &mut [EpollEvent]) -> Result<usize> {
        let now = self.now();
        let idle = self.timers.next().map_or(NAP, |(at, _)| at.since(now).min(NAP));
        match self.epoll.wait(events, u8::try_from(idle.as_millis())?) {
            Err(nix::errno::Errno::EINTR) => Ok(0),
            result => Ok(result?),
        }
    }

    fn follow(&mut self, orders: Orders) {
        if std::mem::replace(&mut self.orders, orders).working() != orders.working() {
            for index in 0..self.members.len() {
                self.with_member(index, Member::told_to_work);
            }
        }
    }

    fn timer(&mut self, index: usize) {
        let now = self.now();
        if self.members[index].device.begins_handshake(now) && !self.may_handshake(index) {
            self.members[index].parked = true;
            return;
        }
        self.with_member(index, Member::handle_timeout);
    }

    /// Takes the turn to handshake, or gets into the queue for it.
    fn may_handshake(&mut self, index: usize) -> bool {
        let wire = &mut self.wires[self.members[index].wire];
        if wire.turn.is_some_and(|other| other != index) {
            wire.queue.push_back(index);
            return false;
        }
        wire.turn = Some(index);
        true
    }

    fn readable(&mut self, wire: usize) {
        let mut buffer = [0; DATAGRAM_MAX];
        for _ in 0..BATCH {
            let Some(len) = self.wires[wire].receive(&mut buffer) else { return };
            self.tally.datagrams_received += 1;
            match self.recipient(wire, &buffer[..len]) {
                Some(index) => self.deliver(index, &buffer[..len]),
                None => self.tally.datagrams_unclaimed += 1,
            }
        }
    }

    /// Whose datagram it is.
    fn recipient(&mut self, wire: usize, datagram: &[u8]) -> Option<usize> {
        let wire = &self.wires[wire];
        if let [only] = wire.members[..] {
            return Some(only);
        }
        let (record, _) = Record::parse(datagram)?;
        if record.epoch == 0 {
            return wire.turn;
        }
        let mut opens = |keys: DirectionKeys| record.open(&mut self.aead, &keys).is_some();
        wire.members.iter().copied().find(|index| self.members[*index].server_keys().is_some_and(&mut opens))
    }

    fn deliver(&mut self, index: usize, datagram: &[u8]) {
        let before = self.members[index].server_keys();
        self.with_member(index, |member, turn| member.handle_datagram(turn, datagram));
        if let Some(audit) = &mut self.audit {
            // The keys of a session come and go with a datagram of their own.
            if let Some(keys) = before.or_else(|| self.members[index].server_keys()) {
                audit.check(&keys, datagram, &mut self.tally);
            }
        }
    }

    /// Calls a member, sends what it has to send, and looks when it is due again.
    fn with_member(&mut self, index: usize, action: impl FnOnce(&mut Member, &mut Turn<'_>)) {
        let now = self.now();
        let member = &mut self.members[index];
        let mut turn = Turn { now, tools: &mut self.tools, tally: &mut self.tally, working: self.orders.working() };
        action(member, &mut turn);
        let wire = &mut self.wires[member.wire];
        while let Some(datagram) = member.device.poll_transmit() {
            match wire.send(&datagram) {
                true => self.tally.datagrams_sent += 1,
                false => self.tally.datagrams_refused += 1,
            }
        }
        self.timers.set(index, member.timeout_at());
        if wire.turn == Some(index) && !member.device.is_handshaking() {
            wire.turn = None;
            if let Some(next) = wire.queue.pop_front() {
                self.members[next].parked = false;
                self.timers.set(next, self.members[next].timeout_at());
            }
        }
    }
}
