//! The house style as a test: what a reader relies on without being told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each crate of ours may depend on of ours: data flows one way.
const MAY_DEPEND_ON: [(&str, &[&str]); 5] = [
    ("firmware-protocol", &[]),
    ("holdfast-router", &["firmware-protocol"]),
    ("holdfast-load", &["firmware-protocol", "router", "webhooks"]),
    ("holdfast-webhooks", &["firmware-protocol", "router"]),
    ("holdfast", &["firmware-protocol", "router", "webhooks"]),
];

/// What has no place in the crates that decide.
const SANS_IO: [(&str, &[&str]); 2] = [
    ("firmware-protocol", &["tokio", "nix", "socket2", "quinn-udp", "rand", "mio"]),
    ("router", &["tokio", "nix", "socket2", "quinn-udp", "rand", "mio", "openssl"]),
];

/// Folders of the repository: what stands in back quotes and begins with one of them is a path.
const FOLDERS: [&str; 10] = ["docs", "firmware-protocol", "fuzz", "loadtest", "router", "scripts", "src", "testdata", "tests", "webhooks"];
/// Folders that a document may name although they are made by tools.
const MADE: [&str; 2] = ["fuzz/artifacts", "fuzz/corpus"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn find(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            find(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Every file whose name ends so, with its text.
fn files(ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    find(&root(), ending, &mut found);
    found.into_iter().map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    files(".rs")
}

fn manifest(folder: &str) -> toml::Table {
    fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap().parse().unwrap()
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    manifest.get("dependencies").and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn crates_depend_on_each_other_only_as_the_architecture_says() {
    let ours: BTreeSet<&str> = ["firmware-protocol", "router", "webhooks", "holdfast-load", "loadtest", "holdfast"].into();
    for folder in [".", "firmware-protocol", "router", "webhooks", "loadtest"] {
        let manifest = manifest(folder);
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.into();
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no line in MAY_DEPEND_ON"));
        for dependency in dependencies(&manifest).iter().filter(|dependency| ours.contains(dependency.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_deciding_crates_know_no_runtime_and_no_sockets() {
    for (folder, banned) in SANS_IO {
        let found = dependencies(&manifest(folder));
        for name in banned {
            assert!(!found.contains(*name), "{folder} must not depend on {name}");
        }
        let clippy = fs::read_to_string(root().join(folder).join("clippy.toml")).unwrap();
        assert!(clippy.contains("std::time::Instant::now"), "{folder} has no clippy.toml that bans clocks");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        let tests = path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        assert!(tests || text.starts_with("//!") || text.starts_with("#!["), "{} has no header", path.display());
    }
}

#[test]
fn nothing_is_left_unfinished() {
    // Spelled apart, so that this file does not find itself.
    let marks =
        [["to", "do!("].concat(), ["unimpl", "emented!("].concat(), ["FIX", "ME"].concat(), ["TO", "DO"].concat(), ["XX", "X"].concat()];
    for (path, text) in sources() {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} has a {mark}", path.display());
        }
    }
}

#[test]
fn files_end_with_a_newline_and_have_no_trailing_blanks() {
    for (path, text) in sources() {
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{}", path.display());
        assert!(text.lines().all(|line| line == line.trim_end()), "{} has trailing blanks", path.display());
    }
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let words = ["unsafe", " {"].concat();
    for (path, text) in sources() {
        assert!(!text.contains(&words) || path.ends_with("src/allocator.rs"), "{} has unsafe code", path.display());
    }
}

/// What is linked, without the part after `#`. Addresses elsewhere are left out.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.split('#').next().unwrap_or_default()).filter(|target| !target.is_empty() && !target.contains(':'))
}

/// Paths from the top of the repository in back quotes. Fences are back quotes too: their blocks hold blanks, which no path has.
fn quoted_paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let plain = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let ours = |name: &&str| name.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder));
    quoted.filter(plain).filter(ours).filter(|name| !MADE.iter().any(|made| name.starts_with(made)))
}

#[test]
fn documents_name_files_that_exist() {
    for (path, text) in files(".md") {
        let folder = root().join(path.parent().unwrap());
        for target in links(&text) {
            assert!(folder.join(target).exists(), "{} links {target}, which is not there", path.display());
        }
        for name in quoted_paths(&text) {
            assert!(root().join(name).exists(), "{} names {name}, which is not there", path.display());
        }
    }
}

#[test]
fn links_and_paths_are_found_in_documents() {
    let text =
        "See [a](b/c.md#d), [e](https://f.g/h), [i](#j).\n```text\nsrc/no.rs here\n```\n`src/lib.rs`, `x/y`, `fuzz/corpus/`, `tests/`.";
    assert_eq!(links(text).collect::<Vec<_>>(), ["b/c.md"]);
    assert_eq!(quoted_paths(text).collect::<Vec<_>>(), ["src/lib.rs", "tests/"]);
}
