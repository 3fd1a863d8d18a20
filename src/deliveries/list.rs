//! What owners of hooks look at: their deliveries, by the page and with filters. Every call does a bounded amount of work.

use std::iter::Peekable;
use std::sync::Arc;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use fjall::{Keyspace, Readable, Snapshot};
use router::event::{Event, Position};
use webhooks::delivery::DeliveryId;
use webhooks::hook::HookId;

use super::database::Database;
use super::delivery::{Delivery, State};
use super::error::{DeliveriesError, Result};
use super::keys;
use super::reader::{END, Reader, Row, read_delivery, read_row};

/// Deliveries that one call for a page looks at.
const LOOKED_AT_MAX: usize = 2_048;
/// Deliveries in one answer.
const PAGE_MAX: usize = 1_000;

/// Which deliveries of a hook are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// In which state.
    pub which: Which,
    /// Of events of this device.
    pub device: Option<DeviceId>,
    /// Of events whose name begins so.
    pub event: Option<String>,
    /// Of events that were accepted at this time or later.
    pub from: Option<UnixMillis>,
    /// Of events that were accepted before this time.
    pub before: Option<UnixMillis>,
}

/// In which state wanted deliveries are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Which {
    /// In any.
    #[default]
    All,
    /// Those that are to be made.
    Pending,
    /// Those that were made.
    Delivered,
    /// Those that were not made in time.
    Expired,
    /// Those that were given up.
    Rejected,
    /// Expired and given up ones that were not delivered in a replay since.
    DeadLetters,
}

/// A delivery in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Which.
    pub id: DeliveryId,
    /// What is known of it.
    pub delivery: Delivery,
    /// Its event.
    pub event: Option<Arc<Event>>,
}

/// A part of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The newest first.
    pub deliveries: Vec<Listed>,
    /// There may be more before this position.
    pub next: Option<Position>,
}

impl Reader {
    /// Deliveries of a hook before a position, the newest first. It looks at a bounded number of them, so that a page may be short or empty and still not
    /// be the last.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn list(&self, hook: HookId, filter: &Filter, before: Option<Position>, len_max: usize) -> Result<Page> {
        let (mut page, snapshot) = (Page::default(), self.db().snapshot());
        let newest = Newest::new(&snapshot, self.db(), hook, filter.which, before.unwrap_or(END));
        for (looked_at, row) in newest.enumerate() {
            let (id, delivery) = row?;
            if looked_at == LOOKED_AT_MAX || page.deliveries.len() == len_max.min(PAGE_MAX) {
                page.next = Some(id.position.next());
                break;
            }
            if filter.fits(&delivery) {
                let event = self.event(id.position)?;
                if filter.event.is_none() || event.as_ref().is_some_and(|event| filter.fits_event(event)) {
                    page.deliveries.push(Listed { id, delivery, event });
                }
            }
        }
        Ok(page)
    }
}

impl Filter {
    fn fits(&self, delivery: &Delivery) -> bool {
        let state = match self.which {
            Which::All | Which::Pending | Which::DeadLetters => true,
            Which::Delivered => delivery.state == State::Delivered,
            Which::Expired => delivery.state == State::Expired,
            Which::Rejected => matches!(delivery.state, State::Rejected(_)),
        };
        state
            && (self.device.is_none() || self.device == delivery.device)
            && self.from.is_none_or(|from| delivery.published_at >= from)
            && self.before.is_none_or(|before| delivery.published_at < before)
    }

    fn fits_event(&self, event: &Event) -> bool {
        self.event.as_ref().is_none_or(|prefix| event.name.starts_with(prefix.as_str()))
    }
}

type Rows<'a> = Peekable<Box<dyn Iterator<Item = Row> + 'a>>;

/// The deliveries of a hook from all the places where they may be, the newest first.
struct Newest<'a> {
    places: Vec<Rows<'a>>,
}

impl<'a> Newest<'a> {
    fn new(snapshot: &'a Snapshot, db: &'a Database, hook: HookId, which: Which, before: Position) -> Self {
        let bounds = || keys::delivery(DeliveryId { hook, position: Position(0) })..keys::delivery(DeliveryId { hook, position: before });
        let rows = |place: &'a Keyspace| -> Rows<'a> {
            let rows: Box<dyn Iterator<Item = Row>> = Box::new(snapshot.range(place, bounds()).rev().map(read_row));
            rows.peekable()
        };
        let places = match which {
            Which::All => vec![rows(&db.pending), rows(&db.waiting), rows(&db.finished)],
            Which::Pending => vec![rows(&db.pending), rows(&db.waiting)],
            Which::Delivered | Which::Expired | Which::Rejected => vec![rows(&db.finished)],
            Which::DeadLetters => {
                let finished = |row: fjall::Guard| {
                    let key = row.key()?;
                    let value = snapshot.get(&db.finished, &key)?.ok_or(DeliveriesError::Damaged("a dead letter"))?;
                    Ok((keys::read_delivery(&key).ok_or(DeliveriesError::Damaged("a key"))?, read_delivery(&value)?))
                };
                let rows: Box<dyn Iterator<Item = Row>> = Box::new(snapshot.range(&db.dead, bounds()).rev().map(finished));
                vec![rows.peekable()]
            }
        };
        Self { places }
    }
}

impl Iterator for Newest<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        // What cannot be read comes first, so that it is told.
        let rank = |row: &Row| row.as_ref().map_or(END, |(id, _)| id.position);
        let best = self.places.iter_mut().filter_map(|rows| rows.peek().map(rank)).max()?;
        self.places.iter_mut().find_map(|rows| rows.next_if(|row| rank(row) == best))
    }
}
