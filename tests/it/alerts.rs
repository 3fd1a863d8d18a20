//! What the alerts of `dashboards/prometheus` ask for is what a server tells.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{Server, Shell};

/// Stock is taken five seconds after the start.
const PATIENCE: Duration = Duration::from_secs(30);
const ALERTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/prometheus/alerts.yml"));

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn every_metric_that_an_alert_asks_for_is_told_before_anything_happens() {
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let shell = Shell::new();
    let server = Server::start_with(&shell, |command| {
        command.env("HOLDFAST_ADMIN_LISTEN", admin.to_string());
    });
    let words = ALERTS.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("holdfast_")).collect();
    assert!(asked.len() > 10, "{asked:?}");
    let begun = Instant::now();
    loop {
        let text = scrape(admin.port());
        let told: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let missing: Vec<_> = asked.difference(&told).collect();
        if missing.is_empty() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{missing:?}");
        thread::sleep(Duration::from_millis(100));
    }
    server.stop();
}
