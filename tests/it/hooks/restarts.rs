//! Deliveries outlive the server: nothing is lost, and nothing is made twice but what was under way when it ended.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::receiver::{PATIENCE, Received, Receiver, Reply};
use super::world::{EMAIL, World};
use crate::cli::{Server, Shell, free_udp};
use crate::client::send;
use crate::device_driver::Driver;
use crate::drive::Drive;

/// Events in each life of the server.
const EVENTS: usize = 20;

/// A server as a process, a device on it, and a receiver that outlives it.
struct Lives {
    shell: Shell,
    server: Option<Server>,
    receiver: Receiver,
    device: Driver,
    udp: SocketAddr,
    token: String,
}

impl Lives {
    async fn begin() -> Self {
        let shell = Shell::new();
        shell.add_user(EMAIL);
        shell.add_device(1, 1, EMAIL);
        let (udp, token) = (free_udp(), shell.text(&["token", "create"]).trim().to_owned());
        let (device, receiver) = (Driver::new(1, udp, shell.server_key()), Receiver::http().await);
        receiver.answers("/in", [Reply::ok("answer").after(Duration::from_millis(30))]);
        let mut lives = Self { shell, server: None, receiver, device, udp, token };
        lives.serve();
        lives.device.connect();
        lives
    }

    fn serve(&mut self) {
        let udp = self.udp.to_string();
        self.server = Some(Server::start_with(&self.shell, |command| {
            command.env("HOLDFAST_UDP_LISTEN", udp).env("HOLDFAST_LOG_FILTER", "info").env("HOLDFAST_WEBHOOKS_ALLOW", "127.0.0.0/8");
            command.env("HOLDFAST_LIMITS_DEVICE_EVENTS_PER_S", "unlimited");
        }));
    }

    async fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        let (body, port) = (body.to_string(), self.server.as_ref().unwrap().port);
        let head = format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Type: application/json", self.token);
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let answer = send(address, &format!("{head}\r\nContent-Length: {}", body.len()), body.as_bytes()).await;
        assert!(answer.status < 300, "{path}: {}", answer.text());
        answer.json()
    }

    async fn hook(&self, fields: Json) -> String {
        let made = self.ask("POST", "/v1/integrations", &fields).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// The device publishes the events of one life of the server, each when the one before was accepted: those that are sent again may overtake others.
    fn publish(&mut self, life: usize) {
        for number in life * EVENTS..(life + 1) * EVENTS {
            let publish = self.device.publish("tide", number.to_string().as_bytes());
            self.device.run_until(PATIENCE, |device| device.published(publish));
        }
    }

    /// Waits until the last event of so many lives has come.
    async fn until_last(&self, lives: usize) -> Vec<Received> {
        let last = json!((lives * EVENTS - 1).to_string());
        let end = std::time::Instant::now() + PATIENCE * 2;
        loop {
            let all = self.receiver.all("/in");
            if all.iter().any(|received| received.form()["data"] == last) {
                return all;
            }
            assert!(std::time::Instant::now() < end, "{} came", all.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The events by their numbers, in the order in which they came first, each with the names under which it came.
fn by_number(all: &[Received]) -> (Vec<usize>, BTreeMap<usize, Vec<String>>) {
    let (mut order, mut names) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    for received in all {
        let number = received.form()["data"].as_str().unwrap().parse().unwrap();
        if !names.contains_key(&number) {
            order.push(number);
        }
        names.entry(number).or_default().push(received.header("webhook-id").unwrap().to_owned());
    }
    (order, names)
}

/// All came, in order, and no more often again than so many times, under the same names.
fn check(all: &[Received], events: usize, repeats_max: usize) {
    let (order, names) = by_number(all);
    assert_eq!(order, (0..events).collect::<Vec<_>>());
    let repeated: Vec<_> = names.iter().filter(|(_, names)| names.len() > 1).collect();
    assert!(all.len() - events <= repeats_max, "{} came again: {repeated:?}", all.len() - events);
    for (number, names) in names {
        assert!(names.iter().all(|name| *name == names[0]), "{number}: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_only_what_is_under_way_is_repeated_over_kills() {
    let mut lives = Lives::begin().await;
    lives.hook(json!({ "event": "tide", "url": lives.receiver.url("/in") })).await;
    const KILLS: usize = 5;
    for life in 0..KILLS {
        lives.publish(life);
        drop(lives.server.take());
        lives.serve();
    }
    lives.publish(KILLS);
    let all = lives.until_last(KILLS + 1).await;
    check(&all, (KILLS + 1) * EVENTS, KILLS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_restart_loses_and_repeats_nothing() {
    let mut lives = Lives::begin().await;
    lives.hook(json!({ "event": "tide", "url": lives.receiver.url("/in") })).await;
    for life in 0..3 {
        lives.publish(life);
        lives.server.take().unwrap().stop();
        lives.serve();
    }
    lives.publish(3);
    let all = lives.until_last(4).await;
    check(&all, 4 * EVENTS, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_next_attempt_is_made_after_a_kill_as_the_attempt_that_it_is() {
    let mut lives = Lives::begin().await;
    lives.receiver.answers("/in", [Reply::status(500), Reply::status(200)]);
    lives.hook(json!({ "event": "tide", "url": lives.receiver.url("/in") })).await;
    let publish = lives.device.publish("tide", b"0");
    lives.device.run_until(PATIENCE, |device| device.published(publish));
    lives.receiver.until("/in", 1).await;
    // The failure is stored by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(lives.server.take());
    lives.serve();
    let all = lives.receiver.until("/in", 2).await;
    let told: Vec<_> = all.iter().map(|received| (received.header("webhook-id"), received.header("webhook-attempt"))).collect();
    assert_eq!(told, [(told[0].0, Some("1")), (told[0].0, Some("2"))]);
    let waited = all[1].at.duration_since(all[0].at).as_secs_f32();
    assert!((3.9..12.0).contains(&waited), "{waited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_stops_no_delivery() {
    let world = World::start().await;
    world.hook(json!({})).await;
    let mut device = world.device(1).await;
    let publish = |device: &mut Driver, data: &str| {
        let publish = device.publish("tide", data.as_bytes());
        device.run_until(PATIENCE, |device| device.published(publish));
    };
    publish(&mut device, "before");
    world.receiver.next("/in").await;
    let file = world.directory.path().join("data").join("registry.db");
    let mut other: SqliteConnection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    for number in 0..5 {
        publish(&mut device, &number.to_string());
        let received = world.receiver.next("/in").await;
        assert_eq!((&received.form()["data"], received.header("webhook-signature").is_some()), (&json!(number.to_string()), true));
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    publish(&mut device, "after");
    assert_eq!(world.receiver.next("/in").await.form()["data"], "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_frozen_for_a_while_goes_on() {
    let mut lives = Lives::begin().await;
    lives.hook(json!({ "event": "tide", "url": lives.receiver.url("/in") })).await;
    lives.publish(0);
    lives.server.as_ref().unwrap().signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(2)).await;
    lives.server.as_ref().unwrap().signal(Signal::SIGCONT);
    lives.publish(1);
    check(&lives.until_last(2).await, 2 * EVENTS, 0);
}
