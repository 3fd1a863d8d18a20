//! Events for subscribed devices across crashes, and what is counted of them.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::server::{DataPlane, Opened};
use holdfast::shards::Reply;
use router::event::{NewEvent, Position, Source};
use router::shard::Input;
use tokio::sync::oneshot;

use crate::cli::{Server, Shell, free_udp};
use crate::device_driver::Driver;
use crate::drive::Drive;
use crate::sessions::{Running, config};

const PATIENCE: Duration = Duration::from_secs(30);

/// Names of the events that came, each once.
fn heard(driver: &Driver) -> Vec<String> {
    let mut names: Vec<_> = driver.heard().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    names
}

#[test]
fn what_was_accepted_before_a_kill_reaches_a_subscribed_device_after_it() {
    let shell = Shell::new();
    shell.add_user("dev@example.com");
    let token = shell.text(&["token", "create"]).trim().to_owned();
    shell.add_device(1, 1, "dev@example.com");
    let (udp, server_key) = (free_udp(), shell.server_key());
    let start = || {
        Server::start_with(&shell, |command| {
            command.env("HOLDFAST_UDP_LISTEN", udp.to_string()).env("HOLDFAST_LOG_FILTER", "info");
        })
    };
    let publish = |server: &Server, name: &str| {
        let head = format!("POST /v1/devices/events HTTP/1.1\r\nAuthorization: Bearer {token}");
        assert_eq!(server.send(&head, &format!("name={name}&data=x")).status, 200);
    };
    let mut server = start();
    let mut driver = Driver::new(1, udp, server_key);
    driver.connect();
    let mut expected = Vec::new();
    for round in 0..3 {
        publish(&server, &format!("news/{round}/heard"));
        expected.push(format!("news/{round}/heard"));
        driver.run_until(PATIENCE, |driver| heard(driver).ends_with(&expected[expected.len() - 1..]));
        // The device hears nothing of this one before the server is killed, nor what was sent of it by then.
        publish(&server, &format!("news/{round}/lost"));
        expected.push(format!("news/{round}/lost"));
        drop(server);
        driver.lose_what_came();
        server = start();
        driver.run_until(PATIENCE, |driver| heard(driver).ends_with(&expected[expected.len() - 1..]));
    }
    let mut names = heard(&driver);
    names.sort();
    names.dedup();
    expected.sort();
    assert_eq!((names, driver.handshakes()), (expected, 1), "in one session");
    server.stop();
}

/// The values of all series whose name and labels begin so.
fn metric(running: &Running, name: &str) -> Vec<i64> {
    let text = running.opened.metrics.render();
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse().unwrap()).collect()
}

/// Waits until the metrics are so.
async fn until(running: &Running, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{}", running.opened.metrics.render());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn publish(running: &Running, name: &str) -> Position {
    let (sender, receiver) = oneshot::channel();
    let owner = running.owner;
    let event = NewEvent { owner, product: None, source: Source::Api, name: name.into(), content_format: 0, data: None, ttl_s: 60 };
    assert!(running.plane.handle().tell_shard(0, Input::Publish { event, reply: Reply::Published(sender) }));
    receiver.await.unwrap()
}

/// Copies what is in a data directory. Cursors come before the journal, so that none is ahead of it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut entries: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// The segments of a journal, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect();
    segments.sort();
    segments
}

/// The number of a segment or snapshot, by its name.
fn number(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap()
}

fn newest_snapshot(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "snapshot")).map(|path| number(&path)).max().unwrap_or(0)
}

const SEGMENT_HEADER: usize = 44;
const FRAME_HEADER: usize = 52;

/// Where the frames of a segment are. Their format is in the header of `src/journal.rs`.
fn frames(segment: &[u8]) -> Vec<Range<usize>> {
    let (mut frames, mut at) = (Vec::new(), SEGMENT_HEADER);
    while segment[at..].starts_with(b"HFfr") {
        let payload = u32::from_le_bytes(segment[at + 32..at + 36].try_into().unwrap());
        let end = at + FRAME_HEADER + usize::try_from(payload).unwrap();
        frames.push(at..end);
        at = end;
        if at + FRAME_HEADER > segment.len() {
            break;
        }
    }
    frames
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The segment with an event of this name.
fn home_of(data: &Path, name: &str) -> PathBuf {
    segments(data).into_iter().find(|path| holds(&fs::read(path).unwrap(), name)).unwrap()
}

/// Takes the frame with an event of this name out of its segment as somebody would who knows the format: every checksum fits.
fn take_out(data: &Path, name: &str) {
    let path = home_of(data, name);
    let bytes = fs::read(&path).unwrap();
    let (mut chain, mut written) = (bytes[40..44].to_vec(), bytes[..SEGMENT_HEADER].to_vec());
    for frame in frames(&bytes).into_iter().map(|range| &bytes[range]).filter(|frame| !holds(frame, name)) {
        let mut frame = frame.to_vec();
        frame[44..48].copy_from_slice(&chain);
        chain = crc32c::crc32c_append(crc32c::crc32c(&frame[..48]), &frame[FRAME_HEADER..]).to_le_bytes().to_vec();
        frame[48..52].copy_from_slice(&chain);
        written.extend(frame);
    }
    fs::write(&path, written).unwrap();
}

/// What a server says that does not start in this directory.
async fn refusal(data: &Path) -> String {
    let config = config(data, "127.0.0.1:0", "");
    let opened = Opened::new(&config).await.unwrap();
    DataPlane::start(&config, &opened).unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_deleted_from_a_copy_of_the_store_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let running = Running::start_small(&data, "127.0.0.1:0").await;
    running.register(1).await;
    let mut driver = Driver::new(1, running.plane.udp(), running.server_key());
    driver.connect();
    publish(&running, "news/heard").await;
    driver.run_until(PATIENCE, |driver| !driver.heard().is_empty());
    driver.run_until(PATIENCE, |_| metric(&running, "holdfast_deliveries_total{outcome=\"delivered\"}") == [1]);
    // From here on the device is silent.
    publish(&running, "news/pending").await;
    let home = number(&home_of(&data, "news/pending"));
    while segments(&data).last().is_some_and(|last| number(last) < home + 2) {
        publish(&running, "weather").await;
    }
    publish(&running, "news/last").await;
    until(&running, || newest_snapshot(&data) > home).await;
    until(&running, || metric(&running, "holdfast_fan_out_waiting_events") == [2]).await;
    let stock = metric(&running, "holdfast_stock_taken_timestamp_seconds");
    until(&running, || metric(&running, "holdfast_stock_taken_timestamp_seconds") > stock).await;
    assert_eq!(metric(&running, "holdfast_sink_imbalance_messages"), [0; 4]);
    let [cut, torn, whole, pruned] = ["cut", "torn", "whole", "pruned"].map(|name| directory.path().join(name));
    [&cut, &torn, &whole, &pruned].into_iter().for_each(|to| copy(&data, to));
    running.stop();

    take_out(&pruned, "news/pending");
    for (copied, missing) in [(&whole, 0), (&pruned, 1)] {
        let running = Running::start_small(copied, "127.0.0.1:0").await;
        until(&running, || metric(&running, "holdfast_journal_missing_events") == [missing]).await;
        until(&running, || metric(&running, "holdfast_stock_taken_timestamp_seconds") > [0].to_vec()).await;
        assert_eq!(metric(&running, "holdfast_sink_imbalance_messages").iter().sum::<i64>(), missing, "of the shard where it was pending");
        running.stop();
    }

    // What a start can see, it refuses.
    let path = home_of(&cut, "news/last");
    let bytes = fs::read(&path).unwrap();
    let last = frames(&bytes).into_iter().find(|frame| holds(&bytes[frame.clone()], "news/last")).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(last.start as u64).unwrap();
    let refused = refusal(&cut).await;
    assert!(refused.contains("the journal has lost its end"), "{refused}");
    let path = segments(&torn).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let first = frames(&bytes).remove(0);
    bytes[first].fill(0);
    fs::write(&path, bytes).unwrap();
    let refused = refusal(&torn).await;
    assert!(refused.contains("the journal cannot be opened"), "{refused}");
}
