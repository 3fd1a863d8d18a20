//! The room beside a model of it that is plainly right.

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(40);

/// Came from this address with this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Caller(SocketAddr, u8);

impl Guest for Caller {
    fn peer(&self) -> SocketAddr {
        self.0
    }

    fn repeats(&self, waiting: &Self) -> bool {
        self.1 == waiting.1
    }
}

fn caller(net: u8, host: u8, word: u8) -> Caller {
    Caller(([192, 0, net, host], 5684).into(), word)
}

fn room(places: usize) -> WaitingRoom<Caller> {
    WaitingRoom::new(places, PATIENCE)
}

fn served(room: &mut WaitingRoom<Caller>) -> Option<Caller> {
    room.next(Millis(0), |_| Some(())).map(|(caller, ..)| caller)
}

#[test]
fn prefixes_take_turns_and_in_each_it_is_first_come_first_served() {
    let mut room = room(100);
    for host in 0..10 {
        room.enter(Millis(0), caller(1, host, 0)).unwrap();
    }
    room.enter(Millis(0), caller(2, 0, 0)).unwrap();
    room.enter(Millis(0), caller(2, 1, 0)).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| served(&mut room)).take(6).collect();
    assert_eq!(order, [caller(1, 0, 0), caller(2, 0, 0), caller(1, 1, 0), caller(2, 1, 0), caller(1, 2, 0), caller(1, 3, 0)]);
}

#[test]
fn a_prefix_leaves_others_as_much_as_it_has() {
    let mut room = room(16);
    for host in 0..8 {
        assert_eq!(room.enter(Millis(0), caller(1, host, 0)), Ok(Entered::New));
    }
    assert_eq!(room.enter(Millis(0), caller(1, 8, 0)), Err(Refused::PrefixFull));
    for host in 0..4 {
        assert_eq!(room.enter(Millis(0), caller(2, host, 0)), Ok(Entered::New));
    }
    assert_eq!(room.enter(Millis(0), caller(2, 4, 0)), Err(Refused::PrefixFull));
    for net in 3..7 {
        assert_eq!(room.enter(Millis(0), caller(net, 0, 0)), Ok(Entered::New));
    }
    assert_eq!(room.enter(Millis(0), caller(7, 0, 0)), Err(Refused::Full));
    assert_eq!(room.enter(Millis(0), caller(1, 0, 0)), Ok(Entered::Repeated), "who waits may repeat");
}

#[test]
fn an_address_has_one_place_whatever_it_comes_with() {
    let mut room = room(16);
    room.enter(Millis(0), caller(1, 1, 7)).unwrap();
    room.enter(Millis(0), caller(1, 2, 7)).unwrap();
    assert_eq!(room.enter(Millis(20_000), caller(1, 1, 7)), Ok(Entered::Repeated));
    assert_eq!(room.enter(Millis(30_000), caller(1, 1, 8)), Ok(Entered::Instead));
    assert_eq!(room.len(), 2);
    assert_eq!(room.pop_expired(Millis(39_999)), None);
    assert_eq!(room.pop_expired(Millis(40_000)), Some(caller(1, 2, 7)));
    assert_eq!(room.pop_expired(Millis(69_999)), None, "what took its place over has a time of its own");
    assert_eq!(room.next(Millis(69_999), |_| Some(())), Some((caller(1, 1, 8), Duration::from_millis(39_999), ())));
}

#[test]
fn who_is_not_let_in_waits_on_behind_its_neighbours() {
    let mut room = room(16);
    for host in 1..4 {
        room.enter(Millis(0), caller(1, host, 0)).unwrap();
    }
    let closed = |host: u8| move |guest: &Caller| (guest.0 != caller(1, host, 0).0).then_some(());
    assert_eq!(room.next(Millis(0), closed(1)), None);
    assert_eq!(room.next(Millis(0), closed(1)).map(|next| next.0), Some(caller(1, 2, 0)));
    assert_eq!(served(&mut room), Some(caller(1, 3, 0)));
    assert_eq!(served(&mut room), Some(caller(1, 1, 0)));
    assert!(room.is_empty() && room.by_prefix.is_empty() && room.turns.is_empty() && room.by_peer.is_empty());
}

#[test]
fn a_storm_leaves_no_memory_behind() {
    let mut room = room(65_536);
    for number in 0..20_000u16 {
        let [net, host] = number.to_be_bytes();
        room.enter(Millis(0), caller(net, host, 0)).unwrap();
    }
    while served(&mut room).is_some() {}
    assert!(room.is_empty() && room.slots.capacity() <= KEPT);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(Caller),
    Next { admits: bool },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 0..5u8, 0..2u8).prop_map(|(net, host, word)| Step::Enter(caller(net, host, word))),
        2 => prop::bool::weighted(0.8).prop_map(|admits| Step::Next { admits }),
        1 => (0..15_000u64).prop_map(Step::Pass),
    ]
}

/// The same with lists that are searched from the beginning.
#[derive(Default)]
struct Model {
    /// In turn, each with its callers and since when they wait.
    prefixes: Vec<(Prefix, Vec<(Caller, u64)>)>,
}

impl Model {
    fn len(&self) -> usize {
        self.prefixes.iter().map(|(_, callers)| callers.len()).sum()
    }

    fn enter(&mut self, places: usize, now: u64, caller: Caller) -> Result<Entered, Refused> {
        let free = places - self.len();
        let mut waiting = self.prefixes.iter_mut().flat_map(|(_, callers)| callers);
        if let Some(place) = waiting.find(|(other, _)| other.0 == caller.0) {
            return Ok(if place.0 == caller {
                Entered::Repeated
            } else {
                *place = (caller, now);
                Entered::Instead
            });
        }
        let prefix = Prefix::of(caller.0.ip());
        match self.prefixes.iter_mut().find(|(other, _)| *other == prefix) {
            _ if free == 0 => return Err(Refused::Full),
            Some((_, callers)) if callers.len() >= free => return Err(Refused::PrefixFull),
            Some((_, callers)) => callers.push((caller, now)),
            None => self.prefixes.push((prefix, vec![(caller, now)])),
        }
        Ok(Entered::New)
    }

    fn next(&mut self, admits: bool) -> Option<Caller> {
        for _ in 0..TRIES.min(self.prefixes.len()) {
            let (prefix, mut callers) = self.prefixes.remove(0);
            let first = callers.remove(0);
            if !admits {
                callers.push(first);
            }
            if !callers.is_empty() {
                self.prefixes.push((prefix, callers));
            }
            if admits {
                return Some(first.0);
            }
        }
        None
    }

    fn expire(&mut self, now: u64) -> Vec<SocketAddr> {
        let over = |since: u64| now - since >= 40_000;
        let mut gone: Vec<_> = self.prefixes.iter().flat_map(|(_, callers)| callers).filter(|(_, since)| over(*since)).copied().collect();
        self.prefixes.iter_mut().for_each(|(_, callers)| callers.retain(|(_, since)| !over(*since)));
        self.prefixes.retain(|(_, callers)| !callers.is_empty());
        gone.sort_by_key(|(_, since)| *since);
        gone.into_iter().map(|(caller, _)| caller.0).collect()
    }
}

proptest! {
    #[test]
    fn the_room_does_what_its_model_does(places in 1..16usize, steps in prop::collection::vec(step(), 0..200)) {
        let (mut room, mut model, mut now) = (room(places), Model::default(), 0);
        for step in steps {
            match step {
                Step::Enter(caller) => prop_assert_eq!(room.enter(Millis(now), caller), model.enter(places, now, caller)),
                Step::Next { admits } => {
                    let next = room.next(Millis(now), |_| admits.then_some(())).map(|(caller, ..)| caller);
                    prop_assert_eq!(next, model.next(admits));
                }
                Step::Pass(ms) => now += ms,
            }
            let mut gone: Vec<_> = std::iter::from_fn(|| room.pop_expired(Millis(now))).map(|caller| caller.0).collect();
            let mut expected = model.expire(now);
            // Those that came at the same moment may go in any order.
            gone.sort();
            expected.sort();
            prop_assert_eq!(gone, expected);
            prop_assert_eq!(room.len(), model.len());
            prop_assert!(room.len() <= places && room.turns.len() == room.by_prefix.len() && room.by_peer.len() == room.len());
        }
    }
}
