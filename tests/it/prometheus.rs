//! A real Prometheus, with the files that are shipped, beside a server: it reads them, finds the server up, and answers every question of every dashboard.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::alerts::{dashboards, grafana, is_installed, markers, queries};
use crate::cli::{Server, Shell, free_tcp};
use crate::client::send_and_wait;

/// A rate takes two scrapes, which are three seconds apart, and recorded ones are made every half minute.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where the shipped files take the server to be, and Alertmanager.
const ADMIN: &str = "127.0.0.1:8081";
const ALERTMANAGER: &str = "127.0.0.1:9093";

/// Prometheus as a process.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    /// One that scrapes the server whose admin port is at `admin`.
    fn start(admin: SocketAddr) -> Self {
        let (directory, address) = (tempfile::tempdir().unwrap(), free_tcp());
        for name in ["prometheus.yml", "rules.yml", "alerts.yml"] {
            let text = fs::read_to_string(dashboards("prometheus").join(name)).unwrap();
            let text = text.replace(ADMIN, &admin.to_string()).replace(ALERTMANAGER, &free_tcp().to_string());
            fs::write(directory.path().join(name), text).unwrap();
        }
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(directory.path().join("prometheus.yml"));
        command.arg("--storage.tsdb.path").arg(directory.path().join("data")).args(["--web.listen-address", &address.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let prometheus = Self { child, address, _directory: directory };
        let begun = Instant::now();
        while !prometheus.is_ready() {
            assert!(begun.elapsed() < PATIENCE, "Prometheus does not start");
            thread::sleep(Duration::from_millis(50));
        }
        prometheus
    }

    /// It listens before it answers.
    fn is_ready(&self) -> bool {
        let listens = TcpStream::connect(self.address).is_ok();
        listens && send_and_wait(self.address.port(), "GET /-/ready HTTP/1.1", "").status == 200
    }

    /// What comes of a question.
    fn ask(&self, query: &str) -> Json {
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let head =
            format!("POST /api/v1/query HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}", form.len());
        serde_json::from_str(&send_and_wait(self.address.port(), &head, &form).text()).unwrap()
    }

    /// Asks until there is something to see; what was yesterday, nobody has seen.
    fn sees(&self, query: &str) -> Result<(), Json> {
        let begun = Instant::now();
        loop {
            let answer = self.ask(query);
            let results = answer["data"]["result"].as_array().map_or(0, Vec::len);
            match answer["status"].as_str() {
                Some("success") if results > 0 || query.contains(" offset ") => return Ok(()),
                Some("success") if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(250)),
                _ => return Err(answer),
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_question_of_a_dashboard_is_answered() {
    if !is_installed("prometheus") {
        return;
    }
    let (shell, admin) = (Shell::new(), free_tcp());
    let server = Server::start_with(&shell, |command| {
        command.env("HOLDFAST_ADMIN_LISTEN", admin.to_string());
    });
    let prometheus = Prometheus::start(admin);
    prometheus.sees("up{job=\"holdfast\"} == 1").unwrap();
    for (name, board) in grafana() {
        let all = queries(&board);
        assert!(!all.is_empty(), "{name}");
        all.iter().for_each(|query| prometheus.sees(query).unwrap_or_else(|answer| panic!("{name}: {query}: {answer}")));
        for query in markers(&board) {
            let answer = prometheus.ask(&query);
            assert_eq!(answer["status"], "success", "{name}: {query}: {answer}");
        }
    }
    let alerts = prometheus.ask("ALERTS{alertstate=\"firing\",alertname!~\"HoldfastWatchdog|HoldfastDiskNearlyFull\"}");
    assert_eq!(alerts["data"]["result"], serde_json::json!([]), "a server that is well raises nothing, if the machine has room");
    server.stop();
}
