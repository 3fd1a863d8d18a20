//! The journal by itself, with segments so small that every commit may be the one that begins another, with headroom, snapshots and segments
//! that are given up, and a sink's cursor: everything that the server does with it in a day.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use firmware_protocol::entropy::{Entropy, SeededEntropy};
use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::time::UnixMillis;
use holdfast::cursors::{Cursors, Ledger, Mark};
use holdfast::entropy::SystemEntropy;
use holdfast::journal::{self, CompactionOptions, Covered, Journal, Options, Recovered, SealedSegment, State, compact, remove_segments};
use router::event::{Event, EventId, Position, Source};
use router::journal::{DescribeKind, Record};

use crate::child::{Child, LIFE_MAX, Plan, say};
use crate::disk::{Cut, Disk, Shim, copy_all};
use crate::{kills, seeded};

const CHILD: &str = "journal::work_in_the_journal";
const DIRECTORY: &str = "POWER_JOURNAL";
const FIRST_BATCH: &str = "POWER_FIRST_BATCH";
/// After how many batches it pauses, if at all: then nothing makes up for what opening or the first commits left undone.
const PAUSE_AFTER: &str = "POWER_PAUSE_AFTER";
/// What it pauses after: a word that it says.
const PAUSE_AT: &str = "POWER_PAUSE_AT";
const PAUSE: Duration = Duration::from_millis(200);
/// Steps that the first start takes.
const STEPS_TO_START: u64 = 16;
/// Steps until the first commit has moved the cursor, too.
const STEPS_TO_START_AND_COMMIT: u64 = 40;
/// Events that are kept for sure.
const KEPT: u64 = 20;
/// Name of the cursor.
const CURSOR: &str = "power";
/// Sealed segments that are left alone; with more, several are given up at once.
const SEALED: usize = 8;

fn options(salt: u64) -> Options {
    Options { segment_bytes: 3_500, frame_bytes: 1_200, headroom_bytes: 2_048, reserve_bytes: 1_500, salt }
}

/// What is committed as batch `number`.
fn batch(number: u64) -> Vec<Record> {
    let mut random = SeededEntropy::new(number);
    let at = UnixMillis(number);
    let event = |random: &mut SeededEntropy, index: u64| {
        let data = format!("{number}-{index}-{}", "x".repeat(usize::try_from(random.below(900)).unwrap()));
        let event = Event {
            id: EventId::new(at, random.array()),
            owner: OwnerId(1),
            product: None,
            source: Source::Api,
            name: "power".into(),
            content_format: 0,
            data: Some(data.into_bytes()),
            ttl_s: 60,
            published_at: at,
        };
        Record::Event { floor: None, event: Arc::new(event) }
    };
    let mut records = Vec::new();
    for index in 0..1 + random.below(3) {
        records.push(event(&mut random, index));
        let device = DeviceId([u8::try_from(random.below(9)).unwrap(); 12]);
        let payload = format!("{number}-{index}").into_bytes();
        records.push(Record::Describe { floor: None, device, kind: DescribeKind::Application, payload, at });
    }
    records
}

enum Task {
    Compact(Vec<SealedSegment>),
    Remove(Vec<SealedSegment>),
}

/// The child.
#[test]
#[ignore = "a process that the other tests start"]
fn work_in_the_journal() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let first: u64 = std::env::var(FIRST_BATCH).unwrap().parse().unwrap();
    let (mut journal, recovered) = match Journal::open(Path::new(&dir), options(u64::from_be_bytes(SystemEntropy.array()))) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("refused: {error}");
            std::process::exit(3);
        }
    };
    say(&format!("open {}", recovered.next_position));
    let pause_after: Option<u64> = std::env::var(PAUSE_AFTER).ok().map(|batches| batches.parse().unwrap());
    let mut cursor = Cursors::open(&cursors(Path::new(&dir)), journal.events()).unwrap().take(CURSOR, Position(0)).unwrap();
    let (tasks, worker) = sync_channel(4);
    let (reports, covered) = sync_channel(4);
    let pause = Arc::new(AtomicBool::new(false));
    let pausing = Arc::clone(&pause);
    let background = thread::spawn(move || work_in_the_background(Path::new(&dir), &worker, &reports, &pausing));
    let began = Instant::now();
    for number in (first..).take_while(|_| began.elapsed() < LIFE_MAX) {
        if pause_after == Some(number - first) || pause.swap(false, Ordering::AcqRel) {
            thread::sleep(PAUSE);
        }
        let committed = journal.commit(&batch(number)).unwrap();
        say(&format!("done {number} {}", committed.first));
        let position = Position(journal.next_position().0 - 1);
        cursor.commit(Mark { position, ledger: Ledger { delivered: position.0, ..Ledger::default() } }).unwrap();
        say(&format!("cursor {position}"));
        if journal.segments().sealed().len() > SEALED {
            let _ = tasks.try_send(Task::Compact(journal.segments().sealed()));
        }
        for covered in covered.try_iter().collect::<Vec<_>>() {
            let keep_from = Position(journal.next_position().0.saturating_sub(KEPT).max(1));
            say(&format!("kept {keep_from}"));
            let _ = tasks.send(Task::Remove(journal.segments().release(&covered, keep_from)));
        }
    }
    drop((tasks, covered));
    background.join().unwrap();
}

/// Where the cursors of the journal in `dir` are.
fn cursors(dir: &Path) -> PathBuf {
    dir.with_file_name("cursors")
}

fn work_in_the_background(dir: &Path, tasks: &Receiver<Task>, reports: &SyncSender<Covered>, pause: &AtomicBool) {
    let pause_at = std::env::var(PAUSE_AT).unwrap_or_default();
    let say = |word: &str, number: u64| {
        pause.store(word == pause_at, Ordering::Release);
        say(&format!("{word} {number}"));
    };
    for task in tasks {
        match task {
            Task::Compact(sealed) => {
                let covered = compact(dir, &sealed, CompactionOptions { forget_retired_before: UnixMillis(0) }).unwrap();
                if let Some(covered) = covered {
                    say("covered", covered.segment());
                    let _ = reports.try_send(covered);
                }
            }
            Task::Remove(segments) => {
                remove_segments(dir, &segments).unwrap();
                segments.last().into_iter().for_each(|last| say("removed", last.number()));
            }
        }
    }
}

/// What the journal must hold.
#[derive(Default)]
struct Expected {
    /// After everything that is certain.
    state: State,
    /// Events that are certain, the last ones.
    events: VecDeque<(Position, Arc<Event>)>,
    next: u64,
    /// Events before this may be gone.
    keep_from: u64,
    /// The cursor is here, or further.
    cursor: u64,
    /// A snapshot stands for the segments up to this.
    covered: u64,
    /// The segments up to this are removed.
    removed: u64,
    /// Of the batch that was being written: any first part of it may be there.
    open: Vec<Record>,
    /// How much of that was found last.
    found: usize,
}

impl Expected {
    fn new() -> Self {
        Self { next: 1, keep_from: 1, ..Self::default() }
    }

    fn add(&mut self, records: &[Record]) {
        for record in records {
            self.state.apply(record);
            if let Record::Event { event, .. } = record {
                self.events.push_back((Position(self.next), Arc::clone(event)));
                self.next += 1;
            }
        }
        while self.events.front().is_some_and(|(position, _)| position.0 < self.keep_from) {
            self.events.pop_front();
        }
    }

    /// Learns from what a process said before it was killed. `number` is the batch that it was to begin with; returns the next.
    fn hear(&mut self, said: &[String], mut number: u64) -> u64 {
        for line in said {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["open", next] => {
                    // What it has read it may show to others.
                    let open = std::mem::take(&mut self.open);
                    self.add(&open[..self.found]);
                    assert_eq!(next, self.next.to_string(), "it found something else than we did");
                    self.open = batch(number);
                }
                ["done", done, first] => {
                    assert_eq!((done, first), (number.to_string().as_str(), self.next.to_string().as_str()));
                    self.add(&batch(number));
                    number += 1;
                    self.open = batch(number);
                }
                ["kept", from] => self.keep_from = self.keep_from.max(from.parse().unwrap()),
                ["cursor", position] => self.cursor = position.parse().unwrap(),
                ["covered", segment] => self.covered = self.covered.max(segment.parse().unwrap()),
                ["removed", segment] => self.removed = self.removed.max(segment.parse().unwrap()),
                _ => panic!("{line:?}"),
            }
        }
        number + 1
    }

    /// Compares with the journal in `dir`, which is opened like by any process.
    fn check(&mut self, dir: &Path) -> Result<(), String> {
        let (recovered, events) = read(dir, Position(self.keep_from))?;
        let Recovered { state, next_position, report, .. } = recovered;
        if let Some(damaged) = report.damaged_snapshots.first() {
            return Err(format!("a snapshot under its final name is damaged: {damaged}"));
        }
        if report.snapshot.unwrap_or(0) < self.covered {
            return Err(format!("a snapshot of segment {} was durable, {:?} is the newest", self.covered, report.snapshot));
        }
        if let Some(segment) = oldest_segment(dir).filter(|segment| *segment <= self.removed) {
            return Err(format!("segment {segment} is back, and {} had been removed", self.removed));
        }
        let mut with_open = Self { state: self.state.clone(), next: self.next, ..Self::default() };
        let mut found = 0;
        while (&with_open.state, with_open.next) != (&state, next_position.0) {
            let Some(record) = self.open.get(found) else {
                return Err(format!("expected everything before {} and some of {:?}, found {next_position}", self.next, self.open));
            };
            with_open.add(std::slice::from_ref(record));
            found += 1;
        }
        let expected: Vec<_> = self.events.iter().chain(&with_open.events).filter(|(position, _)| position.0 >= self.keep_from).collect();
        if !expected.iter().copied().eq(&events) {
            return Err(format!("other events: expected {}, found {}", expected.len(), events.len()));
        }
        self.found = found;
        self.check_cursor(dir)
    }

    fn check_cursor(&self, dir: &Path) -> Result<(), String> {
        let (journal, _) = Journal::open(dir, Options::new(0)).map_err(|error| format!("the journal cannot be opened again: {error}"))?;
        let cursors = Cursors::open(&cursors(dir), journal.events()).map_err(|error| error.to_string())?;
        let Some((_, position)) = cursors.slowest() else {
            return if self.cursor == 0 { Ok(()) } else { Err(format!("the cursor is gone, it was at {}", self.cursor)) };
        };
        let cursor = cursors.take(CURSOR, Position(0)).map_err(|error| error.to_string())?;
        match cursor.mark().ledger.delivered == position.0 && position.0 >= self.cursor {
            true => Ok(()),
            false => Err(format!("the cursor was at {}, and is at {:?}", self.cursor, cursor.mark())),
        }
    }
}

/// A copy of the journal in `dir`, with its cursors beside it.
fn copied(disk: &Disk, dir: &Path) -> PathBuf {
    let copy = disk.scratch().join("journal");
    for (from, to) in [(dir.to_path_buf(), copy.clone()), (cursors(dir), cursors(&copy))] {
        match from.exists() {
            true => copy_all(&from, &to),
            false => fs::create_dir(&to).unwrap(),
        }
    }
    copy
}

/// The number of the oldest segment in `dir`.
fn oldest_segment(dir: &Path) -> Option<u64> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".segment")?.split_once('-')?.1.parse().ok()).min()
}

/// Events by position.
type Stored = Vec<(Position, Arc<Event>)>;

/// What is in the journal in `dir`, and its events from `from` on. To be used on a copy: what opening it repairs shall not help the next process.
pub(crate) fn read(dir: &Path, from: Position) -> Result<(Recovered, Stored), String> {
    let (journal, recovered) = Journal::open(dir, Options::new(0)).map_err(|error| format!("the journal cannot be opened: {error}"))?;
    let mut reader = journal.events().read_from(from).map_err(|error| error.to_string())?;
    let events = std::iter::from_fn(|| reader.next_event().transpose()).collect::<Result<_, journal::EventsError>>();
    Ok((recovered, events.map_err(|error| error.to_string())?))
}

#[test]
fn the_journal_keeps_what_it_committed() {
    let (shim, seed) = (Shim::build(), seeded());
    let mut random = SeededEntropy::new(seed);
    let (mut killed, mut disks) = (0, 0);
    while killed < kills() {
        let (disk, mut expected, mut number) = (Disk::new(), Expected::new(), 1);
        disks += 1;
        for run in 0..1 + random.below(8) {
            let dir = disk.live().join("data/journal");
            let mut plan = Plan::any(&mut random, STEPS_TO_START);
            if run == 0 && disks % 2 == 0 {
                // The first steps of a journal are made only once, so each has its turn.
                plan = Plan { at_step: Some((disks - 1) % STEPS_TO_START), cut: Cut::ProcessOnly, ..plan };
            }
            let mut orders = vec![(DIRECTORY, dir.display().to_string()), (FIRST_BATCH, number.to_string())];
            match random.below(6) {
                0 | 1 => orders.push((PAUSE_AFTER, random.below(3).to_string())),
                2 => orders.push((PAUSE_AT, "covered".into())),
                3 => orders.push((PAUSE_AT, "removed".into())),
                _ => {}
            }
            let child = Child::start(&shim, &disk, plan.at_step, CHILD, &orders);
            if child.wait_for("open", Duration::from_secs(30)).is_some() {
                thread::sleep(plan.after / 2);
            }
            killed += 1;
            let complain = |error: String| -> Vec<String> { panic!("seed {seed}, kill {killed}, {plan:?}: {error}") };
            let said = child.kill().unwrap_or_else(complain);
            number = expected.hear(&said, number);
            disk.cut(plan.cut, &mut random);

            if let Err(error) = expected.check(&copied(&disk, &dir)) {
                complain(error);
            }
        }
    }
    eprintln!("{killed} kills");
}

/// The first process is killed at each step of making everything, and the machine stays up; what the next one finds half made, and uses, is as durable as
/// what it makes itself.
#[test]
fn what_a_killed_process_left_half_made_is_durable_with_the_next() {
    let (shim, mut random) = (Shim::build(), SeededEntropy::new(1));
    for step in 1..=STEPS_TO_START_AND_COMMIT {
        let (disk, mut expected) = (Disk::new(), Expected::new());
        let dir = disk.live().join("data/journal");
        let start = |at_step, number: u64| {
            let orders = [(DIRECTORY, dir.display().to_string()), (FIRST_BATCH, number.to_string()), (PAUSE_AFTER, "1".into())];
            Child::start(&shim, &disk, at_step, CHILD, &orders)
        };
        let complain = |error: String| -> Vec<String> { panic!("step {step}: {error}") };
        let first = start(Some(step), 1);
        first.wait_for("cursor", Duration::from_secs(30));
        let number = expected.hear(&first.kill().unwrap_or_else(complain), 1);
        disk.cut(Cut::ProcessOnly, &mut random);
        if let Err(error) = expected.check(&copied(&disk, &dir)) {
            complain(error);
        }
        let second = start(None, number);
        second.wait_for("cursor", Duration::from_secs(30));
        expected.hear(&second.kill().unwrap_or_else(complain), number);
        disk.cut(Cut::Drop, &mut random);
        if let Err(error) = expected.check(&copied(&disk, &dir)) {
            complain(error);
        }
    }
}
