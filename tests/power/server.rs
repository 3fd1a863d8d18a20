//! A server with devices and a reader of its event stream: what devices were told is kept, their sessions go on, what they subscribed to reaches them,
//! what the reader was shown stays as it was, the reader misses nothing, and the server always starts.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use firmware_protocol::crypto::{PublicKey as ServerKey, digest64};
use firmware_protocol::entropy::{Entropy, SeededEntropy};
use firmware_protocol::id::OwnerId;
use holdfast::config::Config;
use holdfast::entropy::SystemEntropy;
use holdfast::journal::Options;
use holdfast::server::{DataPlane, Opened, StartError};
use holdfast::store::registry::NewDevice;
use holdfast::store::{PublicKey, Registry};
use holdfast::streams::{EventStream, Item, StreamFilter};
use router::event::{Audience, Event, Position};

use crate::child::{Child, LIFE_MAX, Plan, say};
use crate::disk::{Cut, Disk, Shim, copy_all};
use crate::fleet::{NAMES, Progress, Publisher, id, key, subject};
use crate::journal::read;
use crate::{kills, seeded};

const CHILD: &str = "server::serve";
const DIRECTORY: &str = "POWER_SERVER";
const LISTEN: &str = "POWER_LISTEN";
/// From which number on devices are added while it serves; absent if none are.
const ADD_FROM: &str = "POWER_ADD_FROM";
/// The last position that the reader of the event stream has seen.
const READ_AFTER: &str = "POWER_READ_AFTER";
/// Set if nothing is served: then it is like a command that adds devices to a directory.
const REGISTRY_ONLY: &str = "POWER_REGISTRY_ONLY";
/// Devices that publish.
const FLEET: u8 = 4;
/// Steps that a start takes, about.
const STEPS_TO_START: u64 = 26;
/// Steps until the first devices are added, about.
const STEPS_TO_ADD: u64 = 70;
/// Steps that the very first start takes, about.
const STEPS_TO_FIRST_START: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// The child: a server as it starts everywhere, on a small journal.
#[test]
#[ignore = "a process that the other tests start"]
fn serve() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(tracing::Level::WARN).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Err(error) = runtime.block_on(work(Path::new(&directory))) {
        eprintln!("refused: {error}");
        std::process::exit(3);
    }
}

async fn work(directory: &Path) -> Result<(), StartError> {
    let listen = std::env::var(LISTEN).unwrap();
    let text = format!(
        "data_dir = {directory:?}\n[udp]\nlisten = {listen:?}\nworkers = 2\n[tcp]\nlisten = \"127.0.0.1:0\"\n[shards]\ncount = 2\n"
    );
    let config = Config::parse(&text, []).unwrap();
    let opened = Opened::new(&config).await?;
    let registry = &opened.registry;
    // As a command does.
    registry.fill().await?;
    registry.set_filled();
    let owner = match registry.user_by_email("a@example.com").await? {
        Some(user) => user.id,
        None => registry.add_user("a@example.com", "long enough a password").await?.id,
    };
    let fleet: Vec<NewDevice> = (1..=FLEET).filter(|n| registry.devices().find(id(*n)).is_none()).map(|n| device(n, owner)).collect();
    if !fleet.is_empty() {
        registry.add_devices(fleet).await?;
    }
    say(&format!("added {FLEET}"));
    if std::env::var(REGISTRY_ONLY).is_ok() {
        tokio::time::sleep(LIFE_MAX).await;
        return Ok(());
    }
    let salt = u64::from_be_bytes(SystemEntropy.array());
    let options = Options { segment_bytes: 40_000, headroom_bytes: 65_536, reserve_bytes: 65_536, ..Options::new(salt) };
    let plane = DataPlane::start_with(&config, &opened, options)?;
    say(&format!("ready {} {}", plane.udp(), hex::encode(opened.keys.ec().public().spki())));
    let after = Some(Position(std::env::var(READ_AFTER).unwrap().parse().unwrap()));
    tokio::spawn(read_on(plane.handle().streams.open(StreamFilter {
        audience: Audience::Owner(owner),
        device: None,
        prefix: String::new(),
        after,
    })));
    if let Ok(from) = std::env::var(ADD_FROM) {
        for n in from.parse().unwrap()..=u8::MAX {
            registry.add_devices(vec![device(n, owner)]).await?;
            say(&format!("added {n}"));
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
    tokio::time::sleep(LIFE_MAX).await;
    plane.stop();
    Ok(())
}

/// Says what a reader of the event stream is shown.
async fn read_on(mut stream: EventStream) {
    while let Some(item) = stream.next().await {
        match item {
            Item::Event((position, event)) => say(&format!("event {position} {}", summary(&event))),
            other => say(&format!("unexpected {other:?}")),
        }
    }
}

/// What an event is recognised by.
fn summary(event: &Event) -> String {
    format!("{} {:016x}", event.name, digest64(event.data.as_deref().unwrap_or_default()))
}

fn device(n: u8, owner: OwnerId) -> NewDevice {
    let key = PublicKey::from_spki(key(n).public().spki()).unwrap();
    NewDevice { id: id(n), key, owner: Some(owner), product: None, platform_id: None, name: None }
}

/// One data directory, from its first start on.
struct Life {
    disk: Disk,
    listen: String,
    server_key: Option<String>,
    fleet: Vec<Publisher>,
    /// The last device that was added for sure; 0 if none was.
    added: u8,
    /// Whether all devices were through with what they had open when the server was killed last.
    caught_up: bool,
    /// Summaries of the events that the reader was shown: the first is at position 1.
    shown: Vec<String>,
    /// News in the journal.
    news: Vec<String>,
    /// What was wrong with others.
    misread: Vec<String>,
    /// The last position in the journal.
    kept: u64,
}

impl Life {
    fn new() -> Self {
        Self {
            disk: Disk::new(),
            listen: "127.0.0.1:0".into(),
            server_key: None,
            fleet: Vec::new(),
            added: 0,
            caught_up: true,
            shown: Vec::new(),
            news: Vec::new(),
            misread: Vec::new(),
            kept: 0,
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.disk.live().join("holdfast/data")
    }

    fn ready(&mut self, line: &str) {
        let (address, server_key) = line.split_once(' ').unwrap();
        if let Some(known) = &self.server_key {
            assert_eq!((self.listen.as_str(), known.as_str()), (address, server_key), "a server that devices do not know");
            return;
        }
        (self.listen, self.server_key) = (address.into(), Some(server_key.into()));
        let (server, key): (SocketAddr, _) = (address.parse().unwrap(), ServerKey::from_spki(&hex::decode(server_key).unwrap()).unwrap());
        self.fleet = (1..=FLEET).map(|n| Publisher::new(n, server, key)).collect();
    }

    /// From a start over a kill to what is left, and whether that is enough.
    fn endure(&mut self, shim: &Shim, plan: &Plan, adds: bool, random: &mut SeededEntropy) -> Result<(), String> {
        let run = self.run(shim, plan, adds);
        self.disk.cut(plan.cut, random);
        run.and_then(|()| self.check()).map_err(|error| format!("{plan:?}, adds {adds}: {error}"))
    }

    /// A start after which every device gets through with what it has open.
    fn take_up(&mut self, shim: &Shim, random: &mut SeededEntropy) -> Result<(), String> {
        self.caught_up = false;
        let plan = Plan { at_step: None, after: Duration::from_millis(20), cut: Cut::Drop };
        self.endure(shim, &plan, false, random)
    }

    /// From a start to the kill.
    fn run(&mut self, shim: &Shim, plan: &Plan, adds: bool) -> Result<(), String> {
        let mut orders = vec![(DIRECTORY, self.data().display().to_string()), (LISTEN, self.listen.clone())];
        orders.push((READ_AFTER, self.shown.len().to_string()));
        if adds {
            orders.push((ADD_FROM, (self.added.max(FLEET) + 1).to_string()));
        }
        // A device gives a message up after the fourth time: it must get through between two kills now and then.
        let at_step = plan.at_step.filter(|_| self.caught_up);
        let child = Child::start(shim, &self.disk, at_step, CHILD, &orders);
        if let Some(line) = child.wait_for("ready", PATIENCE) {
            self.ready(&line);
            let patient = !self.caught_up;
            let all_listen = self.fleet.iter().all(Publisher::listens);
            let news = if patient { self.news.clone() } else { Vec::new() };
            let progress = Progress { reset: patient, all_listen, news, ..Progress::default() };
            thread::scope(|scope| {
                self.fleet.iter_mut().for_each(|publisher| drop(scope.spawn(|| publisher.run(&progress))));
                let all = |progress: &Progress| progress.caught_up.load(Ordering::Acquire) == usize::from(FLEET);
                let until = Instant::now() + PATIENCE;
                while patient && !all(&progress) && !child.has_ended() && Instant::now() < until {
                    thread::sleep(Duration::from_millis(2));
                }
                let until = Instant::now() + plan.after;
                while !child.has_ended() && Instant::now() < until {
                    thread::sleep(Duration::from_millis(2));
                }
                if patient && self.kept > self.shown.len() as u64 {
                    // What the reader has missed so far it gets now.
                    child.wait_for(&format!("event {}", self.kept), PATIENCE);
                }
                let said = child.kill();
                self.caught_up = all(&progress);
                progress.stop.store(true, Ordering::Release);
                said
            })
            .map(|said| self.hear(&said))?;
            if patient && !self.caught_up {
                let what = self
                    .fleet
                    .iter()
                    .map(|publisher| (publisher.open(), self.news.iter().filter(|news| !publisher.heard.contains(*news)).count()));
                return Err(format!("devices are not served: {:?} publishes and news open", what.collect::<Vec<_>>()));
            }
            return Ok(());
        }
        child.kill().map(|said| self.hear(&said))
    }

    fn hear(&mut self, said: &[String]) {
        for n in said.iter().filter_map(|line| line.strip_prefix("added ")) {
            self.added = self.added.max(n.parse().unwrap());
        }
        for line in said {
            if let Some((position, summary)) = line.strip_prefix("event ").and_then(|event| event.split_once(' ')) {
                match position.parse::<usize>().unwrap() {
                    next if next == self.shown.len() + 1 => self.shown.push(summary.to_owned()),
                    other => self.misread.push(format!("the reader was shown {other} after {}", self.shown.len())),
                }
            }
            self.misread.extend(line.starts_with("unexpected ").then(|| line.clone()));
        }
    }

    /// Looks at what is left, in a copy.
    fn check(&mut self) -> Result<(), String> {
        let faults: Vec<_> = self.fleet.iter().flat_map(|publisher| &publisher.faults).chain(&self.misread).collect();
        if !faults.is_empty() {
            return Err(format!("{faults:?}"));
        }
        if self.added == 0 {
            return Ok(());
        }
        let copy = self.disk.scratch().join("data");
        if !self.data().exists() {
            return Err("the data directory is gone".into());
        }
        copy_all(&self.data(), &copy);
        self.check_registry(&copy.join("registry.db"))?;
        if self.server_key.is_some() { self.check_journal(&copy.join("journal")) } else { Ok(()) }
    }

    fn check_registry(&self, file: &Path) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let registry = runtime.block_on(Registry::open(file)).map_err(|error| format!("the registry: {error}"))?;
        let missing: Vec<u8> = (1..=self.added).filter(|n| registry.devices().find(id(*n)).is_none()).collect();
        runtime.block_on(registry.close());
        if missing.is_empty() { Ok(()) } else { Err(format!("devices {missing:?} were added and are gone")) }
    }

    fn check_journal(&mut self, dir: &Path) -> Result<(), String> {
        let (recovered, events) = read(dir, Position(1))?;
        self.kept = events.len() as u64;
        let changed = self.shown.iter().enumerate().find(|(index, shown)| {
            events.get(*index).is_none_or(|(position, event)| position.0 != *index as u64 + 1 || summary(event) != **shown)
        });
        if let Some((index, shown)) = changed {
            return Err(format!("the reader was shown {shown} at {}, and there is {:?}", index + 1, events.get(index)));
        }
        if let Some(damaged) = recovered.report.damaged_snapshots.first() {
            return Err(format!("a snapshot under its final name is damaged: {damaged}"));
        }
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        self.news.clear();
        for (_, event) in events.iter().filter(|(_, event)| NAMES.contains(&&*event.name)) {
            let subject = subject(event.data.as_deref().unwrap_or_default());
            self.news.extend((event.name == NAMES[1]).then(|| subject.clone()));
            *found.entry(subject).or_default() += 1;
        }
        if let Some((text, times)) = found.iter().find(|(_, times)| **times > 1) {
            return Err(format!("event {text} is there {times} times"));
        }
        let acknowledged = self.fleet.iter().flat_map(|publisher| &publisher.acknowledged);
        let lost: Vec<_> = acknowledged.filter(|text| !found.contains_key(*text)).collect();
        if !lost.is_empty() {
            return Err(format!("{} acknowledged events are gone, {:?} first", lost.len(), lost[0]));
        }
        let sessions = self.fleet.iter().filter_map(Publisher::connection);
        match sessions.filter(|connection| recovered.state.sessions.get(connection).is_none()).count() {
            0 => Ok(()),
            gone => Err(format!("{gone} sessions that devices have are gone")),
        }
    }
}

#[test]
fn the_server_keeps_what_it_acknowledged() {
    let (shim, seed) = (Shim::build(), seeded());
    let mut random = SeededEntropy::new(seed);
    let (mut killed, mut lives, mut ready, mut acknowledged, mut shown, mut heard) = (0, 0, 0, 0, 0, 0);
    while killed < kills() {
        let mut life = Life::new();
        for _ in 0..1 + random.below(9) {
            let first = life.server_key.is_none();
            let plan = Plan::any(&mut random, if first { STEPS_TO_FIRST_START } else { STEPS_TO_START });
            // A database that is written syncs the directory that it shares with others: half of the time it shall not help.
            let adds = random.below(2) == 0;
            killed += 1;
            life.endure(&shim, &plan, adds, &mut random).unwrap_or_else(|error| panic!("seed {seed}, kill {killed}: {error}"));
            ready += u64::from(life.server_key.is_some());
        }
        life.take_up(&shim, &mut random).unwrap_or_else(|error| panic!("seed {seed}, after kill {killed}: {error}"));
        lives += 1;
        acknowledged += life.fleet.iter().map(|publisher| publisher.acknowledged.len()).sum::<usize>();
        shown += life.shown.len();
        heard += life.fleet.iter().map(|publisher| publisher.heard.len()).sum::<usize>();
    }
    eprintln!(
        "{killed} kills in {lives} data directories, {ready} after devices had been served; {acknowledged} events were acknowledged, {shown} shown to the \
         reader, {heard} heard by devices"
    );
}

/// What the first start makes is made only once, so it is killed before each of its steps in turn, and what is left must do for good.
#[test]
fn the_first_start_can_be_killed_anywhere() {
    let (shim, seed) = (Shim::build(), seeded());
    let mut random = SeededEntropy::new(seed);
    let cuts = [Cut::ProcessOnly, Cut::Drop, Cut::Tear];
    let mut kills_left: Vec<(u64, Cut)> = (1..=STEPS_TO_FIRST_START).step_by(2).flat_map(|step| cuts.map(|cut| (step, cut))).collect();
    let count = kills_left.len().min(usize::try_from(kills()).unwrap());
    for killed in 1..=count {
        let any = usize::try_from(random.below(kills_left.len() as u64)).unwrap();
        let (step, cut) = kills_left.swap_remove(any);
        let plan = Plan { at_step: Some(step), after: Duration::ZERO, cut };
        let mut life = Life::new();
        let mut endured = life.endure(&shim, &plan, false, &mut random);
        for _ in 0..2 {
            endured = endured.and_then(|()| life.take_up(&shim, &mut random));
        }
        endured.unwrap_or_else(|error| panic!("seed {seed}, kill {killed}, {plan:?}: {error}"));
    }
    eprintln!("{count} first starts");
}

/// The same for a command that only adds devices: it may be the first that works in a directory, and is told that they are there.
#[test]
fn the_first_command_can_be_killed_anywhere() {
    let (shim, seed) = (Shim::build(), seeded());
    let mut random = SeededEntropy::new(seed);
    let mut steps: Vec<u64> = (1..STEPS_TO_ADD).step_by(2).collect();
    let count = steps.len().min(usize::try_from(kills()).unwrap());
    for _ in 0..count {
        let any = usize::try_from(random.below(steps.len() as u64)).unwrap();
        let mut life = Life::new();
        for (at_step, cut) in [(Some(steps.swap_remove(any)), Cut::ProcessOnly), (None, Cut::Drop)] {
            let orders = [(DIRECTORY, life.data().display().to_string()), (LISTEN, life.listen.clone()), (REGISTRY_ONLY, String::new())];
            let child = Child::start(&shim, &life.disk, at_step, CHILD, &orders);
            child.wait_for("added", PATIENCE);
            let said = child.kill();
            life.disk.cut(cut, &mut random);
            let left = said.map(|said| life.hear(&said)).and_then(|()| life.check());
            left.unwrap_or_else(|error| panic!("seed {seed}, step {at_step:?}, {cut:?}: {error}"));
        }
        assert_eq!(life.added, FLEET);
    }
    eprintln!("{count} first commands");
}
