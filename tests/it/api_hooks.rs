//! What owners of hooks and operators see and do, through a whole server and against a receiver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use webhooks::sign::{Signed, SigningKey, verify};

use crate::cli::{Server, Shell};
use crate::client::{Answer, send_and_wait};

const EMAIL: &str = "dev@example.com";
const OTHER: &str = "other@example.com";
const DEVICE: &str = "e00fce68aabbccddeeff0011";
const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "whsec_a2VscC1rZWxwLWtlbHAta2VscC1rZWxwLWtlbHA=";

/// A request, as it came.
#[derive(Clone, Debug)]
struct Got {
    head: Vec<String>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let value =
            |line: &'_ str| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.len());
        self.head.iter().find_map(|line| value(line).map(|len| &line[line.len() - len..]))
    }

    fn verify(&self, key: &SigningKey) -> bool {
        let [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| self.header(name).unwrap());
        let now_s = timestamp.parse().unwrap();
        verify(&[key.verifying().unwrap()], Signed { id, timestamp, signatures }, self.body.as_bytes(), now_s).is_ok()
    }
}

/// Takes requests, and answers them all with the status that a test sets.
struct Receiver {
    port: u16,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, status, got) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU16::new(200)), Arc::default());
        let receiver = Self { port, status: Arc::clone(&status), got: Arc::clone(&got) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (status, got) = (Arc::clone(&status), Arc::clone(&got));
                thread::spawn(move || drop(take(stream, &status, &got)));
            }
        });
        receiver
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/in", self.port)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn last(&self) -> Got {
        self.got().pop().expect("a request")
    }
}

fn take(stream: TcpStream, status: &AtomicU16, got: &Mutex<Vec<Got>>) -> std::io::Result<()> {
    let (mut reader, mut head) = (BufReader::new(stream.try_clone()?), Vec::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut request = Got { head, body: String::new() };
    let len = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    reader.take(len).read_to_string(&mut request.body)?;
    got.lock().unwrap().push(request);
    let answer = format!("HTTP/1.1 {} Kelp\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell", status.load(Ordering::SeqCst));
    (&stream).write_all(answer.as_bytes())
}

/// A server that may send to this machine, with two accounts.
struct World {
    shell: Shell,
    server: Server,
    receiver: Receiver,
    token: String,
    other: String,
}

impl World {
    fn new() -> Self {
        let shell = Shell::new();
        let accounts = [EMAIL, OTHER];
        accounts.iter().for_each(|email| shell.add_user(email));
        let [token, other] = accounts.map(|email| shell.text(&["token", "create", "--user", email]).trim_end().to_owned());
        let server = Server::start_with(&shell, |command| _ = command.env("HOLDFAST_WEBHOOKS_ALLOW", "127.0.0.0/8"));
        let world = Self { shell, server, receiver: Receiver::start(), token, other };
        // Hooks are carried out a moment after callers are served.
        let probe = world.create(&json!({ "event": "probe", "url": world.receiver.url() }));
        let tried = || (world.ask(&world.token, "POST", &format!("{probe}/test"), &json!({})).status == 200).then_some(());
        world.until("hooks are carried out", tried);
        world.ask(&world.token, "DELETE", &probe, &json!({}));
        world.receiver.got.lock().unwrap().clear();
        world
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &Json) -> Answer {
        let (body, kind) = (body.to_string(), "Content-Type: application/json");
        let head = format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{kind}\r\nContent-Length: {}", body.len());
        send_and_wait(self.server.port, &head, &body)
    }

    fn get(&self, path: &str) -> Json {
        let answer = self.ask(&self.token, "GET", path, &json!({}));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    fn post(&self, path: &str, body: &Json) -> Json {
        let answer = self.ask(&self.token, "POST", path, body);
        assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
        answer.json()
    }

    /// The path of a new hook.
    fn create(&self, definition: &Json) -> String {
        format!("/v1/integrations/{}", self.post("/v1/integrations", definition)["id"].as_str().unwrap())
    }

    fn publish(&self, name: &str, data: &str) {
        self.post("/v1/devices/events", &json!({ "name": name, "data": data }));
    }

    fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                Instant::now() < end,
                "not in time: {what}\n{}",
                self.shell.log().lines().filter(|line| line.contains("ERROR")).collect::<String>()
            );
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// The deliveries of a hook that a query finds, once there are so many.
    fn deliveries(&self, hook: &str, query: &str, count: usize) -> Vec<Json> {
        let found = || self.get(&format!("{hook}/deliveries?{query}"))["deliveries"].as_array().unwrap().clone();
        self.until(&format!("{count} deliveries {query}"), || Some(found()).filter(|found| found.len() == count))
    }
}

#[test]
fn an_owner_sees_how_a_hook_is_and_what_became_of_each_delivery() {
    let world = World::new();
    let hook = world.create(&json!({ "event": "tide", "url": world.receiver.url(), "rejectUnauthorized": false }));
    for (name, data) in [("tide", "2.4"), ("tide/low", "0.3"), ("tide/high", "4.1")] {
        world.publish(name, data);
    }
    let listed = world.deliveries(&hook, "state=delivered", 3);
    let names: Vec<&str> = listed.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["tide/high", "tide/low", "tide"], "the newest first");
    assert_eq!(
        (&listed[0]["attemptCount"], &listed[0]["last"], &listed[0]["replayed"]),
        (&json!(1), &json!({ "status": 200 }), &json!(false))
    );

    let whole = world.get(&format!("{hook}/deliveries/{}", listed[2]["id"].as_str().unwrap()))["delivery"].clone();
    let attempt = &whole["attempts"][0];
    assert_eq!(
        (&whole["data"], &attempt["number"], &attempt["status"], &attempt["answer"]),
        (&json!("2.4"), &json!(1), &json!(200), &json!("well"))
    );
    let got = world.receiver.got();
    let got = got.iter().find(|got| got.body.contains("data=2.4")).unwrap();
    assert_eq!((got.header("webhook-id"), attempt["request"].as_str()), (whole["webhookId"].as_str(), whole["webhookId"].as_str()));

    let shown = world.get(&hook)["integration"].clone();
    assert_eq!((&shown["state"], &shown["counts"]["accepted"], &shown["counts"]["delivered"]), (&json!("healthy"), &json!(3), &json!(3)));
    assert_eq!((&shown["counters"][0]["success"], &shown["counters"][0]["error"]), (&json!(3), &json!(0)));
    assert_eq!((shown["logs"].as_array().unwrap().len(), &shown["errors"]), (3, &json!([])));
    assert_eq!(
        (&shown["logs"][2]["event"]["name"], &shown["logs"][2]["response"]),
        (&json!("tide"), &json!({ "status": 200, "body": "well" }))
    );
    assert_eq!(shown["warnings"][0], "TLS certificates are not verified");
    assert!(shown["signing"]["publicKey"].as_str().is_some_and(|key| key.starts_with("whpk_")), "{shown}");
    let hooks = world.get("/v1/webhooks");
    assert!(hooks.as_array().unwrap().iter().all(|hook| hook["state"] == "healthy"), "{hooks}");

    for (query, count) in
        [("event=tide/", 2), ("event=ebb", 0), ("state=pending", 0), ("state=dead", 0), ("from=2100-01-01", 0), ("before=2100-01-01", 3)]
    {
        world.deliveries(&hook, query, count);
    }
    world.deliveries(&hook, &format!("device={DEVICE}"), 0);
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = world.get(&format!("{hook}/deliveries?per_page=1&cursor={cursor}"));
        seen.extend(page["deliveries"].as_array().unwrap().iter().map(|line| line["id"].clone()));
        let Some(next) = page["cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(seen, listed.iter().map(|line| line["id"].clone()).collect::<Vec<_>>());
    world.server.stop();
}

#[test]
fn a_test_sends_one_request_and_leaves_no_trace() {
    let world = World::new();
    let hook = world.create(&json!({ "event": "tide", "url": world.receiver.url(), "timeout": 5, "disabled": true }));
    let test = |body| world.post(&format!("{hook}/test"), &body);
    let passed = test(json!({ "data": "2.4" }));
    assert_eq!(
        (&passed["pass"], &passed["data"], &passed["status"], &passed["error"]),
        (&json!(true), &json!("well"), &json!(200), &Json::Null)
    );
    let got = world.receiver.last();
    assert!(got.body.contains("event=tide") && got.body.contains("data=2.4") && got.body.contains("coreid=api"), "{got:?}");
    world.receiver.answer_with(404);
    let failed = test(json!({}));
    assert_eq!((&failed["pass"], &failed["data"], &failed["error"]), (&json!(false), &json!("well"), &json!("error status 404")));

    let shell = &world.shell;
    shell.add_device(1, 1, EMAIL);
    let device = shell.json(&["device", "list"])[0]["id"].as_str().unwrap().to_owned();
    test(json!({ "device_id": device }));
    assert!(world.receiver.last().body.contains(&format!("coreid={device}")));
    let foreign = world.create(&json!({ "event": "tide", "url": "http://127.0.0.1:1/in" }));
    let refused = world.post(&format!("{foreign}/test"), &json!({}));
    assert!(refused["pass"] == false && refused["data"].is_null() && refused["error"].is_string(), "{refused}");
    let shown = world.get(&hook)["integration"].clone();
    assert_eq!((&shown["state"], &shown["counts"]["accepted"], &shown["logs"]), (&json!("disabled"), &json!(0), &json!([])));

    let id = hook.rsplit('/').next().unwrap();
    let complaint = shell.complaint(&["hook", "test", id, "--data", "2.5"]);
    assert!(complaint.contains("error status 404: well"), "{complaint}");
    world.receiver.answer_with(201);
    assert!(shell.text(&["hook", "test", id, "--data", "2.5"]).starts_with("It passes: status 201"));
    assert!(world.receiver.last().body.contains("data=2.5"));
    world.server.stop();
}

#[test]
fn what_failed_is_made_again_when_its_owner_or_an_operator_says_so() {
    let world = World::new();
    let broken = json!({ "event": "tide", "url": world.receiver.url(), "json": "{{{PARTICLE_EVENT_VALUE}}}" });
    let hook = world.create(&broken);
    let (id, shell) = (hook.rsplit('/').next().unwrap(), &world.shell);
    for data in ["ebb", "flow"] {
        world.publish("tide", data);
    }
    let dead = world.deliveries(&hook, "state=dead", 2);
    assert_eq!((&dead[0]["state"], &dead[0]["reason"]), (&json!("rejected"), &json!("unsendable")));
    let shown = world.get(&hook)["integration"].clone();
    assert_eq!((&shown["counts"]["rejected"], &shown["counts"]["deadLetters"]), (&json!({ "unsendable": 2 }), &json!(2)));
    assert!(shown["errors"].as_array().unwrap().len() == 2 && shown["errors"][0]["error"].is_string(), "{shown}");
    assert!(world.receiver.got().is_empty());

    let table = shell.text(&["hook", "deliveries", id, "--state", "dead", "--limit", "1"]);
    assert!(table.contains("rejected (unsendable)") && table.contains("there may be more: --cursor"), "{table}");
    let report = shell.text(&["hook", "show", id]);
    assert!(report.contains("2 accepted = 0 delivered + 0 pending + 0 expired + 2 rejected; 2 dead letters"), "{report}");
    let dry = shell.text(&["hook", "replay", id, "--failed-since", "1h", "--dry-run"]);
    assert_eq!(dry, "2 deliveries would be made again\n");
    assert_eq!(
        world.post(&format!("{hook}/replays"), &json!({ "from": "2020-01-01", "dry_run": true })),
        json!({ "count": 2, "atLeast": false })
    );

    let mended = json!({ "event": "tide", "url": world.receiver.url(), "body": "{{{PARTICLE_EVENT_VALUE}}}" });
    assert_eq!(world.ask(&world.token, "PUT", &hook, &mended).status, 200);
    let flow = dead[0]["id"].as_str().unwrap();
    let begun = world.ask(&world.token, "POST", &format!("{hook}/replays"), &json!({ "deliveries": [flow] }));
    assert_eq!(begun.status, 202);
    let replay = begun.json()["replay"]["id"].as_str().unwrap().to_owned();
    let done = |replay: &str| {
        let shown = world.get(&format!("{hook}/replays/{replay}"))["replay"].clone();
        Some(shown).filter(|shown| shown["state"] == "done")
    };
    let ended = world.until("the replay is done", || done(&replay));
    assert_eq!((&ended["found"], &ended["delivered"], &ended["failed"], &ended["named"]), (&json!(1), &json!(1), &json!(0), &json!(1)));
    let got = world.receiver.last();
    assert_eq!(
        (got.body.as_str(), got.header("webhook-replay"), got.header("webhook-id")),
        ("flow", Some(replay.as_str()), dead[0]["webhookId"].as_str())
    );

    let begun = shell.json(&["hook", "replay", id, "--failed-since", "1h"]);
    world.until("the rest is made again", || done(begun["id"].as_str().unwrap()));
    let bodies: Vec<String> = world.receiver.got().into_iter().map(|got| got.body).collect();
    assert_eq!(bodies, ["flow", "ebb"], "what was made again once is not made again");
    let shown = world.get(&hook)["integration"]["counts"].clone();
    assert_eq!((&shown["deadLetters"], &shown["replayed"], &shown["rejected"]["unsendable"]), (&json!(0), &json!(2), &json!(2)));
    let whole = shell.json(&["hook", "delivery", id, flow]);
    assert_eq!((&whole["replayed"], whole["attempts"].as_array().unwrap().len()), (&json!(true), 2));
    assert_eq!(world.get(&format!("{hook}/replays"))["replays"].as_array().unwrap().len(), 2);
    assert_eq!(shell.json(&["hook", "replays", id]).as_array().unwrap().len(), 2);
    assert!(shell.complaint(&["hook", "cancel", id, "99"]).contains("no such replay"));
    world.server.stop();
}

#[test]
fn nobody_sees_or_does_anything_by_way_of_a_hook_of_their_own() {
    let world = World::new();
    let mine = world.create(&json!({ "event": "tide", "url": world.receiver.url() }));
    world.publish("tide", "2.4");
    let delivery = world.deliveries(&mine, "state=delivered", 1)[0]["id"].as_str().unwrap().to_owned();
    let replay = world.post(&format!("{mine}/replays"), &json!({ "deliveries": [delivery] }))["replay"]["id"].as_str().unwrap().to_owned();
    let theirs = world.ask(&world.other, "POST", "/v1/webhooks", &json!({ "event": "tide", "url": world.receiver.url() })).json();
    let theirs = format!("/v1/webhooks/{}", theirs["id"].as_str().unwrap());
    for (method, path) in
        [("GET", format!("deliveries/{delivery}")), ("GET", format!("replays/{replay}")), ("DELETE", format!("replays/{replay}"))]
    {
        for hook in [&theirs, &mine] {
            assert_eq!(world.ask(&world.other, method, &format!("{hook}/{path}"), &json!({})).status, 404, "{method} {hook}/{path}");
        }
    }
    let lists = world.ask(&world.other, "GET", &format!("{theirs}/deliveries"), &json!({})).json();
    assert_eq!((&lists["deliveries"], &lists["cursor"]), (&json!([]), &Json::Null));
    let named = world.ask(&world.other, "POST", &format!("{theirs}/replays"), &json!({ "deliveries": [delivery], "dry_run": true }));
    assert_eq!(named.json()["count"], 0);
    assert_eq!(world.get(&format!("{mine}/replays/{replay}"))["replay"]["id"], json!(replay));
    world.server.stop();
}

#[test]
fn both_keys_sign_while_one_takes_the_place_of_the_other() {
    let world = World::new();
    let hook = world.create(&json!({ "event": "tide", "url": world.receiver.url(), "signature": "hmac" }));
    let (key, test) = (format!("{hook}/signing_key"), format!("{hook}/test"));
    let secret = || world.get(&key)["secret"].as_str().map(str::to_owned);
    let first = SigningKey::parse(&world.until("a key is made", secret)).unwrap();
    let signed = || {
        world.post(&test, &json!({}));
        world.receiver.last()
    };
    assert!(signed().verify(&first));
    world.post(&key, &json!({ "secret": SECRET }));
    let second = SigningKey::parse(SECRET).unwrap();
    let got = signed();
    assert!(got.verify(&first) && got.verify(&second));
    world.post(&key, &json!({ "overlap_s": 0 }));
    let got = signed();
    assert!(!got.verify(&first) && !got.verify(&second) && got.verify(&SigningKey::parse(&secret().unwrap()).unwrap()));
    world.server.stop();
}

#[test]
fn an_operator_lists_hooks_and_stops_one_with_and_without_a_server() {
    let world = World::new();
    let hook = world.create(&json!({ "event": "tide", "url": world.receiver.url() }));
    let (id, shell) = (hook.rsplit('/').next().unwrap(), &world.shell);
    let state = || {
        let hooks = shell.json(&["hook", "list", "--account", EMAIL]);
        hooks.as_array().unwrap().iter().find(|line| line["id"] == id).unwrap()["state"].clone()
    };
    assert_eq!(state(), "healthy");
    assert_eq!(shell.text(&["hook", "disable", id]), format!("Disabled {id}.\n"));
    world.publish("tide", "ebb");
    assert_eq!((state(), &world.get(&hook)["integration"]["counts"]["accepted"]), (json!("disabled"), &json!(0)));
    shell.text(&["hook", "enable", id]);
    world.publish("tide", "flow");
    world.deliveries(&hook, "state=delivered", 1);
    let table = shell.text(&["hook", "list"]);
    let target = world.receiver.url().trim_end_matches("/in").to_owned();
    assert!(table.contains(&target) && table.contains(EMAIL) && table.contains("Requests are not encrypted"), "{table}");
    assert_eq!(shell.json(&["hook", "list", "--account", OTHER]), json!([]));
    world.server.stop();

    assert_eq!(state(), Json::Null, "nobody knows");
    shell.text(&["hook", "disable", id]);
    assert_eq!((state(), &shell.json(&["hook", "show", id])["health"]), (json!("disabled"), &Json::Null));
    for words in [&["deliveries", id][..], &["test", id], &["replay", id, "--failed-since", "1h"]] {
        assert!(shell.complaint(&[&["hook"], words].concat()).contains("no server answers"), "{words:?}");
    }
}
