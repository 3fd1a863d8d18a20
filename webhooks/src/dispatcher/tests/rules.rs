//! Each rule by itself.

use router::event::Position;

use super::world::{Receiver, World, hook, settings};
use crate::dispatcher::health::State;
use crate::dispatcher::messages::{DisableWhy, Notice, Ordering};
use crate::dispatcher::{Input, JobId, Settings, Source, TenantId};

const HOUR: u64 = 3_600_000;

fn world(receiver: Receiver) -> World {
    let mut world = World::new(1_024, 1);
    world.add(hook(1), settings(1), receiver);
    world
}

/// When attempts of a delivery were begun.
fn attempts_of(world: &World, position: u64) -> Vec<u64> {
    world.begun.iter().filter(|begun| begun.position == Position(position)).map(|begun| begun.at).collect()
}

#[test]
fn what_arrives_is_sent_and_recorded() {
    let mut world = world(Receiver::Answers(200, 50));
    world.accept(hook(1), 1, 3);
    assert!(world.finish(1_000));
    assert_eq!((world.shelf(hook(1)).delivered, world.now), (3, 150), "one after another");
    assert_eq!(world.dispatcher.counts().held, 0);
}

#[test]
fn without_order_they_are_sent_together() {
    let mut world = world(Receiver::Answers(200, 50));
    world.change(hook(1), |settings| settings.ordering = Ordering::None);
    world.accept(hook(1), 1, 4);
    assert!(world.finish(50));
}

#[test]
fn the_schedule_is_followed_to_its_end() {
    let mut world = world(Receiver::Answers(400, 10));
    world.accept(hook(1), 1, 1);
    assert!(world.finish(80 * HOUR));
    let begun = attempts_of(&world, 1);
    assert_eq!(begun.len(), 12);
    let waits: Vec<_> = begun.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect();
    for (wait, step) in waits.iter().zip([5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 86_400]) {
        assert!((step * 8 / 10..=step * 12 / 10 + 1).contains(wait), "{waits:?}");
    }
    assert_eq!(world.shelf(hook(1)).dead["Exhausted"], 1);
}

#[test]
fn the_events_of_a_device_wait_for_three_attempts_and_those_of_others_do_not() {
    let mut world = world(Receiver::Dislikes(1));
    world.accept(hook(1), 1, 1);
    world.accept(hook(1), 2, 20);
    world.shelf(hook(1)).receiver = Receiver::Dislikes(1);
    world.run(2_000);
    assert_eq!(world.shelf(hook(1)).delivered, 20);
    world.accept(hook(1), 1, 1);
    world.run(24_000);
    assert!(attempts_of(&world, 22).is_empty());
    world.run(20_000);
    let third = attempts_of(&world, 1)[2];
    let follower = attempts_of(&world, 22)[0];
    assert!((third..third + 200).contains(&follower), "{third} {follower}");
    assert!(world.shelf(hook(1)).pending[&Position(1)].out_of_order);
}

#[test]
fn a_long_wait_that_is_asked_for_does_not_hold_the_lane() {
    let mut world = world(Receiver::Asks(500, 3_600));
    world.accept(hook(1), 1, 2);
    world.run(200);
    assert_eq!((attempts_of(&world, 1).len(), attempts_of(&world, 2).len()), (1, 1));
    world.shelf(hook(1)).receiver = Receiver::Answers(200, 10);
    world.run(3_599_000);
    assert_eq!(world.shelf(hook(1)).delivered, 0, "both wait as long as they were asked to");
    world.run(2_000);
    assert_eq!(world.shelf(hook(1)).delivered, 2);
}

#[test]
fn a_breaker_opens_and_what_waits_burns_no_attempts() {
    let mut world = world(Receiver::Refuses);
    (1..=200).for_each(|device| world.accept(hook(1), device, 5));
    world.run(HOUR);
    let begun = world.begun.len();
    assert!((10..=60).contains(&begun), "{begun}");
    assert_eq!(world.dispatcher.view(world.time(), hook(1)).unwrap().health.state, State::Open);
    assert!(world.dispatcher.counts().held <= 8);
    let burnt: u32 = world.shelf(hook(1)).pending.values().map(|stored| u32::from(stored.entry.attempts)).sum();
    assert!(burnt <= 8, "only what was in flight when it opened: {burnt}");
    world.shelf(hook(1)).receiver = Receiver::Answers(200, 20);
    assert!(world.finish(10 * 60_000));
    assert_eq!(world.shelf(hook(1)).delivered, 1_000);
}

#[test]
fn recovery_is_slow_at_first() {
    let mut world = world(Receiver::Refuses);
    (1..=200).for_each(|device| world.accept(hook(1), device, 20));
    world.run(60_000);
    world.shelf(hook(1)).receiver = Receiver::Answers(200, 100);
    world.begun.clear();
    world.run(300_000);
    let first = world.begun[3].at;
    let in_step = |step: u64| {
        let (from, to) = (first + step * 5_000, first + (step + 1) * 5_000);
        world.begun.iter().filter(|begun| begun.at >= from && begun.at < to).count()
    };
    assert!(in_step(0) <= 51 && in_step(1) <= 102 && in_step(2) <= 204, "{} {} {}", in_step(0), in_step(1), in_step(2));
    assert!(world.shelf(hook(1)).pending.is_empty());
}

#[test]
fn one_that_wants_less_is_paused_and_its_breaker_stays_closed() {
    let mut world = world(Receiver::Full(Some(60)));
    (1..=50).for_each(|device| world.accept(hook(1), device, 1));
    world.run(59_000);
    assert_eq!(world.begun.len(), 4);
    world.run(240_000);
    assert!(world.begun.len() <= 10, "{}", world.begun.len());
    assert_ne!(world.dispatcher.view(world.time(), hook(1)).unwrap().health.state, State::Open);
    world.shelf(hook(1)).receiver = Receiver::Answers(200, 10);
    assert!(world.finish(HOUR));
}

#[test]
fn a_destination_that_is_gone_is_disabled_and_nothing_is_lost() {
    let mut world = world(Receiver::Answers(410, 10));
    (1..=50).for_each(|device| world.accept(hook(1), device, 2));
    world.run(HOUR);
    assert!(world.begun.len() <= 4);
    assert_eq!(world.disabled, [(hook(1), DisableWhy::Gone)]);
    assert!(world.notices.iter().any(|(_, _, notice)| *notice == Notice::Disabled(DisableWhy::Gone)));
    assert_eq!(world.dispatcher.counts().held, 0);
    world.shelf(hook(1)).receiver = Receiver::Answers(200, 10);
    world.change(hook(1), |settings| (settings.is_disabled, settings.revision) = (false, 1));
    assert!(world.finish(HOUR));
    assert_eq!(world.shelf(hook(1)).delivered, 100);
}

#[test]
fn refusals_are_told_at_once_and_tried_again() {
    let mut world = world(Receiver::Answers(403, 10));
    world.accept(hook(1), 1, 1);
    world.run(1_000);
    assert_eq!(world.notices, [(10, hook(1), Notice::Refused(403))]);
    world.run(7_000);
    assert_eq!(world.begun.len(), 2);
}

#[test]
fn an_owner_is_told_after_two_minutes_and_before_the_end() {
    let mut world = world(Receiver::Refuses);
    for hour in 0..130 {
        world.accept_at(hour * HOUR, 1, 1);
    }
    world.run(130 * HOUR);
    let notices: Vec<_> = world.notices.iter().map(|(at, _, notice)| (at / HOUR, *notice)).collect();
    let disabled = Notice::Disabled(DisableWhy::LongFailing);
    assert_eq!(notices, [(0, Notice::Failing), (96, Notice::DisableSoon), (120, disabled)]);
    assert!((100_000..140_000).contains(&world.notices[0].0));
    assert!(world.shelf(hook(1)).dead["Expired"] > 0);
    world.check_ledger();
}

#[test]
fn retries_are_at_most_twice_what_is_new_and_a_trickle() {
    let mut world = World::new(1_024, 1);
    world.add(hook(1), Settings { ordering: Ordering::None, ..settings(1) }, Receiver::Flaky(45));
    for at in 0..3_000 {
        world.accept_at(at * 100, 1, 0);
    }
    world.run(300_000);
    let retries = world.begun.iter().filter(|begun| begun.attempt > 1).count();
    let fresh = world.begun.len() - retries;
    assert!(retries > 0 && retries <= 2 * fresh + 320, "{retries} {fresh}");
}

#[test]
fn however_many_wait_only_a_window_is_in_memory() {
    let mut world = world(Receiver::Answers(200, 5));
    (1..=250).for_each(|device| world.accept(hook(1), device, 80));
    assert!(world.dispatcher.counts().held <= 600, "{}", world.dispatcher.counts().held);
    world.run(1_000);
    assert!(world.dispatcher.counts().held <= 600);
    assert!(world.finish(HOUR));
    assert_eq!(world.shelf(hook(1)).delivered, 20_000);
}

#[test]
fn a_device_with_a_long_queue_does_not_hold_up_others() {
    let mut world = world(Receiver::Answers(200, 100));
    world.accept(hook(1), 1, 5_000);
    world.accept(hook(1), 2, 1);
    world.run(2_000);
    assert!(attempts_of(&world, 5_001).first().is_some_and(|at| *at < 2_000));
    assert!(world.finish(HOUR));
    assert!(world.now < 510_000, "the long one goes on without a gap: {}", world.now);
    assert!(world.loads < 1_000, "{}", world.loads);
}

#[test]
fn a_changed_hook_is_tried_at_once() {
    let mut world = world(Receiver::Refuses);
    (1..=30).for_each(|device| world.accept(hook(1), device, 1));
    world.run(HOUR);
    world.shelf(hook(1)).receiver = Receiver::Answers(200, 10);
    world.change(hook(1), |settings| settings.revision = 1);
    world.run(10_000);
    assert!(world.shelf(hook(1)).delivered >= 20, "{}", world.shelf(hook(1)).delivered);
}

#[test]
fn a_removed_hook_sends_nothing_more_and_is_forgotten() {
    let mut world = world(Receiver::Answers(200, 100));
    (1..=30).for_each(|device| world.accept(hook(1), device, 1));
    let begun = world.begun.len();
    world.input(Input::HookRemoved(hook(1)));
    world.run(10_000);
    assert_eq!((world.begun.len(), world.dispatcher.counts().destinations), (begun, 0));
    assert_eq!(world.dispatcher.timeout_at(), None);
    world.input(Input::HookRemoved(hook(1)));
    assert_eq!(world.dispatcher.counts().ignored, 1);
}

#[test]
fn a_hook_can_change_hands_while_it_sends() {
    let mut world = world(Receiver::Answers(200, 100));
    (1..=30).for_each(|device| world.accept(hook(1), device, 3));
    world.change(hook(1), |settings| settings.tenant = TenantId(2));
    assert!(world.finish(60_000));
    assert_eq!(world.dispatcher.counts().in_flight, 0);
}

#[test]
fn replays_are_sent_after_what_is_new() {
    let mut world = world(Receiver::Answers(200, 20));
    (1..=100).for_each(|_| world.accept(hook(1), 0, 1));
    assert!(world.finish(60_000));
    world.begun.clear();
    world.replay(hook(1), JobId(5), 1..=100);
    (0..200).for_each(|_| world.accept(hook(1), 0, 1));
    assert!(world.finish(60_000));
    assert_eq!(world.jobs_done, [JobId(5)]);
    let early = world.begun.iter().take(200).filter(|begun| begun.job.is_some()).count();
    assert!(early <= 30, "{early}");
    assert_eq!(world.begun.iter().filter(|begun| begun.job == Some(JobId(5))).count(), 100);
}

#[test]
fn a_replay_that_is_cancelled_stops() {
    let mut world = world(Receiver::Answers(200, 1_000));
    (1..=100).for_each(|_| world.accept(hook(1), 0, 1));
    assert!(world.finish(600_000));
    world.begun.clear();
    world.replay(hook(1), JobId(5), 1..=100);
    world.run(1_500);
    let begun = world.begun.len();
    assert!(begun > 0 && begun < 90, "{begun}");
    world.input(Input::Cancelled { hook: hook(1), job: JobId(5) });
    world.run(60_000);
    assert_eq!((world.begun.len(), world.dispatcher.counts().held), (begun, 0));
}

#[test]
fn replays_that_wait_are_bounded() {
    let mut world = world(Receiver::Answers(200, 1_000));
    (1..=5).for_each(|_| world.accept(hook(1), 0, 1));
    assert!(world.finish(60_000));
    (1..=17).for_each(|job| world.replay(hook(1), JobId(job), 1..=5));
    assert_eq!(world.jobs_refused, [JobId(17)]);
    world.run(600_000);
    assert_eq!(world.jobs_done.len(), 16);
}

#[test]
fn a_replay_that_fails_three_times_is_over() {
    let mut world = world(Receiver::Answers(200, 10));
    world.accept(hook(1), 0, 2);
    assert!(world.finish(60_000));
    world.shelf(hook(1)).receiver = Receiver::Answers(400, 10);
    world.replay(hook(1), JobId(1), 1..=2);
    assert!(world.finish(120_000));
    assert_eq!(world.begun.iter().filter(|begun| begun.job.is_some()).count(), 6);
}

#[test]
fn after_a_restart_all_goes_on_and_the_owner_is_not_told_twice() {
    let mut world = world(Receiver::Refuses);
    (1..=50).for_each(|device| world.accept(hook(1), device, 2));
    world.run(300_000);
    let told = world.notices.len();
    for seed in 0..20 {
        world.restart(seed);
        world.run(30_000);
    }
    assert_eq!((told, world.notices.len()), (1, 1));
    assert_eq!(world.dispatcher.view(world.time(), hook(1)).unwrap().health.state, State::Open);
    world.shelf(hook(1)).receiver = Receiver::Answers(200, 10);
    assert!(world.finish(3_600_000));
    world.run(120_000);
    assert_eq!(world.notices.last().map(|(_, _, notice)| *notice), Some(Notice::Recovered));
}

#[test]
fn what_is_withdrawn_is_not_sent() {
    let mut world = world(Receiver::Answers(200, 100));
    world.accept(hook(1), 1, 6);
    for position in [2, 1, 4] {
        world.take_away(hook(1), Position(position));
    }
    assert!(world.finish(10_000));
    let begun: Vec<_> = world.begun.iter().map(|begun| begun.position.0).collect();
    assert_eq!(begun, [1, 3, 5, 6]);
    assert_eq!((world.dispatcher.counts().held, world.dispatcher.counts().in_flight), (0, 0));
}

#[test]
fn what_is_told_twice_or_by_mistake_is_ignored() {
    let mut world = world(Receiver::Answers(200, 100));
    world.accept(hook(1), 1, 5);
    let entries: Vec<_> = world.shelf(hook(1)).pending.values().map(|stored| stored.entry).collect();
    world.input(Input::Arrived { hook: hook(1), entries: &entries });
    world.input(Input::Arrived { hook: hook(9), entries: &entries });
    let source = Source::Queue { after: Position(0) };
    world.input(Input::Loaded { hook: hook(1), source, entries: &entries, more: true });
    world.input(Input::LoadFailed(hook(1)));
    assert_eq!(world.dispatcher.counts().ignored, 11);
    assert!(world.finish(10_000));
    assert_eq!(world.begun.len(), 5);
}

#[test]
fn a_replay_keeps_the_order_of_each_device() {
    let mut world = world(Receiver::Answers(200, 20));
    (1..=100).for_each(|_| world.accept(hook(1), 0, 1));
    assert!(world.finish(60_000));
    world.begun.clear();
    world.replay(hook(1), JobId(5), 1..=100);
    assert!(world.finish(60_000));
    for device in 0..5 {
        let positions: Vec<_> = world.begun.iter().map(|begun| begun.position.0).filter(|position| position % 5 == device).collect();
        assert!(positions.is_sorted() && positions.len() == 20, "{positions:?}");
    }
}
