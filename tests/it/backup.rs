//! A server is backed up while it works, and another goes on from the backup.

use std::fs;
use std::path::Path;
use std::time::Duration;

use firmware_protocol::device::DeviceEvent;
use holdfast::backup::{self, BackupError, Manifest};
use holdfast::dates;
use holdfast::journal::{Journal, Options};
use router::ask::{Answer, Ask};
use router::event::Position;

use crate::device_driver::Driver;
use crate::drive::Drive;
use crate::sessions::Running;

/// Makes a backup beside a running server, as the command does.
fn back_up(running: &Running, data: &Path, to: &Path) -> tokio::task::JoinHandle<Result<Manifest, BackupError>> {
    let (handle, data, to) = (running.plane.handle(), data.to_owned(), to.to_owned());
    tokio::spawn(async move { backup::make(&data, &to, || Ok(Some(handle.mark.get()))).await })
}

/// What devices published, as the journal in a data directory has it.
fn published(data: &Path) -> Vec<String> {
    let (journal, recovered) = Journal::open(&data.join("journal"), Options::new(1)).unwrap();
    assert_eq!(recovered.report.torn_tail, None);
    let mut reader = journal.events().read_from(Position(1)).unwrap();
    let events = std::iter::from_fn(|| reader.next_event().unwrap());
    events.filter(|(_, event)| event.name == "count").map(|(_, event)| String::from_utf8(event.data.clone().unwrap()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_in_another_directory_from_a_backup_made_while_devices_publish() {
    let (original, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (saved, restored) = (elsewhere.path().join("backup"), elsewhere.path().join("data"));
    let running = Running::start_small(original.path(), "127.0.0.1:0").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    let mut drivers = Vec::new();
    for n in 1..=3 {
        running.register(n).await;
        let mut driver = Driver::new(n, server, server_key);
        driver.connect();
        drivers.push(driver);
    }
    let mut count = 0;
    let mut say = |driver: &mut Driver| {
        count += 1;
        let publish = driver.publish("count", count.to_string().as_bytes());
        driver.run_until(Duration::from_secs(10), |driver| driver.published(publish));
        count
    };
    (0..20).for_each(|_| drivers.iter_mut().for_each(|driver| _ = say(driver)));
    let acknowledged = say(&mut drivers[0]);
    let making = back_up(&running, original.path(), &saved);
    while !making.is_finished() {
        drivers.iter_mut().for_each(|driver| {
            say(driver);
            // Slower than the limit on a device's events.
            driver.run_for(Duration::from_millis(40));
        });
    }
    let manifest = making.await.unwrap().unwrap();
    assert!(manifest.files.iter().filter(|entry| entry.path.ends_with(".segment")).count() > 2, "{manifest:?}");
    drivers.iter_mut().for_each(|driver| _ = say(driver));
    running.stop();

    backup::restore(&saved, &restored, dates::now()).unwrap();
    let kept = published(&restored);
    let expected: Vec<String> = (1..=acknowledged).map(|count| count.to_string()).collect();
    assert_eq!(kept[..expected.len()], expected);
    for _ in 0..2 {
        let running = Running::start(&restored, &server.to_string()).await;
        for (driver, n) in drivers.iter_mut().zip(1..) {
            say(driver);
            let mut answer = running.ask(n, Ask::Call { function: "length".into(), argument: "four".into() });
            driver.run_for(Duration::from_millis(200));
            assert_eq!(answer.try_recv().unwrap(), Ok(Answer::Returned(4)));
        }
        running.stop();
    }
    for driver in &drivers {
        assert_eq!(driver.handshakes(), 1);
        let broken = |event: &DeviceEvent| matches!(event, DeviceEvent::SequenceRepeated(_) | DeviceEvent::Disconnected { .. });
        assert!(!driver.events.iter().any(broken));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_is_refused_and_leaves_the_target_empty() {
    let (original, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (saved, target) = (elsewhere.path().join("backup"), elsewhere.path().join("data"));
    let running = Running::start(original.path(), "127.0.0.1:0").await;
    back_up(&running, original.path(), &saved).await.unwrap().unwrap();
    running.stop();
    let refused = |words: &str| {
        let error = backup::restore(&saved, &target, dates::now()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let left: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "lock" || name == "format"), "{left:?}");
    };
    let key = saved.join("keys/cid-keys");
    let sound = fs::read(&key).unwrap();
    let mut damaged = sound.clone();
    damaged[7] ^= 1;
    fs::write(&key, &damaged).unwrap();
    refused("keys/cid-keys is damaged: its checksum does not fit");
    fs::write(&key, &sound[1..]).unwrap();
    refused("it has 31 bytes and not 32");
    fs::remove_file(&key).unwrap();
    refused("keys/cid-keys is missing from the backup");
    fs::write(&key, &sound).unwrap();
    backup::restore(&saved, &target, dates::now()).unwrap();
    let error = backup::restore(&saved, &target, dates::now()).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
}
