//! A disk that is full, and one whose sync fails.

use proptest::prelude::*;
use router::event::Position;
use router::journal::Record;

use super::{Loss, World, lose};
use crate::journal::disk::faults;
use crate::journal::frame::{self, Place};
use crate::journal::test_records::{event, one_of_each};
use crate::journal::{CommitError, Options};

/// Faults are of a thread, and the next case runs on the same.
impl Drop for World {
    fn drop(&mut self) {
        faults::set_room(None);
        faults::set_sync_fails(false);
    }
}

impl World {
    pub(super) fn set_room(&mut self, room: Option<u16>) {
        faults::set_room(room.map(u64::from));
        self.scarce = room.is_some();
    }

    /// What is refused is not there, and the journal can be used as before.
    pub(super) fn commit_if_there_is_room(&mut self, batch: &[Record]) {
        let before = (self.journal.next_position(), self.journal.end());
        match self.journal.commit(batch) {
            Err(CommitError::NoSpace(_)) if self.scarce => self.refused(before.0),
            committed => {
                self.reserve = self.options.reserve_bytes;
                self.committed(batch, before.0, committed.unwrap());
            }
        }
    }

    pub(super) fn commit_from_reserve(&mut self, batch: &[Record]) {
        let (first, bytes) = (self.journal.next_position(), self.encoded_len(batch));
        match self.journal.commit_from_reserve(batch) {
            Err(CommitError::NoSpace(_)) if self.scarce && bytes > self.reserve => self.refused(first),
            committed => {
                self.reserve = self.reserve.saturating_sub(bytes);
                self.committed(batch, first, committed.unwrap());
            }
        }
    }

    fn refused(&mut self, next: Position) {
        assert_eq!(self.journal.next_position(), next);
        assert_eq!(self.reader.next_event().unwrap(), None);
    }

    /// The first sync fails that comes. After that the journal takes nothing, and a new process finds what it acknowledged before.
    pub(super) fn fail_sync(&mut self, batch: &[Record], loss: &Loss) {
        let (file, synced) = self.journal.end();
        let bytes = if synced < self.options.segment_bytes { self.encoded_len(batch) } else { 0 };
        faults::set_sync_fails(true);
        let failed = self.journal.commit(batch).unwrap_err();
        faults::set_sync_fails(false);
        let (batch, written) = match failed {
            CommitError::NoSpace(_) if self.scarce => (&[][..], 0),
            // A new segment could not be made: nothing of the batch was written.
            CommitError::Sync(_) if bytes == 0 => (&[][..], 0),
            CommitError::Sync(_) => (batch, bytes),
            other => panic!("{other}"),
        };
        if matches!(failed, CommitError::Sync(_)) {
            assert!(matches!(self.journal.commit(&[]), Err(CommitError::Broken(_))));
            assert!(matches!(self.journal.commit_from_reserve(&[]), Err(CommitError::Broken(_))));
        }
        lose(&file, synced, (file.clone(), synced + written), loss);
        self.recover(batch, loss);
    }

    /// Bytes that the frames of `batch` take.
    fn encoded_len(&self, batch: &[Record]) -> u64 {
        let (mut bytes, place) = (Vec::new(), Place { salt: 0, first: Position(1), durable_up_to: 0, chain: 0 });
        frame::put_frames(&mut bytes, batch, self.options.frame_bytes, place).unwrap();
        bytes.len() as u64
    }
}

#[test]
fn on_a_full_disk_the_reserve_takes_what_must_be_written_and_is_made_again() {
    let options = Options { segment_bytes: 1 << 20, frame_bytes: 4_096, headroom_bytes: 1_024, reserve_bytes: 8_192, salt: 1 };
    let mut world = World::with(options);
    let batch: Vec<_> = (0..9).map(|number| Record::Event { floor: None, event: event(number) }).collect();
    world.set_room(Some(0));
    while world.journal.commit(&batch).map(|_| world.records.extend_from_slice(&batch)).is_ok() {}
    world.reader = world.journal.events().read_from(world.journal.next_position()).unwrap();
    let mut sessions = 0;
    while world.journal.commit_from_reserve(&one_of_each()[..1]).is_ok() {
        world.records.extend_from_slice(&one_of_each()[..1]);
        sessions += 1;
        assert!(matches!(world.journal.commit(&batch), Err(CommitError::NoSpace(_))), "the reserve is not for everything");
    }
    assert!(sessions > 15, "{sessions}");
    assert!(matches!(world.journal.commit(&[]), Err(CommitError::NoSpace(_))), "there is no reserve yet");
    world.set_room(None);
    world.commit(&batch);
    world.set_room(Some(0));
    world.commit_from_reserve(&one_of_each()[..1]);
    assert_eq!(world.reopen().state, world.state_with(&[]));
    world.check_events();
}

#[test]
fn a_full_disk_leaves_no_new_segment_half_made() {
    let mut world = World::new(900, 4_000);
    while world.journal.end().1 < 900 {
        world.commit(&one_of_each());
    }
    let path = world.path();
    let files = || std::fs::read_dir(&path).unwrap().count();
    let before = files();
    faults::set_room(Some(20));
    assert!(matches!(world.journal.commit(&one_of_each()), Err(CommitError::NoSpace(_))));
    assert_eq!(files(), before);
    faults::set_room(None);
    world.journal.commit(&[]).unwrap();
    assert_eq!(files(), before + 1);
}

proptest! {
    #[test]
    fn the_reserve_is_there_after_every_commit(reserve_bytes in 200u64..5_000, batches in prop::collection::vec(1usize..20, 1..20)) {
        let options = Options { segment_bytes: 3_000, frame_bytes: 1_000, headroom_bytes: 700, reserve_bytes, salt: 4 };
        let mut world = World::with(options);
        for len in batches {
            world.commit(&vec![Record::Event { floor: None, event: event(1) }; len]);
            world.set_room(Some(0));
            world.commit_from_reserve(&one_of_each()[1..2]);
            world.set_room(None);
        }
    }
}
