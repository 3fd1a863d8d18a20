//! Sessions over real sockets: they come up, are used from both ends, and outlive the server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use firmware_protocol::device::{Age, DeviceEvent};
use firmware_protocol::entropy::Entropy;
use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::session::subscribe::HandlerKind;
use holdfast::config::Config;
use holdfast::entropy::SystemEntropy;
use holdfast::journal::Options;
use holdfast::server::{DataPlane, Opened};
use holdfast::shards::Reply;
use holdfast::store::PublicKey;
use holdfast::store::registry::NewDevice;
use holdfast::streams::{EventStream, Item, Placed, StreamFilter};
use router::ask::{Answer, Ask, AskError};
use router::event::Audience;
use router::shard::Input;
use tokio::sync::oneshot;

use crate::device_driver::{Driver, app, id, key};
use crate::drive::Drive;

pub(crate) struct Running {
    pub(crate) opened: Opened,
    pub(crate) plane: DataPlane,
    pub(crate) owner: OwnerId,
}

pub(crate) fn config(directory: &Path, listen: &str, more: &str) -> Config {
    let text = format!(
        "data_dir = {:?}\n[udp]\nlisten = {listen:?}\nworkers = 2\n[tcp]\nlisten = \"127.0.0.1:0\"\n[shards]\ncount = 4\n{more}",
        directory.display().to_string()
    );
    Config::parse(&text, []).unwrap()
}

impl Running {
    pub(crate) async fn start(directory: &Path, listen: &str) -> Self {
        Self::start_with(directory, listen, "").await
    }

    /// The same with more in the configuration.
    pub(crate) async fn start_with(directory: &Path, listen: &str, more: &str) -> Self {
        let options = Options::new(u64::from_be_bytes(SystemEntropy.array()));
        Self::start_on(config(directory, listen, more), options).await
    }

    /// The same with segments of a few events.
    pub(crate) async fn start_small(directory: &Path, listen: &str) -> Self {
        let salt = u64::from_be_bytes(SystemEntropy.array());
        let options = Options { segment_bytes: 4_000, headroom_bytes: 4_096, reserve_bytes: 16_384, ..Options::new(salt) };
        Self::start_on(config(directory, listen, ""), options).await
    }

    async fn start_on(config: Config, options: Options) -> Self {
        let opened = Opened::new(&config).await.unwrap();
        let plane = DataPlane::start_with(&config, &opened, options).unwrap();
        let owner = match opened.registry.user_by_email("a@example.com").await.unwrap() {
            Some(user) => user.id,
            None => opened.registry.add_user("a@example.com", "long enough a password").await.unwrap().id,
        };
        Self { opened, plane, owner }
    }

    pub(crate) async fn register(&self, n: u8) {
        self.register_key(n, key(n).public().spki()).await;
    }

    /// Device `n` with a key of its own choice.
    pub(crate) async fn register_key(&self, n: u8, spki: &[u8]) {
        let device = NewDevice {
            id: id(n),
            key: PublicKey::from_spki(spki).unwrap(),
            owner: Some(self.owner),
            product: None,
            platform_id: None,
            name: None,
        };
        self.opened.registry.add_devices(vec![device]).await.unwrap();
    }

    /// Device `n` of a product, whosever it is.
    pub(crate) async fn register_in_product(&self, n: u8, owner: OwnerId, product: ProductId) {
        let key = PublicKey::from_spki(key(n).public().spki()).unwrap();
        let device = NewDevice { id: id(n), key, owner: Some(owner), product: Some(product), platform_id: None, name: None };
        self.opened.registry.add_devices(vec![device]).await.unwrap();
    }

    pub(crate) fn server_key(&self) -> firmware_protocol::crypto::PublicKey {
        *self.opened.keys.ec().public()
    }

    pub(crate) fn ask(&self, n: u8, ask: Ask) -> oneshot::Receiver<Result<Answer, AskError>> {
        let (sender, receiver) = oneshot::channel();
        let handle = self.plane.handle();
        let deadline = handle.clock.now().at + Duration::from_secs(10);
        assert!(handle.tell(id(n), Input::Ask { device: id(n), ask, deadline, reply: Reply::Answer(sender, None) }));
        receiver
    }

    /// The events that begin so of those that `audience` hears of, from now on.
    pub(crate) fn stream(&self, audience: Audience, prefix: &str) -> EventStream {
        self.plane.handle().streams.open(StreamFilter { audience, device: None, prefix: prefix.into(), after: None })
    }

    /// Like a crash as far as the data is concerned: nothing is told to devices, nothing is tidied up.
    pub(crate) fn stop(self) {
        self.plane.stop();
    }
}

/// The next event of a stream.
pub(crate) async fn next_event(stream: &mut EventStream) -> Placed {
    match stream.next().await {
        Some(Item::Event(placed)) => placed,
        other => panic!("no event: {other:?}"),
    }
}

fn on_port(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn call() -> Ask {
    Ask::Call { function: "length".into(), argument: "four".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_connects_is_called_publishes_and_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    running.register(1).await;

    let mut stream = running.stream(Audience::Owner(running.owner), "temp");
    let mut driver = Driver::new(1, server, server_key);
    driver.connect();
    let publish = driver.publish("temperature", b"21.5");
    driver.run_until(Duration::from_secs(5), |driver| driver.published(publish));
    let (position, event) = next_event(&mut stream).await;
    assert_eq!((event.name.as_str(), event.data.as_deref()), ("temperature", Some(&b"21.5"[..])));
    assert!(position.0 >= 1);

    let mut answer = running.ask(1, call());
    driver.run_for(Duration::from_millis(300));
    assert_eq!(answer.try_recv().unwrap(), Ok(Answer::Returned(4)));
    assert_eq!(
        running.ask(1, Ask::Call { function: "none".into(), argument: String::new() }).await.unwrap(),
        Err(AskError::NoSuchFunction)
    );
    assert_eq!(running.ask(2, call()).await.unwrap(), Err(AskError::Offline));

    running.stop();
    for _ in 0..3 {
        let running = Running::start(directory.path(), &server.to_string()).await;
        let publish = driver.publish("temperature", b"22");
        driver.run_until(Duration::from_secs(10), |driver| driver.published(publish));
        let mut answer = running.ask(1, call());
        driver.run_for(Duration::from_millis(300));
        assert_eq!(answer.try_recv().unwrap(), Ok(Answer::Returned(4)), "what the device said of itself is still known");
        running.stop();
    }
    let running = Running::start(directory.path(), &server.to_string()).await;
    driver.restart();
    driver.connect();
    assert_eq!(driver.handshakes(), 1);
    assert!(!driver.events.iter().any(|event| matches!(event, DeviceEvent::SequenceRepeated(_) | DeviceEvent::Disconnected { .. })));
    running.stop();
}

/// Replies leave from the address the device talks to, which the wildcard socket alone would not do.
#[tokio::test(flavor = "multi_thread")]
async fn the_wildcard_answers_from_the_address_that_was_asked_over_both_families() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "[::]:0").await;
    let port = running.plane.udp().port();
    for (n, address) in [(1, "127.0.0.2"), (2, "127.0.0.1"), (3, "::1")] {
        running.register(n).await;
        let mut driver = Driver::new(n, on_port(address, port), running.server_key());
        driver.connect();
        let mut answer = running.ask(n, call());
        driver.run_for(Duration::from_millis(300));
        assert_eq!(answer.try_recv().unwrap(), Ok(Answer::Returned(4)), "a call over {address}");
    }
    running.stop();
}

/// Devices of one account get each other's events.
#[tokio::test(flavor = "multi_thread")]
async fn subscribed_devices_get_each_others_events() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    running.register(1).await;
    running.register(2).await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    let (mut one, mut two) = (Driver::new(1, server, server_key), Driver::new(2, server, server_key));
    one.connect();
    two.connect();
    one.publish("news/today", b"rain");
    one.run_for(Duration::from_millis(300));
    two.run_for(Duration::from_millis(300));
    let expected = DeviceEvent::EventReceived { name: "news/today".into(), data: b"rain".to_vec(), content_format: 0 };
    assert!(two.events.contains(&expected) && one.events.contains(&expected));
    running.stop();
}

/// Firmware that knows no connection ids is found by its address and, after it moved, by its id: wherever the kernel puts its datagrams, and
/// after a restart of the server as well.
#[tokio::test(flavor = "multi_thread")]
async fn firmware_without_connection_ids_moves_and_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path(), "127.0.0.1:0").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    running.register(1).await;
    let mut driver = Driver::with_app(1, server, server_key, Age::V2, app());
    driver.connect();
    for round in 0..12 {
        if round % 3 == 2 {
            running.stop();
            running = Running::start(directory.path(), &server.to_string()).await;
        }
        if round % 2 == 1 {
            driver.restart();
            driver.connect();
        }
        let publish = driver.publish("temperature", b"21.5");
        driver.run_until(Duration::from_secs(10), |driver| driver.published(publish));
        let mut answer = running.ask(1, call());
        driver.run_for(Duration::from_millis(300));
        assert_eq!(
            answer.try_recv().unwrap(),
            Ok(Answer::Returned(4)),
            "round {round}: its functions are known from the combined describe"
        );
    }
    assert_eq!(driver.handshakes(), 1);
    assert!(!driver.events.iter().any(|event| matches!(event, DeviceEvent::SequenceRepeated(_) | DeviceEvent::Disconnected { .. })));

    running.opened.registry.remove_device(id(1)).await.unwrap();
    let closed = DeviceEvent::Disconnected { reason: "the server closed the session", session_kept: false };
    driver.run_until(Duration::from_secs(5), |driver| driver.events.contains(&closed));
    running.stop();
}

/// Old subscriptions: to the owner's devices, or to one of them; and typed events stay away from firmware that cannot take them.
#[tokio::test(flavor = "multi_thread")]
async fn old_firmware_hears_what_it_asked_for_and_can_take() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    for n in 1..=4 {
        running.register(n).await;
    }
    let driver = |n, age, app| {
        let mut driver = Driver::with_app(n, server, server_key, age, app);
        driver.connect();
        driver
    };
    let mut all = driver(1, Age::V2, app().subscription("news", HandlerKind::Text));
    let mut one = driver(2, Age::V3, app().subscription_to("news", id(4)));
    let (mut three, mut four) = (driver(3, Age::V6, app()), driver(4, Age::V3, app()));
    let say = |driver: &mut Driver, name: &str, content_format: u16| {
        let publish = driver.publish_typed(name, content_format, b"rain");
        driver.run_until(Duration::from_secs(5), |driver| driver.published(publish));
    };
    say(&mut three, "news/three", 0);
    say(&mut three, "news/typed", 65_001);
    say(&mut four, "news/four", 0);
    let heard = |driver: &mut Driver, count: usize| {
        driver.run_until(Duration::from_secs(5), |driver| driver.heard().len() >= count);
        driver.run_for(Duration::from_millis(200));
        driver.heard()
    };
    assert_eq!(heard(&mut all, 2), [("news/three".to_owned(), b"rain".to_vec()), ("news/four".to_owned(), b"rain".to_vec())]);
    assert_eq!(heard(&mut one, 1), [("news/four".to_owned(), b"rain".to_vec())]);
    running.stop();
}

/// An unknown key is refused without a word, and a removed one closed and refused.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_removed_devices_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    let mut driver = Driver::new(1, server, server_key);
    driver.run_for(Duration::from_secs(2));
    assert!(!driver.device.is_connected() && driver.events == [DeviceEvent::HandshakeStarted]);
    assert!(running.plane.handle().strangers.list().is_empty());

    let clock = running.plane.handle().clock;
    running.plane.handle().strangers.open(clock.now().unix, Duration::from_secs(60));
    driver.run_until(Duration::from_secs(10), |_| !running.plane.handle().strangers.list().is_empty());
    let stranger = running.plane.handle().strangers.list().remove(0);
    assert_eq!((stranger.seen.device, stranger.seen.platform, stranger.seen.system_version), (id(1), 32, Some(6200)));
    assert_eq!(stranger.seen.spki, key(1).public().spki());
    assert!(!driver.device.is_connected());

    running.register(1).await;
    driver.run_until(Duration::from_secs(20), |driver| driver.device.is_connected());
    running.opened.registry.remove_device(id(1)).await.unwrap();
    let closed = DeviceEvent::Disconnected { reason: "the server closed the session", session_kept: false };
    driver.run_until(Duration::from_secs(5), |driver| {
        driver.events.last() == Some(&DeviceEvent::HandshakeStarted) && driver.events.contains(&closed)
    });
    driver.run_for(Duration::from_secs(1));
    assert!(!driver.device.is_connected());
    running.stop();
}

/// Two copies of one data directory, run one after the other, never seal two records with the same key and number.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_data_directory_repeat_no_record_number() {
    let original = tempfile::tempdir().unwrap();
    let running = Running::start(original.path(), "127.0.0.1:0").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    running.register(1).await;
    let mut driver = Driver::new(1, server, server_key);
    driver.connect();
    running.stop();
    let copies = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    copies.iter().for_each(|copy| copy_directory(original.path(), copy.path()));

    for directory in copies.iter().chain([&original]) {
        let running = Running::start(directory.path(), &server.to_string()).await;
        for _ in 0..5 {
            drop(running.ask(1, call()));
            driver.publish("temperature", b"21.5");
            driver.run_for(Duration::from_millis(100));
        }
        running.stop();
    }
    assert!(driver.records_seen() > 30, "there was something to compare");
    assert!(!driver.events.iter().any(|event| matches!(event, DeviceEvent::SequenceRepeated(_))));
}

/// What disappears meanwhile is left out: databases tidy up behind a server that was stopped.
fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => _ = copied.unwrap(),
            }
        }
    }
}

/// A reachability probe comes back unchanged, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_echoed_within_limits() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(running.plane.udp()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let probe = [&[252, 0xfe, 0xfd, 0x80, 4, 0, 0, 1, 2, 0, 3, 0, 5][..], b"hello"].concat();
    let mut echoed = 0;
    for _ in 0..60 {
        socket.send(&probe).unwrap();
        let mut buffer = [0; 64];
        if let Ok(len) = socket.recv(&mut buffer) {
            assert_eq!(buffer[..len], probe);
            echoed += 1;
        } else {
            break;
        }
    }
    assert!((10..60).contains(&echoed), "{echoed}");
    running.stop();
}
