//! Random hooks, receivers, arrivals and restarts: nothing is lost, nothing is sent twice at a time, and order is kept. The world looks at each step.

use proptest::prelude::*;

use super::world::{Receiver, World, hook, settings};
use crate::dispatcher::messages::Ordering;
use crate::dispatcher::{JobId, TenantId};

const HOOKS: u8 = 6;

#[derive(Clone, Debug)]
enum Operation {
    Accept { hook: u8, device: u8, count: usize },
    Behave { hook: u8, receiver: Receiver },
    Run { ms: u64 },
    Restart,
    Reorder { hook: u8 },
    Revise { hook: u8 },
    Disable { hook: u8, is_disabled: bool },
    Move { hook: u8, tenant: u64 },
    Replay { hook: u8, job: u64 },
    Cancel { hook: u8, job: u64 },
    Withdraw { hook: u8, nth: usize },
}

fn receiver() -> impl Strategy<Value = Receiver> {
    prop_oneof![
        4 => (1..3_000_u64).prop_map(|ms| Receiver::Answers(200, ms)),
        1 => prop::sample::select(vec![302_u16, 400, 403, 500, 503]).prop_map(|status| Receiver::Answers(status, 30)),
        2 => Just(Receiver::Refuses),
        1 => Just(Receiver::Hangs),
        2 => (0..100_u64).prop_map(Receiver::Flaky),
        1 => (1..6_u8).prop_map(Receiver::Dislikes),
        1 => prop::option::of(0..300_u64).prop_map(Receiver::Full),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let hooks = 0..HOOKS;
    prop_oneof![
        12 => (hooks.clone(), 0..6_u8, 1..40_usize).prop_map(|(hook, device, count)| Operation::Accept { hook, device, count }),
        1 => (hooks.clone(), 0..6_u8, 200..900_usize).prop_map(|(hook, device, count)| Operation::Accept { hook, device, count }),
        5 => (hooks.clone(), receiver()).prop_map(|(hook, receiver)| Operation::Behave { hook, receiver }),
        8 => (0..20_000_u64).prop_map(|ms| Operation::Run { ms }),
        3 => (0..2_000_000_u64).prop_map(|ms| Operation::Run { ms }),
        1 => (0..90_000_000_u64).prop_map(|ms| Operation::Run { ms }),
        2 => Just(Operation::Restart),
        1 => hooks.clone().prop_map(|hook| Operation::Reorder { hook }),
        1 => hooks.clone().prop_map(|hook| Operation::Revise { hook }),
        1 => (hooks.clone(), any::<bool>()).prop_map(|(hook, is_disabled)| Operation::Disable { hook, is_disabled }),
        1 => (hooks.clone(), 1..4_u64).prop_map(|(hook, tenant)| Operation::Move { hook, tenant }),
        1 => (hooks.clone(), 0..4_u64).prop_map(|(hook, job)| Operation::Replay { hook, job }),
        1 => (hooks.clone(), 0..4_u64).prop_map(|(hook, job)| Operation::Cancel { hook, job }),
        1 => (hooks, 0..50_usize).prop_map(|(hook, nth)| Operation::Withdraw { hook, nth }),
    ]
}

fn apply(world: &mut World, operation: Operation, seed: u64) {
    match operation {
        Operation::Accept { hook: number, device, count } => world.accept(hook(number), device, count),
        Operation::Behave { hook: number, receiver } => world.shelf(hook(number)).receiver = receiver,
        Operation::Run { ms } => world.run(ms),
        Operation::Restart => world.restart(seed),
        Operation::Reorder { hook: number } => reorder(world, number),
        Operation::Revise { hook: number } => world.change(hook(number), |settings| settings.revision += 1),
        Operation::Disable { hook: number, is_disabled } => world.change(hook(number), |settings| settings.is_disabled = is_disabled),
        Operation::Move { hook: number, tenant } => world.change(hook(number), |settings| settings.tenant = TenantId(tenant)),
        Operation::Replay { hook: number, job } => replay(world, number, JobId(job)),
        Operation::Cancel { hook: number, job } => world.cancel(hook(number), JobId(job)),
        Operation::Withdraw { hook: number, nth } => withdraw(world, number, nth),
    }
}

/// Order changes only while nothing is in flight: the world tells lanes in flight by what the hook says.
fn reorder(world: &mut World, number: u8) {
    let other = |ordering| if ordering == Ordering::None { Ordering::PerDevice } else { Ordering::None };
    if world.is_idle(hook(number)) {
        world.change(hook(number), |settings| settings.ordering = other(settings.ordering));
    }
}

fn replay(world: &mut World, number: u8, job: JobId) {
    if !world.shelf(hook(number)).jobs.contains_key(&job) {
        let first = world.begun.len() as u64 / 2;
        world.replay(hook(number), job, first + 1..first + 60);
    }
}

fn withdraw(world: &mut World, number: u8, nth: usize) {
    let chosen = world.shelf(hook(number)).pending.keys().nth(nth).copied();
    chosen.into_iter().for_each(|position| world.take_away(hook(number), position));
}

/// Runs all of it, and then until everything is over. What was begun.
fn run(operations: Vec<Operation>, workers: u32, seed: u64) -> World {
    let mut world = World::new(workers, seed);
    world.loads_fail = seed % 2 == 1;
    for number in 0..HOOKS {
        world.add(hook(number), settings(u64::from(number % 3)), Receiver::Answers(200, 40));
    }
    for (seed, operation) in operations.into_iter().enumerate() {
        apply(&mut world, operation, seed as u64);
        world.check_ledger();
    }
    for number in 0..HOOKS {
        world.shelf(hook(number)).receiver = Receiver::Answers(200, 40);
        world.change(hook(number), |settings| settings.is_disabled = false);
    }
    assert!(world.finish(100 * 3_600_000), "something was never sent");
    world.check_ledger();
    world.run(30_000);
    assert_eq!((world.dispatcher.counts().held, world.dispatcher.counts().in_flight), (0, 0));
    world
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost(
        operations in prop::collection::vec(operation(), 1..60),
        workers in prop::sample::select(vec![2_u32, 9, 40, 300, 1_024]),
        seed in any::<u64>(),
    ) {
        run(operations, workers, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn one_seed_makes_one_run(operations in prop::collection::vec(operation(), 1..40), seed in any::<u64>()) {
        let (one, other) = (run(operations.clone(), 40, seed), run(operations, 40, seed));
        prop_assert_eq!(one.begun, other.begun);
    }
}
