//! Which part of a journal's state is wanted: that of all devices, or that of some, read beside a writer that goes on.

use std::fmt;
use std::path::Path;

use firmware_protocol::id::DeviceId;
use router::journal::Record;
use router::presence::announced;

use super::copy::Mark;
use super::error::OpenError;
use super::replay::{Replay, Start};
use super::segment::list_segments;
use super::state::State;

/// How often reading begins anew because a file went away that compaction no longer needs.
const ATTEMPTS: usize = 3;

/// Of which devices, and up to where.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    devices: Option<&'a (dyn Fn(DeviceId) -> bool + Sync)>,
    /// Snapshots of this segment or later ones say too much.
    before: u64,
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("is_all", &self.is_all()).field("before", &self.before).finish()
    }
}

impl Scope<'_> {
    /// Everything there is.
    pub(super) const ALL: Self = Self { devices: None, before: u64::MAX };

    /// Whether it is all devices.
    pub(super) fn is_all(self) -> bool {
        self.devices.is_none()
    }

    /// Whether this device is wanted.
    pub(super) fn includes(self, device: DeviceId) -> bool {
        self.devices.is_none_or(|devices| devices(device))
    }

    /// Whether a snapshot up to this segment may be used.
    pub(super) fn allows(self, snapshot: u64) -> bool {
        snapshot < self.before
    }

    /// Whether a record says something of a device that is wanted, or of a session, which is there only if its device is wanted.
    pub(super) fn concerns(self, record: &Record) -> bool {
        self.is_all() || subject(record).is_none_or(|device| self.includes(device))
    }
}

/// Which device a record makes or changes what is known of.
fn subject(record: &Record) -> Option<DeviceId> {
    match record {
        Record::SessionOpened(stored) => Some(stored.identity.device),
        Record::Hello { device, .. }
        | Record::Describe { device, .. }
        | Record::Subscribed { device, .. }
        | Record::Goodbye { device, .. } => Some(*device),
        Record::Event { event, .. } => announced(event).map(|(device, _)| device),
        // These change what is there, and make nothing.
        Record::SessionRetired { .. } | Record::SessionMoved { .. } | Record::Seen { .. } => None,
    }
}

/// What the journal in `dir` says up to `mark` of those devices that are `wanted`, while it is written on.
///
/// # Errors
/// It cannot be read.
pub fn state_up_to(dir: &Path, mark: Mark, wanted: &(dyn Fn(DeviceId) -> bool + Sync)) -> Result<State, OpenError> {
    let scope = Scope { devices: Some(wanted), before: mark.segment };
    let mut attempts = (1..ATTEMPTS).filter_map(|_| read(dir, mark, scope).ok());
    attempts.next().map_or_else(|| read(dir, mark, scope), Ok)
}

fn read(dir: &Path, mark: Mark, scope: Scope<'_>) -> Result<State, OpenError> {
    let mut segments = list_segments(dir)?;
    segments.retain(|id| id.number <= mark.segment);
    let Start { mut replay, .. } = Replay::start(dir, &segments, scope)?;
    let before = replay.extent.segment;
    for id in segments.iter().filter(|id| id.number > before) {
        match id.number == mark.segment {
            true => replay.up_to(dir, *id, mark.bytes)?,
            false => replay.sealed(dir, *id)?,
        }
    }
    if replay.extent.segment != mark.segment {
        return Err(OpenError::MissingSegment { dir: dir.to_path_buf(), number: replay.extent.segment + 1 });
    }
    Ok(replay.state)
}

#[cfg(test)]
mod tests {
    use firmware_protocol::time::UnixMillis;

    use super::*;
    use crate::journal::test_records::{event, floor, one_of_each, session, status};
    use crate::journal::{CompactionOptions, Journal, Options, compact};

    const OPTIONS: Options = Options { segment_bytes: 2_000, frame_bytes: 700, headroom_bytes: 4_096, reserve_bytes: 0, salt: 5 };

    /// Records of a few devices, and of nobody.
    fn batch(number: u8) -> Vec<Record> {
        let opened = session(number);
        let device = opened.identity.device;
        let mut batch = one_of_each().to_vec();
        batch.extend([
            Record::SessionOpened(opened),
            Record::Event { floor: None, event: event(number.into()) },
            Record::Event { floor: Some(floor(number, 5)), event: status(device, "online") },
            Record::Hello { floor: floor(number, 6), device, payload: vec![number], at: UnixMillis(1) },
        ]);
        batch
    }

    #[test]
    fn what_is_read_of_some_devices_is_their_part_of_the_whole_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), OPTIONS).unwrap();
        let latest = journal.latest_mark();
        let odd = |device: DeviceId| device == session(1).identity.device || device == session(3).identity.device;
        let scope = Scope { devices: Some(&odd), before: u64::MAX };
        let (mut whole, mut part, mut marks) = (State::default(), State::default(), Vec::new());
        for round in 0..12 {
            let records = batch(round % 5);
            journal.commit(&records).unwrap();
            records.iter().for_each(|record| whole.apply(record));
            records.iter().filter(|record| scope.concerns(record)).for_each(|record| part.apply(record));
            assert_eq!(state_up_to(dir.path(), latest.get(), &|_| true).unwrap(), whole);
            assert_eq!(state_up_to(dir.path(), latest.get(), &odd).unwrap(), part);
            marks.push((latest.get(), part.clone()));
        }
        assert!(part.devices.len() < whole.devices.len() && !part.devices.is_empty());
        assert!(part.sessions.values().all(|session| odd(session.stored.identity.device)));
        let (mark, state) = marks.iter().rev().find(|(mark, _)| mark.segment < latest.get().segment).unwrap();
        assert_eq!(state_up_to(dir.path(), *mark, &odd).unwrap(), *state, "what came later is not read");
        compact(dir.path(), &journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) }).unwrap();
        assert_eq!(state_up_to(dir.path(), latest.get(), &odd).unwrap(), part, "from a snapshot");
        assert_eq!(state_up_to(dir.path(), latest.get(), &|_| true).unwrap(), whole);
    }
}
