//! Lists of deliveries by the page: which are wanted, and a bounded look for them.

use firmware_protocol::id::DeviceId;
use router::event::Position;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use webhooks::hook::HookId;

use super::delivery::DeliveryLine;
use super::said_moment;
use crate::deliveries::{DeliveriesError, Filter, Reader, Which};

/// Deliveries in a page.
pub const PER_PAGE_MAX: u32 = 100;
const PER_PAGE: u32 = 25;
/// How often the database is asked for more of a page that is not full. Each time it looks at a bounded number of deliveries.
const LOOKS_MAX: usize = 8;
/// Longest prefix of the names of events.
const EVENT_LEN_MAX: usize = 64;

/// Which deliveries are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct DeliveryQuery {
    /// `pending`, `delivered`, `expired`, `rejected`, or `dead`: expired and rejected ones that were not made in a replay.
    pub state: Option<String>,
    /// Of events of the device with this id.
    pub device: Option<String>,
    /// Of events whose names begin so.
    pub event: Option<String>,
    /// Of events that were accepted at this time or later.
    pub from: Option<String>,
    /// Of events that were accepted before this time.
    pub before: Option<String>,
    /// How many, 25 if it is not said, at most 100.
    pub per_page: Option<u32>,
    /// The `cursor` of the page before.
    pub cursor: Option<String>,
}

/// A page of deliveries.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DeliveryPage {
    /// The newest first. A page may be short, or empty, and still not be the last.
    pub deliveries: Vec<DeliveryLine>,
    /// Asks for the next page; null if this is the last.
    pub cursor: Option<String>,
}

impl DeliveryQuery {
    /// What the database is asked for.
    ///
    /// # Errors
    /// A field is not what it must be, in words.
    pub fn filter(&self) -> Result<Filter, String> {
        let device = said(self.device.as_ref()).map(|device| device.parse::<DeviceId>()).transpose();
        let event = said(self.event.as_ref());
        if event.is_some_and(|event| event.len() > EVENT_LEN_MAX) {
            return Err("event has at most 64 bytes".to_owned());
        }
        Ok(Filter {
            which: self.which()?,
            device: device.map_err(|_| "device must be the id of a device".to_owned())?,
            event: event.map(str::to_owned),
            from: said_moment("from", self.from.as_deref())?,
            before: said_moment("before", self.before.as_deref())?,
        })
    }

    /// Where the page begins.
    ///
    /// # Errors
    /// The cursor is none, in words.
    pub fn start(&self) -> Result<Option<Position>, String> {
        let position = |cursor| super::position(cursor).ok_or_else(|| "cursor is not that of a page".to_owned());
        said(self.cursor.as_ref()).map(position).transpose()
    }

    fn len(&self) -> usize {
        self.per_page.unwrap_or(PER_PAGE).clamp(1, PER_PAGE_MAX) as usize
    }

    fn which(&self) -> Result<Which, String> {
        Ok(match said(self.state.as_ref()) {
            None => Which::All,
            Some("pending") => Which::Pending,
            Some("delivered") => Which::Delivered,
            Some("expired") => Which::Expired,
            Some("rejected") => Which::Rejected,
            Some("dead") => Which::DeadLetters,
            Some(_) => return Err("state must be pending, delivered, expired, rejected or dead".to_owned()),
        })
    }
}

/// Nothing is said by a text without characters.
fn said(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// A page of the deliveries of a hook.
///
/// # Errors
/// The database cannot be read.
pub fn page(reader: &Reader, hook: HookId, query: &DeliveryQuery, filter: &Filter) -> Result<DeliveryPage, DeliveriesError> {
    let (len, mut page) = (query.len(), DeliveryPage::default());
    let mut next = query.start().unwrap_or_default();
    for _ in 0..LOOKS_MAX {
        let found = reader.list(hook, filter, next, len - page.deliveries.len())?;
        page.deliveries.extend(found.deliveries.iter().map(DeliveryLine::from));
        next = found.next;
        if next.is_none() || page.deliveries.len() == len {
            break;
        }
    }
    page.cursor = next.map(|position| position.to_string());
    Ok(page)
}

#[cfg(test)]
mod tests {
    use firmware_protocol::time::UnixMillis;

    use super::*;

    fn query(set: impl FnOnce(&mut DeliveryQuery)) -> DeliveryQuery {
        let mut query = DeliveryQuery::default();
        set(&mut query);
        query
    }

    #[test]
    fn what_is_not_said_is_not_looked_for() {
        let nothing = query(|query| (query.state, query.device, query.cursor) = (Some(String::new()), Some(String::new()), None));
        assert_eq!((nothing.filter(), nothing.start(), nothing.len()), (Ok(Filter::default()), Ok(None), 25));
        let filter = query(|query| (query.state, query.from) = (Some("dead".into()), Some("1970-01-01T00:00:01Z".into()))).filter();
        assert_eq!(filter, Ok(Filter { which: Which::DeadLetters, from: Some(UnixMillis(1_000)), ..Filter::default() }));
        assert_eq!(query(|query| query.per_page = Some(0)).len(), 1);
        assert_eq!(query(|query| query.per_page = Some(u32::MAX)).len(), 100);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (field, query) in [
            ("state", query(|query| query.state = Some("lost".into()))),
            ("device", query(|query| query.device = Some("kitchen light".into()))),
            ("event", query(|query| query.event = Some("e".repeat(65)))),
            ("from", query(|query| query.from = Some("yesterday".into()))),
            ("before", query(|query| query.before = Some("1".into()))),
        ] {
            assert!(query.filter().unwrap_err().starts_with(field), "{field}");
        }
        assert!(query(|query| query.cursor = Some("-1".into())).start().is_err());
    }
}
