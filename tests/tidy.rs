//! The house style as a test: what a reader relies on without being told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each crate of ours may depend on of ours: data flows one way.
const MAY_DEPEND_ON: [(&str, &[&str]); 4] = [
    ("firmware-protocol", &[]),
    ("holdfast-router", &["firmware-protocol"]),
    ("holdfast-load", &["firmware-protocol"]),
    ("holdfast", &["firmware-protocol", "router"]),
];

/// What has no place in the crates that decide.
const SANS_IO: [(&str, &[&str]); 2] = [
    ("firmware-protocol", &["tokio", "nix", "socket2", "quinn-udp", "rand", "mio"]),
    ("router", &["tokio", "nix", "socket2", "quinn-udp", "rand", "mio", "openssl"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    rust_files(&root(), &mut found);
    found.into_iter().map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
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
    for folder in [".", "firmware-protocol", "router", "loadtest"] {
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
fn unsafe_code_stands_in_no_file() {
    let words = ["unsafe", " {"].concat();
    for (path, text) in sources() {
        assert!(!text.contains(&words), "{} has unsafe code", path.display());
    }
}
