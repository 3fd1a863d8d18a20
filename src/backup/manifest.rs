//! What a backup says about itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::data_dir;
use crate::durable;
use crate::generation;
use crate::store::FIRMWARE_FOLDER;

/// The newest version that can be read, which is written where there is firmware.
pub(super) const FORMAT: u32 = 2;
/// The version that is written where there is none: older programs can restore it.
pub(super) const FORMAT_WITHOUT_FIRMWARE: u32 = 1;
/// Longest manifest that is read: that of some 400 000 files.
const LEN_MAX: u64 = 64 << 20;
const FILE: &str = "manifest.json";

/// The registry, in a backup as in a data directory.
pub(super) const REGISTRY: &str = "registry.db";
/// The server's keys, likewise.
pub(super) const KEYS: &str = "keys";
/// The journal, likewise.
pub(super) const JOURNAL: &str = "journal";
/// How far sinks had come, if there are any.
pub(super) const CURSORS: &str = "cursors";
/// The bytes of firmware, if there are any.
pub(super) const FIRMWARE: &str = FIRMWARE_FOLDER;
/// Without these there is no backup of a server that had sessions.
const OF_SESSIONS: [&str; 2] = ["keys/cid-keys", generation::FILE];

/// A backup's contents.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Version of the data directory's format.
    pub data_format: u32,
    /// The version of Holdfast that made it.
    pub made_by: String,
    /// When it was begun, in ISO 8601.
    pub made_at: String,
    /// The journal in it; `null` if no device was ever served.
    pub journal: Option<JournalPart>,
    /// Every file in it but the manifest.
    pub files: Vec<Entry>,
}

/// How far the journal of a backup goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalPart {
    /// Number of its last segment.
    pub segment: u64,
    /// Length of that.
    pub bytes: u64,
    /// The position of the first event that is not in it.
    pub next_position: u64,
}

/// A file in a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where, below the backup's directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hex digits.
    pub sha256: String,
}

/// What manifests of all versions say.
#[derive(Deserialize)]
struct Version {
    format: u32,
    #[serde(default)]
    made_by: String,
}

impl Manifest {
    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }

    /// What must be in it and is not.
    pub(super) fn absent(&self) -> Option<&'static str> {
        let mut needed = [REGISTRY].into_iter().chain(OF_SESSIONS.into_iter().filter(|_| self.journal.is_some()));
        needed.find(|needed| self.files.iter().all(|entry| entry.path != *needed))
    }

    pub(super) fn write(&self, backup: &Path) -> Result<(), BackupError> {
        let path = backup.join(FILE);
        let written = serde_json::to_vec_pretty(self).map_err(io::Error::from).and_then(|text| durable::replace_file(&path, &text));
        written.map_err(BackupError::io("write", &path))
    }

    /// Reads the manifest of the backup in a directory. It names nothing outside of that.
    pub(super) fn read(backup: &Path) -> Result<Self, BackupError> {
        let path = backup.join(FILE);
        let mut text = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BackupError::NoManifest { path: backup.to_owned() }),
            opened => opened.and_then(|file| file.take(LEN_MAX).read_to_end(&mut text)).map_err(BackupError::io("read", &path))?,
        };
        Self::parse(&path, &text)
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, BackupError> {
        let damaged = |what: String| BackupError::Damaged { path: path.to_owned(), what };
        let Version { format, made_by } = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        let newer = |what, found, known, made_by| Err(BackupError::Newer { path: path.to_owned(), what, found, known, made_by });
        if format > FORMAT {
            return newer("format", format, FORMAT, made_by);
        }
        let manifest: Self = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if manifest.data_format > data_dir::FORMAT {
            return newer("a data directory of format", manifest.data_format, data_dir::FORMAT, made_by);
        }
        if let Some(entry) = manifest.files.iter().find(|entry| !has_place(&entry.path)) {
            return Err(damaged(format!("it names {:?}, which no backup has", entry.path)));
        }
        match manifest.absent() {
            Some(absent) => Err(damaged(format!("it does not name {absent}"))),
            None => Ok(manifest),
        }
    }
}

/// Whether a backup has a place of this name.
fn has_place(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        [name] => name == REGISTRY || name == generation::FILE,
        [folder, name] => [KEYS, JOURNAL, CURSORS, FIRMWARE].contains(&folder) && !["", ".", ".."].contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, BackupError> {
        Manifest::parse(Path::new("b/manifest.json"), text.as_bytes())
    }

    #[test]
    fn format_version_1_keeps_decoding_and_is_written_byte_for_byte() {
        let golden = include_str!("../../testdata/backup/v1.json");
        let manifest = parse(golden).unwrap();
        assert_eq!((manifest.files.len(), manifest.bytes()), (6, 45_692));
        assert_eq!(manifest.journal, Some(JournalPart { segment: 3, bytes: 1_044, next_position: 17 }));
        let directory = tempfile::tempdir().unwrap();
        manifest.write(directory.path()).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join(FILE)).unwrap(), golden.trim_end());
    }

    #[test]
    fn format_version_2_has_firmware_and_keeps_decoding() {
        let manifest = parse(include_str!("../../testdata/backup/v2.json")).unwrap();
        assert_eq!((manifest.format, manifest.files.len()), (FORMAT, 7));
        assert!(manifest.files.iter().any(|entry| entry.path == format!("firmware/{}", entry.sha256)));
    }

    #[test]
    fn a_newer_manifest_is_refused_in_words() {
        let error = parse(r#"{"format":3,"made_by":"0.9.0","colour":"blue"}"#).unwrap_err().to_string();
        assert!(error.contains("backup of format version 3, made by Holdfast 0.9.0") && error.contains("up to 2"), "{error}");
        let newer = include_str!("../../testdata/backup/v1.json").replace("\"data_format\": 1", "\"data_format\": 2");
        let error = parse(&newer).unwrap_err().to_string();
        assert!(error.contains("data directory of format version 2"), "{error}");
    }

    #[test]
    fn a_manifest_that_names_too_much_or_too_little_is_refused() {
        let golden = include_str!("../../testdata/backup/v1.json");
        for place in ["../registry.db", "/etc/passwd", "keys/../../x", "keys", "journal/a/b", "keys/./x", "lock", ""] {
            let error = parse(&golden.replace("keys/server-ec.pem", place)).unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. }), "{place}: {error}");
        }
        for needed in ["registry.db", "generation", "keys/cid-keys"] {
            let error = parse(&golden.replace(needed, "journal/x")).unwrap_err().to_string();
            assert!(error.contains(needed), "{error}");
        }
        assert!(matches!(parse("{\"format\":1}"), Err(BackupError::Damaged { .. })));
        assert!(matches!(parse(&golden[..golden.len() / 2]), Err(BackupError::Damaged { .. })));
    }
}
