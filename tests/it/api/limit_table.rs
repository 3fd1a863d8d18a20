//! Every limit of the API at every value that is special: not set, 0, 1, at, over, unlimited and the largest. What "not set" means is said in one place,
//! the configuration's defaults; whoever refuses knows a number or none.

use std::time::{Duration, Instant};

use holdfast::api::{Class, Settings};
use holdfast::config::{Config, Limit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Answer, send};
use crate::rig::{DEVICE, Rig, id, settings};

/// Requests that are used up where there is no limit to be seen.
const MANY: u64 = 6;
/// No refusal waits for a database that is gone.
const SOON: Duration = Duration::from_secs(5);
const FORM: &str = "grant_type=password&username=nobody@example.com&password=wrong&client_id=particle&client_secret=particle";

/// One limit.
struct Row {
    /// The key of the configuration.
    key: &'static str,
    /// What holds where it is not set.
    default: Limit,
    read: fn(&Config) -> Limit,
    set: fn(&mut Settings, Limit),
    /// What uses it up.
    used_by: UsedBy,
    /// Method and path of what it limits, each to be tried first and last.
    routes: &'static [(&'static str, &'static str)],
    refusal: u16,
}

#[derive(Clone, Copy, PartialEq)]
enum UsedBy {
    /// Open connections.
    Connections,
    /// Requests at work.
    AtWork(Class),
    /// Requests that were answered.
    Answered,
}

const CALLS: &[(&str, &str)] = &[("POST", "/v1/devices/@/led"), ("GET", "/v1/devices/@/temp"), ("PUT", "/v1/devices/@/ping")];
const STREAMS: &[(&str, &str)] = &[("GET", "/v1/devices/events"), ("GET", "/v1/devices/@/events/a"), ("GET", "/v1/events/a")];
const READS: &[(&str, &str)] = &[("GET", "/v1/devices"), ("GET", "/v1/orgs"), ("GET", "/v1/devices/@")];
const LOGINS: &[(&str, &str)] = &[("POST", "/oauth/token"), ("POST", "/v1/users")];

fn table() -> Vec<Row> {
    let row = |key, default, read, set, used_by, routes, refusal| Row { key, default, read, set, used_by, routes, refusal };
    let (most, none) = (Limit::AtMost, Limit::Unlimited);
    let calls = UsedBy::AtWork(Class::Calls);
    vec![
        row("http.connections", most(8192), |c| c.http.connections, |s, l| s.connections = l, UsedBy::Connections, READS, 503),
        row("http.streams", most(4096), |c| c.http.streams, |s, l| s.streams = l, UsedBy::AtWork(Class::Streams), STREAMS, 429),
        row(
            "http.streams_per_address",
            none,
            |c| c.http.streams_per_address,
            |s, l| s.streams_per_address = l,
            UsedBy::Answered,
            STREAMS,
            429,
        ),
        row(
            "http.requests_per_address",
            none,
            |c| c.http.requests_per_address,
            |s, l| s.requests_per_address = l,
            UsedBy::Answered,
            READS,
            429,
        ),
        row(
            "accounts.failed_logins",
            most(100),
            |c| c.accounts.failed_logins,
            |s, l| s.failed_logins = l,
            UsedBy::Answered,
            &LOGINS[..1],
            429,
        ),
        row(
            "accounts.logins_per_address",
            most(1000),
            |c| c.accounts.logins_per_address,
            |s, l| s.logins_per_address = l,
            UsedBy::Answered,
            LOGINS,
            429,
        ),
        row("calls.at_once", most(2048), |c| c.calls.at_once, |s, l| s.calls = l, calls, CALLS, 503),
        row("calls.at_once_per_account", most(1024), |c| c.calls.at_once_per_account, |s, l| s.calls_per_account = l, calls, CALLS, 429),
    ]
}

#[test]
fn what_is_not_set_0_a_number_or_a_word_is_told_apart_for_every_limit() {
    for Row { key, default, read, .. } in table() {
        let of = |text: &str| Config::parse(&format!("{key} = {text}"), []).map(|config| read(&config));
        assert_eq!(read(&Config::default()), default, "{key} is not set");
        assert!(of("0").is_err() && of("-1").is_err() && of("''").is_err(), "{key} is nothing");
        assert_eq!(of("1").unwrap(), Limit::AtMost(1), "{key}");
        assert_eq!(of("9223372036854775807").unwrap(), Limit::AtMost(i64::MAX as u64), "{key}");
        assert_eq!(of("'unlimited'").unwrap(), Limit::Unlimited, "{key}");
    }
}

#[tokio::test]
async fn every_limit_lets_in_what_it_says_and_refuses_one_more_without_the_database() {
    for row in table() {
        for limit in [1, 3] {
            for first in 0..row.routes.len() {
                let rig = rig(&row, Limit::AtMost(limit)).await;
                let mut held = use_up(&rig, &row, first, limit - 1).await;
                held.extend(use_up(&rig, &row, first + 1, 1).await);
                rig.registry.close().await;
                let (began, refused) = (Instant::now(), next(&rig, &row, first).await);
                assert_eq!(refused.status, row.refusal, "{} = {limit}, one more: {}", row.key, refused.text());
                assert!(refused.header("retry-after").is_some() && refused.json().is_object(), "{}", row.key);
                assert!(began.elapsed() < SOON, "{} took {:?}", row.key, began.elapsed());
            }
        }
    }
}

#[tokio::test]
async fn without_a_limit_and_below_the_largest_nobody_is_refused() {
    for row in table() {
        for limit in [Limit::Unlimited, Limit::AtMost(u64::MAX)] {
            let rig = rig(&row, limit).await;
            let _held = use_up(&rig, &row, 0, MANY).await;
        }
    }
}

/// A rig with this limit and no other, whose devices never answer.
async fn rig(row: &Row, limit: Limit) -> Rig {
    let mut settings = Settings {
        failed_logins: Limit::Unlimited,
        logins_per_address: Limit::Unlimited,
        call_timeout: Duration::from_secs(30),
        ..settings()
    };
    (row.set)(&mut settings, limit);
    let rig = Rig::start_with(settings).await;
    rig.gateway.bring_online(id(DEVICE));
    rig.gateway.hang();
    rig
}

/// Uses up so much of a limit, from this route on, and makes sure that all of it was let in.
async fn use_up(rig: &Rig, row: &Row, first: usize, count: u64) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for number in 0..usize::try_from(count).unwrap() {
        match row.used_by {
            UsedBy::Connections => held.push(TcpStream::connect(rig.address).await.expect("a connection")),
            UsedBy::AtWork(class) => {
                let counters = &rig.api.counters().classes[class.index()].at_work;
                let wanted = counters.load(std::sync::atomic::Ordering::Relaxed) + 1;
                let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
                stream.write_all(format!("{}\r\nHost: t\r\n\r\n", head(rig, row, first + number)).as_bytes()).await.expect("sent");
                held.push(stream);
                let began = Instant::now();
                while counters.load(std::sync::atomic::Ordering::Relaxed) < wanted {
                    assert!(began.elapsed() < Duration::from_secs(5), "{} did not let in {wanted}", row.key);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            UsedBy::Answered => {
                let status = next(rig, row, first + number).await.status;
                assert!(![429, 503].contains(&status), "{} refused {number}: {status}", row.key);
            }
        }
    }
    held
}

fn head(rig: &Rig, row: &Row, route: usize) -> String {
    let (method, path) = row.routes[route % row.routes.len()];
    let kind = "Content-Type: application/x-www-form-urlencoded";
    format!("{method} {} HTTP/1.1\r\nAuthorization: Bearer {}\r\n{kind}", path.replace('@', DEVICE), rig.token)
}

/// The answer to one more. Streams are asked for as old clients do, which are answered and then closed.
async fn next(rig: &Rig, row: &Row, route: usize) -> Answer {
    let head = head(rig, row, route);
    if row.routes == STREAMS && row.used_by == UsedBy::Answered {
        let stream = tokio::time::timeout(SOON, crate::client::first_answer(rig.address, &head)).await;
        return stream.expect("an answer");
    }
    let body = if row.routes.starts_with(&LOGINS[..1]) { FORM } else { "" };
    let length = if body.is_empty() { String::new() } else { format!("\r\nContent-Length: {}", body.len()) };
    send(rig.address, &format!("{head}{length}"), body.as_bytes()).await
}
