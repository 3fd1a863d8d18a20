//! A few seconds of mutated real input for every target, without instrumentation: finds what is easy to find, on any machine.
//!
//! `HOLDFAST_FUZZ_SECONDS` says how long each target runs (default 2). Real campaigns: docs/fuzzing.md.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use firmware_protocol::entropy::SeededEntropy;

fn vectors() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-protocol/testdata/vectors.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn hex_of(list: &serde_json::Value) -> Vec<Vec<u8>> {
    list.as_array().unwrap().iter().map(|entry| hex::decode(entry["hex"].as_str().unwrap()).unwrap()).collect()
}

fn datagrams() -> Vec<Vec<u8>> {
    hex_of(&vectors()["dtls"]["datagrams"])
}

fn messages() -> Vec<Vec<u8>> {
    hex_of(&vectors()["coap_udp_session"])
}

fn journal_files(ending: &str) -> Vec<Vec<u8>> {
    let directories = ["v1", "v2"].map(|version| Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/journal").join(version));
    let files = directories.iter().flat_map(|directory| fs::read_dir(directory).unwrap()).map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(ending)).map(|path| fs::read(path).unwrap()).collect()
}

fn below(entropy: &mut SeededEntropy, bound: usize) -> usize {
    usize::try_from(entropy.below(bound.max(1) as u64)).unwrap()
}

/// One seed, changed a little or cut and joined with another.
fn mutate(entropy: &mut SeededEntropy, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[below(entropy, seeds.len())].clone();
    for _ in 0..=below(entropy, 4) {
        let at = below(entropy, bytes.len());
        match entropy.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << entropy.below(8),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(entropy.below(256)).unwrap(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, u8::try_from(entropy.below(256)).unwrap()),
            4 => {
                let other = &seeds[below(entropy, seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[below(entropy, other.len())..]);
            }
            _ if !bytes.is_empty() => _ = bytes.remove(at),
            _ => {}
        }
    }
    bytes
}

fn run(target: fn(&[u8]), mut seeds: Vec<Vec<u8>>) {
    seeds.push(Vec::new());
    seeds.iter().for_each(|seed| target(seed));
    let seconds = std::env::var("HOLDFAST_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let (end, mut entropy) = (Instant::now() + Duration::from_secs(seconds), SeededEntropy::new(7));
    while Instant::now() < end {
        let input = mutate(&mut entropy, &seeds);
        target(&input);
    }
}

#[test]
fn demux() {
    run(holdfast_fuzz::demux, datagrams());
}

#[test]
fn hello() {
    run(holdfast_fuzz::hello, datagrams());
}

#[test]
fn flight() {
    run(holdfast_fuzz::flight, datagrams());
}

#[test]
fn record() {
    run(holdfast_fuzz::record, datagrams());
}

#[test]
fn stream() {
    let steps = |message: Vec<u8>| [&[20], &message[..], &[0xfe, 0xfe, 1, 40, 0xfe, 0xfe, 2, b'f', 0xfe, 0xfe, 0, 0, 16]].concat();
    run(holdfast_fuzz::stream, messages().into_iter().map(steps).collect());
}

#[test]
fn session() {
    let scripts = messages().into_iter().map(|message| [&[0], &message[..], &[0xfe, 20, 0xfe, 30, 0xfe, 23, 0xfe]].concat());
    run(holdfast_fuzz::session, scripts.collect());
}

#[test]
fn coap() {
    run(holdfast_fuzz::coap, messages());
}

#[test]
fn payloads() {
    let texts = [&b"\x02{\"f\":[\"fn\"],\"v\":{\"t\":9}}"[..], b"\x01\x05\x06\x90\x1c", b"\x03\x00\x00\x00\x00\x00\x00\xf8\x3f"];
    let hello = hex::decode("00ffffffff0076000d000ce00fce68010203040506070818380480001800000200").unwrap();
    run(holdfast_fuzz::payloads, texts.iter().map(|text| text.to_vec()).chain([hello]).collect());
}

#[test]
fn vitals() {
    let page = "00040002000400060018000000080004000000140000000000150000000019809cffffff1f000200000021809cffffff018001000000";
    run(holdfast_fuzz::vitals, vec![hex::decode(page).unwrap()]);
}

#[test]
fn modules() {
    let describe = "0a19080218bd092880808005351e0000003d1e00000058848080050a10080510011806351e0000003d1e0000004a02080112021234";
    let older = br#"{"p":6,"m":[{"s":1,"l":"m","f":"u","n":"1","v":6,"d":[{"f":"s","n":"2","v":1512}]}]}"#;
    run(holdfast_fuzz::modules, vec![hex::decode(describe).unwrap(), older.to_vec()]);
}

#[test]
fn template() {
    let pairs = [
        ("{{#results}}{{{lat}}}, {{/results}}{{^none}}-{{/none}}", r#"{"results":[{"lat":52.5},{"lat":"<"},null]}"#),
        ("{{=<% %>=}}\n <%! comment %> \n<%& a.b.0 %><%a.b.length%>{{x}}", r#"{"a":{"b":["é",true]}}"#),
        ("{{#l}}{{#l}}{{#l}}{{.}}{{/l}}{{/l}}{{/l}}{{>partial}}", r#"{"l":[1,2,3,4,5,6,7,8,9,1e21]}"#),
    ];
    run(holdfast_fuzz::template, pairs.iter().map(|(template, view)| format!("{template}\0{view}").into_bytes()).collect());
}

#[test]
fn journal_segment() {
    run(holdfast_fuzz::journal_segment, journal_files(".segment"));
}

#[test]
fn journal_snapshot() {
    run(holdfast_fuzz::journal_snapshot, journal_files(".snapshot"));
}
