//! The program itself, with and without a server beside it.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use firmware_protocol::crypto::PublicKey as ServerKey;
use nix::sys::signal::Signal;
use openssl::ec::EcKey;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::client::{Answer, send_and_wait};
use crate::device_driver;
use crate::rig::key;

const DEVICE: &str = "e00fce68aabbccddeeff0011";
const EMAIL: &str = "dev@example.com";

pub(crate) struct Shell {
    directory: TempDir,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.current_dir(self.path()).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str], input: &str) -> Output {
        let mut child = self.command(words).spawn().unwrap();
        // A program that does not want its input may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    pub(crate) fn text(&self, words: &[&str]) -> String {
        let output = self.run(words, "");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, words: &[&str]) -> Json {
        serde_json::from_str(&self.text(&[words, &["--json"]].concat())).unwrap()
    }

    pub(crate) fn complaint(&self, words: &[&str]) -> String {
        let output = self.run(words, "");
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn add_user(&self, email: &str) {
        let output = self.run(&["user", "add", email], "correct horse\n");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Registers the device with number `n`, which has the key of device `holder`, for the account with this address.
    pub(crate) fn add_device(&self, n: u8, holder: u8, owner: &str) {
        let pem = EcKey::public_key_from_der(device_driver::key(holder).public().spki()).unwrap().public_key_to_pem().unwrap();
        fs::write(self.path().join("device.pem"), pem).unwrap();
        self.text(&["device", "add", &device_driver::id(n).to_string(), "--key", "device.pem", "--owner", owner]);
    }

    /// The server's key, as devices know it.
    pub(crate) fn server_key(&self) -> ServerKey {
        self.text(&["keys", "export"]);
        ServerKey::from_spki(&fs::read(self.path().join("server_key.der")).unwrap()).unwrap()
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap()
    }

    /// Writes a new public key to a file.
    fn key_file(&self, name: &str) -> String {
        let pem = EcKey::public_key_from_der(key().spki()).unwrap().public_key_to_pem().unwrap();
        fs::write(self.path().join(name), pem).unwrap();
        name.to_owned()
    }
}

/// An address that nobody listens on.
pub(crate) fn free_udp() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A TCP address that nobody listens on.
pub(crate) fn free_tcp() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A server as a process. Dropping it kills it, with no word of warning.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(shell: &Shell) -> Self {
        Self::start_with(shell, |_| {})
    }

    /// The same with whatever else its process shall find.
    pub(crate) fn start_with(shell: &Shell, prepare: impl FnOnce(&mut Command)) -> Self {
        let port = free_tcp().port();
        let mut command = shell.command(&["serve"]);
        command.env("HOLDFAST_HTTP_LISTEN", format!("127.0.0.1:{port}")).env("HOLDFAST_ADMIN_LISTEN", "127.0.0.1:0");
        command.env("HOLDFAST_UDP_LISTEN", "127.0.0.1:0").env("HOLDFAST_TCP_LISTEN", "127.0.0.1:0").env("HOLDFAST_LOG_FILTER", "trace");
        command.stderr(fs::File::create(shell.path().join("log")).unwrap());
        prepare(&mut command);
        let child = command.spawn().unwrap();
        let begun = Instant::now();
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }

    pub(crate) fn get(&self, path: &str, token: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}"), "")
    }

    pub(crate) fn send(&self, head: &str, form: &str) -> Answer {
        let head = format!("{head}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}", form.len());
        send_and_wait(self.port, &head, form)
    }

    /// Waits until it ends by itself. Its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Waits until it ends by itself. The signal that ended it.
    pub(crate) fn killed_by(mut self) -> Option<Signal> {
        self.child.wait().unwrap().signal().map(|signal| Signal::try_from(signal).unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many of its threads have this name.
    pub(crate) fn threads(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|found| found.trim_end() == name).count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every operator does, in order; the same with and without a server.
fn walk_through(shell: &Shell) {
    shell.add_user(EMAIL);
    assert_eq!(shell.json(&["user", "list"])[0]["email"], EMAIL);
    let pem = shell.key_file("device.pub.pem");
    let add = ["device", "add", DEVICE, "--key", &pem, "--name", "kitchen", "--platform", "13"];
    assert_eq!(shell.text(&add), format!("Registered {DEVICE}.\n"));
    assert_eq!(shell.json(&add), json!({ "added": 0, "unchanged": 1 }));

    let hex = hex::encode(key().spki());
    fs::write(shell.path().join("keys.csv"), format!("device_id,public_key\n0123456789abcdef01234567,{hex}\n")).unwrap();
    assert_eq!(shell.text(&["device", "import", "keys.csv"]), "Registered 1 devices; 0 were registered already.\n");

    let table = shell.text(&["device", "list"]);
    assert!(table.lines().next().is_some_and(|line| line.contains("DEVICE") && line.contains("OWNER")), "{table}");
    assert!(table.contains(DEVICE) && table.contains("kitchen") && table.contains(EMAIL), "{table}");
    let devices = shell.json(&["device", "list", "--owner", EMAIL]);
    assert_eq!((devices.as_array().unwrap().len(), &devices[1]["platform_id"]), (2, &json!(13)));
    shell.text(&["device", "remove", "0123456789abcdef01234567"]);
    assert!(shell.complaint(&["device", "remove", "0123456789abcdef01234567"]).starts_with("error: there is no device"));

    let token = shell.text(&["token", "create", "--expires-in", "90d", "--scope", "devices:list"]);
    assert_eq!(token.trim_end().len(), 40);
    let tokens = shell.json(&["token", "list"]);
    assert_eq!((&tokens[0]["scopes"], &tokens[0]["client"]), (&json!("devices:list"), &json!("holdfast-cli")));
    shell.text(&["token", "revoke", tokens[0]["id"].as_str().unwrap()]);
    assert_eq!(shell.json(&["token", "list"]), json!([]));
}

#[test]
fn commands_work_without_a_server() {
    let shell = Shell::new();
    walk_through(&shell);
    assert!(shell.complaint(&["device", "unknown", "--open", "10m"]).contains("holdfast serve"));
}

#[test]
fn commands_work_through_a_running_server_and_take_effect_at_once() {
    let shell = Shell::new();
    let server = Server::start(&shell);
    walk_through(&shell);
    let token = shell.text(&["token", "create"]);
    let answer = server.get("/v1/devices/kitchen", token.trim_end());
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(DEVICE)));
    let id = shell.json(&["token", "list"])[0]["id"].as_str().unwrap().to_owned();
    shell.text(&["token", "revoke", &id]);
    assert_eq!(server.get("/v1/user", token.trim_end()).status, 401);
    assert!(shell.path().join("data/control.sock").exists());
    server.stop();
    assert!(!shell.path().join("data/control.sock").exists());
    assert_eq!(shell.json(&["user", "list"])[0]["email"], EMAIL, "what was done through the server is there without it");
}

#[test]
fn no_secret_is_logged_whatever_is_logged() {
    let shell = Shell::new();
    let server = Server::start(&shell);
    shell.add_user(EMAIL);
    let first = shell.text(&["token", "create"]).trim_end().to_owned();
    let form = "username=dev%40example.com&password=correct%20horse&grant_type=password";
    let login = server.send("POST /oauth/token HTTP/1.1", form).json();
    let [second, refresh] = ["access_token", "refresh_token"].map(|field| login[field].as_str().unwrap().to_owned());
    server.get("/v1/devices/nothing", &first);
    server.get(&format!("/v1/user?access_token={second}"), "wrong");
    server.send(&format!("GET /v1/nothing/{second} HTTP/1.1"), "");
    server.send("POST /v1/devices/events HTTP/1.1", &format!("access_token={second}&name=e"));
    server.send(&format!("DELETE /v1/access_tokens/{second} HTTP/1.1"), "");
    server.stop();

    let log = fs::read_to_string(shell.path().join("log")).unwrap();
    assert!(log.contains("/v1/access_tokens/{token}") && log.contains("answered"), "{log}");
    for secret in [first.as_str(), &second, &refresh, "correct horse", "correct%20horse"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn two_servers_do_not_share_a_directory() {
    let shell = Shell::new();
    let server = Server::start(&shell);
    assert!(shell.complaint(&["serve"]).contains("is in use by another Holdfast"));
    server.stop();
}

#[test]
fn the_servers_key_is_exported_with_and_without_a_server() {
    let shell = Shell::new();
    assert_eq!(shell.text(&["keys", "export"]), "Wrote server_key.der.\n");
    let der = fs::read(shell.path().join("server_key.der")).unwrap();
    assert_eq!(der.len(), 91);
    let server = Server::start(&shell);
    let pem = shell.text(&["keys", "export", "--format", "pem", "--out", "-"]);
    assert_eq!(EcKey::public_key_from_pem(pem.as_bytes()).unwrap().public_key_to_der().unwrap(), der);
    server.stop();
}

#[test]
fn a_server_without_its_key_does_not_start() {
    let shell = Shell::new();
    shell.add_user(EMAIL);
    fs::remove_dir_all(shell.path().join("data/keys")).unwrap();
    for words in [&["serve"][..], &["keys", "export"], &["user", "list"]] {
        assert!(shell.complaint(words).contains("Put the file back from a backup"), "{words:?}");
    }
}

#[test]
fn a_wrong_configuration_is_told_before_anything_happens() {
    let shell = Shell::new();
    fs::write(shell.path().join("holdfast.toml"), "[http]\nlisten = '0.0.0.0:8080'\n").unwrap();
    let complaint = shell.complaint(&["serve", "--config", "holdfast.toml"]);
    assert!(complaint.contains("http.listen") && complaint.contains("insecure_http"), "{complaint}");
    assert!(!shell.path().join("data").exists());
    assert!(shell.complaint(&["serve", "--config", "missing.toml"]).contains("missing.toml"));
}

#[test]
fn a_private_key_is_not_taken() {
    let shell = Shell::new();
    shell.add_user(EMAIL);
    let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    fs::write(shell.path().join("device.pem"), EcKey::generate(&group).unwrap().private_key_to_pem().unwrap()).unwrap();
    let complaint = shell.complaint(&["device", "add", DEVICE, "--key", "device.pem"]);
    assert!(complaint.contains("device.pem") && complaint.contains("private key"), "{complaint}");
}

#[test]
fn a_backup_is_made_with_and_without_a_server_and_restored_only_where_nothing_is() {
    let shell = Shell::new();
    assert!(shell.complaint(&["backup", "early"]).contains("there is no data directory"));
    shell.add_user(EMAIL);
    let said = shell.text(&["backup", "cold"]);
    assert!(said.contains("private keys") && said.contains("like a password"), "{said}");
    let server = Server::start(&shell);
    shell.text(&["device", "add", DEVICE, "--key", &shell.key_file("device.pem")]);
    let hot = shell.json(&["backup", "hot"]);
    assert_eq!((&hot["backup"], &hot["next_position"]), (&json!("hot"), &json!(1)));
    assert!(shell.complaint(&["backup", "hot"]).contains("hot is not empty"));
    assert!(shell.complaint(&["backup", "data/inside"]).contains("inside the data directory"));
    assert!(shell.complaint(&["restore", "hot"]).contains("is in use by another Holdfast"));
    server.stop();

    assert!(shell.complaint(&["restore", "hot"]).contains("is not empty"));
    assert!(shell.complaint(&["restore", "data", "--data-dir", "new"]).contains("is no backup"));
    let devices = |data: &str| shell.json(&["device", "list", "--data-dir", data]).as_array().unwrap().len();
    for (backup, known) in [("cold", 0), ("hot", 1)] {
        let restored = format!("from-{backup}");
        assert!(shell.text(&["restore", backup, "--data-dir", &restored]).contains("must not run any more"));
        assert_eq!(devices(&restored), known);
        for (path, mode) in [("", 0o700), ("keys", 0o700), ("journal", 0o700), ("registry.db", 0o600), ("keys/cid-keys", 0o600)] {
            let path = shell.path().join(&restored).join(path);
            assert!(!path.exists() || fs::metadata(&path).unwrap().permissions().mode() & 0o777 == mode, "{}", path.display());
        }
        let key = |data: &str| shell.run(&["keys", "export", "--out", "-", "--data-dir", data], "").stdout;
        assert_eq!(key(&restored), key("data"));
    }
    let generation = |data: &str| {
        let text = fs::read(shell.path().join(data).join("generation")).unwrap();
        serde_json::from_slice::<Json>(&text).unwrap()["generation"].as_u64().unwrap()
    };
    assert!(generation("from-hot") > generation("data") + 1_440);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_is_in_the_log_and_a_log_that_was_tampered_with_is_found() {
    let shell = Shell::new();
    shell.add_user(EMAIL);
    shell.add_device(1, 1, EMAIL);
    let token = shell.json(&["token", "create"]);
    shell.text(&["token", "revoke", token["id"].as_str().unwrap()]);
    let device = device_driver::id(1).to_string();
    shell.text(&["device", "remove", &device]);

    let acts = shell.json(&["audit", "list"]);
    let told: Vec<_> = acts.as_array().unwrap().iter().map(|act| (act["who"].as_str().unwrap(), act["act"].as_str().unwrap())).collect();
    let expected = ["device.remove", "token.revoke", "token.issue", "device.add", "user.add"].map(|act| ("operator", act));
    assert_eq!(told, expected);
    assert_eq!(acts[0]["object"], format!("device:{device}"));
    assert!(!acts.to_string().contains(token["token"].as_str().unwrap()));
    assert_eq!(shell.json(&["audit", "list", "--count", "1", "--before", "3"])[0]["number"], 2);
    assert!(shell.text(&["audit", "list"]).contains("token.issue"));
    let verdict = shell.json(&["audit", "verify"]);
    assert_eq!((&verdict["verdict"], &verdict["rows"], &verdict["last_hash"]), (&json!("whole"), &json!(5), &acts[0]["hash"]));

    let url = format!("sqlite://{}", shell.path().join("data/registry.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM audit_log WHERE number >= 4").execute(&pool).await.unwrap();
    pool.close().await;
    assert!(shell.complaint(&["audit", "verify"]).contains("from number 4 on: the end was cut off"));
}

#[test]
fn whoever_forgot_a_password_gets_another() {
    let shell = Shell::new();
    shell.add_user(EMAIL);
    let code = shell.json(&["user", "reset-password", EMAIL]);
    assert_eq!(code["code"].as_str().unwrap().len(), 40);
    assert_eq!(shell.text(&["user", "reset-password", EMAIL]).trim().len(), 40);
    let set = shell.run(&["user", "reset-password", EMAIL, "--set"], "another password\n");
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let short = shell.run(&["user", "reset-password", EMAIL, "--set"], "short\n");
    assert!(!short.status.success() && String::from_utf8_lossy(&short.stderr).contains("from 8 to 1024"));
    assert!(shell.complaint(&["user", "reset-password", "nobody@example.com"]).contains("no account"));
    let acts = shell.text(&["audit", "list"]);
    assert!(acts.contains("user.reset-code") && acts.contains("user.password"));
    assert!(!acts.contains(code["code"].as_str().unwrap()) && !acts.contains("another password"));
}
