//! The journal and a cursor against a reference model, with crashes, failed syncs and a full disk among the operations: nothing acknowledged may be
//! lost, nothing may appear that was not appended or was refused, and the cursor is never ahead.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::Position;
use router::journal::Record;
use tempfile::TempDir;

use super::test_records::{any_record, event, one_of_each};
use super::*;

mod cursor;
mod damage;
mod failures;

use self::cursor::Sink;

const KEEP_TOMBSTONES: CompactionOptions = CompactionOptions { forget_retired_before: UnixMillis(0) };

#[derive(Clone, Debug)]
enum Operation {
    Commit(Vec<Record>),
    Compact,
    /// Drop what may be dropped if events from this share, in 255ths, of all events on are kept.
    Drop(u8),
    /// Power is lost while this batch is being committed.
    Crash(Vec<Record>, Loss),
    /// The sync of this batch fails, and the next process finds what is left.
    FailSync(Vec<Record>, Loss),
    /// From now on the disk has room for so many bytes more, or for any number.
    Room(Option<u16>),
    /// What must be written even if the disk is full.
    CommitFromReserve(Vec<Record>),
    /// The cursor moves to this share of all events, in 255ths.
    Move(u8),
    /// The same, and power is lost meanwhile: of its file these 512-byte blocks, in turn, are as before or new.
    MoveAndCrash(u8, Vec<bool>),
}

/// What becomes of bytes that were written but not synced.
#[derive(Clone, Debug)]
enum Loss {
    Nothing,
    Everything,
    /// What is after this share, in 65535ths.
    After(u16),
    /// 512-byte blocks, in turn kept, zeroed or changed.
    Blocks(Vec<u8>),
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let batch = || proptest::collection::vec(any_record(), 0..12);
    let loss = prop_oneof![
        Just(Loss::Nothing),
        Just(Loss::Everything),
        any::<u16>().prop_map(Loss::After),
        proptest::collection::vec(0u8..3, 1..8).prop_map(Loss::Blocks),
    ];
    prop_oneof![
        6 => batch().prop_map(Operation::Commit),
        1 => Just(Operation::Compact),
        1 => any::<u8>().prop_map(Operation::Drop),
        3 => (batch(), loss.clone()).prop_map(|(batch, loss)| Operation::Crash(batch, loss)),
        1 => (batch(), loss).prop_map(|(batch, loss)| Operation::FailSync(batch, loss)),
        2 => proptest::option::of(0u16..6_000).prop_map(Operation::Room),
        2 => batch().prop_map(Operation::CommitFromReserve),
        1 => any::<u8>().prop_map(Operation::Move),
        1 => (any::<u8>(), proptest::collection::vec(any::<bool>(), 1..20)).prop_map(|(share, new)| Operation::MoveAndCrash(share, new)),
    ]
}

/// A journal, and what it has to hold.
struct World {
    dir: TempDir,
    options: Options,
    journal: Journal,
    reader: EventReader,
    records: Vec<Record>,
    covered: Option<Covered>,
    sink: Sink,
    /// The disk may be full.
    scarce: bool,
    /// Bytes that can be written for sure.
    reserve: u64,
}

impl World {
    /// Without headroom, so that files end where frames end.
    fn new(segment_bytes: u64, frame_bytes: usize) -> World {
        World::with(Options { segment_bytes, frame_bytes, headroom_bytes: 1, reserve_bytes: 0, salt: 0x5a17 })
    }

    fn with(options: Options) -> World {
        let dir = tempfile::tempdir().unwrap();
        let (journal, recovered) = Journal::open(&dir.path().join("journal"), options).unwrap();
        assert_eq!((recovered.next_position, &recovered.state), (Position(1), &State::default()));
        let reader = journal.events().read_from(Position(1)).unwrap();
        let sink = Sink::new(&dir.path().join("cursors"), journal.events());
        World { dir, options, journal, reader, records: Vec::new(), covered: None, sink, scarce: false, reserve: options.reserve_bytes }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Commit(batch) => self.commit_if_there_is_room(&batch),
            Operation::Compact => self.covered = compact(&self.path(), &self.journal.segments().sealed(), KEEP_TOMBSTONES).unwrap(),
            Operation::Drop(share) => self.drop_segments(share),
            Operation::Crash(batch, loss) => self.crash(&batch, &loss),
            Operation::FailSync(batch, loss) => self.fail_sync(&batch, &loss),
            Operation::Room(room) => self.set_room(room),
            Operation::CommitFromReserve(batch) => self.commit_from_reserve(&batch),
            Operation::Move(share) => self.sink.go_to(share),
            Operation::MoveAndCrash(share, new) => self.sink.crash(share, &new),
        }
    }

    fn commit(&mut self, batch: &[Record]) {
        let first = self.journal.next_position();
        let committed = self.journal.commit(batch).unwrap();
        self.reserve = self.options.reserve_bytes;
        self.committed(batch, first, committed);
    }

    fn committed(&mut self, batch: &[Record], first: Position, committed: Committed) {
        let events = events_of(batch);
        assert_eq!(committed, Committed { first, events: events.len() as u64 });
        self.records.extend_from_slice(batch);
        for (index, event) in events.into_iter().enumerate() {
            assert_eq!(self.reader.next_event().unwrap(), Some((Position(first.0 + index as u64), event)));
        }
        assert_eq!(self.reader.next_event().unwrap(), None);
    }

    fn drop_segments(&mut self, share: u8) {
        let Some(covered) = self.covered else { return };
        let keep_from = Position(self.journal.next_position().0 * u64::from(share) / 255);
        for dropped in self.remove(&covered, keep_from) {
            assert!(dropped.positions().1 <= keep_from && dropped.number() <= covered.segment());
        }
    }

    fn remove(&self, covered: &Covered, keep_from: Position) -> Vec<SealedSegment> {
        let released = self.journal.segments().release(covered, keep_from);
        remove_segments(&self.path(), &released).unwrap();
        released
    }

    /// Crashes in the middle of committing `batch`, recovers, and checks that a first part of the batch is all that may have been added.
    fn crash(&mut self, batch: &[Record], loss: &Loss) {
        let (file, synced) = self.journal.end();
        let batch = match self.journal.commit(batch) {
            Err(CommitError::NoSpace(_)) if self.scarce => &[],
            committed => committed.map(|_| batch).unwrap(),
        };
        lose(&file, synced, self.journal.end(), loss);
        self.recover(batch, loss);
    }

    /// A new process finds what was acknowledged, and a first part of `batch`, which was not.
    fn recover(&mut self, batch: &[Record], loss: &Loss) {
        let recovered = self.reopen();
        let found = (0..=batch.len()).rev().find(|len| {
            let next = Position(1 + events_of(&self.records).len() as u64 + events_of(&batch[..*len]).len() as u64);
            next == recovered.next_position && self.state_with(&batch[..*len]) == recovered.state
        });
        let found = found.expect("what was acknowledged, and of the rest no more than was appended");
        match loss {
            Loss::Nothing => assert_eq!(found, batch.len()),
            Loss::Everything => assert_eq!(found, first_equal(self, batch)),
            _ => {}
        }
        self.records.extend_from_slice(&batch[..found]);
        self.check_events();
    }

    fn reopen(&mut self) -> Recovered {
        let (journal, recovered) = Journal::open(&self.path(), self.options).unwrap();
        self.journal = journal;
        self.reader = self.journal.events().read_from(recovered.next_position).unwrap();
        self.sink.restart(self.journal.events());
        self.reserve = 0;
        recovered
    }

    fn state_with(&self, more: &[Record]) -> State {
        let mut state = State::default();
        self.records.iter().chain(more).for_each(|record| state.apply(record));
        state
    }

    /// All events that are kept are the right ones, from the oldest to the newest.
    fn check_events(&self) {
        let kept_from = self.journal.segments().sealed().first().map_or(Position(1), |segment| segment.positions().0);
        let Ok(mut reader) = self.journal.events().read_from(kept_from) else {
            return;
        };
        let expected = events_of(&self.records);
        for (index, event) in expected.iter().enumerate().skip(usize::try_from(kept_from.0).unwrap() - 1) {
            assert_eq!(reader.next_event().unwrap(), Some((Position(index as u64 + 1), event.clone())));
        }
        assert_eq!(reader.next_event().unwrap(), None);
    }
}

/// The longest part of `batch` that changes nothing: it cannot be told from having been lost.
fn first_equal(world: &World, batch: &[Record]) -> usize {
    let before = world.state_with(&[]);
    let unchanged = |len: &usize| events_of(&batch[..*len]).is_empty() && world.state_with(&batch[..*len]) == before;
    (0..=batch.len()).rev().find(unchanged).unwrap()
}

fn events_of(records: &[Record]) -> Vec<std::sync::Arc<router::event::Event>> {
    let event = |record: &Record| {
        if let Record::Event { event, .. } = record { Some(event.clone()) } else { None }
    };
    records.iter().filter_map(event).collect()
}

/// Damages what was written after `synced` of `file`, up to `end`.
fn lose(file: &Path, synced: u64, end: (PathBuf, u64), loss: &Loss) {
    let rolled = end.0 != file;
    if rolled && matches!(loss, Loss::Everything) {
        return fs::remove_file(&end.0).unwrap();
    }
    let (file, from) = if rolled { (end.0.as_path(), 44) } else { (file, synced) };
    let handle = File::options().read(true).write(true).open(file).unwrap();
    let mut tail = vec![0; usize::try_from(end.1 - from).unwrap()];
    handle.read_exact_at(&mut tail, from).unwrap();
    let keep = match loss {
        Loss::Nothing | Loss::Blocks(_) => tail.len(),
        Loss::Everything => 0,
        Loss::After(share) => tail.len() * usize::from(*share) / 65_536,
    };
    tail[keep..].fill(0);
    if let Loss::Blocks(fates) = loss {
        for (index, byte) in tail.iter_mut().enumerate() {
            match fates[(usize::try_from(from).unwrap() + index) / 512 % fates.len()] {
                0 => {}
                1 => *byte = 0,
                _ => *byte ^= 0x5a,
            }
        }
    }
    handle.write_all_at(&tail, from).unwrap();
    if handle.metadata().unwrap().len() == end.1 && keep < tail.len() {
        handle.set_len(from + keep as u64).unwrap();
    }
}

/// How many cases are tried, unless `PROPTEST_CASES` says it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(160, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_journal_keeps_its_word(
        segment_bytes in 200u64..6_000,
        frame_bytes in 1usize..3_000,
        headroom_bytes in 1u64..4_000,
        reserve_bytes in 0u64..3_000,
        operations in proptest::collection::vec(any_operation(), 1..30),
    ) {
        let mut world = World::with(Options { segment_bytes, frame_bytes, headroom_bytes, reserve_bytes, salt: 0x5a17 });
        operations.into_iter().for_each(|operation| world.run(operation));
        world.set_room(None);
        world.commit(&[]);
        let recovered = world.reopen();
        prop_assert_eq!(recovered.state, world.state_with(&[]));
        prop_assert!(recovered.report.torn_tail.is_none());
        world.check_events();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn hostile_bytes_never_panic(
        at in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..20),
        cut in any::<u16>(),
        more in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let world = filled();
        for entry in fs::read_dir(world.path()).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            for (index, value) in &at {
                let index = usize::from(*index) % bytes.len();
                bytes[index] = *value;
            }
            bytes.truncate(bytes.len().saturating_sub(usize::from(cut) % 3 * usize::from(cut % 97)));
            bytes.extend_from_slice(&more);
            fs::write(&path, &bytes).unwrap();
        }
        let _ = Journal::open(&world.path(), world.options);
    }
}

/// A journal of several segments and a snapshot of the older ones.
fn filled() -> World {
    let mut world = World::new(900, 4_000);
    for number in 0..3 {
        world.commit(&one_of_each());
        world.commit(&[Record::Event { floor: None, event: event(number) }]);
    }
    world.run(Operation::Compact);
    for number in 3..5 {
        world.commit(&one_of_each());
        world.commit(&[Record::Event { floor: None, event: event(number) }]);
    }
    assert!(world.journal.segments().sealed().len() >= 4, "{:?}", world.journal.segments().sealed());
    world
}
