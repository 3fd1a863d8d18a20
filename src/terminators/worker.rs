//! The loop of a terminator: it waits, takes what came in batches, and decides nothing that a session or a shard could decide.

mod opening;
mod takeover;
mod unlabelled;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::crypto::Aead;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::cookie::Cookies;
use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::dtls::probe::ProbeLimits;
use firmware_protocol::dtls::record::Record as DtlsRecord;
use firmware_protocol::entropy::Entropy;
use firmware_protocol::error::KeyError;
use firmware_protocol::id::DeviceId;
use firmware_protocol::path::Path;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::request::{Outcome, Request, RequestId};
use firmware_protocol::session::stored::StoredSession;
use firmware_protocol::session::{Context, Dropped, Output, Session, Uplink};
use firmware_protocol::time::{Millis, Now};
use router::device::Link;
use router::journal::{Record, RetireReason};
use router::progress::Stage;
use router::shard::Input;

use crate::entropy::SystemEntropy;
use crate::faults::Rule;
use crate::former::{Former, FormerSession};
use crate::mailbox::{Lane, Mailbox};
use crate::orphans::Trace;
use crate::shards::ToShards;
use crate::terminators::attendance::Attendance;
use crate::terminators::awaited::Awaited;
use crate::terminators::limits::{self, Allowance};
use crate::terminators::newcomers::Newcomers;
use crate::terminators::reserved::Reserved;
use crate::terminators::sessions::{Sessions, Standing};
use crate::terminators::udp::{Queue, Udp};
use crate::terminators::{Shared, StrangerSeen, ToHandshakes, ToTerminator, Unlabelled, Who, owner_of};
use crate::writer::{After, Append, ToWriter};

/// Batches of datagrams of sessions that are read in one turn before the mailbox is looked at again.
const SESSION_BATCHES: usize = 8;
/// Batches of other datagrams: however many hellos there are, sessions come again soon.
const OTHER_BATCHES: usize = 2;
/// Datagrams of new sessions that are taken in one turn, after those of all others.
const NEWCOMERS: usize = 64;
/// Messages taken in one turn.
const MESSAGES: usize = 512;

/// Where a worker sends what it does not do itself.
#[derive(Debug)]
pub struct WorkerLanes {
    /// To the other workers, by index; its own is not used.
    pub workers: Vec<Lane<ToTerminator>>,
    /// To the shards.
    pub shards: ToShards,
    /// To the journal.
    pub writer: Lane<ToWriter>,
    /// To the handshake thread.
    pub handshakes: Lane<ToHandshakes>,
}

/// One terminator.
#[derive(Debug)]
pub struct Worker {
    index: u16,
    workers: usize,
    udp: Udp,
    mailbox: Mailbox<ToTerminator>,
    lanes: WorkerLanes,
    attendance: Attendance,
    shared: Shared,
    sessions: Sessions,
    unlabelled: Arc<Unlabelled>,
    awaited: Awaited,
    newcomers: Newcomers,
    reserved: Reserved,
    cookies: Cookies,
    probes: ProbeLimits,
    aead: Aead,
    now: Now,
    /// Its sessions had more to do than was done in the last turn.
    behind: bool,
    outputs: Vec<Output>,
}

impl Worker {
    /// A worker that owns every bucket whose number is `index` modulo `workers`.
    ///
    /// # Errors
    /// OpenSSL refuses what every thread needs.
    pub fn new(
        index: u16,
        workers: usize,
        udp: Udp,
        mailbox: Mailbox<ToTerminator>,
        lanes: WorkerLanes,
        unlabelled: Arc<Unlabelled>,
        shared: Shared,
    ) -> Result<Self, KeyError> {
        let now = shared.clock.now();
        Ok(Self {
            index,
            workers,
            udp,
            mailbox,
            lanes,
            attendance: Attendance::new(index, &shared.watch),
            shared,
            sessions: Sessions::default(),
            unlabelled,
            awaited: Awaited::default(),
            newcomers: Newcomers::default(),
            reserved: Reserved::default(),
            cookies: Cookies::new(now.at, &mut SystemEntropy),
            probes: ProbeLimits::new(u64::from_be_bytes(SystemEntropy.array())),
            aead: Aead::new()?,
            now,
            behind: false,
            outputs: Vec::new(),
        })
    }

    /// Takes over these `sessions` of a former process, which ended before `since`, and what this worker has of those that were over.
    pub fn restore(&mut self, since: Millis, former: &Arc<Former>, sessions: &[FormerSession]) {
        self.sessions.follow(former, since, sessions.len());
        for own in sessions {
            let Some(session) = former.session(*own) else { continue };
            let standing = if own.replaced { Standing::Tombstone } else { Standing::Live };
            if let Some(connection) = self.restore_one(&session.stored, session.highest, own.message_max, standing)
                && !session.recent.is_empty()
            {
                self.sessions.remember(connection);
            }
        }
        for (stored, highest) in former.retired() {
            if self.owns(stored.connection) {
                self.restore_one(stored, highest, None, Standing::Tombstone);
            }
        }
    }

    fn restore_one(
        &mut self,
        stored: &StoredSession,
        highest: Option<u64>,
        message_max: Option<u16>,
        standing: Standing,
    ) -> Option<ConnectionId> {
        let generation = self.shared.generations.current();
        let session = Session::restored(stored, highest, message_max, generation)?;
        let (connection, peer, device) = (session.connection(), session.path().peer, session.device());
        let buried = standing == Standing::Tombstone && !session.id_on_wire();
        self.sessions.insert(session, standing, Allowance::default());
        match buried {
            true => self.unlabelled.bury(peer, device, connection),
            false => self.enter(connection),
        }
        if standing == Standing::Live {
            self.shared.metrics.session_began();
        }
        Some(connection)
    }

    /// Runs until `stop` is set and the mailbox's bell was rung.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let deadline = self.sessions.timeout_at().map_or(Duration::from_secs(1), |at| at.since(self.now.at));
        self.attendance.enter(Stage::Wait);
        self.mailbox.wait(if self.newcomers.are_waiting() { Duration::ZERO } else { deadline.min(Duration::from_secs(1)) });
        self.now = self.shared.clock.now();
        self.cookies.rotate(self.now.at, &mut SystemEntropy);
        while let Some(connection) = self.sessions.pop_silent_stranger(self.now.at) {
            self.remove(connection);
        }
        self.sessions.forget_former(self.now.at);
        self.newcomers.settle(self.now.at);
        let rule = self.attendance.enter(Stage::Receive);
        self.lanes.shards.note_evidence(rule != Some(Rule::Evidence));
        let more = self.receive(Queue::Sessions, SESSION_BATCHES);
        self.receive_newcomers();
        self.receive(Queue::Others, OTHER_BATCHES);
        self.attendance.enter(Stage::Mailbox);
        let more_messages = self.take_messages();
        self.is_behind(more || more_messages || self.newcomers.are_waiting());
        if self.attendance.enter(Stage::Timers) != Some(Rule::Timers) {
            while let Some(connection) = self.sessions.pop_due(self.now.at) {
                self.with_session(connection, |session, cx| session.handle_timeout(cx));
            }
            self.attendance.looked_after_timers();
        }
        self.attendance.enter(Stage::Output);
        self.ring();
        self.attendance.turned(self.now.at);
    }

    fn ring(&mut self) {
        self.lanes.workers.iter_mut().for_each(Lane::ring);
        self.lanes.shards.ring();
        self.lanes.writer.ring();
        self.lanes.handshakes.ring();
    }

    fn is_behind(&mut self, behind: bool) {
        if std::mem::replace(&mut self.behind, behind) != behind {
            self.shared.backlog.change(behind);
        }
    }

    /// Reads at most so many batches. Whether there may be more.
    fn receive(&mut self, queue: Queue, batches: usize) -> bool {
        let mut batch = Vec::new();
        for _ in 0..batches {
            let received = self.udp.receive(queue, |datagram, path| batch.push((datagram.to_vec(), path)));
            for (datagram, path) in batch.drain(..) {
                self.shared.metrics.datagrams_received.inc();
                if let Some((datagram, path)) = self.newcomers.keep(datagram, path) {
                    self.handle_datagram(&datagram, path);
                }
            }
            // A batch that was not full has emptied the socket, or nearly: another look would cost as much as the next turn.
            if received < Udp::BATCH {
                return false;
            }
        }
        true
    }

    fn receive_newcomers(&mut self) {
        for _ in 0..NEWCOMERS {
            let Some((datagram, path)) = self.newcomers.next() else { return };
            self.handle_datagram(&datagram, path);
        }
    }

    fn handle_datagram(&mut self, datagram: &[u8], path: Path) {
        match demux(datagram) {
            Datagram::Record { connection } => self.handle_record(connection, datagram, path),
            Datagram::Hello(hello) => self.handle_hello(&hello, path),
            Datagram::Flight { connection: Some(connection) } if self.owns(connection) && !self.sessions.contains(connection) => {
                if !self.shared.ids.gave_out(connection) {
                    return self.shared.metrics.dropped("unknown_connection");
                }
                self.pass_to_handshakes(ToHandshakes::Flight { connection: Some(connection), path, datagram: datagram.to_vec() });
            }
            Datagram::Flight { connection: Some(connection) } => self.handle_record(connection, datagram, path),
            Datagram::Flight { connection: None } | Datagram::Unlabelled => {
                let awaited = self.awaited.contains(self.now.at, path.peer);
                self.handle_unlabelled(self.unlabelled.at(path.peer), awaited, datagram, path);
            }
            Datagram::Resumed { device } => self.handle_unlabelled(self.unlabelled.of(device), false, datagram, path),
            Datagram::Probe if self.probes.allow(self.now.at, path.peer.ip()) => self.transmit(path, datagram),
            Datagram::Probe => self.shared.metrics.dropped("probe_limit"),
            Datagram::Junk(junk) => self.shared.metrics.junk(junk),
        }
    }

    fn owns(&self, connection: ConnectionId) -> bool {
        owner_of(connection, self.workers) == usize::from(self.index)
    }

    fn handle_record(&mut self, connection: ConnectionId, datagram: &[u8], path: Path) {
        if !self.owns(connection) {
            if !self.shared.ids.gave_out(connection) {
                return self.shared.metrics.dropped("unknown_connection");
            }
            let message = ToTerminator::Datagram { path, bytes: datagram.to_vec() };
            if self.lanes.workers[owner_of(connection, self.workers)].push(message).is_err() {
                self.shared.metrics.dropped("worker_full");
            }
            return;
        }
        let Some(entry) = self.sessions.entry(connection) else {
            // A right tag on an id that nobody has: a device that talks with keys we lost.
            if !self.shared.ids.gave_out(connection) {
                return self.shared.metrics.dropped("unknown_connection");
            }
            self.shared.orphans.heard(Trace::Session(connection), path.peer, self.now.unix);
            return self.shared.metrics.dropped("orphan");
        };
        if entry.standing == Standing::Opening {
            return self.shared.metrics.dropped("opening");
        }
        if !entry.allowance.has_records(self.now.at, &self.shared.limits) {
            self.shared.noisy.refused(self.now.at, Who::Device(entry.session.device()));
            return self.shared.metrics.dropped("record_limit");
        }
        match self.open_with(connection, datagram, path) {
            Ok(()) => {
                if let Some(entry) = self.sessions.entry(connection) {
                    entry.allowance.take_records(self.now.at, records_in(datagram), &self.shared.limits);
                }
                self.heard(connection);
            }
            Err(dropped) => self.shared.metrics.session_drop(dropped),
        }
    }

    fn open_with(&mut self, connection: ConnectionId, datagram: &[u8], path: Path) -> Result<(), Dropped> {
        let mut result = Ok(());
        self.with_session(connection, |session, cx| result = session.handle_datagram(cx, datagram, path));
        result
    }

    /// An authentic record came.
    fn heard(&mut self, connection: ConnectionId) {
        let now = self.now;
        let Some(entry) = self.sessions.entry(connection) else { return };
        match entry.standing {
            Standing::Live => {
                let (device, is_new) = (entry.session.device(), entry.liveness.is_new());
                if entry.liveness.report_due(now.at) {
                    self.lanes.shards.tell(device, Input::Heard { device, link: self.link(connection), at: now.unix });
                }
                if is_new {
                    self.newcomers.came(now.at, connection);
                }
            }
            Standing::Tombstone => self.with_session(connection, |session, cx| session.close(cx)),
            Standing::Opening | Standing::Stranger => {}
        }
    }

    fn link(&self, connection: ConnectionId) -> Link {
        Link { terminator: self.index, connection }
    }

    fn with_session(&mut self, connection: ConnectionId, action: impl FnOnce(&mut Session, &mut Context<'_>)) {
        let Some(entry) = self.sessions.entry(connection) else { return };
        let (device, standing) = (entry.session.device(), entry.standing);
        let mut outputs = std::mem::take(&mut self.outputs);
        if entry.session.needs_generation() {
            self.shared.generations.renew(&mut entry.session, self.now.unix);
        }
        let mut entropy = SystemEntropy;
        action(&mut entry.session, &mut Context { now: self.now, aead: &mut self.aead, entropy: &mut entropy, out: &mut outputs });
        self.sessions.schedule(connection);
        // Before anything is sent: the answer may come to another worker.
        self.follow(connection);
        for output in outputs.drain(..) {
            match (output, standing) {
                (Output::Transmit { path, datagram }, _) => self.transmit(path, &datagram),
                (output, Standing::Live) => self.handle_output(connection, device, output),
                (Output::Received { uplink: Uplink::Hello { hello, .. }, .. }, Standing::Stranger) => {
                    self.stranger_said_hello(connection, &hello);
                }
                (_, Standing::Opening | Standing::Tombstone | Standing::Stranger) => {}
            }
        }
        self.outputs = outputs;
    }

    /// What an operator wanted to see of an unknown key. There the session ends: nothing of it was written down.
    fn stranger_said_hello(&mut self, connection: ConnectionId, hello: &Hello) {
        if let Some((device, key)) = hello.device.zip(self.sessions.stranger(connection)) {
            let seen = StrangerSeen { spki: key.spki().to_vec(), device, platform: hello.platform, system_version: hello.system_version };
            self.shared.strangers.seen(seen, self.now.unix);
        }
        let Some(entry) = self.sessions.entry(connection) else { return };
        let mut outputs = Vec::new();
        let mut entropy = SystemEntropy;
        entry.session.close(&mut Context { now: self.now, aead: &mut self.aead, entropy: &mut entropy, out: &mut outputs });
        for output in outputs {
            if let Output::Transmit { path, datagram } = output {
                self.transmit(path, &datagram);
            }
        }
        self.remove(connection);
    }

    fn handle_output(&mut self, connection: ConnectionId, device: DeviceId, output: Output) {
        let link = self.link(connection);
        match output {
            Output::Received { receipt, floor, uplink } => {
                if limits::is_event(&uplink) && !self.admits_event(connection) {
                    return self.with_session(connection, |session, cx| session.acknowledge(cx, receipt, Code::TOO_MANY));
                }
                self.shared.metrics.messages_received.inc();
                if !self.lanes.shards.tell(device, Input::Received { link, device, receipt, floor, uplink }) {
                    self.shared.metrics.unkept("shard_full");
                    self.with_session(connection, |session, cx| session.forget(cx, receipt));
                }
            }
            Output::Settled { request, outcome } => {
                self.lanes.shards.tell(device, Input::Settled { request, outcome: Ok(outcome) });
            }
            Output::Moved { path } => {
                self.append(Record::SessionMoved { connection, path }, After::Nothing);
                self.lanes.shards.tell(device, Input::Moved { device, ip: path.peer.ip() });
            }
            Output::DescribeLost(kind) => {
                self.lanes.shards.tell(device, Input::DescribeLost { device, kind });
            }
            Output::Unkept(unkept) => self.shared.metrics.session_unkept(unkept),
            Output::Closed => {
                self.keep_allowance(connection);
                self.remove(connection);
                self.shared.metrics.session_ended();
                self.lanes.shards.tell(device, Input::Closed { device, link });
            }
            Output::Transmit { .. } => {}
        }
    }

    /// For the device's next session.
    fn keep_allowance(&mut self, connection: ConnectionId) {
        if let Some(entry) = self.sessions.entry(connection) {
            self.shared.limits.suspend(self.now.at, entry.session.device(), entry.allowance);
        }
    }

    /// Whether one more event of this session is within its limits.
    fn admits_event(&mut self, connection: ConnectionId) -> bool {
        let Some(entry) = self.sessions.entry(connection) else { return false };
        let (device, owner) = (entry.session.device(), entry.session.owner());
        let taken = entry.allowance.take_event(self.now.at, owner, &self.shared.limits);
        taken.inspect_err(|over| self.shared.event_refused(self.now.at, *over, device, owner)).is_ok()
    }

    fn append(&mut self, record: Record, after: After) -> bool {
        let taken = self.lanes.writer.push(ToWriter::Append(Append { record, after })).is_ok();
        if !taken {
            self.shared.metrics.dropped("writer_full");
        }
        taken
    }

    fn transmit(&self, path: Path, datagram: &[u8]) {
        match self.udp.send(path, datagram) {
            Ok(()) => self.shared.metrics.datagrams_sent.inc(),
            Err(_) => self.shared.metrics.dropped("send_failed"),
        }
    }

    /// Whether there may be more.
    fn take_messages(&mut self) -> bool {
        let (mut messages, mut takeovers) = (Vec::new(), Vec::new());
        let taken = self.mailbox.drain(MESSAGES, |message| match message {
            ToTerminator::TakeOver(takeover) => takeovers.push(*takeover),
            message => messages.push(message),
        });
        for message in messages {
            self.take_message(message);
        }
        // Behind what came before it, and what the old thread said that was taken with it.
        takeovers.into_iter().for_each(|takeover| self.take_over(takeover));
        taken >= MESSAGES
    }

    fn take_message(&mut self, message: ToTerminator) {
        match message {
            ToTerminator::Heartbeat { of, heartbeat } => self.attendance.take(of, heartbeat),
            ToTerminator::Datagram { path, bytes } => self.handle_datagram(&bytes, path),
            ToTerminator::Unlabelled { path, bytes, candidates, awaited } => self.handle_unlabelled(candidates, awaited, &bytes, path),
            ToTerminator::Flight { path, datagram } => self.transmit(path, &datagram),
            ToTerminator::Established { path, connection, established, settling } => {
                self.established(path, connection, *established, settling);
            }
            ToTerminator::Proved { .. } | ToTerminator::Unproved { .. } | ToTerminator::TakeOver(_) => {
                self.shared.metrics.dropped("misrouted");
            }
            ToTerminator::Opened { connection } => self.opened(connection),
            ToTerminator::NotOpened { connection } => self.not_opened(connection),
            ToTerminator::Acknowledge { connection, receipt, code } => {
                self.shared.metrics.answered(code);
                self.lanes.shards.answered(receipt, self.now.at);
                self.with_session(connection, |session, cx| session.acknowledge(cx, receipt, code));
            }
            ToTerminator::Request { connection, id, request, deadline } => self.request(connection, id, request, deadline),
            ToTerminator::Retire { connection, reason } => self.retire(connection, reason),
            ToTerminator::Identify { connection, identity } => {
                if let Some(entry) = self.sessions.entry(connection) {
                    entry.session.set_owner(identity.owner);
                }
            }
        }
    }

    fn request(&mut self, connection: ConnectionId, id: RequestId, request: Request, deadline: Millis) {
        let device = self.sessions.entry(connection).filter(|entry| entry.standing == Standing::Live);
        let Some(device) = device.map(|entry| entry.session.device()) else { return };
        let mut result = Ok(());
        self.with_session(connection, |session, cx| result = session.request(cx, id, request, deadline));
        if let Err(error) = result {
            self.lanes.shards.tell(device, Input::Settled { request: id, outcome: Err::<Outcome, _>(error) });
        }
    }

    fn retire(&mut self, connection: ConnectionId, reason: RetireReason) {
        let Some(entry) = self.sessions.entry(connection) else { return };
        tracing::debug!(device = %entry.session.device(), session = %connection, ?reason, "session retired");
        if entry.standing == Standing::Live {
            self.shared.metrics.session_ended();
            self.keep_allowance(connection);
        }
        let Some(entry) = self.sessions.entry(connection) else { return };
        entry.standing = Standing::Tombstone;
        // A replaced session's device has forgotten its keys; all others are told.
        if reason != RetireReason::Replaced {
            self.with_session(connection, Session::close);
        }
    }
}

/// Records in a datagram, by their headers alone.
fn records_in(datagram: &[u8]) -> u64 {
    std::iter::successors(DtlsRecord::parse(datagram), |(_, rest)| DtlsRecord::parse(rest)).map(|_| 1).sum()
}
