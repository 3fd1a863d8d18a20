//! Reading a snapshot. Everything is checked against what is left of the file before it is believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::stored::StoredSession;
use router::event::Position;
use router::journal::Subscription;

use super::{
    CHUNK_BYTES, Extent, HEADER, MAGIC, NO_SEQUENCE, RETIRED_ENTRY, SECTION_HEADER, SESSION_ENTRY, SNAPSHOT_VERSION, STATUS_ENTRY,
    snapshot_path,
};
use crate::journal::error::OpenError;
use crate::journal::record;
use crate::journal::sessions::Sessions;
use crate::journal::state::{Device, Kept, RECENT_LEN_MAX, Retired, Session, State};
use crate::journal::wire::{Malformed, Take};

/// The largest entry: five payloads, each at most a record long.
const ENTRY_BYTES_MAX: usize = 6 * record::BODY_BYTES_MAX;
/// The shortest entry of a device: its length, its id, nothing of five payloads, and no subscription.
const DEVICE_ENTRY_MIN: u64 = 4 + 12 + 5 + 2;
/// How many payloads are looked for among those of other devices.
const ALIKE_MAX: usize = 1 << 14;
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

/// Reads the snapshot that covers segments up to `segment`.
pub(in crate::journal) fn load_snapshot(dir: &Path, segment: u64) -> Result<(State, Extent), LoadError> {
    let path = snapshot_path(dir, segment);
    let refused = |doing| move |source| LoadError::Refused(OpenError::io(doing, &snapshot_path(dir, segment))(source));
    let mut file = File::open(&path).map_err(refused("open"))?;
    let length = file.metadata().map_err(refused("examine"))?.len();
    let mut source = Source { file: &mut file, path: &path, left: length, consumed: 0, checksum: 0, buffer: Vec::new(), at: 0 };
    let (version, extent) = source.header()?;
    if extent.segment != segment {
        return Err(source.invalid(Malformed("the file name and the snapshot header disagree")));
    }
    let mut state = source.state()?;
    if version > 1 {
        source.only_in_version_2(&mut state)?;
    }
    if version > 2 {
        source.only_in_version_3(&mut state)?;
    }
    if source.left != 0 {
        return Err(source.invalid(Malformed("more bytes than the sections need")));
    }
    Ok((state, extent))
}

/// Reads a snapshot from front to back, in chunks.
struct Source<'a> {
    file: &'a mut File,
    path: &'a Path,
    /// Bytes of the file or, within a section, of the section that have not been read from the file.
    left: u64,
    /// Bytes that have been read from the file.
    consumed: u64,
    /// Over what has been read of the section.
    checksum: u32,
    buffer: Vec<u8>,
    at: usize,
}

impl Source<'_> {
    fn invalid(&self, Malformed(what): Malformed) -> LoadError {
        let unread = (self.buffer.len() - self.at) as u64;
        LoadError::Invalid(OpenError::damaged(self.path, self.consumed - unread, what))
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
            return Err(LoadError::Refused(OpenError::io("read", self.path)(error)));
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
            let (path, known) = (self.path.to_path_buf(), SNAPSHOT_VERSION);
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

    fn state(&mut self) -> Result<State, LoadError> {
        let mut entries = self.section(1, |source, entries: &mut Vec<_>, count| source.sessions(entries, count))?;
        if !entries.is_sorted_by(|one: &Session, next| one.stored.connection < next.stored.connection) {
            return Err(self.invalid(Malformed("sessions that are not in order")));
        }
        self.section(2, |source, _: &mut (), count| source.recent(&mut entries, count))?;
        let sessions = Sessions::from_entries(entries).ok_or_else(|| self.invalid(Malformed("a session that is there twice")))?;
        let retired = self.section(3, |source, retired: &mut BTreeMap<_, _>, count| source.retired(retired, count))?;
        let devices = self.section(4, |source, devices: &mut BTreeMap<_, _>, count| source.devices(devices, count))?;
        Ok(State { sessions, retired, devices })
    }

    fn only_in_version_2(&mut self, state: &mut State) -> Result<(), LoadError> {
        self.section(5, |source, _: &mut (), count| {
            source.fixed(
                count,
                ConnectionId::LEN,
                |from| from.connection(),
                |connection| {
                    if let Some(session) = state.sessions.get_mut(&connection) {
                        session.stored.id_on_wire = false;
                    } else if let Some(retired) = state.retired.get_mut(&connection) {
                        retired.stored.id_on_wire = false;
                    }
                },
            )
        })?;
        self.section(6, |source, _: &mut (), count| {
            let take = |from: &mut Take<'_>| {
                let (device, subscription) = (from.device()?, record::take_subscription(from)?);
                Ok((device, Subscription { publisher: Some(from.device()?), ..subscription }))
            };
            source.sized(count, take, |(device, subscription)| {
                state.devices.entry(device).or_default().subscribe(subscription);
            })
        })
    }

    fn only_in_version_3(&mut self, state: &mut State) -> Result<(), LoadError> {
        let take = |from: &mut Take<'_>| Ok((from.device()?, from.bool()?));
        self.section(7, |source, _: &mut (), count| {
            source.fixed(count, STATUS_ENTRY, take, |(device, online)| state.devices.entry(device).or_default().online = Some(online))
        })
    }

    fn section<T: Default>(
        &mut self,
        kind: u32,
        entries: impl FnOnce(&mut Self, &mut T, u64) -> Result<(), LoadError>,
    ) -> Result<T, LoadError> {
        let bytes: [u8; SECTION_HEADER] = self.take_header()?;
        let mut take = Take(&bytes);
        let mut fields = || Ok((take.u32()?, take.u64()?, take.u64()?, take.u32()?, take.u32()?));
        let (found, count, length, checksum, header_checksum) = fields().map_err(|error| self.invalid(error))?;
        if found != kind || crc32c::crc32c(&bytes[..SECTION_HEADER - 4]) != header_checksum || length > self.left {
            return Err(self.invalid(Malformed("the header of a section does not fit")));
        }
        let after = self.left - length;
        (self.left, self.checksum) = (length, 0);
        let mut content = T::default();
        entries(self, &mut content, count)?;
        if self.left != 0 || self.at != self.buffer.len() {
            return Err(self.invalid(Malformed("more bytes than the entries need")));
        }
        if self.checksum != checksum {
            return Err(self.invalid(Malformed("the checksum of a section does not fit")));
        }
        self.left = after;
        Ok(content)
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

    fn sessions(&mut self, entries: &mut Vec<Session>, count: u64) -> Result<(), LoadError> {
        let unread = self.left + (self.buffer.len() - self.at) as u64;
        let possible = count.min(unread / SESSION_ENTRY as u64);
        entries.reserve_exact(usize::try_from(possible).map_err(|_| self.invalid(Malformed("more sessions than memory")))?);
        self.fixed(count, SESSION_ENTRY, take_session, |(stored, highest)| {
            entries.push(Session { stored, highest, recent: Vec::new() });
        })
    }

    /// They are in the order of the sessions, so that both are gone through side by side.
    fn recent(&mut self, sessions: &mut [Session], count: u64) -> Result<(), LoadError> {
        let mut sessions = sessions.iter_mut().peekable();
        self.sized(count, take_recent, |(connection, recent)| {
            while sessions.next_if(|session| session.stored.connection < connection).is_some() {}
            if let Some(session) = sessions.next_if(|session| session.stored.connection == connection) {
                session.recent = recent;
            }
        })
    }

    fn retired(&mut self, retired: &mut BTreeMap<ConnectionId, Retired>, count: u64) -> Result<(), LoadError> {
        let take = |from: &mut Take<'_>| {
            let (stored, highest) = take_session(from)?;
            Ok(Retired { stored, highest, reason: record::take_reason(from)?, at: from.time()? })
        };
        self.fixed(count, RETIRED_ENTRY, take, |entry| {
            retired.insert(entry.stored.connection, entry);
        })
    }

    fn devices(&mut self, devices: &mut BTreeMap<DeviceId, Device>, count: u64) -> Result<(), LoadError> {
        let unread = self.left + (self.buffer.len() - self.at) as u64;
        let possible =
            usize::try_from(count.min(unread / DEVICE_ENTRY_MIN)).map_err(|_| self.invalid(Malformed("more devices than memory")))?;
        let (mut alike, mut listed) = (Alike::default(), Vec::with_capacity(possible));
        self.sized(count, |from| alike.take_device(from), |device| listed.push(device))?;
        // They are in order, so that this is one pass.
        *devices = listed.into_iter().collect();
        Ok(())
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

/// What was read before, and may be that of a device that comes later: a fleet has few kinds of firmware.
#[derive(Default)]
struct Alike {
    payloads: HashSet<Arc<[u8]>>,
    subscriptions: HashMap<Box<[u8]>, Arc<BTreeSet<Subscription>>>,
}

impl Alike {
    fn take_device(&mut self, from: &mut Take<'_>) -> Result<(DeviceId, Device), Malformed> {
        let id = from.device()?;
        // A Hello has the device's id in it.
        let hello = take_kept(from, |payload| payload.into())?;
        let mut alike = |payload: &[u8]| self.payload(payload);
        let mut device = Device {
            hello,
            system: take_kept(from, &mut alike)?,
            application: take_kept(from, &mut alike)?,
            metrics: take_kept(from, |payload| payload.into())?,
            goodbye: take_kept(from, |payload| payload.into())?,
            ..Device::default()
        };
        device.subscriptions = self.subscriptions(from)?;
        Ok((id, device))
    }

    fn payload(&mut self, payload: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.payloads.get(payload) {
            return Arc::clone(known);
        }
        let new: Arc<[u8]> = payload.into();
        if self.payloads.len() < ALIKE_MAX {
            self.payloads.insert(Arc::clone(&new));
        }
        new
    }

    /// All that is left of an entry.
    fn subscriptions(&mut self, from: &mut Take<'_>) -> Result<Arc<BTreeSet<Subscription>>, Malformed> {
        let bytes = from.0;
        if let Some(known) = self.subscriptions.get(bytes) {
            from.0 = &[];
            return Ok(Arc::clone(known));
        }
        let mut taken = BTreeSet::new();
        for _ in 0..from.u16()? {
            taken.insert(record::take_subscription(from)?);
        }
        let taken = Arc::new(taken);
        if from.is_empty() && self.subscriptions.len() < ALIKE_MAX {
            self.subscriptions.insert(bytes.into(), Arc::clone(&taken));
        }
        Ok(taken)
    }
}

fn take_kept(from: &mut Take<'_>, hold: impl FnOnce(&[u8]) -> Arc<[u8]>) -> Result<Option<Kept>, Malformed> {
    if !from.bool()? {
        return Ok(None);
    }
    let at = from.time()?;
    Ok(Some(Kept { payload: hold(from.bytes()?), at }))
}
