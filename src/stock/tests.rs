use proptest::prelude::*;
use router::fate::Fate;

use super::*;
use crate::fan_out::tests::{UNWANTED, WANTED, World};

impl StockTaking {
    /// Takes stock from begin to end.
    pub(crate) fn balances(&mut self) -> Vec<(String, Balance)> {
        loop {
            if let Some(balances) = self.count().unwrap() {
                return balances;
            }
        }
    }
}

#[test]
fn every_term_is_counted_by_itself() {
    let mut world = World::new(1);
    world.commit(UNWANTED, "news", 0, 5);
    world.commit(WANTED, "news", 90, 2);
    world.commit(WANTED, "news", 0, 4);
    world.turn();
    let taken = world.take(0, 99);
    world.tell(0, 0, vec![(taken[0], Fate::Delivered), (taken[1], Fate::Offline), (taken[3], Fate::Delivered)]);
    world.turn();
    let (_, balance) = world.stock.balances().remove(0);
    let Balance { accepted, ledger, expired_unread, pending } = &balance;
    assert_eq!((*accepted, ledger.delivered, ledger.expired, *expired_unread, *pending), (11, 1, 2, 0, 2));
    assert_eq!(ledger.rejected, [("offline".to_owned(), 1), ("unwanted".to_owned(), 5)].into());
    assert_eq!(balance.imbalance(), 0);
    world.commit(WANTED, "news", 0, 100);
    assert_eq!(world.stock.balances()[0].1.pending, 102, "as the journal is, though the fan-out has not come to them");
}

#[test]
fn cursors_are_moved_at_once_only_for_what_somebody_wanted() {
    let mut world = World::new(1);
    let durable = |world: &World| world.stock.cursors.standing("devices-0-of-1").unwrap();
    world.commit(UNWANTED, "news", 0, 5);
    world.turn();
    world.stock.commit(false);
    assert_eq!(durable(&world).mark.position, Position(0));
    world.commit(WANTED, "news", 0, 1);
    world.turn();
    world.stock.commit(false);
    assert_eq!((durable(&world).mark.position, durable(&world).seen), (Position(5), Position(6)), "and up to where the journal was");
    world.commit(UNWANTED, "news", 0, 5);
    let taken = world.take(0, 9);
    world.tell(0, 0, vec![(taken[0], Fate::Busy)]);
    world.turn();
    world.stock.commit(false);
    assert_eq!(durable(&world).mark.position, Position(11));
}

#[derive(Clone, Debug)]
enum Step {
    Commit { wanted: bool, stale: bool, count: usize },
    Turn,
    Take { shard: usize, most: usize },
    Answer { shard: usize, which: prop::sample::Index, fate: usize },
    TakeStock,
    Crash { shards: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), prop::bool::weighted(0.2), 0usize..9).prop_map(|(wanted, stale, count)| Step::Commit { wanted, stale, count }),
        4 => Just(Step::Turn),
        3 => (0usize..3, 0usize..20).prop_map(|(shard, most)| Step::Take { shard, most }),
        4 => (0usize..3, any::<prop::sample::Index>(), 0..Fate::COUNT).prop_map(|(shard, which, fate)| Step::Answer { shard, which, fate }),
        1 => Just(Step::TakeStock),
        1 => (1usize..4).prop_map(|shards| Step::Crash { shards }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_happens_the_books_balance(steps in prop::collection::vec(step(), 1..80)) {
        let (mut world, mut shards) = (World::new(2), 2);
        let mut out = vec![Vec::new(); 3];
        for step in steps.into_iter().chain([Step::Turn, Step::TakeStock]) {
            match step {
                Step::Commit { wanted, stale, count } => {
                    world.commit(if wanted { WANTED } else { UNWANTED }, "news", if stale { 99 } else { 0 }, count);
                }
                Step::Turn => world.turn(),
                Step::Take { shard, most } if shard < shards => out[shard].extend(world.take(shard, most)),
                Step::Answer { shard, which, fate } if shard < shards && !out[shard].is_empty() => {
                    let index = which.index(out[shard].len());
                    let position = out[shard].swap_remove(index);
                    world.tell(shard, 0, vec![(position, Fate::ALL[fate])]);
                }
                Step::TakeStock => {
                    let last = world.journal.events().last();
                    let balances = world.stock.balances();
                    prop_assert_eq!(balances.len(), shards);
                    for (sink, balance) in balances {
                        prop_assert_eq!(balance.imbalance(), 0, "{} {:?}", sink, balance);
                        prop_assert!(balance.accepted <= last.0);
                    }
                }
                Step::Crash { shards: next } => {
                    (world, shards) = (world.crash(next), next);
                    out.iter_mut().for_each(Vec::clear);
                }
                Step::Take { .. } | Step::Answer { .. } => {}
            }
        }
    }
}
