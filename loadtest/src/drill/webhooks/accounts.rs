//! What a receiver was sent against what the server's journal says that it accepted: what is missing, out of order, or came again without a reason.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;

use super::super::bystanders::RUN;
use crate::cli::AcceptedEvent;
use crate::fleet::text::{EVENT_NAME, EventText};
use crate::hooks::Arrival;

/// An attempt may have been answered for so long without the server having that on disk, in milliseconds.
const RECORDED_WITHIN_MS: u64 = 1_000;
/// Events so near to the edge of a replay's span may be on either side of it.
const EDGE_MS: u64 = 1_000;

/// A time at which there was no server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outage {
    /// When it was killed.
    pub(super) killed: UnixMillis,
    /// When there was one again.
    pub(super) up: UnixMillis,
}

/// Where each event of a fleet stands in the journal: the first time, if it is there twice.
#[derive(Default, Debug)]
pub(super) struct Accepted(HashMap<DeviceId, HashMap<u32, u64>>);

/// How a receiver was served.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Account {
    /// Events that were accepted.
    pub(super) events: u64,
    /// Those of them that came.
    pub(super) came: u64,
    /// Events that came and were never accepted.
    pub(super) unknown: u64,
    /// Events that came, for the first time, behind a later one of the same device.
    pub(super) disordered: u64,
    /// Events that came under another name than before, and names that two events had.
    pub(super) renamed: u64,
    /// Events that came once more.
    pub(super) repeats: u64,
    /// Those of them whose attempt before was not under way when the server was killed.
    pub(super) unexplained: u64,
}

impl Account {
    /// Events that did not come.
    pub(super) fn missing(&self) -> u64 {
        self.events - self.came
    }

    /// Adds another's.
    pub(super) fn add(&mut self, other: Self) {
        let Self { events, came, unknown, disordered, renamed, repeats, unexplained } = other;
        self.events += events;
        self.came += came;
        self.unknown += unknown;
        self.disordered += disordered;
        self.renamed += renamed;
        self.repeats += repeats;
        self.unexplained += unexplained;
    }
}

impl Accepted {
    /// Reads the journal.
    pub(super) fn read(events: impl Iterator<Item = Result<AcceptedEvent>>) -> Result<Self> {
        let mut accepted = Self::default();
        for event in events {
            let event = event?;
            let text = event.data.as_deref().filter(|_| event.name == EVENT_NAME).and_then(|data| data.parse::<EventText>().ok());
            if let Some(text) = text.filter(|text| text.run == RUN) {
                accepted.0.entry(text.device).or_default().entry(text.count).or_insert(event.position);
            }
        }
        Ok(accepted)
    }

    /// How many events of these devices there are.
    pub(super) fn of(&self, devices: &[DeviceId]) -> u64 {
        devices.iter().filter_map(|device| self.0.get(device)).map(|events| events.len() as u64).sum()
    }

    fn position(&self, event: EventText) -> Option<u64> {
        self.0.get(&event.device)?.get(&event.count).copied()
    }

    /// How a receiver was served that asked for the events of these devices. What belongs to a replay does not count.
    pub(super) fn account(&self, devices: &[DeviceId], arrivals: &[Arrival], outages: &[Outage]) -> Account {
        let mut account = Account { events: self.of(devices), ..Account::default() };
        let (mut last, mut heads) = (HashMap::new(), HashMap::new());
        let mut names = HashMap::new();
        for arrival in arrivals.iter().filter(|arrival| !arrival.is_replay) {
            let Some(position) = self.position(arrival.event).filter(|_| devices.contains(&arrival.event.device)) else {
                account.unknown += 1;
                continue;
            };
            account.renamed += u64::from(*names.entry(arrival.id).or_insert(arrival.event) != arrival.event);
            match last.insert(arrival.event, *arrival) {
                None => {
                    account.came += 1;
                    let head = heads.entry(arrival.event.device).or_insert(0);
                    account.disordered += u64::from(position < *head);
                    *head = position.max(*head);
                }
                Some(before) => {
                    account.repeats += 1;
                    account.renamed += u64::from(before.id != arrival.id);
                    account.unexplained += u64::from(!outages.iter().any(|outage| outage.explains(&before, arrival)));
                }
            }
        }
        account
    }

    /// How a receiver was served by a replay of what was accepted in a span of time. Names are to be the same as `before`.
    pub(super) fn replayed(&self, arrivals: &[Arrival], from: UnixMillis, before: UnixMillis) -> Account {
        let (replayed, originals): (Vec<Arrival>, Vec<Arrival>) = arrivals.iter().copied().partition(|arrival| arrival.is_replay);
        let names: HashMap<EventText, Arrival> = originals.iter().map(|arrival| (arrival.event, *arrival)).collect();
        let inside = |arrival: &&Arrival| (from.0 + EDGE_MS..before.0.saturating_sub(EDGE_MS)).contains(&arrival.accepted.0);
        let wanted: HashSet<EventText> = originals.iter().filter(inside).map(|arrival| arrival.event).collect();
        let (mut account, mut heads, mut seen) =
            (Account { events: wanted.len() as u64, ..Account::default() }, HashMap::new(), HashSet::new());
        for arrival in &replayed {
            let (Some(position), Some(original)) = (self.position(arrival.event), names.get(&arrival.event)) else {
                account.unknown += 1;
                continue;
            };
            account.renamed += u64::from(original.id != arrival.id);
            account.unknown += u64::from(!(from.0..before.0).contains(&arrival.accepted.0));
            if !seen.insert(arrival.event) {
                account.repeats += 1;
                continue;
            }
            account.came += u64::from(wanted.contains(&arrival.event));
            let head = heads.entry(arrival.event.device).or_insert(0);
            account.disordered += u64::from(position < *head);
            *head = position.max(*head);
        }
        account
    }
}

impl Outage {
    /// Whether an attempt was under way when the server was killed, and the next one is of the server after that.
    fn explains(&self, before: &Arrival, again: &Arrival) -> bool {
        let under_way = self.killed.0.saturating_sub(RECORDED_WITHIN_MS)..=self.up.0;
        under_way.contains(&before.at.0) && again.at >= self.killed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::MessageId;

    const DEVICES: [DeviceId; 2] = [DeviceId([1; 12]), DeviceId([2; 12])];

    fn event(device: u8, count: u32) -> EventText {
        EventText { device: DeviceId([device; 12]), run: RUN, count }
    }

    /// Device 1 published 0, 1, 2 and device 2 published 0; 1 of the first was accepted last.
    fn accepted() -> Accepted {
        let line = |position, event: EventText| {
            Ok(AcceptedEvent { position, name: EVENT_NAME.into(), data: Some(event.to_string()), source: None })
        };
        let other = Ok(AcceptedEvent { position: 9, name: "other".into(), data: Some(event(1, 7).to_string()), source: None });
        let events = [line(1, event(1, 0)), line(2, event(2, 0)), line(3, event(1, 2)), line(4, event(1, 1)), other];
        Accepted::read(events.into_iter()).unwrap()
    }

    fn arrival(device: u8, count: u32, at: u64) -> Arrival {
        let (event, id) = (event(device, count), MessageId::of(device, count));
        Arrival { event, id, accepted: UnixMillis(at), at: UnixMillis(at), attempt: 1, is_replay: false }
    }

    fn account(arrivals: &[Arrival]) -> Account {
        let outage = Outage { killed: UnixMillis(10_000), up: UnixMillis(10_500) };
        accepted().account(&DEVICES, arrivals, &[outage])
    }

    #[test]
    fn what_came_once_and_in_order_is_well() {
        let all = [arrival(1, 0, 1), arrival(1, 2, 2), arrival(2, 0, 3), arrival(1, 1, 4)];
        assert_eq!(account(&all), Account { events: 4, came: 4, ..Account::default() });
    }

    #[test]
    fn what_is_missing_unknown_or_out_of_order_is_counted() {
        let some = account(&[arrival(1, 1, 1), arrival(1, 0, 2), arrival(1, 9, 3), arrival(3, 0, 4)]);
        assert_eq!((some.missing(), some.unknown, some.disordered), (2, 2, 1));
    }

    #[test]
    fn a_repeat_is_of_an_attempt_that_was_under_way_at_a_kill() {
        let repeats = |before, again| {
            let account = account(&[arrival(1, 0, before), arrival(1, 0, again)]);
            (account.repeats, account.unexplained)
        };
        assert_eq!([repeats(9_900, 11_000), repeats(10_100, 11_000)], [(1, 0); 2]);
        assert_eq!([repeats(8_000, 11_000), repeats(9_900, 9_950), repeats(10_600, 12_000)], [(1, 1); 3]);
    }

    #[test]
    fn a_name_belongs_to_one_event() {
        let other = Arrival { id: MessageId::of(1, 0), ..arrival(2, 0, 2) };
        assert_eq!(account(&[arrival(1, 0, 1), other]).renamed, 1);
        let again = Arrival { id: MessageId::of(9, 9), ..arrival(1, 0, 10_900) };
        assert_eq!(account(&[arrival(1, 0, 9_900), again]).renamed, 1);
    }

    #[test]
    fn a_replay_is_all_of_its_span_in_order_under_the_same_names() {
        let originals = [arrival(1, 0, 5_000), arrival(2, 0, 6_000), arrival(1, 2, 7_000), arrival(1, 1, 20_000)];
        let again = |original: Arrival| Arrival { is_replay: true, at: UnixMillis(30_000), ..original };
        let replayed = |order: &[Arrival]| {
            let arrivals: Vec<Arrival> = originals.iter().chain(order).copied().collect();
            accepted().replayed(&arrivals, UnixMillis(3_000), UnixMillis(9_000))
        };
        let [first, other, second, late] = originals.map(again);
        assert_eq!(replayed(&[first, second, other]), Account { events: 3, came: 3, ..Account::default() });
        assert_eq!(replayed(&[second, first]).missing(), 1);
        assert_eq!(replayed(&[second, first, other]).disordered, 1);
        assert_eq!(replayed(&[first, other, second, late]).unknown, 1);
        assert_eq!(replayed(&[Arrival { id: MessageId::of(9, 9), ..first }]).renamed, 1);
        assert_eq!(account(&[arrival(1, 0, 1), first]).repeats, 0, "a replay is no repeat");
    }
}
