use firmware_protocol::id::OwnerId;
use router::event::{Event, NewEvent, Source};
use router::journal::Record;
use router::progress::Part;

use super::account::cursors_of_shards;
use super::*;
use crate::cursors::Cursors;
use crate::journal::{Journal, Options};
use crate::mailbox::{Bell, LanePlace, MailboxBuilder};
use crate::metrics::Metrics;
use crate::stock::{Bookmark, StockTaking};
use crate::watchdog::Watch;

const OPTIONS: Options = Options { segment_bytes: 20_000, frame_bytes: 2_000, headroom_bytes: 1_024, reserve_bytes: 0, salt: 11 };
/// Whose events devices want.
pub(crate) const WANTED: OwnerId = OwnerId(1);
/// Whose they do not.
pub(crate) const UNWANTED: OwnerId = OwnerId(2);

/// A journal, the fan-out and the stock-taking, and shards that are the test itself.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) journal: Journal,
    pub(crate) fan_out: FanOut,
    pub(crate) stock: StockTaking,
    shards: Vec<(Mailbox<Input<Reply>>, Lane<ToFanOut>)>,
    /// What wakes the fan-out, and where it hears each shard.
    places: (Arc<Bell>, Vec<LanePlace>),
    clock: Clock,
}

/// An event that was published so many seconds ago.
pub(crate) fn event(owner: OwnerId, name: &str, clock: Clock, age_s: u64) -> Arc<Event> {
    let new = NewEvent { owner, product: None, source: Source::Api, name: name.into(), content_format: 0, data: None, ttl_s: 60 };
    let now = clock.now().unix.0;
    Arc::new(new.accept(UnixMillis(now - age_s * 1_000), [0; 10]))
}

impl World {
    pub(crate) fn new(shards: usize) -> Self {
        Self::open(tempfile::tempdir().unwrap(), shards)
    }

    fn open(dir: tempfile::TempDir, shards: usize) -> Self {
        let clock = Clock::start();
        let (journal, _) = Journal::open(&dir.path().join("journal"), OPTIONS).unwrap();
        let events = journal.events();
        let cursors = Cursors::open(&dir.path().join("cursors"), events.clone()).unwrap();
        let bookmarks: Vec<_> = cursors_of_shards(&cursors, shards, events.last()).unwrap().into_iter().map(Bookmark::new).collect();
        let (mut builder, subscribed) = (MailboxBuilder::new().unwrap(), Arc::new(SubscribedOwners::new()));
        let (mut lanes, mut ends, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, bookmark) in bookmarks.iter().enumerate() {
            let mut shard_box = MailboxBuilder::new().unwrap();
            lanes.push((shard_box.lane(UNTAKEN_MAX), bookmark.account()));
            places.push(builder.next_place());
            ends.push((shard_box.build().unwrap(), builder.lane(64)));
            subscribed.add(shard, WANTED, "");
        }
        let (metrics, places, mailbox) = (Metrics::new(), (builder.bell(), places), builder.build().unwrap());
        let fan_out =
            FanOut::new(events.clone(), lanes, mailbox, subscribed, clock, metrics.fan_out(), Watch::new(0, 1).watched(Part::FanOut));
        let stock = StockTaking::new(events, cursors, bookmarks, metrics.stock());
        Self { dir, journal, fan_out, stock, shards: ends, places, clock }
    }

    /// The process is killed, and the next one has so many shards.
    pub(crate) fn crash(self, shards: usize) -> Self {
        let Self { dir, journal, fan_out, stock, .. } = self;
        drop((journal, fan_out, stock));
        Self::open(dir, shards)
    }

    pub(crate) fn commit(&mut self, owner: OwnerId, name: &str, age_s: u64, count: usize) {
        let record = |_| Record::Event { floor: None, event: event(owner, name, self.clock, age_s) };
        let batch: Vec<_> = (0..count).map(record).collect();
        self.journal.commit(&batch).unwrap();
    }

    /// The fan-out does all that it can.
    pub(crate) fn turn(&mut self) {
        self.fan_out.listen();
        while self.fan_out.turn() {}
        self.fan_out.publish();
    }

    /// A shard takes at most so many events and offers them to its devices.
    pub(crate) fn take(&mut self, shard: usize, most: usize) -> Vec<Position> {
        let mut taken = Vec::new();
        self.shards[shard].0.drain(most, |input| match input {
            Input::Committed { position, .. } => taken.push(position),
            other => panic!("{other:?}"),
        });
        self.tell(shard, taken.len(), Vec::new());
        taken
    }

    pub(crate) fn tell(&mut self, shard: usize, taken: usize, fates: Vec<(Position, Fate)>) {
        self.shards[shard].1.send(ToFanOut::Fates { shard, taken, fates }).unwrap();
        self.fan_out.listen();
    }

    /// Another thread takes a shard over. The ends of the old one.
    fn take_over(&mut self, shard: usize) -> (Mailbox<Input<Reply>>, Lane<ToFanOut>) {
        let (bell, places) = &self.places;
        let refused = prometheus::IntCounter::new("refused", "refused").unwrap();
        let (lane, from_shard) = Lane::instead_of(places[shard], bell, 64, refused);
        let (mut own, mut answers) = (MailboxBuilder::new().unwrap(), MailboxBuilder::new().unwrap());
        let handover = FanOutHandover { shard, from_shard, to_shard: own.lane(UNTAKEN_MAX), answer: answers.lane(1) };
        self.fan_out.take_over(handover);
        assert_eq!(answers.build().unwrap().drain(9, |_| {}), 1, "whoever waits is told");
        std::mem::replace(&mut self.shards[shard], (own.build().unwrap(), lane))
    }

    /// Where the account of a shard is.
    fn position(&self, shard: usize) -> u64 {
        self.fan_out.lines[shard].account().position.0
    }
}

fn delivered(positions: &[Position]) -> Vec<(Position, Fate)> {
    positions.iter().map(|position| (*position, Fate::Delivered)).collect()
}

#[test]
fn a_shard_that_takes_nothing_loses_nothing_and_holds_up_nobody() {
    let mut world = World::new(2);
    let (mut quick, mut events) = (Vec::new(), 0);
    while events < 5_000 {
        world.commit(WANTED, "news", 0, 50);
        events += 50;
        world.turn();
        let taken = world.take(0, usize::MAX);
        world.tell(0, 0, delivered(&taken));
        quick.extend(taken);
    }
    world.turn();
    let all: Vec<_> = (1..=5_000).map(Position).collect();
    assert_eq!((quick, world.position(0)), (all.clone(), 5_000));
    assert_eq!((world.position(1), world.fan_out.metrics.behind.get()), (0, 1));
    let mut slow = Vec::new();
    while slow.len() < 5_000 {
        world.turn();
        let taken = world.take(1, 100);
        assert!(!taken.is_empty(), "{} came", slow.len());
        slow.extend(taken);
    }
    world.tell(1, 0, delivered(&slow));
    assert_eq!((slow, world.position(1)), (all, 5_000));
    world.commit(WANTED, "news", 0, 1);
    world.turn();
    assert_eq!((world.take(0, 9).len(), world.take(1, 9).len()), (1, 1), "it keeps up again");
    assert!(world.fan_out.lines.iter().all(Line::keeps_up));
}

#[test]
fn what_no_device_can_want_is_sent_to_no_shard() {
    let mut world = World::new(2);
    world.commit(UNWANTED, "news", 0, 7);
    world.commit(WANTED, "spark/status", 0, 3);
    world.commit(WANTED, "news", 61, 2);
    world.commit(WANTED, "news", 0, 1);
    world.turn();
    assert_eq!(world.take(1, 99), [Position(13)]);
    assert_eq!(world.position(1), 12);
    let account = world.fan_out.lines[1].account();
    assert_eq!((account.fates[Fate::Unwanted.index()], account.expired, account.waiting), (10, 2, 1));
}

#[test]
fn after_a_crash_everything_without_a_durable_fate_comes_again() {
    let mut world = World::new(1);
    world.commit(WANTED, "news", 0, 10);
    world.turn();
    let taken = world.take(0, 99);
    world.tell(0, 0, delivered(&taken[..4]));
    world.turn();
    world.stock.balances();
    world.tell(0, 0, delivered(&taken[4..7]));
    world.turn();
    let mut world = world.crash(1);
    world.turn();
    assert_eq!(world.take(0, 99), (5..=10).map(Position).collect::<Vec<_>>(), "three of them were delivered, which nobody wrote down");
}

#[test]
fn another_thread_of_a_shard_is_sent_what_has_no_fate_and_the_old_one_says_nothing_more() {
    let mut world = World::new(2);
    world.commit(WANTED, "news", 0, 10);
    world.turn();
    let (taken, others) = (world.take(1, 6), world.take(0, 99));
    world.tell(1, 0, delivered(&taken[..4]));
    world.tell(0, 0, delivered(&others));
    let (_mailbox, mut old) = world.take_over(1);
    old.send(ToFanOut::Fates { shard: 1, taken: 6, fates: delivered(&taken) }).unwrap();
    world.commit(WANTED, "news", 0, 1);
    world.turn();
    assert_eq!((world.position(1), world.position(0)), (4, 10), "what the old thread says does not count");
    let again = world.take(1, 99);
    assert_eq!((again.clone(), world.take(0, 99)), ((5..=11).map(Position).collect(), vec![Position(11)]));
    world.tell(1, 0, delivered(&again));
    world.turn();
    let account = world.fan_out.lines[1].account();
    assert_eq!((account.position, account.fates[Fate::Delivered.index()], account.waiting), (Position(11), 11, 0), "each is counted once");
    assert!(world.fan_out.lines.iter().all(Line::keeps_up));
}

#[test]
fn with_another_number_of_shards_all_begin_where_the_slowest_was() {
    let mut world = World::new(2);
    world.commit(WANTED, "news", 0, 10);
    world.turn();
    for (shard, fates) in [(0, 8), (1, 3)] {
        let taken = world.take(shard, 99);
        world.tell(shard, 0, delivered(&taken[..fates]));
    }
    world.turn();
    world.stock.balances();
    let mut world = world.crash(3);
    world.turn();
    let expected: Vec<_> = (4..=10).map(Position).collect();
    assert!((0..3).all(|shard| world.take(shard, 99) == expected));
    let names: Vec<_> = world.stock.balances().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["devices-0-of-3", "devices-1-of-3", "devices-2-of-3"]);
}
