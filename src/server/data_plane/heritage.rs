//! What the next thread of a shard is left: what the journal says of its devices, and the sessions that terminators have. Where they disagree, because the
//! old thread stopped between two words, is settled here.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::{DeviceId, Identity};
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::time::{Now, UnixMillis};
use router::device::{AwaitedDevice, Link, RestoredDevice};
use router::journal::RetireReason;
use router::shard::{Input, Output, Shard};

use crate::former;
use crate::journal::State;
use crate::shards::Reply;
use crate::takeover::{Held, HeldStanding};
use crate::terminators::owner_of;

/// Who a device is, as the registry says now.
pub(super) type Book<'a> = &'a dyn Fn(DeviceId) -> Option<Identity>;

/// What is left of one shard.
pub(super) struct Heritage {
    state: State,
    /// Devices, each with its newest session.
    heirs: Vec<Heir>,
    /// Sessions that are over, though not everybody knows.
    ended: Vec<(DeviceId, Link, RetireReason)>,
    /// Devices that are online as far as their owners were told, and have no session.
    awaited: Vec<AwaitedDevice>,
    /// What the registry says of the devices; `None` if it was not read yet, and says so itself later.
    registered: Option<Arc<HashMap<DeviceId, Identity>>>,
}

/// A device and its session.
#[derive(Clone, Copy)]
struct Heir {
    identity: Identity,
    link: Link,
    ip: IpAddr,
    established_at: UnixMillis,
}

impl Heritage {
    /// Of a shard whose devices `state` is about. `held` are their sessions, with the terminators that have them; there are so many `workers`.
    pub(super) fn new(state: State, held: &[(u16, Held)], workers: usize, book: Option<Book<'_>>) -> Self {
        let (mut candidates, mut ended) = (Vec::new(), Vec::new());
        for (terminator, held) in held {
            match heir(&state, *terminator, held, book) {
                Some(Ok(heir)) => candidates.push(heir),
                Some(Err(reason)) => ended.push((held.device, link(*terminator, held), reason)),
                None => {}
            }
        }
        candidates.sort_unstable_by_key(|heir: &Heir| (heir.identity.device, Reverse((heir.established_at, heir.link.connection.0))));
        let mut heirs: Vec<Heir> = Vec::new();
        for heir in candidates {
            match heirs.last() {
                // Only the newest may live.
                Some(newest) if newest.identity.device == heir.identity.device => {
                    ended.push((heir.identity.device, heir.link, RetireReason::Replaced));
                }
                _ => heirs.push(heir),
            }
        }
        let served: HashSet<DeviceId> = heirs.iter().map(|heir| heir.identity.device).collect();
        let known: HashSet<ConnectionId> = held.iter().map(|(_, held)| held.connection).collect();
        // The journal was read up to a moment before the terminators answered: what they do not have, they had, and it is over.
        for (connection, session) in state.sessions.iter().filter(|(connection, _)| !known.contains(*connection)) {
            let device = session.stored.identity.device;
            let reason = if served.contains(&device) { RetireReason::Replaced } else { RetireReason::ClosedByDevice };
            let terminator = u16::try_from(owner_of(*connection, workers)).unwrap_or_default();
            ended.push((device, Link { terminator, connection: *connection }, reason));
        }
        let online = state.devices.iter().filter(|(id, device)| device.online == Some(true) && !served.contains(*id));
        let awaited = online.filter_map(|(id, device)| {
            // A device of nobody has nobody to be told.
            let identity = book?(*id).filter(|identity| identity.owner.is_some())?;
            Some(AwaitedDevice { identity, hello: former::hello(device) })
        });
        let awaited = awaited.collect();
        let registered = book.map(|book| Arc::new(served.iter().filter_map(|id| Some((*id, book(*id)?))).collect()));
        Self { heirs, ended, awaited, registered, state }
    }

    /// How many devices have a session.
    pub(super) fn devices(&self) -> usize {
        self.heirs.len()
    }

    /// How many sessions are over.
    pub(super) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// Leaves it to `shard`. What follows from that.
    pub(super) fn hand_over(&self, now: Now, shard: &mut Shard<Reply>) -> Vec<Output<Reply>> {
        let mut outputs = Vec::new();
        shard.restore(now, self.heirs.iter().map(|heir| self.restored(heir)));
        self.ended.iter().for_each(|(device, link, reason)| shard.bury(now, *device, *link, *reason, &mut outputs));
        if let Some(registered) = &self.registered {
            shard.apply(now, Input::Registered(Arc::clone(registered)), &mut outputs);
        }
        for awaited in &self.awaited {
            shard.apply(now, Input::Expect(awaited.clone()), &mut outputs);
        }
        outputs
    }

    fn restored(&self, heir: &Heir) -> RestoredDevice<'_> {
        let known = self.state.devices.get(&heir.identity.device);
        let describe = |kind| known.and_then(|known| known.describe(kind)).map(|describe| &describe.payload);
        RestoredDevice {
            identity: heir.identity,
            link: heir.link,
            established_at: heir.established_at,
            ip: heir.ip,
            hello: known.and_then(former::hello),
            application: describe(DescribeKind::Application),
            system: describe(DescribeKind::System),
            left: known.and_then(|known| former::left(known, heir.established_at)),
            subscriptions: known.map(|known| &known.subscriptions),
            online: known.and_then(|known| known.online).unwrap_or(true),
        }
    }
}

fn link(terminator: u16, held: &Held) -> Link {
    Link { terminator, connection: held.connection }
}

/// What a session that a terminator has is to the shard: a device's, or over for this reason. `None` if the shard hears of it when it is durable.
fn heir(state: &State, terminator: u16, held: &Held, book: Option<Book<'_>>) -> Option<Result<Heir, RetireReason>> {
    let heir = |identity, established_at| Heir { identity, link: link(terminator, held), ip: held.ip, established_at };
    match held.standing {
        HeldStanding::Opening => None,
        // What its device was in the journal's eyes went with no session.
        HeldStanding::LiveOnTcp(since) => Some(match book.and_then(|book| book(held.device)) {
            Some(identity) => Ok(heir(identity, since)),
            None => Err(RetireReason::Revoked),
        }),
        HeldStanding::Live => Some(match (state.sessions.get(&held.connection), state.retired.get(&held.connection)) {
            (Some(session), _) => Ok(heir(session.stored.identity, session.stored.established_at)),
            (None, Some(retired)) => Err(retired.reason),
            (None, None) => Err(RetireReason::StateLost),
        }),
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::entropy::SeededEntropy;
    use firmware_protocol::id::OwnerId;
    use firmware_protocol::session::stored::StoredSession;
    use firmware_protocol::time::Millis;
    use router::device::DeviceView;
    use router::journal::Record;
    use tokio::sync::oneshot;

    use super::*;
    use crate::evidence::Question;
    use crate::journal::test_records::{session, status};

    /// A session that was made at `at`, of the device with this number.
    fn opened(number: u8, device: u8, at: u64) -> StoredSession {
        let identity = Identity { device: DeviceId([device; 12]), owner: Some(OwnerId(1)), ..session(1).identity };
        StoredSession { identity, established_at: UnixMillis(at), ..session(number) }
    }

    fn held(stored: &StoredSession, standing: HeldStanding) -> (u16, Held) {
        let held = Held { device: stored.identity.device, connection: stored.connection, ip: [192, 0, 2, 1].into(), standing };
        (0, held)
    }

    fn views(shard: &mut Shard<Reply>, devices: &[&StoredSession]) -> Vec<DeviceView> {
        let (sender, _receiver) = oneshot::channel();
        let devices = devices.iter().map(|stored| stored.identity.device).collect();
        let mut outputs = Vec::new();
        let now = Now { at: Millis(1_000), unix: UnixMillis(9_000) };
        shard.apply(now, Input::View { devices, reply: Reply::Views(sender, Question::of_nobody()) }, &mut outputs);
        outputs.into_iter().flat_map(|output| if let Output::Views { views, .. } = output { views } else { panic!("{output:?}") }).collect()
    }

    fn retirements(outputs: &[Output<Reply>]) -> Vec<(ConnectionId, RetireReason)> {
        let retired = |output: &Output<Reply>| match output {
            Output::Append { record: Record::SessionRetired { connection, reason, .. }, .. } => Some((*connection, *reason)),
            _ => None,
        };
        outputs.iter().filter_map(retired).collect()
    }

    #[test]
    fn journal_and_terminators_are_brought_to_agree_about_sessions() {
        let [only, old, new, gone, retired, opening] =
            [(1, 1, 5), (2, 2, 5), (3, 2, 6), (4, 4, 5), (5, 5, 5), (6, 6, 5)].map(|(number, device, at)| opened(number, device, at));
        let mut state = State::default();
        for stored in [&only, &old, &new, &gone, &retired, &opening] {
            state.apply(&Record::SessionOpened(stored.clone()));
        }
        let (connection, device) = (retired.connection, retired.identity.device);
        state.apply(&Record::SessionRetired { connection, device, reason: RetireReason::WrongDevice, at: UnixMillis(7) });
        let known: Vec<_> = [&only, &old, &new, &retired].map(|stored| held(stored, HeldStanding::Live)).to_vec();
        let known = [known, vec![held(&opening, HeldStanding::Opening)]].concat();
        let heritage = Heritage::new(state, &known, 4, None);
        assert_eq!((heritage.devices(), heritage.ended()), (2, 3));
        let mut shard = Shard::of_epoch(router::epoch::Epoch(2), Box::new(SeededEntropy::new(1)));
        let outputs = heritage.hand_over(Now { at: Millis(1_000), unix: UnixMillis(9_000) }, &mut shard);
        let expected = [
            (retired.connection, RetireReason::WrongDevice),
            (old.connection, RetireReason::Replaced),
            (gone.connection, RetireReason::ClosedByDevice),
        ];
        assert_eq!(retirements(&outputs), expected);
        let views = views(&mut shard, &[&only, &new, &gone, &retired, &opening]);
        let served: Vec<_> = views.iter().map(|view| (view.device, view.online, view.last_handshake)).collect();
        let expected = [(&only, 5), (&new, 6)].map(|(stored, at)| (stored.identity.device, true, Some(UnixMillis(at))));
        assert_eq!(served, expected);
    }

    #[test]
    fn what_the_registry_says_counts_and_who_is_awaited_may_come_back() {
        let [kept, removed, on_tcp, away] = [1, 2, 3, 4].map(|number| opened(number, number, 5));
        let mut state = State::default();
        [&kept, &removed].into_iter().for_each(|stored| state.apply(&Record::SessionOpened(stored.clone())));
        state.apply(&Record::Event { floor: None, event: status(away.identity.device, "online") });
        let known =
            [held(&kept, HeldStanding::Live), held(&removed, HeldStanding::Live), held(&on_tcp, HeldStanding::LiveOnTcp(UnixMillis(7)))];
        let registered = [&kept, &on_tcp, &away].map(|stored| stored.identity);
        let book = |device: DeviceId| registered.iter().copied().find(|identity| identity.device == device);
        let heritage = Heritage::new(state, &known, 4, Some(&book));
        let mut shard = Shard::of_epoch(router::epoch::Epoch(2), Box::new(SeededEntropy::new(1)));
        let outputs = heritage.hand_over(Now { at: Millis(1_000), unix: UnixMillis(9_000) }, &mut shard);
        assert_eq!(retirements(&outputs), [(removed.connection, RetireReason::Revoked)]);
        let seen: Vec<_> =
            views(&mut shard, &[&kept, &removed, &on_tcp, &away]).iter().map(|view| (view.device, view.last_handshake)).collect();
        let at = |at| Some(UnixMillis(at));
        let expected = [(&kept, at(5)), (&on_tcp, at(7)), (&away, None)].map(|(stored, at)| (stored.identity.device, at));
        assert_eq!(seen, expected);
    }
}
