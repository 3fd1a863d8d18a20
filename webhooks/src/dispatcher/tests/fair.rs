//! Many destinations at once: the sick do not delay the healthy, and nobody takes more than a share.

use super::world::{Receiver, World, hook_of, settings};
use crate::hook::HookId;

/// The wait that all but one of a hundred first attempts of these hooks were below, in milliseconds.
fn p99(world: &World, of: impl Fn(HookId) -> bool) -> u64 {
    let mut waits: Vec<_> = world.begun.iter().filter(|begun| begun.attempt == 1 && of(begun.hook)).map(|begun| begun.waited).collect();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// Every hook gets an event each so often, for a while.
fn feed(world: &mut World, hooks: u16, every_ms: u64, rounds: u64) {
    for _ in 0..rounds {
        for number in 0..hooks {
            world.accept(hook_of(number), u8::try_from(number % 200).unwrap() + 1, 1);
        }
        world.run(every_ms);
    }
}

#[test]
fn three_in_ten_that_hang_delay_nobody() {
    let mut world = World::new(1_024, 1);
    let is_sick = |number: u16| number % 10 < 3;
    for number in 0..2_000 {
        let receiver = if is_sick(number) { Receiver::Hangs } else { Receiver::Answers(200, 50) };
        world.add(hook_of(number), settings(u64::from(number % 50)), receiver);
    }
    feed(&mut world, 2_000, 1_000, 60);
    let sick: std::collections::BTreeSet<_> = (0..2_000).filter(|number| is_sick(*number)).map(hook_of).collect();
    let wait = p99(&world, |hook| !sick.contains(&hook));
    let late = world.begun.iter().filter(|begun| !sick.contains(&begun.hook) && begun.waited > 1_000).count();
    assert!(wait <= 250 && late == 0, "{wait} ms, {late} of {} late", world.begun.len());
}

#[test]
fn three_in_ten_that_die_at_once_delay_others_for_seconds_at_most() {
    let mut world = World::new(1_024, 2);
    let is_sick = |number: u16| number % 10 < 3;
    for number in 0..1_000 {
        world.add(hook_of(number), settings(u64::from(number % 50)), Receiver::Answers(200, 50));
    }
    feed(&mut world, 1_000, 500, 20);
    for number in (0..1_000).filter(|number| is_sick(*number)) {
        world.shelf(hook_of(number)).receiver = Receiver::Hangs;
    }
    world.begun.clear();
    feed(&mut world, 1_000, 500, 120);
    let sick: std::collections::BTreeSet<_> = (0..1_000).filter(|number| is_sick(*number)).map(hook_of).collect();
    let worst = world.begun.iter().filter(|begun| !sick.contains(&begun.hook)).map(|begun| begun.waited).max().unwrap();
    assert!(worst <= 5_000, "{worst} ms");
    assert!(p99(&world, |hook| !sick.contains(&hook)) <= 1_000);
}

#[test]
fn a_tenant_that_floods_moves_nobody_elses_p99() {
    let mut world = World::new(256, 3);
    for number in 0..60 {
        world.add(hook_of(number), settings(0), Receiver::Answers(200, 200));
    }
    for number in 60..80 {
        world.add(hook_of(number), settings(u64::from(number)), Receiver::Answers(200, 50));
    }
    for _ in 0..120 {
        for number in 0..60 {
            (1..=20).for_each(|device| world.accept(hook_of(number), device, 1));
        }
        for number in 60..80 {
            world.accept(hook_of(number), 1, 1);
        }
        world.run(100);
    }
    let of_flood: std::collections::BTreeSet<_> = (0..60).map(hook_of).collect();
    assert!(p99(&world, |hook| of_flood.contains(&hook)) > 1_000, "it does flood");
    let wait = p99(&world, |hook| !of_flood.contains(&hook));
    assert!(wait <= 20, "{wait} ms");
}

#[test]
fn slow_ones_are_served_apart_and_still_served() {
    let mut world = World::new(128, 4);
    for number in 0..40 {
        world.add(hook_of(number), settings(1), Receiver::Answers(200, 9_000));
    }
    for number in 40..60 {
        world.add(hook_of(number), settings(2), Receiver::Answers(200, 50));
    }
    feed(&mut world, 60, 1_000, 60);
    let slow: std::collections::BTreeSet<_> = (0..40).map(hook_of).collect();
    assert!(p99(&world, |hook| !slow.contains(&hook)) <= 100);
    assert!(world.dispatcher.view(world.time(), hook_of(1)).unwrap().is_slow);
    assert!(world.finish(4 * 3_600_000));
    assert!(world.shelves.values().all(|shelf| shelf.delivered == 60));
}
