use super::*;
use crate::config::{Config, Limit};

const SOON: Duration = Duration::from_secs(5);

fn bulkheads(calls: u64) -> Bulkheads {
    let settings = Settings { calls: Limit::AtMost(calls), ..Settings::from(&Config::default()) };
    Bulkheads::new(&settings, Arc::default())
}

fn late() -> Instant {
    Instant::now() + SOON
}

#[tokio::test]
async fn one_that_waits_begins_when_another_ends() {
    let bulkheads = bulkheads(1);
    let first = bulkheads.enter(Class::Calls, late()).await.expect("a place");
    let waiting = tokio::spawn({
        let bulkheads = bulkheads.clone();
        async move { bulkheads.enter(Class::Calls, late()).await.is_ok() }
    });
    while bulkheads.gate(Class::Calls).waiting() == 0 {
        tokio::task::yield_now().await;
    }
    drop(first);
    assert!(waiting.await.expect("it ends"));
    assert_eq!(bulkheads.gate(Class::Calls).at_work(), 0);
}

#[tokio::test]
async fn other_classes_have_places_of_their_own() {
    let bulkheads = bulkheads(1);
    let _call = bulkheads.enter(Class::Calls, late()).await.expect("a place");
    for class in Class::ALL.into_iter().filter(|class| *class != Class::Calls) {
        assert!(bulkheads.enter(class, late()).await.is_ok(), "{class:?}");
    }
}

#[tokio::test]
async fn the_turn_of_one_that_has_left_goes_to_the_next() {
    let bulkheads = bulkheads(1);
    let first = bulkheads.enter(Class::Calls, late()).await.expect("a place");
    let wait = |bulkheads: Bulkheads| tokio::spawn(async move { bulkheads.enter(Class::Calls, late()).await.is_ok() });
    let leaving = wait(bulkheads.clone());
    while bulkheads.gate(Class::Calls).waiting() < 1 {
        tokio::task::yield_now().await;
    }
    let next = wait(bulkheads.clone());
    while bulkheads.gate(Class::Calls).waiting() < 2 {
        tokio::task::yield_now().await;
    }
    leaving.abort();
    assert!(leaving.await.is_err());
    drop(first);
    assert!(next.await.expect("it ends"));
    let gate = bulkheads.gate(Class::Calls);
    assert_eq!((gate.at_work(), gate.waiting()), (0, 0));
}

#[tokio::test]
async fn one_whose_time_is_over_was_not_begun_and_one_that_found_no_place_was_refused() {
    let bulkheads = bulkheads(1);
    let _first = bulkheads.enter(Class::Calls, late()).await.expect("a place");
    assert!(bulkheads.enter(Class::Calls, Instant::now() + Duration::from_millis(20)).await.is_err());
    assert!(bulkheads.enter(Class::Calls, late()).await.is_err());
    assert!(bulkheads.enter(Class::Reads, Instant::now()).await.is_err(), "there is a place, and no time");
    let counters = bulkheads.counters(Class::Calls);
    let read = |number: &std::sync::atomic::AtomicU64| number.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((read(&counters.late), read(&counters.refused), read(&counters.waiting)), (1, 1, 0));
    assert_eq!((read(&counters.limit), read(&counters.at_work)), (1, 1));
}

#[tokio::test]
async fn a_full_class_refuses_at_the_door() {
    let bulkheads = bulkheads(1);
    let _first = bulkheads.enter(Class::Calls, late()).await.expect("a place");
    assert!(bulkheads.look_in(Class::Calls).is_ok(), "it may wait");
    let waiting: Vec<_> = (0..WAITING_MAX)
        .map(|_| {
            tokio::spawn({
                let bulkheads = bulkheads.clone();
                async move { drop(bulkheads.enter(Class::Calls, late()).await) }
            })
        })
        .collect();
    while bulkheads.gate(Class::Calls).waiting() < WAITING_MAX as u64 {
        tokio::task::yield_now().await;
    }
    assert!(bulkheads.look_in(Class::Calls).is_err());
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[test]
fn retry_after_is_in_whole_seconds_and_never_too_early() {
    let seconds = [0, 1, 1000, 1001].map(|ms| whole_seconds(Duration::from_millis(ms)));
    assert_eq!(seconds, [1, 1, 1, 2]);
}
