//! What the alerts of `dashboards/prometheus` ask for is what a server tells.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{Server, Shell, free_tcp};
use crate::client::send_and_wait;

/// Stock is taken five seconds after the start.
const PATIENCE: Duration = Duration::from_secs(30);
const ALERTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/prometheus/alerts.yml"));

#[test]
fn every_metric_that_an_alert_asks_for_is_told_before_anything_happens() {
    let admin = free_tcp();
    let shell = Shell::new();
    let server = Server::start_with(&shell, |command| {
        command.env("HOLDFAST_ADMIN_LISTEN", admin.to_string());
    });
    let words = ALERTS.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("holdfast_")).collect();
    assert!(asked.len() > 10, "{asked:?}");
    let begun = Instant::now();
    loop {
        let text = send_and_wait(admin.port(), "GET /metrics HTTP/1.1", "").text();
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
