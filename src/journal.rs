//! The journal: the one durable log of the acknowledgement path.
//!
//! What a device or a caller is told "yes" about has been through [`Journal::commit`]. Everything here is synchronous and starts no
//! thread: the server runs `commit` on its single writer thread, and [`compact`] and [`remove_segments`] on a background thread.
//! How long events are kept, cursors, and what is still written on a full disk are decided elsewhere.
//!
//! # Invariants
//!
//! * What a successful `commit` returned survives power loss. What was never appended never appears.
//! * Positions are dense: the first event of a journal is 1, and only [`Record::Event`](router::journal::Record::Event) uses one up.
//! * A file under its final name is complete: segments and snapshots are made under a temporary name, synced, renamed, and the directory
//!   is synced before anything relies on them.
//! * Damage is never skipped. Only the part of the last segment that no sync vouched for may be cut, and the cut is reported.
//! * No event is shown to a reader before the sync that made it durable.
//!
//! # Files
//!
//! | name | content |
//! |---|---|
//! | `<first position, 20 digits>-<number, 12 digits>.segment` | records, in order; the highest number is the one being written |
//! | `<number, 12 digits>.snapshot` | the [`State`] after all records of segments 1 to `number` |
//! | `*.tmp` | unfinished; removed by the next [`Journal::open`] |
//!
//! # Format, version 1
//!
//! All integers are little-endian, all checksums CRC32C (Castagnoli). A *chain* value is the checksum of the frame before, or of the
//! segment header if there is none; it runs through segments, so a frame that is missing or left over from before a cut cannot pass.
//! The *salt* is an unpredictable number from the process that made the segment: without it a payload could be shaped like a frame.
//!
//! Segment header, 44 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `HOLDFJNL` |
//! | 8 | 2 | format version |
//! | 10 | 2 | 0 |
//! | 12 | 4 | chain value at the end of the previous segment, 0 in segment 1 |
//! | 16 | 8 | segment number, from 1 |
//! | 24 | 8 | position of the first event at or after this point |
//! | 32 | 8 | salt |
//! | 40 | 4 | checksum of bytes 0 to 39 |
//!
//! Frame header, 52 bytes, followed by the payload. One commit writes one frame, or several if the batch is large:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `HFfr` |
//! | 4 | 2 | format version |
//! | 6 | 2 | 0 |
//! | 8 | 8 | salt of the segment |
//! | 16 | 8 | position of the first event in this frame or after it |
//! | 24 | 8 | `durable_up_to`: bytes of this segment known to be synced before this frame was written |
//! | 32 | 4 | payload length, at most 32 MiB |
//! | 36 | 4 | number of records |
//! | 40 | 4 | number of events among them |
//! | 44 | 4 | chain value before this frame |
//! | 48 | 4 | checksum of bytes 0 to 47 and of the payload |
//!
//! Record, in a payload:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind |
//! | 1 | 1 | version of this kind |
//! | 2 | 4 | body length, at most 16 MiB |
//! | 6 | 4 | checksum of bytes 0 to 5 and of the body |
//! | 10 | | body |
//!
//! Bodies are listed in `record.rs`, their common parts in `wire.rs`, the snapshot in `snapshot.rs`.
//!
//! A segment ends where the file ends or where nothing but zeros follow: the writer fills it ahead, so that a commit overwrites blocks that exist.
//! The last of these zeros are the reserve: only [`Journal::commit_from_reserve`] goes there, when there is no room for more of them.
//! An unknown kind or a newer version is refused in words.

mod alike;
mod census;
mod compaction;
mod copy;
mod disk;
mod error;
mod events;
mod frame;
mod index;
mod log;
mod ordered;
mod record;
mod recovery;
mod replay;
mod scope;
mod segment;
mod segments;
mod snapshot;
mod state;
mod tail;
mod wire;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
pub(crate) mod test_records;

pub use census::Census;
pub use compaction::{CompactionOptions, Covered, compact, remove_segments};
pub use copy::{FilesUpTo, LatestMark, Mark, files_up_to};
pub use error::{CommitError, CompactionError, EventsError, OpenError};
pub use events::{EventReader, Events, Read};
pub use index::{AudienceIndex, AudienceReader};
pub use log::{Committed, Journal, Options};
pub use ordered::{Ordered, Settled};
pub use recovery::{Recovered, RecoveryReport, TornTail};
pub use scope::state_up_to;
pub use segment::SealedSegment;
pub use segments::Segments;
pub use state::{Device, Devices, Kept, RECENT_LEN_MAX, Retired, RetiredSessions, Session, Sessions, State};
pub use tail::{Tail, TailRead};

pub(crate) use record::{event_bytes, event_in};

#[cfg(test)]
pub(crate) use disk::faults;
