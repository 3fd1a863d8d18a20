//! The way of committed events to one shard.

use std::sync::Arc;

use firmware_protocol::time::UnixMillis;
use router::event::{Event, Position};
use router::fate::Fate;
use router::shard::Input;

use super::UNTAKEN_MAX;
use super::account::{Account, SharedAccount};
use super::window::{Lapse, Window};
use crate::journal::{Events, EventsError, Tail, TailRead};
use crate::mailbox::Lane;
use crate::shards::{Reply, SubscribedOwners, Wanting};

/// Devices are not sent what is older than its time to live. It counts as this much at least, so that a restart makes nothing expire.
const TTL_MIN_S: u32 = 60;

/// The way to one shard.
#[derive(Debug)]
pub(super) struct Line {
    shard: usize,
    lane: Lane<Input<Reply>>,
    window: Window,
    account: SharedAccount,
    published: Account,
    /// Events that it was sent and has not offered to its devices yet, as far as is known.
    untaken: usize,
    /// Reads for it alone while it is behind the others.
    own: Option<Tail>,
}

impl Line {
    /// To the shard at the end of `lane`, from where its account stands. `level` is where the others are read from.
    pub(super) fn new(shard: usize, lane: Lane<Input<Reply>>, account: SharedAccount, events: &Events, level: Position) -> Self {
        let published = account.get();
        let own = (published.position < level).then(|| Tail::after(events.clone(), published.position));
        Self { shard, lane, window: Window::new(published), account, published, untaken: 0, own }
    }

    /// Another thread has the shard, at the end of `lane`. Events that its devices were on the way to get come to it again from the account on, as after a
    /// restart: a device may get one twice.
    pub(super) fn begin_again(&mut self, lane: Lane<Input<Reply>>, events: &Events, level: Position) {
        let account = Account { waiting: 0, ..self.window.account() };
        (self.lane, self.window, self.untaken) = (lane, Window::new(account), 0);
        self.own = (account.position < level).then(|| Tail::after(events.clone(), account.position));
    }

    /// What the shard has done.
    pub(super) fn told(&mut self, taken: usize, fates: &[(Position, Fate)]) {
        self.untaken = self.untaken.saturating_sub(taken);
        fates.iter().for_each(|(position, fate)| self.window.meet(*position, *fate));
        self.window.settle();
    }

    /// An event that was read for all that keep up. `true` if this one falls behind with it.
    pub(super) fn see(&mut self, events: &Events, position: Position, event: &Arc<Event>, wanting: Wanting, now: UnixMillis) -> bool {
        let is_new = self.own.is_none() && position > self.window.reached();
        if !is_new || !wanting.contains(self.shard) {
            return false;
        }
        let taken = self.take(position, event, now);
        if !taken {
            let before = Position(position.0 - 1);
            self.window.pass_to(before);
            self.own = Some(Tail::after(events.clone(), before));
        }
        !taken
    }

    /// Nobody gets these events, as was read for all that keep up.
    pub(super) fn lapse(&mut self, from: Position, before: Position, lapse: Lapse) {
        if self.own.is_none() {
            self.window.lapse(from, before, lapse);
        }
    }

    /// All that keep up have come to `position`.
    pub(super) fn pass_to(&mut self, position: Position) {
        if self.own.is_none() {
            self.window.pass_to(position);
        }
    }

    /// Reads on for a shard that is behind, as long as it has room, and for so many steps, until it has come to where the others are. `true` if it
    /// could go on at once.
    pub(super) fn catch_up(
        &mut self,
        subscribed: &SubscribedOwners,
        level: Position,
        now: UnixMillis,
        steps: usize,
    ) -> Result<bool, EventsError> {
        let Some(mut own) = self.own.take() else { return Ok(false) };
        let read = self.read_on(&mut own, subscribed, now, steps);
        self.window.pass_to(own.reached());
        // Who keeps up may be a little ahead: what was seen is not taken twice.
        if self.window.reached() < level {
            self.own = Some(own);
        }
        Ok(read? && self.own.is_some())
    }

    /// `true` if there is more to read and room for it.
    fn read_on(&mut self, own: &mut Tail, subscribed: &SubscribedOwners, now: UnixMillis, steps: usize) -> Result<bool, EventsError> {
        for _ in 0..steps {
            if !self.has_room() {
                return Ok(false);
            }
            match own.read(|whose| subscribed.wanting(whose.owner).contains(self.shard))? {
                TailRead::Event(_, event) if !subscribed.wanting_named(event.owner, &event.name).contains(self.shard) => {}
                TailRead::Event(position, event) => {
                    if !self.take(position, &event, now) {
                        own.go_back_to(Position(position.0 - 1));
                        return Ok(false);
                    }
                }
                TailRead::Passed => {}
                TailRead::Expired { from, before } => self.window.lapse(from, before, Lapse::Expired),
                TailRead::Missing { from, before } => {
                    super::complain_of_damage(from, before);
                    self.window.lapse(from, before, Lapse::Missing);
                }
                TailRead::End => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends an event to the shard, unless no device can want it any more. `false` if there is no room.
    fn take(&mut self, position: Position, event: &Arc<Event>, now: UnixMillis) -> bool {
        if is_stale(event, now) {
            self.window.pass_to(Position(position.0 - 1));
            self.window.lapse(position, position.next(), Lapse::Expired);
        } else {
            if !self.has_room() || self.lane.push(Input::Committed { position, event: Arc::clone(event) }).is_err() {
                return false;
            }
            self.window.send(position);
            self.untaken += 1;
        }
        true
    }

    fn has_room(&self) -> bool {
        self.untaken < UNTAKEN_MAX && self.window.has_room()
    }

    /// Wakes the shard if it was sent something.
    pub(super) fn ring(&mut self) {
        self.lane.ring();
    }

    /// Lets the stock-taking see how far it is. How many events are out.
    pub(super) fn publish(&mut self) -> usize {
        let account = self.window.account();
        if account != self.published {
            self.account.set(account);
            self.published = account;
        }
        account.waiting
    }
}

#[cfg(test)]
impl Line {
    pub(super) fn account(&self) -> Account {
        self.window.account()
    }

    pub(super) fn keeps_up(&self) -> bool {
        self.own.is_none()
    }
}

/// Whether an event is too old for devices: what it says may no longer hold.
fn is_stale(event: &Event, now: UnixMillis) -> bool {
    let life_ms = u64::from(event.ttl_s.max(TTL_MIN_S)) * 1_000;
    now.0.saturating_sub(event.published_at.0) > life_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::test_records::event;

    #[test]
    fn an_event_is_stale_when_its_time_is_over_and_never_within_a_minute() {
        let stale = |ttl_s, age_ms: u64| {
            let event = Event { ttl_s, published_at: UnixMillis(5_000_000), ..(*event(1)).clone() };
            is_stale(&event, UnixMillis(5_000_000 + age_ms))
        };
        assert!(!stale(0, 60_000) && stale(0, 60_001) && !stale(90, 90_000) && stale(90, 90_001));
        assert!(!stale(u32::MAX, 1 << 40), "nor does a large one overflow");
        let early = Event { published_at: UnixMillis(9), ..(*event(1)).clone() };
        assert!(!is_stale(&early, UnixMillis(0)), "a clock that went back makes nothing old");
    }
}
