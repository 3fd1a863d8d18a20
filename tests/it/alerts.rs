//! What rules and dashboards ask for is what a server tells, and every alert has what it takes: a runbook, a dashboard, and tests that show it firing and
//! quiet. Whether rules fire as they should is tested by `promtool test rules`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::cli::{Server, Shell, free_tcp};
use crate::client::send_and_wait;

/// Stock is taken five seconds after the start.
const PATIENCE: Duration = Duration::from_secs(30);
const SEVERITIES: [&str; 4] = ["critical", "warning", "info", "none"];

/// A file or folder of `dashboards/`.
pub(crate) fn dashboards(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(name)
}

fn prometheus(name: &str) -> String {
    fs::read_to_string(dashboards("prometheus").join(name)).unwrap()
}

/// Every dashboard for Grafana, by its file's name.
pub(crate) fn grafana() -> BTreeMap<String, Json> {
    let files = fs::read_dir(dashboards("grafana")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (name_of(&path), serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Whether a program is installed. Tests that need one say so and do nothing without it; `scripts/test alerts` installs it.
pub(crate) fn is_installed(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_there {
        eprintln!("skipped: {program} is not installed");
    }
    is_there
}

/// Texts of one alert, by what they are.
type Alert = BTreeMap<String, String>;

/// All alerts: what stands behind each key of a rule, however deep.
fn alerts() -> Vec<Alert> {
    let text = prometheus("alerts.yml");
    let rules = text.split("- alert: ").skip(1).map(|rule| rule.split("\n  - name: ").next().unwrap_or_default());
    let pair = |line: &str| line.trim().split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    rules.map(|rule| format!("alert: {rule}").lines().filter_map(pair).collect()).collect()
}

/// The names of metrics in a text, and those that rules record.
fn names(text: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'));
    let words = words.map(|word| word.trim_end_matches(':'));
    let ours = words.filter(|word| word.contains("holdfast_") && word.starts_with(|letter: char| letter.is_ascii_lowercase()));
    ours.partition(|word| word.starts_with("holdfast_"))
}

/// Starts a server and asks it for its metrics, until `enough` says that it heard what it wanted.
fn serve(shell: &Shell, enough: impl Fn(&str) -> bool) -> (Server, String) {
    let admin = free_tcp();
    let server = Server::start_with(shell, |command| {
        command.env("HOLDFAST_ADMIN_LISTEN", admin.to_string());
    });
    let begun = Instant::now();
    loop {
        let text = send_and_wait(admin.port(), "GET /metrics HTTP/1.1", "").text();
        if enough(&text) || begun.elapsed() > PATIENCE {
            return (server, text);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// What a new server tells.
fn scrape(enough: impl Fn(&str) -> bool) -> String {
    let (server, text) = serve(&Shell::new(), enough);
    server.stop();
    text
}

fn told(scrape: &str) -> BTreeSet<&str> {
    scrape.lines().filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[test]
fn every_metric_that_rules_and_dashboards_ask_for_is_told_before_anything_happens() {
    let (rules, alerts) = (prometheus("rules.yml"), prometheus("alerts.yml"));
    let pages: Vec<String> = grafana().values().map(Json::to_string).collect();
    let texts: Vec<&str> = [&rules, &alerts].into_iter().chain(&pages).map(String::as_str).collect();
    let asked: BTreeSet<&str> = texts.iter().flat_map(|text| names(text).0).collect();
    assert!(asked.len() > 30, "{asked:?}");
    let text = scrape(|text| asked.is_subset(&told(text)));
    let missing: Vec<_> = asked.difference(&told(&text)).copied().collect();
    assert!(missing.is_empty(), "{missing:?}");

    let recorded: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let wanted: BTreeSet<&str> = texts.iter().flat_map(|text| names(text).1).collect();
    let unknown: Vec<_> = wanted.difference(&recorded).collect();
    assert!(unknown.is_empty(), "no rule records {unknown:?}");
}

#[test]
fn every_alert_says_what_is_wrong_and_where_to_look() {
    let boards: BTreeSet<String> = grafana().values().map(|board| format!("/d/{}", board["uid"].as_str().unwrap())).collect();
    for alert in alerts() {
        let name = &alert["alert"];
        let severity = alert["labels"].trim_matches(['{', '}']).strip_prefix("severity: ").unwrap();
        assert!(SEVERITIES.contains(&severity), "{name}: {severity}");
        assert!(alert["summary"].ends_with('.') && !alert["summary"].contains("{{"), "{name}: the summary is the same for all");
        assert!(alert["description"].contains("{{") || severity == "none", "{name}: the description names what it is about");
        let runbook = format!("docs/runbooks/{name}.md");
        assert!(alert["runbook_url"] == runbook && Path::new(env!("CARGO_MANIFEST_DIR")).join(&runbook).is_file(), "{name}");
        assert!(boards.contains(&alert["dashboard_url"]), "{name}: {}", alert["dashboard_url"]);
    }
}

#[test]
fn every_alert_is_tested_firing_and_quiet() {
    let tests = prometheus("tests.yml");
    for alert in alerts() {
        let name = &alert["alert"];
        let checks: Vec<_> = tests.split(&format!("alertname: {name}\n")).skip(1).map(str::trim_start).collect();
        assert!(checks.iter().any(|check| check.starts_with("exp_alerts:\n")), "{name} is never seen firing");
        let is_always_on = alert["labels"].contains("none");
        assert!(is_always_on || checks.iter().any(|check| check.starts_with("exp_alerts: []")), "{name} is never seen quiet");
    }
}

#[test]
fn what_a_server_tells_is_what_prometheus_expects() {
    if !is_installed("promtool") {
        return;
    }
    let text = scrape(|text| text.contains("\nholdfast_sink_imbalance_messages"));
    let mut command = Command::new("promtool");
    let mut checker =
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    checker.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = checker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_server_knows_whether_the_one_before_it_was_told_to_end() {
    let shell = Shell::new();
    let expects = |after_crash: u8| {
        // Its socket comes last: before, it has not begun.
        let (server, text) = serve(&shell, |_| shell.path().join("data/control.sock").exists());
        assert!(text.contains(&format!("\nholdfast_started_after_crash {after_crash}\n")), "{text}");
        server
    };
    // Whoever is dropped is killed.
    drop(expects(0));
    expects(1).stop();
    expects(0).stop();
}

/// Everything that a dashboard asks, with what Grafana would put in.
pub(crate) fn queries(board: &Json) -> Vec<String> {
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets.map(|target| filled_in(target["expr"].as_str().unwrap())).collect()
}

/// The same of its markers.
pub(crate) fn markers(board: &Json) -> Vec<String> {
    let markers = board["annotations"]["list"].as_array().unwrap().iter();
    markers.filter_map(|marker| marker["expr"].as_str().map(filled_in)).collect()
}

fn filled_in(query: &str) -> String {
    query.replace("$instance", ".*").replace("$__rate_interval", "1m")
}

#[test]
fn names_of_metrics_are_told_from_those_of_recorded_ones() {
    let text = "sum by (instance) (holdfast_sessions{a=\"b\"}) > instance:holdfast_calls_ok:ratio_rate5m and up == 1";
    let (metrics, recorded) = names(text);
    assert_eq!((metrics, recorded), (["holdfast_sessions"].into(), ["instance:holdfast_calls_ok:ratio_rate5m"].into()));
}
