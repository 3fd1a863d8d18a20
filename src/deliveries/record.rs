//! Writing down how attempts ended.

use firmware_protocol::time::UnixMillis;
use webhooks::delivery::DeliveryId;

use super::attempt::Attempt;
use super::change::Change;
use super::delivery::{Reason, State};
use super::error::Result;
use super::store::Deliveries;

/// What becomes of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// It was made.
    Delivered,
    /// It is tried again.
    Retry {
        /// Not before this.
        at: UnixMillis,
        /// How many of its attempts count for when it is tried next, and whether at all.
        counted: u8,
        /// Those after it need not wait for it.
        out_of_order: bool,
    },
    /// It was not made in time.
    Expired,
    /// It is given up.
    Rejected(Reason),
}

/// How an attempt ended, and what becomes of its delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The attempt, if there was one.
    pub attempt: Option<Attempt>,
    /// What becomes of the delivery.
    pub then: Then,
}

impl Deliveries {
    /// Writes down how attempts ended, in one batch unless a delivery is there more than once. What is said of a delivery that is done with, or of an
    /// attempt that is written down already, changes nothing. Returns how many were news.
    ///
    /// # Errors
    /// The database failed.
    pub fn record(&mut self, now: UnixMillis, records: &[(DeliveryId, Recorded)]) -> Result<usize> {
        let (mut change, mut news) = (Change::new(self), 0);
        for (id, recorded) in records {
            if change.has(*id) {
                let changed = change.done();
                self.commit(changed)?;
                change = Change::new(self);
            }
            news += usize::from(change.record(now, *id, recorded)?);
        }
        let changed = change.done();
        if news > 0 {
            self.commit(changed)?;
        }
        Ok(news)
    }
}

impl Change<'_> {
    fn record(&mut self, now: UnixMillis, id: DeliveryId, recorded: &Recorded) -> Result<bool> {
        let Some((place, mut delivery)) = self.find(id)? else { return Ok(false) };
        let due = delivery.due;
        if let Some(attempt) = &recorded.attempt {
            if (1..=delivery.attempts).contains(&attempt.number) {
                return Ok(false);
            }
            self.keep(id, &mut delivery, attempt);
        }
        match recorded.then {
            Then::Retry { at, counted, out_of_order } => {
                delivery.out_of_order |= out_of_order;
                delivery.counted = counted;
                // Its key among the retries is by the old time until it is taken out.
                delivery.due = at;
                self.put_back(id, (place, due), &delivery);
            }
            Then::Delivered => self.finish(now, id, place, delivery, State::Delivered),
            Then::Expired => self.finish(now, id, place, delivery, State::Expired),
            Then::Rejected(reason) => self.finish(now, id, place, delivery, State::Rejected(reason)),
        }
        Ok(true)
    }
}
