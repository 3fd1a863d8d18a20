use std::sync::atomic::AtomicBool;
use std::thread;

use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::{NewEvent, Source};
use router::journal::Record;
use tokio::time::Instant;

use super::*;
use crate::journal::{CompactionOptions, Journal, Options, compact, remove_segments};
use crate::metrics::Metrics;

const OPTIONS: Options = Options { segment_bytes: 60_000, frame_bytes: 8_000, headroom_bytes: 1_024, reserve_bytes: 0, salt: 5 };

struct World {
    dir: tempfile::TempDir,
    journal: Journal,
    streams: Arc<Streams>,
    metrics: Arc<StreamMetrics>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), OPTIONS).unwrap();
        let metrics = Arc::new(Metrics::new().streams());
        let (replay, replayer) = Replay::new(journal.events(), Arc::clone(&metrics));
        // It ends with the last stream.
        thread::spawn(move || replayer.run(&AtomicBool::new(false)));
        let streams = Arc::new(Streams::new(journal.events(), replay, Arc::clone(&metrics)));
        Self { dir, journal, streams, metrics }
    }

    fn commit(&mut self, owner: u64, names: &[&str]) -> CommittedEvents {
        self.commit_to(owner, None, names)
    }

    fn commit_to(&mut self, owner: u64, product: Option<u32>, names: &[&str]) -> CommittedEvents {
        let event = |name: &&str| {
            let new = NewEvent {
                owner: OwnerId(owner),
                product: product.map(ProductId),
                source: Source::Device(DeviceId([3; 12])),
                name: (*name).into(),
                content_format: 0,
                data: Some(vec![0; 1000]),
                ttl_s: 60,
            };
            Arc::new(new.accept(UnixMillis(0), [0; 10]))
        };
        let events: Vec<_> = names.iter().map(event).collect();
        let records: Vec<_> = events.iter().map(|event| Record::Event { floor: None, event: Arc::clone(event) }).collect();
        let first = self.journal.commit(&records).unwrap().first;
        (first.0..).map(Position).zip(events).collect()
    }

    fn publish(&mut self, owner: u64, names: &[&str]) {
        self.publish_to(owner, None, names);
    }

    fn publish_to(&mut self, owner: u64, product: Option<u32>, names: &[&str]) {
        let batch = self.commit_to(owner, product, names);
        self.streams.pass_on(&batch);
    }

    fn expire(&self, before: u64) {
        let covered =
            compact(self.dir.path(), &self.journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) });
        let released = self.journal.segments().release(&covered.unwrap().unwrap(), Position(before));
        remove_segments(self.dir.path(), &released).unwrap();
    }

    fn all(&self, owner: u64, after: Option<u64>) -> EventStream {
        self.all_of(Audience::Owner(OwnerId(owner)), after)
    }

    fn all_of(&self, audience: Audience, after: Option<u64>) -> EventStream {
        let after = after.map(Position);
        self.streams.open(StreamFilter { audience, device: None, prefix: String::new(), after })
    }
}

fn filter(prefix: &str, device: Option<u8>) -> StreamFilter {
    StreamFilter { audience: Audience::Owner(OwnerId(1)), device: device.map(|n| DeviceId([n; 12])), prefix: prefix.into(), after: None }
}

async fn position(stream: &mut EventStream) -> u64 {
    match stream.next().await {
        Some(Item::Event((position, _))) => position.0,
        other => panic!("no event: {other:?}"),
    }
}

async fn positions(stream: &mut EventStream, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(position(stream).await);
    }
    all
}

#[tokio::test]
async fn streams_get_what_they_want_and_end_with_the_writer() {
    let mut world = World::new();
    let mut all = world.streams.open(filter("", None));
    let mut some = world.streams.open(filter("te", Some(3)));
    let mut other = world.streams.open(filter("", Some(4)));
    let (sender, receiver) = mpsc::channel(4);
    sender.send(world.commit(1, &["humidity", "temp"])).await.unwrap();
    drop(sender);
    world.streams.run(receiver, None).await;
    assert_eq!(positions(&mut all, 2).await, [1, 2]);
    assert_eq!(position(&mut some).await, 2);
    assert!(all.next().await.is_none() && some.next().await.is_none() && other.next().await.is_none());
    assert!(world.all(1, None).next().await.is_none(), "there is nothing more to come");
}

#[tokio::test]
async fn an_event_of_a_product_goes_to_its_account_and_to_its_product() {
    let mut world = World::new();
    let product = |number| Audience::Product(ProductId(number));
    let open = |world: &World, after| {
        [Audience::Owner(OwnerId(1)), Audience::Owner(OwnerId(2)), product(1), product(2)].map(|audience| world.all_of(audience, after))
    };
    let live = open(&world, None);
    world.publish_to(1, Some(1), &["a"]);
    world.publish_to(2, Some(1), &["b"]);
    world.publish_to(2, Some(2), &["c"]);
    world.publish_to(1, None, &["d"]);
    let continued = open(&world, Some(0));
    // One more for each, so that it shows what they did not get.
    world.publish_to(1, Some(2), &["e"]);
    world.publish_to(2, Some(1), &["f"]);
    for streams in [live, continued] {
        for (mut stream, expected) in streams.into_iter().zip([&[1, 4, 5][..], &[2, 3, 6], &[1, 2, 6], &[3, 5]]) {
            assert_eq!(positions(&mut stream, expected.len()).await, expected);
        }
    }
}

#[tokio::test]
async fn a_reader_that_comes_back_continues_without_gap_or_repeat() {
    let mut world = World::new();
    for _ in 0..100 {
        world.publish(1, &["a", "b"]);
        world.publish(2, &["a"]);
    }
    let expected = |after: u64, until: u64| (after + 1..=until).filter(|position| position % 3 != 0).collect::<Vec<_>>();
    for after in [0, 1, 150, 299, 300] {
        let mut stream = world.all(1, Some(after));
        let expected = expected(after, 300);
        assert_eq!(positions(&mut stream, expected.len()).await, expected, "after {after}");
    }
    let mut stream = world.all(1, Some(290));
    assert_eq!(positions(&mut stream, 2).await, [292, 293]);
    world.publish(1, &["a", "b"]);
    world.publish(2, &["a"]);
    assert_eq!(positions(&mut stream, 6).await, expected(293, 303));
    world.publish(1, &["a"]);
    assert_eq!(position(&mut stream).await, 304, "and it is up to date");
    assert_eq!(world.metrics.continued.get(), 6);
}

#[tokio::test]
async fn what_is_no_longer_kept_is_said_and_so_is_a_position_that_is_not_known() {
    let mut world = World::new();
    for _ in 0..300 {
        world.publish(1, &["a"]);
    }
    let mut reading = world.all(1, Some(0));
    assert_eq!(position(&mut reading).await, 1);
    world.expire(200);
    let oldest = world.journal.events().oldest().0;
    let mut late = world.all(1, Some(5));
    assert_eq!(late.next().await, Some(Item::Gap(Gap::Expired { from: Position(6), to: Position(oldest - 1) })));
    assert_eq!(position(&mut late).await, oldest);
    assert_eq!(Gap::Expired { from: Position(6), to: Position(9) }.resumes_after(), Position(9));

    let mut seen = 1;
    let gap = loop {
        match reading.next().await {
            Some(Item::Event((position, _))) => {
                assert_eq!(position.0, seen + 1);
                seen = position.0;
            }
            other => break other,
        }
    };
    assert_eq!(gap, Some(Item::Gap(Gap::Expired { from: Position(seen + 1), to: Position(oldest - 1) })));
    assert_eq!(position(&mut reading).await, oldest);

    for (unknown, last) in [(301, 300), (u64::MAX, 301)] {
        let mut ahead = world.all(1, Some(unknown));
        assert_eq!(ahead.next().await, Some(Item::Gap(Gap::Unknown { last: Position(last) })));
        world.publish(1, &["a"]);
        assert_eq!(position(&mut ahead).await, last + 1);
    }
    assert_eq!(world.metrics.gaps.get(), 4);
}

#[tokio::test]
async fn what_is_damaged_is_said_and_reading_goes_on_after_it() {
    let mut world = World::new();
    for _ in 0..300 {
        world.publish(1, &["a"]);
    }
    let damaged = world.journal.segments().sealed()[1];
    let path = damaged.path(world.dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut reading = world.all(1, Some(0));
    let (mut seen, next) = (0, damaged.positions().1);
    while seen < 300 {
        match reading.next().await {
            Some(Item::Gap(gap)) => {
                assert_eq!(gap, Gap::Expired { from: Position(seen + 1), to: Position(next.0 - 1) });
                seen = next.0 - 1;
            }
            Some(Item::Event((position, _))) => {
                assert_eq!(position.0, seen + 1);
                seen = position.0;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.metrics.gaps.get(), 1);
}

#[tokio::test]
async fn a_reader_that_falls_behind_reads_the_journal_and_the_others_go_on() {
    let mut world = World::new();
    let (mut slow, mut quick) = (world.all(1, None), world.all(1, None));
    for number in 1..=300 {
        world.publish(1, &["a"]);
        assert_eq!(position(&mut quick).await, number);
    }
    assert_eq!((world.metrics.behind.get(), world.metrics.open.get()), (1, 2));
    assert_eq!(positions(&mut slow, 300).await, (1..=300).collect::<Vec<_>>());
    world.publish(1, &["a"]);
    assert_eq!((position(&mut slow).await, position(&mut quick).await), (301, 301));
    assert_eq!((world.metrics.cut.get(), world.metrics.gaps.get()), (0, 0));
    drop((slow, quick));
    let _last = world.all(1, None);
    assert_eq!(
        (world.metrics.open.get(), world.streams.with(|hub| hub.open[&Audience::Owner(OwnerId(1))].len())),
        (1, 1),
        "who left is forgotten"
    );
}

#[tokio::test]
async fn a_reader_that_is_stuck_is_cut_and_told_where_to_continue() {
    let mut world = World::new();
    let (mut stuck, gone) = (world.all(1, None), world.all(1, None));
    world.publish(1, &["a", "b"]);
    world.streams.with(|hub| {
        let long_ago = Instant::now().checked_sub(stream::PATIENCE).unwrap();
        hub.open.drain().flat_map(|(_, open)| open).for_each(|open| open.sender.leave_behind(long_ago));
    });
    world.publish(1, &["c"]);
    assert_eq!(positions(&mut stuck, 2).await, [1, 2]);
    assert_eq!(stuck.next().await, Some(Item::Cut(Cut::TooSlow(Position(2)))));
    assert_eq!((stuck.next().await, world.metrics.cut.get()), (None, 1));
    drop((stuck, gone));
    assert_eq!(world.metrics.cut.get(), 2, "one never read on");
    assert_eq!(position(&mut world.all(1, Some(2))).await, 3);
}

#[tokio::test]
async fn batches_that_were_missed_are_read_from_the_journal() {
    let mut world = World::new();
    let mut stream = world.all(1, None);
    world.publish(1, &["a"]);
    world.commit(1, &["b", "c"]);
    world.publish(1, &["d"]);
    assert_eq!(positions(&mut stream, 4).await, [1, 2, 3, 4]);
    let last = world.commit(1, &["e"]);
    world.streams.pass_over_missed();
    assert_eq!(position(&mut stream).await, 5);
    world.streams.pass_on(&last);
    world.publish(1, &["f"]);
    assert_eq!(position(&mut stream).await, 6, "what comes late is not passed on twice");
}

#[tokio::test]
async fn a_reader_comes_through_a_large_segment_that_is_not_indexed_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), Options { segment_bytes: 14 << 20, ..Options::new(1) }).unwrap();
    let metrics = Arc::new(Metrics::new().streams());
    let mut world = World { dir, journal, streams: World::new().streams, metrics: Arc::clone(&metrics) };
    for _ in 0..18 {
        world.commit(2, &["a"; 1000]);
        world.commit(1, &["b"]);
    }
    assert_eq!(world.journal.segments().sealed().len(), 1);
    let (replay, replayer) = Replay::new(world.journal.events(), Arc::clone(&metrics));
    thread::spawn(move || replayer.run(&AtomicBool::new(false)));
    world.streams = Arc::new(Streams::new(world.journal.events(), replay, metrics));
    let expected: Vec<u64> = (1..=18).map(|n| n * 1001).collect();
    assert_eq!(positions(&mut world.all(1, Some(0)), 18).await, expected);
    assert_eq!(positions(&mut world.all(1, Some(12_000)), 7).await, expected[11..]);
}

/// What happens to a journal and the readers of the events of one account or product.
#[derive(Clone, Debug)]
enum Step {
    /// Events of an account, and perhaps of a product, are committed; `true` if the streams hear of it.
    Publish(u64, Option<u32>, usize, bool),
    /// A reader takes up to so many.
    Take(usize, usize),
    /// A reader loses its connection and comes back.
    ComeBack(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..3, prop::option::of(1u32..3), 1usize..30, prop::bool::weighted(0.9))
            .prop_map(|(owner, product, count, heard)| Step::Publish(owner, product, count, heard)),
        4 => (0usize..3, 1usize..60).prop_map(|(reader, count)| Step::Take(reader, count)),
        1 => (0usize..3).prop_map(Step::ComeBack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_a_reader_sees_each_event_that_it_hears_of_once(
        steps in proptest::collection::vec(any_step(), 1..60),
        in_product in any::<bool>(),
    ) {
        let audience = if in_product { Audience::Product(ProductId(1)) } else { Audience::Owner(OwnerId(1)) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            let (mut expected, mut taken) = (Vec::new(), [0; 3]);
            let mut readers: Vec<EventStream> = (0..3).map(|_| world.all_of(audience, None)).collect();
            let takes = (0..3).map(|reader| Step::Take(reader, 9999));
            for step in steps.into_iter().chain([Step::Publish(1, Some(1), 1, true)]).chain(takes) {
                match step {
                    Step::Publish(owner, product, count, heard) => {
                        let batch = world.commit_to(owner, product, &vec!["a"; count]);
                        expected.extend(batch.iter().filter(|(_, event)| audience.hears(event)).map(|(position, _)| position.0));
                        if heard {
                            world.streams.pass_on(&batch);
                        }
                    }
                    Step::Take(reader, count) => {
                        world.streams.pass_over_missed();
                        let from = taken[reader];
                        let until = expected.len().min(from + count);
                        assert_eq!(positions(&mut readers[reader], until - from).await, expected[from..until]);
                        taken[reader] = until;
                    }
                    Step::ComeBack(reader) => {
                        let after = taken[reader].checked_sub(1).map_or(0, |last| expected[last]);
                        readers[reader] = world.all_of(audience, Some(after));
                    }
                }
            }
        });
    }
}
