//! From the journal to the deliveries: reads committed events in order, and has the book say whom each is for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use firmware_protocol::time::UnixMillis;
use router::event::{Event, Position, Source};
use webhooks::dispatcher::{Entry, Lane};
use webhooks::hook::HookId;

use super::book::Book;
use crate::cursors::{Cursor, CursorError, Cursors, Ledger, Mark};
use crate::deliveries::Accepted;
use crate::journal::{Events, EventsError, Tail, TailRead};

/// The name of the cursor, and of the sink in metrics.
pub const SINK: &str = "webhooks";
/// Events taken in one turn.
const EVENTS_MAX: usize = 1_024;
/// Steps in the journal in one turn, each of one event or one frame of events that nobody wants.
const STEPS: usize = 2_048;
/// Events that are kept in memory for the attempts that are about to begin.
const RECENT_MAX: usize = 16_384;
/// Bytes of their data.
const RECENT_BYTES_MAX: usize = 32 << 20;
/// Why events were not looked at that should have been there.
const MISSING: &str = "missing";

/// What was read in one turn.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Events that somebody wants, in the journal's positions.
    pub(super) accepted: Vec<Accepted>,
    /// Everything up to here was looked at, likewise.
    pub(super) upto: Position,
    /// There may be more.
    pub(super) is_more: bool,
}

/// Reads the journal.
#[derive(Debug)]
pub(super) struct Intake {
    tail: Tail,
    events: Events,
    cursor: Cursor,
    /// What became of what was looked at and is not committed yet, by the position up to where it holds.
    ledgers: VecDeque<(Position, Ledger)>,
    ledger: Ledger,
    reached: Position,
}

impl Intake {
    /// Begins after `stored`, up to where deliveries are stored, or after the cursor, whichever is later. A new cursor begins at the journal's end.
    ///
    /// # Errors
    /// The cursor cannot be used.
    pub(super) fn open(cursors: &Cursors, events: Events, stored: Position) -> Result<Self, CursorError> {
        let origin = if stored == Position(0) { events.last() } else { stored };
        let cursor = cursors.take(SINK, origin)?;
        let Mark { position, mut ledger } = cursor.mark().clone();
        let reached = position.max(stored);
        // Looked at by a process that did not come to say so.
        ledger.delivered += reached.0 - position.0;
        let tail = Tail::after(events.clone(), reached);
        Ok(Self { tail, events, cursor, ledgers: VecDeque::new(), ledger, reached })
    }

    /// Events that are committed and not looked at.
    pub(super) fn behind(&self) -> u64 {
        self.events.last().0.saturating_sub(self.reached.0)
    }

    /// Reads on. What it returns has to be stored: it is not read again.
    ///
    /// # Errors
    /// The journal cannot be read. Nothing was passed over; asked again, it tries again.
    pub(super) fn read(&mut self, book: &Book) -> Result<Taken, EventsError> {
        let mut taken = Taken { is_more: true, ..Taken::default() };
        for _ in 0..STEPS {
            if taken.accepted.len() >= EVENTS_MAX {
                break;
            }
            let read = match self.tail.read(|whose| book.may_want(whose)) {
                Ok(read) => read,
                // What was read before it is not lost, and it is tried again.
                Err(_) if self.tail.reached() > self.reached => break,
                Err(error) => return Err(error),
            };
            match read {
                TailRead::Event(position, event) => {
                    let hooks = book.matching(&event);
                    if !hooks.is_empty() {
                        taken.accepted.push((position, event, hooks));
                    }
                }
                TailRead::Passed => {}
                TailRead::Expired { from, before } => {
                    let count = before.0 - from.0;
                    tracing::error!(%from, %before, "events were no longer kept when hooks came to them");
                    self.ledger.expired += count;
                    self.reached = Position(self.reached.0 + count);
                }
                TailRead::Missing { from, before } => {
                    let count = before.0 - from.0;
                    tracing::error!(%from, %before, "events are missing in the journal; hooks do not get them");
                    *self.ledger.rejected.entry(MISSING.to_owned()).or_default() += count;
                    self.reached = Position(self.reached.0 + count);
                }
                TailRead::End => {
                    taken.is_more = false;
                    break;
                }
            }
        }
        let reached = self.tail.reached();
        self.ledger.delivered += reached.0.saturating_sub(self.reached.0);
        if reached > self.reached || self.ledgers.is_empty() {
            self.ledgers.push_back((reached, self.ledger.clone()));
        }
        (self.reached, taken.upto) = (reached, reached);
        Ok(taken)
    }

    /// Moves the cursor: what was taken up to `durable` would outlive a power cut.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn commit(&mut self, durable: Position) -> Result<(), CursorError> {
        let mut last = None;
        while self.ledgers.front().is_some_and(|(position, _)| *position <= durable) {
            last = self.ledgers.pop_front();
        }
        match last {
            Some((position, ledger)) if position > self.cursor.mark().position => self.cursor.commit(Mark { position, ledger }),
            _ => self.cursor.witness(),
        }
    }
}

/// Events that were taken a moment ago, so that they need not be read again when their attempts begin.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<(Position, Arc<Event>)>,
    bytes: usize,
}

impl Recent {
    /// Keeps an event. Positions come in order.
    pub(super) fn keep(&mut self, position: Position, event: Arc<Event>) {
        self.bytes += len(&event);
        self.events.push_back((position, event));
        while self.events.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some((_, old)) = self.events.pop_front() else { break };
            self.bytes -= len(&old);
        }
    }

    /// The event at a position, if it is kept.
    pub(super) fn get(&self, position: Position) -> Option<&Arc<Event>> {
        let index = self.events.binary_search_by_key(&position, |(position, _)| *position).ok()?;
        self.events.get(index).map(|(_, event)| event)
    }
}

fn len(event: &Event) -> usize {
    event.data.as_ref().map_or(0, Vec::len)
}

/// What the dispatcher has to know of new deliveries, by hook, each in order.
pub(super) fn arrivals(accepted: &[Accepted], position: impl Fn(Position) -> Position) -> BTreeMap<HookId, Vec<Entry>> {
    let mut arrivals: HashMap<HookId, Vec<Entry>> = HashMap::new();
    for (at, event, hooks) in accepted {
        let lane = if let Source::Device(device) = event.source { Some(Lane::of(device)) } else { None };
        let bytes = u32::try_from(len(event)).unwrap_or(u32::MAX);
        let entry = Entry { position: position(*at), lane, bytes, accepted: event.published_at, attempts: 0, due: UnixMillis(0) };
        hooks.iter().for_each(|hook| arrivals.entry(*hook).or_default().push(entry));
    }
    // In the order of their ids, so that nothing depends on chance.
    arrivals.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::OwnerId;
    use router::event::Audience;
    use serde_json::{Map, json};
    use tempfile::TempDir;
    use webhooks::dispatcher::TenantId;
    use webhooks::hook::Hook;

    use super::super::book::Listed;
    use super::*;
    use crate::journal::test_records::event_of;
    use crate::journal::{Journal, Options};

    /// A journal on disk, and its cursors.
    struct World {
        directory: TempDir,
        journal: Journal,
    }

    impl World {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let (journal, _) = Journal::open(&directory.path().join("journal"), Options::new(1)).unwrap();
            Self { directory, journal }
        }

        /// Commits so many events of an account.
        fn commit(&mut self, owner: u64, count: usize) {
            let records: Vec<_> = (0..count).map(|_| event_of(OwnerId(owner), UnixMillis(0), None)).collect();
            self.journal.commit(&records).unwrap();
        }

        fn cursors(&self) -> Cursors {
            Cursors::open(&self.directory.path().join("cursors"), self.journal.events()).unwrap()
        }

        fn intake(&self, cursors: &Cursors, stored: u64) -> Intake {
            Intake::open(cursors, self.journal.events(), Position(stored)).unwrap()
        }
    }

    /// A book with one hook, for all events of account 1.
    fn book() -> Book {
        let definition = Map::from_iter([("event".into(), json!("a")), ("url".into(), json!("https://example.com"))]);
        let hook = Hook::parse(HookId([1; 12]), Audience::Owner(OwnerId(1)), &definition).unwrap();
        let mut book = Book::default();
        book.put(Listed {
            hook: hook.into(),
            name: "a hook".into(),
            keys: None,
            tenant: TenantId(0),
            updated_at: UnixMillis(0),
            publishes: true,
            is_own: false,
        });
        book
    }

    fn positions(taken: &Taken) -> Vec<u64> {
        taken.accepted.iter().map(|(position, ..)| position.0).collect()
    }

    #[test]
    fn a_new_cursor_begins_at_the_end_and_every_event_after_it_is_in_the_ledger() {
        let (mut world, book) = (World::new(), book());
        world.commit(1, 3);
        let cursors = world.cursors();
        let mut intake = world.intake(&cursors, 0);
        assert_eq!(intake.read(&book).unwrap().accepted, []);
        world.commit(1, 2);
        world.commit(2, 4);
        world.commit(1, 1);
        assert_eq!(intake.behind(), 7);
        let taken = intake.read(&book).unwrap();
        assert_eq!((positions(&taken), taken.upto, taken.is_more, intake.behind()), (vec![4, 5, 10], Position(10), false, 0));
        intake.commit(Position(10)).unwrap();
        let standing = cursors.standing(SINK).unwrap();
        assert_eq!((standing.origin, standing.mark.position, standing.mark.ledger.delivered), (Position(3), Position(10), 7));
    }

    #[test]
    fn the_cursor_goes_no_further_than_what_is_durable() {
        let (mut world, book) = (World::new(), book());
        let cursors = world.cursors();
        let mut intake = world.intake(&cursors, 0);
        world.commit(1, 2);
        intake.read(&book).unwrap();
        world.commit(1, 2);
        intake.read(&book).unwrap();
        intake.commit(Position(3)).unwrap();
        assert_eq!(cursors.position(SINK), Some(Position(2)), "what was taken after it goes with it");
        intake.commit(Position(4)).unwrap();
        assert_eq!(cursors.position(SINK), Some(Position(4)));
    }

    #[test]
    fn it_goes_on_after_what_is_stored_even_if_the_cursor_is_behind() {
        let (mut world, book) = (World::new(), book());
        world.commit(1, 1);
        let cursors = world.cursors();
        let mut intake = world.intake(&cursors, 0);
        world.commit(1, 6);
        intake.read(&book).unwrap();
        drop(intake);
        let mut intake = world.intake(&cursors, 5);
        assert_eq!(positions(&intake.read(&book).unwrap()), [6, 7]);
        intake.commit(Position(7)).unwrap();
        assert_eq!(cursors.standing(SINK).unwrap().mark.ledger.delivered, 6);
    }

    #[test]
    fn recent_events_are_kept_in_bounds() {
        let (mut recent, mut world) = (Recent::default(), World::new());
        world.commit(1, 1);
        let (_, event) = world.journal.events().read_from(Position(1)).unwrap().next_event().unwrap().unwrap();
        (1..=RECENT_MAX as u64 + 10).for_each(|position| recent.keep(Position(position), Arc::clone(&event)));
        assert!(recent.get(Position(10)).is_none() && recent.get(Position(11)).is_some());
        let large = Arc::new(Event { data: Some(vec![0; RECENT_BYTES_MAX - 1]), ..(*event).clone() });
        let after = RECENT_MAX as u64 + 11;
        recent.keep(Position(after), Arc::clone(&large));
        assert!(recent.get(Position(after)).is_some());
        recent.keep(Position(after + 1), large);
        assert!(recent.get(Position(after)).is_none() && recent.get(Position(after + 1)).is_some());
    }
}
