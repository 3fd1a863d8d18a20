//! One simulated device and what it is there to do, whatever carries its messages.

use std::time::{Duration, Instant};

use firmware_protocol::device::{App, DeviceEvent, DeviceTools};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::subscribe::HandlerKind;
use firmware_protocol::session::variable::Value;
use firmware_protocol::time::Millis;

use super::shout::{Pace, Shouts};
use super::tally::Tally;
use super::text::{EVENT_NAME, EventText, LOUD_NAME, NEWS_PREFIX};

/// Silence after which a device pings.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// From one burst of a device that shouts to the next.
const SHOUT_EVERY: Duration = Duration::from_millis(1);
/// Most publishes of one device that are open at a time.
const OPEN_MAX: usize = 8;
/// Most news that are told apart.
const NEWS_MAX: usize = 100_000;
/// A system describe (protobuf `SystemDescribe`): system part 1 in version 6200, user part 1 in version 6, both whole.
pub(super) const SYSTEM_DESCRIBE: [u8; 37] = [
    0x0a, 0x11, 0x08, 4, 0x10, 1, 0x18, 0xb8, 0x30, 0x35, 0x1e, 0, 0, 0, 0x3d, 0x1e, 0, 0, 0, //
    0x0a, 0x10, 0x08, 5, 0x10, 1, 0x18, 6, 0x35, 0x1e, 0, 0, 0, 0x3d, 0x1e, 0, 0, 0,
];

/// What devices do while the fleet works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Publish with acknowledgement, each device once in this time.
    Publish {
        /// From one publish to the next.
        every: Duration,
    },
    /// Handshake, forget the session, handshake again. Nothing is sent in the session.
    Handshakes,
    /// Connect, then ping, each time as soon as the last ping is answered.
    Pings,
    /// Connect, then publish with acknowledgement, each time as soon as the last publish is over.
    Publishes,
    /// Come all at the moment at which the fleet begins to work, as after a power cut.
    Return {
        /// Whether they were connected before and have kept their sessions. If not, they are off until then.
        kept: bool,
    },
    /// Send events without acknowledgement, whatever becomes of them.
    Shout {
        /// So many of each device.
        rate_per_s: u32,
    },
}

/// What all devices of a fleet have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    /// Goes into every text.
    pub(super) run: u32,
    /// Whether record numbers and fates of publishes are kept for judgement.
    pub(super) audit: bool,
}

/// What became of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nothing yet.
    Open,
    /// The device saw it acknowledged.
    Acknowledged,
    /// Refused, or not acknowledged in time.
    Failed,
}

/// What became of every publish of one device, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// Which.
    pub device: DeviceId,
    /// By the count in the text.
    pub fates: Vec<Fate>,
    /// How often it heard each of the numbered news; those after the last that it heard are missing.
    pub news: Vec<u8>,
    /// How often its connection ended.
    pub disconnects: u32,
}

/// What one call into a member works with.
pub(super) struct Turn<'a> {
    pub(super) now: Millis,
    pub(super) tools: &'a mut DeviceTools,
    pub(super) tally: &'a mut Tally,
    /// Whether the fleet works at the moment.
    pub(super) working: bool,
}

#[derive(Debug)]
struct OpenPublish {
    publish: u64,
    count: u32,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Member<D> {
    pub(super) device: D,
    job: Job,
    entropy: SeededEntropy,
    next_publish: Option<Millis>,
    pace: Pace,
    count: u32,
    open: Vec<OpenPublish>,
    fates: Vec<Fate>,
    news: Vec<u8>,
    disconnects: u32,
    connected: bool,
    arrived: bool,
    /// It was called up then, and no publish that began later was acknowledged since.
    unserved_since: Option<Instant>,
}

impl<D: Shouts> Member<D> {
    /// With a device that begins to connect by itself, unless it is there for handshakes, or to come back without a session: then it is off until the
    /// fleet works.
    pub(super) fn new(mut device: D, job: Job, entropy: SeededEntropy) -> Self {
        if matches!(job.work, Work::Handshakes | Work::Return { kept: false }) {
            device.forget_session();
        }
        Self {
            device,
            job,
            entropy,
            next_publish: None,
            pace: Pace::default(),
            count: 0,
            open: Vec::new(),
            fates: Vec::new(),
            news: Vec::new(),
            disconnects: 0,
            connected: false,
            arrived: false,
            unserved_since: None,
        }
    }

    pub(super) fn id(&self) -> DeviceId {
        self.device.id()
    }

    pub(super) fn into_ledger(self) -> Ledger {
        Ledger { device: self.id(), fates: self.fates, news: self.news, disconnects: self.disconnects }
    }

    /// It counts as unserved until a publish is acknowledged that begins from now on.
    pub(super) fn roll_call(&mut self, tally: &mut Tally) {
        tally.unserved += u64::from(self.unserved_since.replace(Instant::now()).is_none());
    }

    pub(super) fn timeout_at(&self) -> Option<Millis> {
        [self.device.timeout_at(), self.next_publish].into_iter().flatten().min()
    }

    /// The fleet begins to work, or to rest.
    pub(super) fn told_to_work(&mut self, turn: &mut Turn<'_>) {
        match self.job.work {
            Work::Publish { .. } | Work::Shout { .. } => {}
            Work::Handshakes if turn.working => self.device.power_on(turn.now),
            Work::Handshakes => {}
            Work::Pings => self.ping(turn),
            Work::Publishes => self.publish_on(turn),
            Work::Return { kept } if turn.working => {
                turn.tally.connected -= u64::from(std::mem::take(&mut self.connected));
                self.device.power_on(turn.now);
                if !kept {
                    // Before anything is answered: all hellos are on their way when the first handshake begins.
                    self.device.handle_timeout(turn.now, turn.tools);
                    self.follow(turn);
                }
            }
            Work::Return { .. } => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        self.device.handle_timeout(turn.now, turn.tools);
        self.follow(turn);
        if self.next_publish.is_some_and(|at| turn.now >= at) {
            match self.job.work {
                Work::Publish { every } => self.publish(turn, every),
                Work::Shout { rate_per_s } => self.shout(turn, rate_per_s),
                Work::Handshakes | Work::Pings | Work::Publishes | Work::Return { .. } => {}
            }
        }
    }

    /// Lets the device take something that came to it.
    pub(super) fn receive(&mut self, turn: &mut Turn<'_>, take: impl FnOnce(&mut D, Millis, &mut DeviceTools)) {
        let before = self.device.has_session();
        take(&mut self.device, turn.now, turn.tools);
        if !before && self.device.has_session() {
            turn.tally.handshakes_finished += 1;
            if self.job.work == Work::Handshakes {
                // Before the Hello that is ready to go leaves.
                self.device.forget_session();
                self.told_to_work(turn);
            }
        }
        self.follow(turn);
    }

    /// Counts what happened on the device, and does what comes next.
    fn follow(&mut self, turn: &mut Turn<'_>) {
        turn.tally.retransmissions += self.device.take_retransmissions();
        while let Some(event) = self.device.poll_event() {
            match event {
                DeviceEvent::HandshakeStarted => turn.tally.handshakes += 1,
                DeviceEvent::Connected { resumed } => self.came(turn, resumed),
                DeviceEvent::Disconnected { reason, .. } => self.went(turn, reason),
                DeviceEvent::Published { publish, accepted } => self.published(turn, publish, accepted),
                DeviceEvent::Called { .. } => turn.tally.calls_answered += 1,
                DeviceEvent::EventReceived { name, data, .. } => self.heard(turn, &name, &data),
                DeviceEvent::PingAnswered => {
                    turn.tally.pings_answered += 1;
                    self.ping(turn);
                }
                DeviceEvent::SequenceRepeated(_) => turn.tally.sequences_repeated += 1,
                DeviceEvent::ClockSet(_) | DeviceEvent::Signal(_) => {}
            }
        }
    }

    fn came(&mut self, turn: &mut Turn<'_>, resumed: bool) {
        self.connected = true;
        turn.tally.connected += 1;
        turn.tally.arrived += u64::from(!std::mem::replace(&mut self.arrived, true));
        turn.tally.resumes += u64::from(resumed);
        match (self.job.work, self.next_publish) {
            (Work::Publish { every }, None) => {
                // Anywhere within the first period, so that a fleet that came at once does not publish at once.
                let phase = self.entropy.below(u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1));
                self.next_publish = Some(turn.now + Duration::from_millis(phase));
            }
            (Work::Shout { .. }, None) => self.next_publish = Some(turn.now),
            _ => {}
        }
        self.ping(turn);
        self.publish_on(turn);
    }

    fn went(&mut self, turn: &mut Turn<'_>, reason: &'static str) {
        turn.tally.connected -= u64::from(std::mem::take(&mut self.connected));
        self.disconnects += 1;
        *turn.tally.disconnects.entry(reason).or_default() += 1;
    }

    fn heard(&mut self, turn: &mut Turn<'_>, name: &str, data: &[u8]) {
        turn.tally.events_received += 1;
        let number = std::str::from_utf8(data).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(number) = number.filter(|number| self.job.audit && name.starts_with(NEWS_PREFIX) && *number < NEWS_MAX) else { return };
        if self.news.len() <= number {
            self.news.resize(number + 1, 0);
        }
        turn.tally.news_repeated += u64::from(self.news[number] > 0);
        self.news[number] = self.news[number].saturating_add(1);
    }

    fn ping(&mut self, turn: &mut Turn<'_>) {
        if self.job.work == Work::Pings && turn.working && self.connected {
            self.device.ping(turn.now, turn.tools);
        }
    }

    fn shout(&mut self, turn: &mut Turn<'_>, rate_per_s: u32) {
        self.next_publish = Some(turn.now + SHOUT_EVERY);
        if !turn.working || !self.connected {
            return self.pace.rest();
        }
        for _ in 0..self.pace.due(turn.now, rate_per_s) {
            let text = EventText { device: self.id(), run: self.job.run, count: self.count }.to_string();
            self.device.shout(turn.now, turn.tools, LOUD_NAME, text.as_bytes());
            self.count += 1;
            turn.tally.shouted += 1;
        }
    }

    fn publish(&mut self, turn: &mut Turn<'_>, every: Duration) {
        self.next_publish = Some(turn.now + every.max(Duration::from_millis(1)));
        self.publish_once(turn);
    }

    fn publish_on(&mut self, turn: &mut Turn<'_>) {
        if self.job.work == Work::Publishes && self.open.is_empty() {
            self.publish_once(turn);
        }
    }

    fn publish_once(&mut self, turn: &mut Turn<'_>) {
        if !turn.working || !self.connected {
            return;
        }
        if self.open.len() >= OPEN_MAX {
            turn.tally.left_out += 1;
            return;
        }
        let text = EventText { device: self.id(), run: self.job.run, count: self.count }.to_string();
        let publish = self.device.publish(turn.now, turn.tools, EVENT_NAME, 0, text.as_bytes());
        self.open.push(OpenPublish { publish, count: self.count, since: Instant::now() });
        self.count += 1;
        if self.job.audit {
            self.fates.push(Fate::Open);
        }
        turn.tally.sent += 1;
        turn.tally.open += 1;
    }

    fn published(&mut self, turn: &mut Turn<'_>, publish: u64, accepted: bool) {
        let Some(index) = self.open.iter().position(|open| open.publish == publish) else {
            return;
        };
        let open = self.open.swap_remove(index);
        turn.tally.open -= 1;
        if accepted {
            turn.tally.acknowledged += 1;
            turn.tally.publish_latency.record(open.since.elapsed());
            turn.tally.unserved -= u64::from(self.unserved_since.take_if(|called| open.since >= *called).is_some());
        } else {
            turn.tally.failed += 1;
        }
        if let Some(fate) = self.fates.get_mut(open.count as usize) {
            *fate = if accepted { Fate::Acknowledged } else { Fate::Failed };
        }
        self.publish_on(turn);
    }
}

/// Two functions, three variables, one subscription.
pub(super) fn app() -> App {
    App::default()
        .function("double", |argument| argument.parse::<i32>().unwrap_or_default().saturating_mul(2))
        .function("length", |argument| i32::try_from(argument.len()).unwrap_or(i32::MAX))
        .variable("temperature", Value::Double(21.5))
        .variable("count", Value::Int(7))
        .variable("place", Value::String("bench".into()))
        .subscription(NEWS_PREFIX, HandlerKind::Text)
}
