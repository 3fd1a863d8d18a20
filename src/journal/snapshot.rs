//! Snapshots: a [`State`] in a packed file, so that a restart does not read the whole journal.
//!
//! All integers are little-endian, all checksums CRC32C. Header, 40 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `HOLDFSNP` |
//! | 8 | 2 | format version |
//! | 10 | 2 | 0 |
//! | 12 | 4 | chain value at the end of the last segment covered |
//! | 16 | 8 | number of that segment |
//! | 24 | 8 | position of the first event after it |
//! | 32 | 4 | number of sections: 4 in version 1, 6 in version 2, 7 in version 3 |
//! | 36 | 4 | checksum of bytes 0 to 35 |
//!
//! Then the sections, each with a header of 28 bytes: kind u32, number of entries u64, length u64, checksum of the content u32, checksum of
//! these 24 bytes u32. Entries are ordered by id, so that equal states are equal files:
//!
//! | kind | entries | entry |
//! |---|---|---|
//! | 1 | sessions | session 180, highest sequence u64 (all ones: none) |
//! | 2 | remembered messages of sessions that have any | length u32; connection id 8, then message id u16 and digest u64 of each |
//! | 3 | retired sessions | as in section 1, then reason u8, time u64 |
//! | 4 | devices | length u32; device 12, hello, system, application, metrics, goodbye (each an option of time u64, payload bytes), subscriptions: count u16, then handler u8, prefix text of each |
//! | 5 | of sections 1 and 3, those sessions whose devices know no connection id | connection id 8 |
//! | 6 | subscriptions to events of one device, which are not in section 4 | length u32; device 12, handler u8, prefix text, publisher 12 |
//! | 7 | devices whose owner was told that they came or went | device 12, u8: 1 if they came last |
//!
//! Version 3 is written only if there is anything for section 7, and version 2 only if there is anything for sections 5 and 6.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::stored::StoredSession;
use router::event::Position;

use super::error::OpenError;
use super::record;
use super::state::{Device, Session, State};
use super::wire::{self, SESSION_BYTES};
use crate::durable;
use router::journal::Subscription;

mod load;

pub(super) use load::{LoadError, load_snapshot};

/// The newest version that can be read.
pub(super) const SNAPSHOT_VERSION: u16 = 3;

const MAGIC: [u8; 8] = *b"HOLDFSNP";
const HEADER: usize = 40;
const SECTION_HEADER: usize = 28;
const SESSION_ENTRY: usize = SESSION_BYTES + 8;
const RETIRED_ENTRY: usize = SESSION_ENTRY + 9;
const STATUS_ENTRY: usize = DeviceId::LEN + 1;
/// No sequence number of 48 bits looks like this.
const NO_SEQUENCE: u64 = u64::MAX;
const CHUNK_BYTES: usize = 1 << 20;

/// How much of the journal a snapshot stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// Number of the last segment whose records are in it.
    pub(super) segment: u64,
    /// Position of the first event after that.
    pub(super) next: Position,
    /// Chain value at its end.
    pub(super) chain: u32,
}

/// The file of the snapshot that covers segments up to `segment`.
pub(super) fn snapshot_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:012}.snapshot"))
}

/// The snapshots in `dir`, by the last segment that they cover, newest first.
pub(super) fn list_snapshots(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let mut snapshots = Vec::new();
    for entry in fs::read_dir(dir).map_err(OpenError::io("list", dir))? {
        let name = entry.map_err(OpenError::io("list", dir))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".snapshot")).filter(|digits| digits.len() == 12);
        snapshots
            .extend(digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())).and_then(|digits| digits.parse::<u64>().ok()));
    }
    snapshots.sort_unstable_by(|a, b| b.cmp(a));
    Ok(snapshots)
}

/// Writes `state` durably.
pub(super) fn write_snapshot(dir: &Path, state: &State, extent: Extent) -> io::Result<()> {
    let path = snapshot_path(dir, extent.segment);
    durable::replace_file_with(&path, |file| write_to(file, state, extent)).map(drop)
}

fn write_to(file: &mut File, state: &State, extent: Extent) -> io::Result<()> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    let (unlabelled, narrowed) = (unlabelled(state), narrowed(state));
    let (version, sections) = match (unlabelled.is_empty() && narrowed.is_empty(), statuses(state).next().is_none()) {
        (true, true) => (1, 4),
        (false, true) => (2, 6),
        (_, false) => (3, 7),
    };
    wire::put_u16(&mut header, version);
    wire::put_u16(&mut header, 0);
    wire::put_u32(&mut header, extent.chain);
    wire::put_u64(&mut header, extent.segment);
    wire::put_u64(&mut header, extent.next.0);
    wire::put_u32(&mut header, sections);
    let checksum = crc32c::crc32c(&header);
    wire::put_u32(&mut header, checksum);
    file.write_all(&header)?;

    write_section(file, 1, state.sessions.values(), |to, session| {
        put_session(to, &session.stored, session.highest);
        Ok(())
    })?;
    write_section(file, 2, state.sessions.values().filter(|session| !session.recent.is_empty()), put_recent)?;
    write_section(file, 3, state.retired.values(), |to, retired| {
        put_session(to, &retired.stored, retired.highest);
        to.push(record::reason_code(retired.reason));
        wire::put_u64(to, retired.at.0);
        Ok(())
    })?;
    write_section(file, 4, state.devices.iter(), |to, (id, device)| put_device(to, id.0, device))?;
    if version == 1 {
        return Ok(());
    }
    write_section(file, 5, unlabelled.iter(), |to, connection| {
        to.extend_from_slice(&connection.0);
        Ok(())
    })?;
    write_section(file, 6, narrowed.iter(), |to, (device, subscription, publisher)| {
        put_sized(to, |to| {
            to.extend_from_slice(&device.0);
            record::put_subscription(to, subscription).map_err(too_long)?;
            to.extend_from_slice(&publisher.0);
            Ok(())
        })
    })?;
    if version == 2 {
        return Ok(());
    }
    write_section(file, 7, statuses(state), |to, (device, online)| {
        to.extend_from_slice(&device.0);
        to.push(online.into());
        Ok(())
    })
}

fn statuses(state: &State) -> impl Iterator<Item = (DeviceId, bool)> {
    state.devices.iter().filter_map(|(id, device)| Some((*id, device.online?)))
}

fn unlabelled(state: &State) -> BTreeSet<ConnectionId> {
    let all = state.sessions.values().map(|session| &session.stored).chain(state.retired.values().map(|retired| &retired.stored));
    all.filter(|stored| !stored.id_on_wire).map(|stored| stored.connection).collect()
}

fn narrowed(state: &State) -> Vec<(DeviceId, &Subscription, DeviceId)> {
    let all = state.devices.iter().flat_map(|(id, device)| device.subscriptions.iter().map(|subscription| (*id, subscription)));
    all.filter_map(|(id, subscription)| Some((id, subscription, subscription.publisher?))).collect()
}

fn too_long(_: wire::TooLong) -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn write_section<T>(
    file: &mut File,
    kind: u32,
    entries: impl Iterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T) -> io::Result<()>,
) -> io::Result<()> {
    let start = file.stream_position()?;
    file.write_all(&[0; SECTION_HEADER])?;
    let (mut buffer, mut checksum, mut count, mut length) = (Vec::with_capacity(2 * CHUNK_BYTES), 0, 0u64, 0u64);
    let mut flush = |buffer: &mut Vec<u8>, file: &mut File| {
        checksum = crc32c::crc32c_append(checksum, buffer);
        length += buffer.len() as u64;
        file.write_all(buffer)?;
        buffer.clear();
        io::Result::Ok(())
    };
    for entry in entries {
        put(&mut buffer, entry)?;
        count += 1;
        if buffer.len() >= CHUNK_BYTES {
            flush(&mut buffer, file)?;
        }
    }
    flush(&mut buffer, file)?;

    let mut header = Vec::with_capacity(SECTION_HEADER);
    wire::put_u32(&mut header, kind);
    wire::put_u64(&mut header, count);
    wire::put_u64(&mut header, length);
    wire::put_u32(&mut header, checksum);
    let header_checksum = crc32c::crc32c(&header);
    wire::put_u32(&mut header, header_checksum);
    file.seek(SeekFrom::Start(start))?;
    file.write_all(&header)?;
    file.seek(SeekFrom::End(0)).map(drop)
}

fn put_session(to: &mut Vec<u8>, stored: &StoredSession, highest: Option<u64>) {
    wire::put_session(to, stored);
    wire::put_u64(to, highest.unwrap_or(NO_SEQUENCE));
}

fn put_recent(to: &mut Vec<u8>, session: &Session) -> io::Result<()> {
    put_sized(to, |to| {
        to.extend_from_slice(&session.stored.connection.0);
        for (message_id, digest) in &session.recent {
            wire::put_u16(to, *message_id);
            wire::put_u64(to, *digest);
        }
        Ok(())
    })
}

fn put_device(to: &mut Vec<u8>, id: [u8; 12], device: &Device) -> io::Result<()> {
    let subscriptions: Vec<_> = device.subscriptions.iter().filter(|subscription| subscription.publisher.is_none()).collect();
    put_sized(to, |to| {
        to.extend_from_slice(&id);
        for kept in [&device.hello, &device.system, &device.application, &device.metrics, &device.goodbye] {
            to.push(kept.is_some().into());
            if let Some(kept) = kept {
                wire::put_u64(to, kept.at.0);
                wire::put_bytes(to, &kept.payload).map_err(too_long)?;
            }
        }
        wire::put_u16(to, u16::try_from(subscriptions.len()).map_err(|_| io::ErrorKind::InvalidData)?);
        subscriptions.iter().try_for_each(|subscription| record::put_subscription(to, subscription).map_err(too_long))
    })
}

fn put_sized(to: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let start = to.len();
    wire::put_u32(to, 0);
    put(to)?;
    let len = u32::try_from(to.len() - start - 4).map_err(|_| io::ErrorKind::InvalidData)?;
    to[start..start + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::scope::Scope;
    use crate::journal::test_records::{any_record, one_of_each, only_in_version_2, only_in_version_3};

    const EXTENT: Extent = Extent { segment: 3, next: Position(17), chain: 0xdead_beef };

    fn stored(state: &State) -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        write_snapshot(dir.path(), state, EXTENT).unwrap();
        let bytes = fs::read(snapshot_path(dir.path(), 3)).unwrap();
        (dir, bytes)
    }

    fn some_state() -> State {
        let mut state = State::default();
        one_of_each().iter().chain(&only_in_version_2()).chain(&only_in_version_3()).for_each(|record| state.apply(record));
        state
    }

    #[test]
    fn a_version_is_written_only_of_what_the_one_before_cannot_say() {
        let mut old = State::default();
        one_of_each().iter().for_each(|record| old.apply(record));
        let mut second = old.clone();
        only_in_version_2().iter().for_each(|record| second.apply(record));
        for (state, version) in [(old, 1), (second, 2), (some_state(), 3)] {
            let (dir, bytes) = stored(&state);
            assert_eq!(bytes[8..10], [version, 0]);
            assert_eq!(load_snapshot(dir.path(), 3, Scope::ALL).unwrap().0, state);
        }
    }

    #[test]
    fn snapshots_are_listed_newest_first() {
        let (dir, bytes) = stored(&State::default());
        fs::write(snapshot_path(dir.path(), 10), &bytes).unwrap();
        fs::write(dir.path().join("000000000011.snapshot.tmp"), &bytes).unwrap();
        assert_eq!(list_snapshots(dir.path()).unwrap(), [10, 3]);
        assert!(matches!(load_snapshot(dir.path(), 10, Scope::ALL), Err(LoadError::Invalid(_))), "its name is not what it covers");
    }

    #[test]
    fn any_changed_or_missing_byte_makes_a_snapshot_invalid() {
        let (dir, bytes) = stored(&some_state());
        let path = snapshot_path(dir.path(), 3);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 0x80;
            fs::write(&path, &changed).unwrap();
            assert!(matches!(load_snapshot(dir.path(), 3, Scope::ALL), Err(LoadError::Invalid(_))), "byte {index}");
            fs::write(&path, &bytes[..index]).unwrap();
            assert!(matches!(load_snapshot(dir.path(), 3, Scope::ALL), Err(LoadError::Invalid(_))), "length {index}");
        }
        fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
        assert!(matches!(load_snapshot(dir.path(), 3, Scope::ALL), Err(LoadError::Invalid(_))));
    }

    #[test]
    fn a_newer_version_is_refused_and_not_skipped() {
        let (dir, mut bytes) = stored(&some_state());
        bytes[8] = 4;
        let checksum = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&checksum.to_le_bytes());
        fs::write(snapshot_path(dir.path(), 3), &bytes).unwrap();
        let Err(LoadError::Refused(error)) = load_snapshot(dir.path(), 3, Scope::ALL) else { panic!("refused") };
        assert!(matches!(error, OpenError::NewerFormat { what: "snapshot", version: 4, known: 3, .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_state_comes_back(records in proptest::collection::vec(any_record(), 0..300)) {
            let mut state = State::default();
            records.iter().for_each(|record| state.apply(record));
            let (dir, bytes) = stored(&state);
            let (loaded, _, extent) = load_snapshot(dir.path(), 3, Scope::ALL).unwrap();
            prop_assert_eq!(&loaded, &state);
            prop_assert_eq!(extent, EXTENT);
            write_snapshot(dir.path(), &loaded, EXTENT).unwrap();
            prop_assert_eq!(fs::read(snapshot_path(dir.path(), 3)).unwrap(), bytes);
        }

        #[test]
        fn hostile_sections_never_panic(body in proptest::collection::vec(any::<u8>(), 0..400), kind in 1u32..8, count in any::<u64>()) {
            let (dir, bytes) = stored(&State::default());
            let mut bytes = bytes;
            (bytes[8], bytes[32]) = (3, 7);
            let checksum = crc32c::crc32c(&bytes[..36]);
            bytes[36..40].copy_from_slice(&checksum.to_le_bytes());
            for kind in [5, 6, 7] {
                let mut empty = Vec::new();
                wire::put_u32(&mut empty, kind);
                empty.resize(SECTION_HEADER - 4, 0);
                let checksum = crc32c::crc32c(&empty);
                wire::put_u32(&mut empty, checksum);
                bytes.extend_from_slice(&empty);
            }
            let mut hostile = bytes[..HEADER + SECTION_HEADER * (kind as usize - 1)].to_vec();
            let start = hostile.len();
            wire::put_u32(&mut hostile, kind);
            wire::put_u64(&mut hostile, count);
            wire::put_u64(&mut hostile, body.len() as u64);
            wire::put_u32(&mut hostile, crc32c::crc32c(&body));
            let checksum = crc32c::crc32c(&hostile[start..]);
            wire::put_u32(&mut hostile, checksum);
            hostile.extend_from_slice(&body);
            hostile.extend_from_slice(&bytes[start + SECTION_HEADER..]);
            fs::write(snapshot_path(dir.path(), 3), &hostile).unwrap();
            let _ = load_snapshot(dir.path(), 3, Scope::ALL);
        }
    }
}
