use firmware_protocol::id::OwnerId;

use super::*;
use crate::config::Limit;
use crate::cursors::{Ledger, Mark};
use crate::journal::test_records::event_of;
use crate::journal::{Journal, Options};
use crate::metrics::Metrics;

struct World {
    dir: tempfile::TempDir,
    journal: Journal,
    retention: Retention,
}

const OPTIONS: Options = Options { segment_bytes: 1_000, frame_bytes: 4_096, headroom_bytes: 1, reserve_bytes: 0, salt: 7 };

impl World {
    fn new(keep_for_s: Limit, keep_bytes: Limit) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, config::Journal { keep_for_s, keep_bytes })
    }

    fn open(dir: tempfile::TempDir, limits: config::Journal) -> Self {
        let (journal, recovered) = Journal::open(dir.path(), OPTIONS).unwrap();
        let metrics = Arc::new(Metrics::new().retention());
        let cursors = Cursors::open(&dir.path().join("cursors"), journal.events()).unwrap();
        let retention = Retention::new((dir.path().to_path_buf(), journal.segments()), recovered.covered, cursors, limits, metrics);
        Self { dir, journal, retention }
    }

    /// Publishes until that many segments are sealed.
    fn seal(&mut self, segments: u64) {
        while self.journal.segments().last_sealed().is_none_or(|last| last.number() < segments) {
            self.journal.commit(&[event_of(OwnerId(1), UnixMillis(0), Some(vec![0; 300]))]).unwrap();
        }
    }

    fn look(&mut self, second: u64) {
        self.retention.look(Now { at: Millis(second * 1000), unix: UnixMillis(0) });
    }

    fn kept(&self) -> Vec<u64> {
        self.journal.segments().sealed().iter().map(SealedSegment::number).collect()
    }

    fn segment_files(&self) -> usize {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).count()
    }
}

#[test]
fn what_is_sealed_is_packed_while_the_server_runs() {
    let mut world = World::new(Limit::Unlimited, Limit::Unlimited);
    for segments in [1, 3, 4] {
        world.seal(segments);
        world.look(segments * 100);
        world.look(segments * 100 + 50);
        assert_eq!(world.retention.covered.map(|covered| covered.segment()), Some(segments));
    }
    assert_eq!(world.retention.metrics.compactions.get(), 3, "and only then");
    assert_eq!(world.kept(), [1, 2, 3, 4]);
    let World { dir, journal, .. } = world;
    drop(journal);
    let limits = config::Journal { keep_for_s: Limit::Unlimited, keep_bytes: Limit::Unlimited };
    let mut world = World::open(dir, limits);
    world.look(0);
    assert_eq!(world.retention.metrics.compactions.get(), 0, "nothing was sealed since");
}

#[test]
fn events_go_when_they_are_too_old_and_the_oldest_first() {
    let mut world = World::new(Limit::AtMost(60), Limit::Unlimited);
    world.seal(2);
    world.look(10);
    world.seal(4);
    world.look(50);
    world.look(69);
    assert_eq!(world.kept(), [1, 2, 3, 4]);
    world.look(70);
    assert_eq!(world.kept(), [3, 4]);
    assert_eq!(world.segment_files(), 3);
    assert_eq!(world.retention.metrics.expired.get(), world.journal.events().oldest().0 - 1);
    world.look(110);
    assert_eq!(world.kept(), [0; 0]);
    assert_eq!(world.journal.events().read_from(world.journal.events().oldest()).map(drop).ok(), Some(()));
}

#[test]
fn what_a_sink_had_not_come_to_is_counted_when_it_expires() {
    let mut world = World::new(Limit::AtMost(60), Limit::Unlimited);
    world.seal(3);
    let mut cursor = world.retention.cursors.take("hooks", Position(0)).unwrap();
    cursor.commit(Mark { position: Position(2), ledger: Ledger::default() }).unwrap();
    world.look(0);
    world.look(60);
    let oldest = world.journal.events().oldest();
    assert_eq!((world.kept().len(), world.retention.metrics.unread.get()), (0, oldest.0 - 3));
    world.seal(4);
    cursor.commit(Mark { position: world.journal.events().last(), ledger: Ledger::default() }).unwrap();
    world.look(100);
    world.look(200);
    assert_eq!((world.kept().len(), world.retention.metrics.unread.get()), (0, oldest.0 - 3), "it had come to all of the rest");
}

#[test]
fn events_go_when_there_are_too_many_of_them() {
    let mut world = World::new(Limit::Unlimited, Limit::AtMost(5_000));
    world.seal(20);
    world.look(0);
    let bytes = world.retention.metrics.bytes.get();
    assert!((3_000..=5_000).contains(&bytes), "{bytes}");
    assert!(world.kept().last() == Some(&20) && world.kept().first() > Some(&14), "{:?}", world.kept());
    assert_eq!(world.retention.metrics.segments.get(), i64::try_from(world.segment_files()).unwrap());
}

#[test]
fn what_no_snapshot_stands_for_is_kept() {
    let mut world = World::new(Limit::AtMost(1), Limit::AtMost(1));
    world.seal(3);
    fs::create_dir(world.dir.path().join("000000000003.snapshot.tmp")).unwrap();
    world.look(10);
    world.look(30);
    assert_eq!((world.kept(), world.retention.metrics.failures.get()), (vec![1, 2, 3], 1), "it rests after a failure");
    fs::remove_dir(world.dir.path().join("000000000003.snapshot.tmp")).unwrap();
    world.look(80);
    assert_eq!(world.kept(), [0; 0]);
}

#[test]
fn a_file_that_cannot_be_removed_leaves_no_gap_behind_it() {
    let mut world = World::new(Limit::AtMost(60), Limit::Unlimited);
    world.seal(3);
    world.look(0);
    let second = world.journal.segments().sealed()[1].path(world.dir.path());
    let aside = world.dir.path().join("aside");
    fs::rename(&second, &aside).unwrap();
    fs::create_dir(&second).unwrap();
    world.look(100);
    world.seal(5);
    world.look(200);
    assert_eq!(world.segment_files(), 5, "the second and all after it");
    fs::remove_dir(&second).unwrap();
    fs::rename(&aside, &second).unwrap();
    let (_, recovered) = Journal::open(world.dir.path(), OPTIONS).unwrap();
    assert_eq!(recovered.next_position, world.journal.next_position());
}

#[test]
fn segments_of_an_earlier_process_are_as_old_as_their_files() {
    let mut world = World::new(Limit::AtMost(3_600), Limit::Unlimited);
    world.seal(3);
    let sealed = world.journal.segments().sealed();
    let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(3_600 * hours);
    let future = SystemTime::now() + Duration::from_secs(1_000_000);
    for (segment, time) in sealed.iter().zip([hours_ago(2), future, hours_ago(2)]) {
        fs::File::options().write(true).open(segment.path(world.dir.path())).unwrap().set_modified(time).unwrap();
    }
    let World { dir, journal, .. } = world;
    drop(journal);
    let mut world = World::open(dir, config::Journal { keep_for_s: Limit::AtMost(3_600), keep_bytes: Limit::Unlimited });
    world.look(0);
    assert_eq!(world.kept(), [2, 3], "one that seems young keeps those after it");
    world.look(3_601);
    assert_eq!(world.kept(), [0; 0]);
}
