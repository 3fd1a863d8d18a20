//! Watches the threads that serve devices: sends heartbeats through them, judges what they pass on, and sees to a cure when one of them has stopped.
//!
//! A shard that stops alone is taken over by another thread (`src/takeover.rs`). A restart serves every session again within seconds and without a
//! handshake, so it is the cure of whatever else stalls: the process ends, unless an operator wants nothing to be ended (`watchdog.cure`). It would not cure a disk that does not answer: if the journal waits for the disk
//! and a probe beside it does too, the process goes on, and so do pings, calls and reads.
//!
//! It runs on a thread of its own and shares no lock with anything it watches. What it has to say is logged by others; what cannot wait is written as one
//! line past all buffers. Its own standing still is noticed by the terminators (`sentinel.rs`).

mod disk_probe;
mod disk_wait;
mod lanes;
pub mod last_words;
mod lookout;
mod sentinel;
mod series;
mod supervisor;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use firmware_protocol::time::Millis;
use router::epoch::Epochs;
use router::evidence::{Observer, Table};
use router::gray::{Gray, GrayJudge};
use router::progress::{Board, Heartbeat, Part, Reading, Row, Stage};
use router::takeover::{Reason, Remedy, Takeovers};
use router::verdict::{HEARTBEAT_EVERY, Judge, Judgement, State, Verdict};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::evidence::Notes;
use crate::faults::{self, Faults, Gate};
use crate::mailbox::Mailbox;
use crate::takeover::{Order, TakenOver};

pub use self::disk_probe::{DiskProbe, Prober};
use self::disk_wait::DiskWait;
use self::lookout::Lookout;

pub use self::lanes::{LANE as WATCHDOG_LANE, WatchdogLanes};
pub use self::sentinel::Sentinel;
pub use self::series::ProgressSeries;
pub use self::supervisor::Supervisor;
pub use self::watched::Watched;

/// How often everything is judged.
const JUDGE_EVERY: Duration = Duration::from_millis(100);
/// How often the supervisor is told that everything was.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Verdicts that wait to be logged.
const NEWS_MAX: usize = 1_024;
/// For how long the disk has to answer others before it is the journal's thread that does not wait for it: what is slow is let go on.
const PROBE_PATIENCE: Duration = Duration::from_millis(1_500);

/// Something that is new.
#[derive(Clone, Debug)]
pub enum News {
    /// A verdict, and what users say of that part.
    Verdict(Verdict, Option<Gray>),
    /// Whether it is looked for numbers that stand still.
    Detector {
        /// It is.
        looks: bool,
    },
}

/// What the watchdog last said, for whoever asks.
#[derive(Clone, Debug)]
pub struct Bulletin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    judgement: ArcSwap<Judgement>,
    /// When it judged last, in milliseconds of the clock.
    judged_at: AtomicU64,
    /// Whether the process is ended when something has stopped.
    armed: AtomicBool,
    /// Whether nothing is ever ended, because nobody wants that.
    only_tells: AtomicBool,
}

impl Bulletin {
    /// With nothing on it.
    pub fn new() -> Self {
        let judgement = ArcSwap::from_pointee(Judgement::default());
        Self(Arc::new(Inner { judgement, judged_at: AtomicU64::new(0), armed: AtomicBool::new(false), only_tells: AtomicBool::new(false) }))
    }

    /// What was said last.
    pub fn judgement(&self) -> Arc<Judgement> {
        self.0.judgement.load_full()
    }

    /// When that was.
    pub fn judged_at(&self) -> Millis {
        Millis(self.0.judged_at.load(Ordering::Relaxed))
    }

    /// From now on the process is ended when something has stopped.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::Relaxed);
    }

    /// Nothing is ended any more: the process is stopping by itself.
    pub fn disarm(&self) {
        self.0.armed.store(false, Ordering::Relaxed);
    }

    /// Whatever stops, nothing is ended: it is only told.
    pub fn only_tell(&self) {
        self.0.only_tells.store(true, Ordering::Relaxed);
    }

    fn serves(&self) -> bool {
        self.0.armed.load(Ordering::Relaxed)
    }

    fn is_armed(&self) -> bool {
        self.serves() && !self.0.only_tells.load(Ordering::Relaxed)
    }

    fn post(&self, now: Millis, judgement: Judgement) {
        self.0.judgement.store(Arc::new(judgement));
        self.0.judged_at.store(now.0, Ordering::Relaxed);
    }
}

impl Default for Bulletin {
    fn default() -> Self {
        Self::new()
    }
}

/// What all who are watched share, and whoever wants to know of them.
#[derive(Clone, Debug)]
pub struct Watch {
    /// What they note.
    pub board: Board,
    /// What the watchdog said.
    pub bulletin: Bulletin,
    /// What tests do to them.
    pub faults: Faults,
    /// Who speaks for each shard.
    pub epochs: Epochs,
    /// What those who hand messages to shards note of these.
    pub evidence: Table,
    notes: Arc<[Arc<Notes>]>,
    /// When the detector of what stands still looked last, in milliseconds of the clock.
    pub detector: Arc<AtomicU64>,
}

impl Watch {
    /// Over so many terminators and shards, and what there is one of.
    pub fn new(terminators: usize, shards: usize) -> Self {
        let epochs = Epochs::new(shards);
        let evidence = Table::new(terminators, shards);
        let notes = evidence.pages().iter().cloned().map(Notes::new).collect();
        let terminators = (0..).take(terminators).map(Part::Terminator);
        let shards = (0..).take(shards).map(Part::Shard);
        let board = Board::new([Part::Journal, Part::FanOut, Part::Api].into_iter().chain(terminators).chain(shards));
        Self { faults: Faults::new(&board), board, bulletin: Bulletin::new(), epochs, evidence, notes, detector: Arc::default() }
    }

    /// What a terminator notes of shards.
    pub fn notes_of(&self, terminator: usize) -> Arc<Notes> {
        let notes = self.notes.get(terminator).map(Arc::clone);
        notes.unwrap_or_else(|| Notes::new(self.evidence.page(Observer::Api)))
    }

    /// What all note.
    pub fn notes(&self) -> &[Arc<Notes>] {
        &self.notes
    }

    /// What the API notes of shards.
    pub fn notes_of_api(&self) -> Arc<Notes> {
        self.notes_of(self.notes.len().saturating_sub(1))
    }

    /// The end of one of them. One that is not on the board is watched by nobody.
    pub fn watched(&self, part: Part) -> Watched {
        Watched::new(self.row(part), self.faults.gate(part))
    }

    /// The end of a thread that takes the place of another.
    pub fn watched_next(&self, part: Part) -> Watched {
        Watched::new(self.row(part), self.faults.next_gate(part))
    }

    fn row(&self, part: Part) -> Arc<Row> {
        self.board.row(part).map_or_else(|| Arc::new(Row::new(part)), Arc::clone)
    }
}

/// The watchdog, on its thread.
#[derive(Debug)]
pub struct Watchdog {
    watch: Watch,
    lanes: WatchdogLanes,
    /// Shards that another thread has.
    taken_over: Mailbox<TakenOver>,
    takeovers: Takeovers,
    gate: Arc<Gate>,
    probe: DiskProbe,
    disk_wait: DiskWait,
    news: mpsc::Sender<News>,
    supervisor: Supervisor,
    clock: Clock,
}

impl Watchdog {
    /// One that watches all parts through `lanes`, and what is to log its verdicts.
    pub fn new(
        watch: &Watch,
        (lanes, taken_over): (WatchdogLanes, Mailbox<TakenOver>),
        takeovers: Takeovers,
        probe: DiskProbe,
        clock: Clock,
    ) -> (Self, mpsc::Receiver<News>) {
        let (news, receiver) = mpsc::channel(NEWS_MAX);
        let gate = watch.faults.named(faults::WATCHDOG);
        let (watch, supervisor) = (watch.clone(), Supervisor::from_environment());
        let disk_wait = DiskWait::default();
        (Self { watch, lanes, taken_over, takeovers, gate, probe, disk_wait, news, supervisor, clock }, receiver)
    }

    /// Runs until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        let began = self.clock.now().at;
        let (mut judge, mut gray_judge) = (Judge::new(began), GrayJudge::new(began));
        let mut detector = Lookout::new(began);
        let (mut beat_at, mut tell_at) = (Millis(0), Millis(0));
        while !stop.load(Ordering::Acquire) {
            let now = self.clock.now().at;
            self.gate.pass(Stage::Output);
            self.take_up_lanes();
            if now >= beat_at {
                beat_at = now + HEARTBEAT_EVERY;
                self.lanes.beat(Heartbeat(now));
            }
            self.gate.pass(Stage::Apply);
            let readings: Vec<_> = self.watch.board.rows().iter().map(|row| row.read()).collect();
            let mut judgement = judge.judge(now, &readings);
            judgement.add(now, gray_judge.judge(now, &self.watch.evidence, &readings));
            for verdict in &judgement.changed {
                let gray = judgement.gray.iter().find(|gray| gray.part == verdict.part).cloned();
                // Whoever logs it may be what stands still.
                let _ = self.news.try_send(News::Verdict(*verdict, gray));
            }
            if let Some(looks) = detector.look(now, self.watch.detector.load(Ordering::Relaxed)) {
                let _ = self.news.try_send(News::Detector { looks });
            }
            self.act(now, &judgement, &readings);
            self.watch.bulletin.post(now, judgement);
            if now >= tell_at && self.watch.bulletin.serves() {
                tell_at = now + TELL_EVERY;
                self.supervisor.alive();
            }
            self.gate.pass(Stage::Wait);
            thread::sleep(JUDGE_EVERY);
        }
    }

    /// Shards that another thread has are heard there from now on.
    fn take_up_lanes(&mut self) {
        let (lanes, takeovers) = (&mut self.lanes, &mut self.takeovers);
        self.taken_over.drain(usize::MAX, |TakenOver { shard, lane }| {
            lanes.replace(shard, lane);
            takeovers.done(shard);
        });
    }

    /// Cures what has stopped, if that is for another reason than a disk that does not answer.
    fn act(&mut self, now: Millis, judgement: &Judgement, readings: &[Reading]) {
        let mut stuck: Vec<_> = judgement.stalled().collect();
        if stuck.is_empty() {
            self.probe.rest();
        }
        if !self.watch.bulletin.is_armed() {
            return;
        }
        let disk_answers = !stuck.is_empty() && stuck.iter().all(DiskWait::is) && self.probe.answers(now, PROBE_PATIENCE);
        if !disk_answers {
            self.disk_wait.excuse(now, &mut stuck);
        }
        match self.takeovers.remedy(now, judgement, readings, &stuck) {
            Remedy::Nothing => {}
            Remedy::TakeOver(shard, verdict) => self.take_over(shard, verdict),
            Remedy::End(verdict, Reason::NoShardAlone) => last_words::end(verdict.part, verdict.stage),
            Remedy::End(_, Reason::Shared) => last_words::end_for_many(),
            Remedy::End(verdict, Reason::TooMany) => {
                last_words::end_after_takeover(verdict.part, verdict.stage, "after too many takeovers");
            }
            Remedy::End(verdict, Reason::InVain) => {
                last_words::end_after_takeover(verdict.part, verdict.stage, "and its takeover did not help");
            }
        }
    }

    /// From here on nothing counts that the shard's thread says. What is not ordered is found to be in vain.
    fn take_over(&mut self, shard: u16, verdict: Verdict) {
        let epoch = self.watch.epochs.raise(usize::from(shard));
        let _ = self.lanes.takeover.send(Order { shard, epoch, stage: verdict.stage, since: verdict.since });
    }
}

/// Logs what the watchdog has to say, until it is gone.
pub async fn log(mut news: mpsc::Receiver<News>, clock: Clock) {
    while let Some(news) = news.recv().await {
        let (Verdict { part, state, stage, since }, gray) = match news {
            News::Verdict(verdict, gray) => (verdict, gray),
            News::Detector { looks: true } => {
                tracing::info!("it is looked again for numbers that stand still");
                continue;
            }
            News::Detector { looks: false } => {
                tracing::error!("nobody looks any more for numbers that stand still");
                continue;
            }
        };
        let (stage, for_ms) = (stage.map_or("", Stage::name), clock.now().at.since(since).as_millis());
        match state {
            State::Healthy => tracing::info!(%part, "makes progress"),
            State::Blind => tracing::debug!(%part, "nobody could tell: the watchdog was not running"),
            State::Slow => tracing::warn!(%part, stage, for_ms, "makes progress late"),
            State::Gray => tell_gray(&gray.unwrap_or_else(|| Gray::of(part, since)), stage),
            State::Stalled => tracing::error!(%part, stage, for_ms, "has stalled"),
        }
    }
}

fn tell_gray(gray: &Gray, stage: &str) {
    let observers: Vec<String> = gray.observers.iter().map(ToString::to_string).collect();
    let (part, observers, failed, handed) = (gray.part, observers.join(", "), gray.failed, gray.handed);
    tracing::error!(%part, stage, observers, failed, handed, "passes heartbeats on, but its users are not served");
}

/// Passes on the heartbeats of those who serve the API: whoever runs this runs them too.
pub async fn answer_for_api(mut heartbeats: mpsc::Receiver<Heartbeat>, board: Board) {
    let Some(row) = board.row(Part::Api).cloned() else { return };
    while let Some(heartbeat) = heartbeats.recv().await {
        row.pass(Stage::Mailbox, heartbeat);
    }
}
