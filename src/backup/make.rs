//! Making a backup, beside a server that goes on or of a data directory that nobody works in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Content};
use super::manifest::{CURSORS, FIRMWARE, FORMAT, FORMAT_WITHOUT_FIRMWARE, JOURNAL, KEYS, REGISTRY};
use super::{BackupError, Entry, JournalPart, Manifest};
use crate::data_dir;
use crate::dates::{self, Iso};
use crate::durable;
use crate::generation;
use crate::journal::{FilesUpTo, Mark, files_up_to};
use crate::store::Registry;

const PRIVATE_DIR_MODE: u32 = 0o700;
/// How often the copy of the journal is begun anew because files of it were dropped meanwhile.
const ATTEMPTS: usize = 5;

/// Copies the data directory at `data` to `to`, which appears when it is complete and durable.
///
/// `mark` says up to where the journal is durable now; `None` if there is no journal. It is asked again where what it said is no longer there.
///
/// # Errors
/// There is something at `to`, or nothing to copy, or reading or writing failed. Nothing is left at `to` then.
pub async fn make(data: &Path, to: &Path, mark: impl FnMut() -> Result<Option<Mark>, String>) -> Result<Manifest, BackupError> {
    let to = target(data, to)?;
    let staging = Staging::new(&to)?;
    let root = staging.root.clone();
    let made = staging.fill(data, mark).await;
    let placed = made.and_then(|manifest| {
        fs::rename(&root, &to).map_err(BackupError::io("rename the finished backup to", &to))?;
        durable::sync_directory(&durable::parent_of(&to)).map_err(BackupError::io("sync the name of", &to))?;
        Ok(manifest)
    });
    if placed.is_err() {
        // If this fails too, the next run says what is left over.
        let _ = fs::remove_dir_all(&root);
    }
    placed
}

/// Where the backup goes, as a full path, if it may go there.
fn target(data: &Path, to: &Path) -> Result<PathBuf, BackupError> {
    let parent = durable::parent_of(to);
    let parent = parent.canonicalize().map_err(BackupError::io("find", &parent))?;
    let to = to.file_name().map_or_else(|| parent.clone(), |name| parent.join(name));
    let data = data.canonicalize().map_err(BackupError::io("find", data))?;
    if to.starts_with(&data) {
        return Err(BackupError::Inside { path: to });
    }
    let empty = match fs::read_dir(&to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        listed => listed.map_err(BackupError::io("list", &to))?.next().is_none(),
    };
    if empty { Ok(to) } else { Err(BackupError::NotEmpty { path: to, what: "a backup" }) }
}

/// A backup that is not finished, under another name.
struct Staging {
    root: PathBuf,
    entries: Vec<Entry>,
}

impl Staging {
    fn new(to: &Path) -> Result<Self, BackupError> {
        let mut name = to.as_os_str().to_os_string();
        name.push(".unfinished");
        let root = PathBuf::from(name);
        match durable::create_directory(&root, PRIVATE_DIR_MODE).map_err(BackupError::io("create", &root))? {
            true => Ok(Self { root, entries: Vec::new() }),
            false => Err(BackupError::LeftOver { path: root }),
        }
    }

    /// Cursors come before the journal, so that none is ahead of it. The journal comes before the registry: a device is in the registry before it has a session. The generation comes last: what was sealed with
    /// it comes before. Firmware comes before the registry and again after it: what its rows name was there when it was copied.
    async fn fill(mut self, data: &Path, mark: impl FnMut() -> Result<Option<Mark>, String>) -> Result<Manifest, BackupError> {
        let made_at = Iso(dates::now()).to_string();
        let registry = data.join(REGISTRY);
        if !registry.exists() {
            return Err(BackupError::Nothing { path: data.to_owned() });
        }
        self.whole(data, KEYS)?;
        if data.join(CURSORS).exists() {
            self.whole(data, CURSORS)?;
        }
        let journal = self.journal(data, mark)?;
        self.firmware(data)?;
        let copied = self.root.join(REGISTRY);
        Registry::copy(&registry, &copied).await?;
        self.note(REGISTRY, files::content(&copied).map_err(BackupError::io("read", &copied))?);
        let format = if self.firmware(data)? { FORMAT } else { FORMAT_WITHOUT_FIRMWARE };
        if data.join(generation::FILE).exists() {
            self.copy(&data.join(generation::FILE), generation::FILE, None)?;
        }
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        let manifest = Manifest { format, data_format: data_dir::FORMAT, made_by, made_at, journal, files: self.entries };
        if let Some(absent) = manifest.absent() {
            return Err(BackupError::Incomplete { path: data.join(absent) });
        }
        manifest.write(&self.root)?;
        Ok(manifest)
    }

    /// All files of a folder that has only whole files in it.
    fn whole(&mut self, data: &Path, folder: &str) -> Result<(), BackupError> {
        let directory = data.join(folder);
        self.folder(folder)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).map_err(BackupError::io("list", &directory))? {
            let name = entry.map_err(BackupError::io("list", &directory))?.file_name();
            names.extend(name.into_string().ok().filter(|name| !name.ends_with(".tmp")));
        }
        names.sort();
        names.iter().try_for_each(|name| self.copy(&directory.join(name), &format!("{folder}/{name}"), None))?;
        self.sync(folder)
    }

    /// The files of firmware that are not copied yet; they never change. Says whether there is any folder for them. One that is removed meanwhile is left
    /// out.
    fn firmware(&mut self, data: &Path) -> Result<bool, BackupError> {
        let directory = data.join(FIRMWARE);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries.map_err(BackupError::io("list", &directory))?,
        };
        self.folder(FIRMWARE)?;
        for entry in entries {
            let name = entry.map_err(BackupError::io("list", &directory))?.file_name();
            let Some(name) = name.to_str().filter(|name| !name.ends_with(".tmp")) else { continue };
            let (from, place) = (directory.join(name), format!("{FIRMWARE}/{name}"));
            if self.entries.iter().any(|entry| entry.path == place) {
                continue;
            }
            match files::copy(&from, &self.root.join(&place), None) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => self.note(&place, copied.map_err(BackupError::io("copy", &from))?),
            }
        }
        self.sync(FIRMWARE)?;
        Ok(true)
    }

    fn journal(&mut self, data: &Path, mut mark: impl FnMut() -> Result<Option<Mark>, String>) -> Result<Option<JournalPart>, BackupError> {
        let before = self.entries.len();
        for _ in 0..ATTEMPTS {
            let Some(mark) = mark().map_err(BackupError::NoMark)? else { return Ok(None) };
            self.folder(JOURNAL)?;
            match self.journal_up_to(&data.join(JOURNAL), mark) {
                Ok(()) => {
                    self.sync(JOURNAL)?;
                    return Ok(Some(JournalPart { segment: mark.segment, bytes: mark.bytes, next_position: mark.next.0 }));
                }
                Err(error) if error.is_gone() => {
                    self.entries.truncate(before);
                    let begun = self.root.join(JOURNAL);
                    fs::remove_dir_all(&begun).map_err(BackupError::io("remove", &begun))?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(BackupError::Restless)
    }

    fn journal_up_to(&mut self, directory: &Path, mark: Mark) -> Result<(), BackupError> {
        let FilesUpTo { whole, last } = files_up_to(directory, mark)?;
        for path in whole {
            let name = place(&path);
            let content = files::link(&path, &self.root.join(&name)).map_err(BackupError::io("copy", &path))?;
            self.note(&name, content);
        }
        self.copy(&last, &place(&last), Some(mark.bytes))
    }

    fn copy(&mut self, from: &Path, name: &str, bytes: Option<u64>) -> Result<(), BackupError> {
        let content = files::copy(from, &self.root.join(name), bytes).map_err(BackupError::io("copy", from))?;
        self.note(name, content);
        Ok(())
    }

    fn note(&mut self, name: &str, Content { bytes, sha256 }: Content) {
        self.entries.push(Entry { path: name.to_owned(), bytes, sha256 });
    }

    fn folder(&self, name: &str) -> Result<(), BackupError> {
        let path = self.root.join(name);
        durable::create_directory(&path, PRIVATE_DIR_MODE).map(drop).map_err(BackupError::io("create", &path))
    }

    fn sync(&self, name: &str) -> Result<(), BackupError> {
        let path = self.root.join(name);
        durable::sync_directory(&path).map_err(BackupError::io("sync", &path))
    }
}

/// The place in a backup of a file of the journal, whose names are digits and dots.
fn place(path: &Path) -> String {
    format!("{JOURNAL}/{}", path.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use firmware_protocol::id::OwnerId;
    use firmware_protocol::time::UnixMillis;
    use router::event::{NewEvent, Position, Source};
    use router::journal::Record;
    use tempfile::TempDir;

    use super::*;
    use crate::data_dir::DataDir;
    use crate::journal::{CompactionOptions, Journal, Options, compact, remove_segments};
    use crate::keys::ServerKeys;
    use crate::terminators::cid_keys;

    /// A data directory whose journal has dropped its first segments, with a mark from before and one from after.
    async fn data() -> (TempDir, DataDir, [Mark; 2]) {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::lock(&directory.path().join("data")).unwrap();
        ServerKeys::open(&data).unwrap();
        Registry::open(&data.registry_file()).await.unwrap().close().await;
        generation::raise(data.path(), dates::now()).unwrap();
        cid_keys::load(&data.keys_dir(), 1, true).unwrap();
        let options = Options { segment_bytes: 500, ..Options::new(1) };
        let (mut journal, _) = Journal::open(&data.journal_dir(), options).unwrap();
        let early = journal.latest_mark().get();
        let new = NewEvent {
            owner: OwnerId(1),
            product: None,
            source: Source::Api,
            name: "count".into(),
            content_format: 0,
            data: Some(vec![b'x'; 200]),
            ttl_s: 60,
        };
        for number in 0..20 {
            let event = Arc::new(new.clone().accept(UnixMillis(number), [0; 10]));
            journal.commit(&[Record::Event { floor: None, event }]).unwrap();
        }
        let options = CompactionOptions { forget_retired_before: UnixMillis(0) };
        let covered = compact(&data.journal_dir(), &journal.segments().sealed(), options).unwrap().unwrap();
        remove_segments(&data.journal_dir(), &journal.segments().release(&covered, Position(10))).unwrap();
        let late = journal.latest_mark().get();
        (directory, data, [early, late])
    }

    fn names(directory: &TempDir) -> Vec<String> {
        let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "data").collect()
    }

    #[tokio::test]
    async fn what_was_dropped_while_it_was_copied_is_copied_up_to_a_newer_mark() {
        let (directory, data, [early, late]) = data().await;
        let mut marks = [early, late].into_iter();
        let to = directory.path().join("backup");
        let manifest = make(data.path(), &to, || Ok(marks.next())).await.unwrap();
        assert_eq!(manifest.journal.unwrap().next_position, late.next.0);
        assert_eq!(Manifest::read(&to).unwrap(), manifest);
        let (_, recovered) = Journal::open(&to.join(JOURNAL), Options::new(2)).unwrap();
        assert_eq!(recovered.next_position, Position(21));
    }

    #[tokio::test]
    async fn firmware_is_in_a_backup_and_in_what_is_restored_from_it() {
        let (directory, data, [_, late]) = data().await;
        let (folder, name) = (data.path().join(FIRMWARE), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), "abc").unwrap();
        fs::write(folder.join("half.tmp"), "").unwrap();
        let (to, again) = (directory.path().join("backup"), directory.path().join("again"));
        let manifest = make(data.path(), &to, || Ok(Some(late))).await.unwrap();
        assert_eq!(manifest.format, FORMAT);
        let kept: Vec<_> = manifest.files.iter().filter(|entry| entry.path.starts_with(FIRMWARE)).collect();
        assert_eq!((kept.len(), kept[0].sha256.as_str(), kept[0].bytes), (1, name, 3));
        crate::backup::restore(&to, &again, dates::now()).unwrap();
        assert_eq!(fs::read(again.join(FIRMWARE).join(name)).unwrap(), b"abc");
    }

    #[tokio::test]
    async fn a_backup_that_cannot_be_made_leaves_nothing_behind() {
        let (directory, data, [early, late]) = data().await;
        let to = directory.path().join("backup");
        let made = make(data.path(), &to, || Ok(Some(early))).await;
        assert!(matches!(made, Err(BackupError::Restless)), "{made:?}");
        let made = make(data.path(), &to, || Err("the server is gone".to_owned())).await;
        assert!(matches!(made, Err(BackupError::NoMark(_))), "{made:?}");
        fs::remove_file(data.path().join(generation::FILE)).unwrap();
        let made = make(data.path(), &to, || Ok(Some(late))).await;
        assert!(matches!(&made, Err(BackupError::Incomplete { path }) if path.ends_with(generation::FILE)), "{made:?}");
        assert!(names(&directory).is_empty());

        fs::create_dir(to.with_extension("unfinished")).unwrap();
        let made = make(data.path(), &to, || Ok(Some(late))).await;
        assert!(matches!(made, Err(BackupError::LeftOver { .. })), "{made:?}");
        assert_eq!(names(&directory), ["backup.unfinished"], "what somebody else left is not touched");
    }
}
