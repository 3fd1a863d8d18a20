//! A directory on a disk that can lose power: what a process did in it, and what is left of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use firmware_protocol::entropy::SeededEntropy;
use tempfile::TempDir;

/// Directories of this name are made from other files by a library that calls the kernel past the shim: a cut may leave anything of them.
const DERIVED: &str = "history";
/// The smallest piece that a disk writes whole.
const SECTOR: usize = 512;

/// What happens besides the end of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Nothing: the machine stays up, and the next process finds what this one wrote. It is durable no sooner for that.
    ProcessOnly,
    /// What was not synced is gone.
    Drop,
    /// Of what was not synced, each sector and each change of a name is there or not.
    Tear,
}

/// The library that keeps the shadow.
pub(crate) struct Shim {
    _directory: TempDir,
    library: PathBuf,
}

/// The disk.
pub(crate) struct Disk {
    root: TempDir,
}

/// A file or directory, by inode.
type Inode = u64;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    inode: Inode,
    is_dir: bool,
}

/// Names in one directory.
type Names = BTreeMap<String, Entry>;

/// The directory as the process sees it.
#[derive(Default)]
struct Tree {
    dirs: BTreeMap<Inode, Names>,
    /// One path of each file.
    files: BTreeMap<Inode, PathBuf>,
    /// Directories of which anything may be left.
    derived: Vec<PathBuf>,
}

impl Shim {
    pub(crate) fn build() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/shim.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let mut command = Command::new(compiler);
        command.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).args(["-ldl", "-lpthread"]);
        assert!(command.status().unwrap().success(), "the shim does not compile");
        Self { _directory: directory, library }
    }

    /// Lets `command` run on `disk`.
    pub(crate) fn load(&self, disk: &Disk, command: &mut Command, kill_at: Option<u64>) {
        command.env("LD_PRELOAD", &self.library);
        command.env("POWER_LIVE", disk.live()).env("POWER_SHADOW", disk.shadow());
        command.env("POWER_KILL_AT", kill_at.unwrap_or(0).to_string()).env("POWER_DELAY_US", "2000");
    }
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        let disk = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.live()).unwrap();
        disk.settle();
        disk
    }

    /// Where processes work. The name of this directory is durable, nothing in it is.
    pub(crate) fn live(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap().join("live")
    }

    fn shadow(&self) -> PathBuf {
        self.live().with_file_name("shadow")
    }

    /// A place beside the directory, empty again at each call.
    pub(crate) fn scratch(&self) -> PathBuf {
        let scratch = self.live().with_file_name("scratch");
        remove_all(&scratch);
        fs::create_dir(&scratch).unwrap();
        scratch
    }

    /// Makes of the directory what `cut` leaves of it. Nobody may work in it.
    pub(crate) fn cut(&self, cut: Cut, random: &mut SeededEntropy) {
        if cut == Cut::ProcessOnly {
            return;
        }
        let (mut tree, root) = (Tree::default(), fs::metadata(self.live()).unwrap().ino());
        self.kept_files(&mut tree);
        tree.scan(&self.live());
        let mut names: BTreeMap<Inode, Names> = tree.dirs.keys().map(|dir| (*dir, self.durable_names(*dir))).collect();
        if cut == Cut::Tear {
            apply_some_changes(&mut names, &tree.dirs, random);
        }
        for (inode, path) in &tree.files {
            let durable = read_if_there(&self.shadow().join("objects").join(inode.to_string()));
            // In place: programs may know their files by inode and birth time.
            rewrite(path, &if cut == Cut::Tear { torn(&durable, &fs::read(path).unwrap(), random) } else { durable });
        }
        let next = self.live().with_file_name("next");
        link_names(&next, root, &names, &tree.files);
        for derived in tree.derived.iter().filter(|_| cut == Cut::Tear) {
            let to = next.join(derived.strip_prefix(self.live()).unwrap());
            if to.parent().is_some_and(Path::exists) {
                copy_all(derived, &to);
                damage(&to, random);
            }
        }
        remove_all(&self.live());
        fs::rename(&next, self.live()).unwrap();
        self.settle();
    }

    /// Declares everything durable that is there.
    fn settle(&self) {
        remove_all(&self.shadow());
        for kind in ["objects", "dirs", "kept"] {
            fs::create_dir_all(self.shadow().join(kind)).unwrap();
        }
        let mut tree = Tree::default();
        tree.scan(&self.live());
        for (inode, path) in &tree.files {
            fs::copy(path, self.shadow().join("objects").join(inode.to_string())).unwrap();
        }
        for (inode, names) in &tree.dirs {
            let kind = |entry: &Entry| if entry.is_dir { 'd' } else { 'f' };
            let list: String = names.iter().map(|(name, entry)| format!("{} {} {name}\n", entry.inode, kind(entry))).collect();
            fs::write(self.shadow().join("dirs").join(inode.to_string()), list).unwrap();
        }
    }

    fn durable_names(&self, dir: Inode) -> Names {
        let list = read_if_there(&self.shadow().join("dirs").join(dir.to_string()));
        let entry = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            let (inode, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
            Some((name.to_owned(), Entry { inode: inode.parse().ok()?, is_dir: kind == "d" }))
        };
        let entries = String::from_utf8(list).unwrap();
        let entries = entries.lines().map(|line| entry(line).expect("the shim writes three parts"));
        entries.filter(|(name, entry)| !(entry.is_dir && name.starts_with(DERIVED))).collect()
    }

    fn kept_files(&self, tree: &mut Tree) {
        for kept in fs::read_dir(self.shadow().join("kept")).unwrap() {
            let kept = kept.unwrap();
            tree.files.insert(kept.metadata().unwrap().ino(), kept.path());
        }
    }
}

impl Tree {
    fn scan(&mut self, dir: &Path) {
        let mut names = Names::new();
        for found in fs::read_dir(dir).unwrap() {
            let found = found.unwrap();
            let (path, metadata) = (found.path(), found.metadata().unwrap());
            let entry = Entry { inode: metadata.ino(), is_dir: metadata.is_dir() };
            if metadata.is_dir() && found.file_name().to_string_lossy().starts_with(DERIVED) {
                self.derived.push(path);
                continue;
            } else if metadata.is_dir() {
                self.scan(&path);
            } else if metadata.is_file() {
                self.files.insert(entry.inode, path);
            } else {
                // Sockets are nothing that a disk keeps for anybody.
                continue;
            }
            names.insert(found.file_name().into_string().unwrap(), entry);
        }
        self.dirs.insert(fs::metadata(dir).unwrap().ino(), names);
    }
}

/// Lets each change of names since the last syncs have happened or not. Changes that concern the same name or file go together: a rename is seen
/// whole, as every file system has it that is in use.
fn apply_some_changes(durable: &mut BTreeMap<Inode, Names>, live: &BTreeMap<Inode, Names>, random: &mut SeededEntropy) {
    type Change = (Inode, String, Option<Entry>);
    let mut units: Vec<(BTreeSet<Inode>, Vec<Change>)> = Vec::new();
    for (dir, now) in live {
        let before = &durable[dir];
        let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != now.get(*name)) {
            let mut files: BTreeSet<Inode> = [before.get(name), now.get(name)].into_iter().flatten().map(|entry| entry.inode).collect();
            let mut changes = vec![(*dir, name.clone(), now.get(name).copied())];
            let (same, others): (Vec<_>, Vec<_>) = units.into_iter().partition(|(known, _)| !known.is_disjoint(&files));
            for (known, more) in same {
                files.extend(known);
                changes.extend(more);
            }
            units = others;
            units.push((files, changes));
        }
    }
    for (_, changes) in units {
        if random.below(2) == 0 {
            continue;
        }
        for (dir, name, entry) in changes {
            let names = durable.entry(dir).or_default();
            match entry {
                Some(entry) => names.insert(name, entry),
                None => names.remove(&name),
            };
        }
    }
}

/// Anything may be left of what is made from other files: of each file all of it, a part, something else, or nothing.
fn damage(dir: &Path, random: &mut SeededEntropy) {
    for found in fs::read_dir(dir).unwrap() {
        let (path, is_dir) = found.map(|found| (found.path(), found.file_type().unwrap().is_dir())).unwrap();
        let mut content = if is_dir { Vec::new() } else { fs::read(&path).unwrap() };
        let at = usize::try_from(random.below(content.len() as u64 + 1)).unwrap();
        match random.below(8) {
            _ if is_dir => damage(&path, random),
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::write(&path, &content[..at]).unwrap(),
            2 if at < content.len() => {
                content[at] ^= 1 << random.below(8);
                fs::write(&path, content).unwrap();
            }
            _ => {}
        }
    }
}

/// Each sector from `durable` or from `live`; a length of either, or something between.
fn torn(durable: &[u8], live: &[u8], random: &mut SeededEntropy) -> Vec<u8> {
    let (short, long) = (durable.len().min(live.len()), durable.len().max(live.len()));
    let len = match random.below(4) {
        0 => durable.len(),
        1 => short + usize::try_from(random.below(long as u64 - short as u64 + 1)).unwrap(),
        _ => live.len(),
    };
    let mut left = vec![0; len];
    for (index, sector) in left.chunks_mut(SECTOR).enumerate() {
        let from = if random.below(2) == 0 { durable } else { live };
        let content = from.get(index * SECTOR..).unwrap_or_default();
        let len = sector.len().min(content.len());
        sector[..len].copy_from_slice(&content[..len]);
    }
    left
}

fn link_names(path: &Path, dir: Inode, names: &BTreeMap<Inode, Names>, files: &BTreeMap<Inode, PathBuf>) {
    fs::create_dir(path).unwrap();
    // A directory that was emptied and removed, whose removal nobody made durable, is there again without what was in it.
    for (name, entry) in names.get(&dir).into_iter().flatten() {
        let path = path.join(name);
        match entry.is_dir {
            true => link_names(&path, entry.inode, names, files),
            false => fs::hard_link(&files[&entry.inode], path).unwrap(),
        }
    }
}

fn rewrite(path: &Path, content: &[u8]) {
    if fs::read(path).unwrap() != content {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(content.len() as u64).unwrap();
        file.write_all_at(content, 0).unwrap();
    }
}

fn read_if_there(path: &Path) -> Vec<u8> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.unwrap(),
    }
}

fn remove_all(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed.unwrap(),
    }
}

/// Copies a directory with everything in it.
pub(crate) fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_disk_keeps_what_was_synced_and_nothing_else() {
    let (disk, shim) = (Disk::new(), Shim::build());
    let mut random = SeededEntropy::new(1);
    let run = |script: &str| {
        let mut command = Command::new("perl");
        // Perl's sync method is fsync(2); a directory is synced by opening it as a file.
        let prelude = r#"use IO::Handle; use POSIX ();
            sub put { my ($name, $text) = @_; open(my $f, ">", $name) or die; print $f $text; $f->flush; return $f }
            sub dir { open(my $d, "<", $_[0]) or die; $d->sync or die }"#;
        command.args(["-e", &format!("{prelude}\n{script}")]).current_dir(disk.live());
        shim.load(&disk, &mut command, None);
        assert!(command.status().unwrap().success());
    };
    let left = || -> BTreeMap<String, String> {
        let entries = fs::read_dir(disk.live()).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())).collect()
    };
    let is = |pairs: &[(&str, &str)]| assert_eq!(left(), pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect());

    run(r#"put("both", "1")->sync; put("name only", "3"); dir("."); put("no name", "4")->sync;"#);
    disk.cut(Cut::Drop, &mut random);
    is(&[("both", "1"), ("name only", "")]);

    run(
        r#"put("both", "more")->sync; put("both", "lost"); put("new", "x")->sync; rename("new", "name only"); unlink("both"); put("third", "")"#,
    );
    disk.cut(Cut::ProcessOnly, &mut random);
    is(&[("name only", "x"), ("third", "")]);
    disk.cut(Cut::Drop, &mut random);
    is(&[("both", "more"), ("name only", "")]);

    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        run(r#"put("both", "a" x 1024)->sync; unlink("name only"); dir("."); put("both", "b" x 1024); rename("both", "other")"#);
        disk.cut(Cut::Tear, &mut random);
        let found = left();
        assert_eq!(found.len(), 1, "a rename is seen whole: {found:?}");
        let (name, content) = found.into_iter().next().unwrap();
        seen.insert((name, content.len(), content.chars().step_by(SECTOR).collect::<String>()));
        fs::write(disk.live().join("both"), "").unwrap();
        let _ = fs::remove_file(disk.live().join("other"));
        disk.settle();
    }
    for content in ["aa", "ab", "ba", "bb"] {
        for name in ["both", "other"] {
            assert!(seen.contains(&(name.into(), 1024, content.into())), "{name} {content}: {seen:?}");
        }
    }
}

#[test]
fn a_process_is_killed_at_any_step() {
    let (disk, shim) = (Disk::new(), Shim::build());
    for (kill_at, left) in (1..).zip([(false, false), (true, false), (true, false), (true, true)]) {
        let mut command = Command::new("perl");
        let script = r#"use IO::Handle; open(my $f, ">", "file") or die; $f->sync or die;"#;
        command.args(["-e", script]).current_dir(disk.live());
        shim.load(&disk, &mut command, Some(kill_at));
        assert!(!command.status().unwrap().success());
        let (named, synced) = (disk.live().join("file").exists(), fs::read_dir(disk.shadow().join("objects")).unwrap().count() == 1);
        assert_eq!((named, synced), left, "step {kill_at}");
    }
}
