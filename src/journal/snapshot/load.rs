//! Reading a snapshot. Everything is checked against what is left of the file before it is believed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::iter::{Peekable, Zip};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{slice, thread};

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::stored::StoredSession;
use router::event::Position;
use router::journal::Subscription;

use super::{
    CHUNK_BYTES, Extent, HEADER, MAGIC, NO_SEQUENCE, RETIRED_ENTRY, SECTION_HEADER, SESSION_ENTRY, SNAPSHOT_VERSION, STATUS_ENTRY,
    snapshot_path,
};
use crate::journal::alike::Alike;
use crate::journal::error::OpenError;
use crate::journal::ordered::Ordered;
use crate::journal::record;
use crate::journal::scope::Scope;
use crate::journal::state::{Device, Devices, Kept, RECENT_LEN_MAX, Retired, RetiredSessions, Session, Sessions, State};
use crate::journal::wire::{Malformed, Take};

/// The largest entry: five payloads, each at most a record long.
const ENTRY_BYTES_MAX: usize = 6 * record::BODY_BYTES_MAX;
/// The shortest entry of a device: its length, its id, nothing of five payloads, and no subscription.
const DEVICE_ENTRY_MIN: usize = 4 + 12 + 5 + 2;
/// What the next position can be, with room to count on.
const POSITIONS: std::ops::Range<u64> = 1..1 << 62;

/// Why a snapshot was not loaded.
#[derive(Debug)]
pub(in crate::journal) enum LoadError {
    /// It is damaged: an older one may do.
    Invalid(OpenError),
    /// An older one would not help.
    Refused(OpenError),
}

/// Reads what is wanted of the snapshot that covers segments up to `segment`: sessions on one thread and devices on another, for that is most of a start.
pub(in crate::journal) fn load_snapshot(dir: &Path, segment: u64, scope: Scope<'_>) -> Result<(State, Alike, Extent), LoadError> {
    let mut source = Source::open(snapshot_path(dir, segment), scope)?;
    let (version, extent) = source.header()?;
    if extent.segment != segment {
        return Err(source.invalid(Malformed("the file name and the snapshot header disagree")));
    }
    let sections = source.sections(sections_of(version))?;
    let path = source.path.clone();
    let (sessions, devices) = thread::scope(|threads| {
        let devices =
            thread::Builder::new().name("load".to_owned()).spawn_scoped(threads, || Source::open(path, scope)?.all_devices(&sections));
        let sessions = source.all_sessions(&sections);
        let failed = |error| LoadError::Refused(OpenError::io("start a thread to read", &source.path)(error));
        let devices = devices.map_err(failed).and_then(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        (sessions, devices)
    });
    let ((sessions, retired), (devices, alike)) = (sessions?, devices?);
    Ok((State { sessions, retired, devices }, alike, extent))
}

/// Entries as they are read, keys and values apart.
type Listed<K, V> = (Vec<K>, Vec<Option<V>>);

/// Where a section is.
#[derive(Clone, Copy, Debug)]
struct Section {
    count: u64,
    start: u64,
    length: u64,
    checksum: u32,
}

/// Reads a snapshot from front to back, in chunks.
struct Source<'a> {
    /// Entries of other devices are passed over.
    scope: Scope<'a>,
    file: File,
    path: PathBuf,
    /// Bytes of the file or, within a section, of the section that have not been read from the file.
    left: u64,
    /// Bytes of the file that are behind.
    consumed: u64,
    /// Over what has been read of the section.
    checksum: u32,
    buffer: Vec<u8>,
    at: usize,
}

impl<'a> Source<'a> {
    fn open(path: PathBuf, scope: Scope<'a>) -> Result<Self, LoadError> {
        let refused = |doing| {
            let path = &path;
            move |source| LoadError::Refused(OpenError::io(doing, path)(source))
        };
        let file = File::open(&path).map_err(refused("open"))?;
        let left = file.metadata().map_err(refused("examine"))?.len();
        Ok(Self { scope, file, path, left, consumed: 0, checksum: 0, buffer: Vec::new(), at: 0 })
    }

    fn invalid(&self, Malformed(what): Malformed) -> LoadError {
        let unread = (self.buffer.len() - self.at) as u64;
        LoadError::Invalid(OpenError::damaged(&self.path, self.consumed - unread, what))
    }

    /// The next `len` bytes; refused if the section does not have them.
    fn take(&mut self, len: usize) -> Result<&[u8], LoadError> {
        if self.buffer.len() - self.at < len {
            self.fill(len)?;
        }
        self.at += len;
        Ok(&self.buffer[self.at - len..self.at])
    }

    fn fill(&mut self, len: usize) -> Result<(), LoadError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let held = self.buffer.len();
        let wanted = len.max(CHUNK_BYTES) - held;
        let read = usize::try_from(self.left).unwrap_or(wanted).min(wanted);
        if held + read < len {
            return Err(self.invalid(Malformed("fewer bytes than the entry needs")));
        }
        self.buffer.resize(held + read, 0);
        if let Err(error) = self.file.read_exact(&mut self.buffer[held..]) {
            return Err(LoadError::Refused(OpenError::io("read", &self.path)(error)));
        }
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer[held..]);
        self.left -= read as u64;
        self.consumed += read as u64;
        Ok(())
    }

    /// Exactly `N` bytes, and nothing ahead of them.
    fn take_header<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let all = self.left;
        self.left = all.min(N as u64);
        let bytes = *self.take(N)?.first_chunk().expect("that many were taken");
        self.left = all - N as u64;
        Ok(bytes)
    }

    fn header(&mut self) -> Result<(u16, Extent), LoadError> {
        let bytes: [u8; HEADER] = self.take_header()?;
        let mut take = Take(&bytes);
        let magic = take.array::<8>().map_err(|error| self.invalid(error))?;
        let (checked, checksum) = bytes.split_at(HEADER - 4);
        if magic != MAGIC || crc32c::crc32c(checked).to_le_bytes() != checksum {
            return Err(self.invalid(Malformed("the header is not that of a snapshot")));
        }
        let mut fields = || Ok((take.u16()?, take.u16()?, take.u32()?, take.u64()?, take.u64()?, take.u32()?));
        let (version, _, chain, segment, next, sections) = fields().map_err(|error| self.invalid(error))?;
        if !(1..=SNAPSHOT_VERSION).contains(&version) {
            let (path, known) = (self.path.clone(), SNAPSHOT_VERSION);
            return Err(LoadError::Refused(OpenError::NewerFormat { path, offset: 0, what: "snapshot", version, known }));
        }
        if sections != sections_of(version) {
            return Err(self.invalid(Malformed("another number of sections than this version has")));
        }
        if !POSITIONS.contains(&next) {
            return Err(self.invalid(Malformed("a position that no event can have")));
        }
        Ok((version, Extent { segment, next: Position(next), chain }))
    }

    /// Where all sections are: one behind the other, up to the end of the file.
    fn sections(&mut self, count: u32) -> Result<Vec<Section>, LoadError> {
        let sections = (1..=count).map(|kind| self.section_header(kind)).collect::<Result<_, _>>()?;
        if self.left != 0 {
            return Err(self.invalid(Malformed("more bytes than the sections need")));
        }
        Ok(sections)
    }

    fn section_header(&mut self, kind: u32) -> Result<Section, LoadError> {
        let bytes: [u8; SECTION_HEADER] = self.take_header()?;
        let mut take = Take(&bytes);
        let mut fields = || Ok((take.u32()?, take.u64()?, take.u64()?, take.u32()?, take.u32()?));
        let (found, count, length, checksum, header_checksum) = fields().map_err(|error| self.invalid(error))?;
        if found != kind || crc32c::crc32c(&bytes[..SECTION_HEADER - 4]) != header_checksum || length > self.left {
            return Err(self.invalid(Malformed("the header of a section does not fit")));
        }
        let section = Section { count, start: self.consumed, length, checksum };
        self.seek(self.consumed + length)?;
        self.left -= length;
        Ok(section)
    }

    fn seek(&mut self, to: u64) -> Result<(), LoadError> {
        self.file.seek(SeekFrom::Start(to)).map_err(|error| LoadError::Refused(OpenError::io("read", &self.path)(error)))?;
        self.consumed = to;
        self.buffer.clear();
        self.at = 0;
        Ok(())
    }

    /// What is about sessions.
    fn all_sessions(&mut self, sections: &[Section]) -> Result<(Sessions, RetiredSessions), LoadError> {
        let (keys, mut values) = self.section(sections[0], Self::sessions)?;
        let mut beside = Beside::new(&keys, &mut values);
        self.section(sections[1], |source, count| {
            source.sized(count, take_recent, |(connection, recent)| {
                if let Some(session) = beside.find(&connection) {
                    session.recent = recent;
                }
            })
        })?;
        let mut retired = self.section(sections[2], Self::retired)?;
        let sessions = Ordered::from_first(keys, values);
        let mut sessions = sessions.ok_or_else(|| self.invalid(Malformed("sessions that are not in order")))?;
        let Some(unlabelled) = sections.get(4) else { return Ok((sessions, retired)) };
        self.section(*unlabelled, |source, count| {
            source.fixed(
                count,
                ConnectionId::LEN,
                |from| from.connection(),
                |connection| {
                    let live = sessions.get_mut(&connection).map(|session| &mut session.stored);
                    let stored = live.or_else(|| retired.get_mut(&connection).map(|retired| &mut retired.stored));
                    stored.into_iter().for_each(|stored| stored.id_on_wire = false);
                },
            )
        })?;
        Ok((sessions, retired))
    }

    /// What is about devices, and what they say alike.
    fn all_devices(&mut self, sections: &[Section]) -> Result<(Devices, Alike), LoadError> {
        let mut alike = Alike::default();
        let (keys, mut values) = self.section(sections[3], |source, count| source.devices(&mut alike, count))?;
        if let Some(statuses) = sections.get(6) {
            let take = |from: &mut Take<'_>| Ok((from.device()?, from.bool()?));
            let mut beside = Beside::new(&keys, &mut values);
            self.section(*statuses, |source, count| {
                source.fixed(count, STATUS_ENTRY, take, |(id, online)| {
                    if let Some(device) = beside.find(&id) {
                        device.online = Some(online);
                    }
                })
            })?;
        }
        let devices = Ordered::from_first(keys, values);
        let mut devices = devices.ok_or_else(|| self.invalid(Malformed("devices that are not in order")))?;
        let scope = self.scope;
        if let Some(narrowed) = sections.get(5) {
            let take = |from: &mut Take<'_>| {
                let (device, subscription) = (from.device()?, record::take_subscription(from)?);
                Ok((device, Subscription { publisher: Some(from.device()?), ..subscription }))
            };
            self.section(*narrowed, |source, count| {
                source.sized(count, take, |(device, subscription)| {
                    if scope.includes(device) {
                        devices.get_or_default(device).subscribe(subscription);
                    }
                })
            })?;
        }
        Ok((devices, alike))
    }

    /// Goes through a section.
    fn section<T>(&mut self, section: Section, entries: impl FnOnce(&mut Self, u64) -> Result<T, LoadError>) -> Result<T, LoadError> {
        self.seek(section.start)?;
        (self.left, self.checksum) = (section.length, 0);
        let content = entries(self, section.count)?;
        if self.left != 0 || self.at != self.buffer.len() {
            return Err(self.invalid(Malformed("more bytes than the entries need")));
        }
        if self.checksum != section.checksum {
            return Err(self.invalid(Malformed("the checksum of a section does not fit")));
        }
        Ok(content)
    }

    /// Room for `count` entries of at least so many bytes, but not for more than the section can have; for none if it is not known how many are wanted.
    fn room<K, V>(&self, count: u64, entry: usize) -> Result<Listed<K, V>, LoadError> {
        if !self.scope.is_all() {
            return Ok((Vec::new(), Vec::new()));
        }
        let possible = usize::try_from(count.min(self.left / entry as u64)).map_err(|_| self.invalid(Malformed("more than memory")))?;
        Ok((Vec::with_capacity(possible), Vec::with_capacity(possible)))
    }

    /// `count` entries of a fixed size.
    fn fixed<T>(
        &mut self,
        count: u64,
        len: usize,
        mut take: impl FnMut(&mut Take<'_>) -> Result<T, Malformed>,
        mut each: impl FnMut(T),
    ) -> Result<(), LoadError> {
        for _ in 0..count {
            let mut bytes = Take(self.take(len)?);
            let entry = take(&mut bytes).map_err(|error| self.invalid(error))?;
            each(entry);
        }
        Ok(())
    }

    /// `count` entries that start with their length.
    fn sized<T>(
        &mut self,
        count: u64,
        mut take: impl FnMut(&mut Take<'_>) -> Result<T, Malformed>,
        mut each: impl FnMut(T),
    ) -> Result<(), LoadError> {
        for _ in 0..count {
            let len = u32::from_le_bytes(*self.take(4)?.first_chunk().expect("four bytes were taken"));
            let len = usize::try_from(len).ok().filter(|len| *len <= ENTRY_BYTES_MAX);
            let len = len.ok_or_else(|| self.invalid(Malformed("an entry longer than any may be")))?;
            let mut bytes = Take(self.take(len)?);
            let entry = take(&mut bytes).and_then(|entry| bytes.end().map(|()| entry)).map_err(|error| self.invalid(error))?;
            each(entry);
        }
        Ok(())
    }

    fn sessions(&mut self, count: u64) -> Result<Listed<ConnectionId, Session>, LoadError> {
        let (scope, (mut keys, mut values)) = (self.scope, self.room(count, SESSION_ENTRY)?);
        self.fixed(count, SESSION_ENTRY, take_session, |(stored, highest)| {
            if scope.includes(stored.identity.device) {
                keys.push(stored.connection);
                values.push(Some(Session { stored, highest, recent: Vec::new() }));
            }
        })?;
        Ok((keys, values))
    }

    fn retired(&mut self, count: u64) -> Result<RetiredSessions, LoadError> {
        let take = |from: &mut Take<'_>| {
            let (stored, highest) = take_session(from)?;
            Ok(Retired { stored, highest, reason: record::take_reason(from)?, at: from.time()? })
        };
        let (scope, mut retired) = (self.scope, RetiredSessions::new());
        self.fixed(count, RETIRED_ENTRY, take, |entry| {
            if scope.includes(entry.stored.identity.device) {
                retired.insert(entry.stored.connection, entry);
            }
        })?;
        Ok(retired)
    }

    fn devices(&mut self, alike: &mut Alike, count: u64) -> Result<Listed<DeviceId, Device>, LoadError> {
        let (scope, (mut keys, mut values)) = (self.scope, self.room(count, DEVICE_ENTRY_MIN)?);
        self.sized(
            count,
            |from| take_device(from, scope, alike),
            |entry| {
                if let Some((id, device)) = entry {
                    keys.push(id);
                    values.push(Some(device));
                }
            },
        )?;
        Ok((keys, values))
    }
}

/// Entries beside which others are read in the same order, so that both are gone through once.
struct Beside<'a, K, V>(Peekable<Zip<slice::Iter<'a, K>, slice::IterMut<'a, Option<V>>>>);

impl<'a, K: Ord, V> Beside<'a, K, V> {
    fn new(keys: &'a [K], values: &'a mut [Option<V>]) -> Self {
        Self(keys.iter().zip(values).peekable())
    }

    /// What is at a key that is greater than the last.
    fn find(&mut self, key: &K) -> Option<&'a mut V> {
        while self.0.next_if(|(own, _)| *own < key).is_some() {}
        self.0.next_if(|(own, _)| *own == key).and_then(|(_, value)| value.as_mut())
    }
}

fn sections_of(version: u16) -> u32 {
    match version {
        1 => 4,
        2 => 6,
        _ => 7,
    }
}

fn take_session(from: &mut Take<'_>) -> Result<(StoredSession, Option<u64>), Malformed> {
    let (stored, highest) = (from.session()?, from.u64()?);
    Ok((stored, (highest != NO_SEQUENCE).then_some(highest)))
}

fn take_recent(from: &mut Take<'_>) -> Result<(ConnectionId, Vec<(u16, u64)>), Malformed> {
    let connection = from.connection()?;
    let mut recent = Vec::with_capacity((from.0.len() / 10).min(RECENT_LEN_MAX));
    while !from.is_empty() {
        if recent.len() == RECENT_LEN_MAX {
            return Err(Malformed("more messages than are remembered"));
        }
        recent.push((from.u16()?, from.u64()?));
    }
    Ok((connection, recent))
}

/// A device, if it is wanted.
fn take_device(from: &mut Take<'_>, scope: Scope<'_>, alike: &mut Alike) -> Result<Option<(DeviceId, Device)>, Malformed> {
    let id = from.device()?;
    if !scope.includes(id) {
        from.0 = &[];
        return Ok(None);
    }
    // A Hello has the device's id in it.
    let hello = take_kept(from, |payload| payload.into())?;
    let mut describe = |payload: &[u8]| alike.payload(payload);
    let (system, application) = (take_kept(from, &mut describe)?, take_kept(from, &mut describe)?);
    let (metrics, goodbye) = (take_kept(from, |payload| payload.into())?, take_kept(from, |payload| payload.into())?);
    let subscriptions = alike.take_subscriptions(from)?;
    Ok(Some((id, Device { hello, system, application, metrics, goodbye, subscriptions, online: None })))
}

fn take_kept(from: &mut Take<'_>, hold: impl FnOnce(&[u8]) -> Arc<[u8]>) -> Result<Option<Kept>, Malformed> {
    if !from.bool()? {
        return Ok(None);
    }
    let at = from.time()?;
    Ok(Some(Kept { payload: hold(from.bytes()?), at }))
}
