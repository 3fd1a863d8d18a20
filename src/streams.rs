//! Event streams: every committed batch goes past here once, and each open stream gets what its filter wants. A stream has a bounded queue; one
//! whose reader falls behind is taken off the list and reads the journal instead, and nobody else notices.

mod queue;
mod replay;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firmware_protocol::id::DeviceId;
use router::event::{Audience, CommittedEvents, Event, Position, Source};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use self::queue::{EventQueue, StreamEnd, event_queue};
use self::stream::Origin;
use crate::history::Feed;
use crate::journal::Events;
use crate::metrics::StreamMetrics;

pub use self::queue::{EventSender, Placed};
pub use self::replay::{Replay, Replayer};
pub use self::stream::{Cut, EventStream, Gap, Item, event_stream};

/// After this much silence it is checked that no batch was missed. While there is none, the next one shows it.
const SILENCE: Duration = Duration::from_secs(1);

/// Which events a stream carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamFilter {
    /// Events that this account or product hears of,
    pub audience: Audience,
    /// of this device if one is named,
    pub device: Option<DeviceId>,
    /// whose name starts so,
    pub prefix: String,
    /// and which come after this one. `None` starts with the next event accepted. What is no longer kept is a [`Gap`].
    pub after: Option<Position>,
}

#[derive(Debug)]
struct Open {
    filter: Arc<StreamFilter>,
    sender: EventSender,
}

/// All event streams.
#[derive(Debug)]
pub struct Streams {
    hub: Mutex<Hub>,
    events: Events,
    replay: Replay,
    metrics: Arc<StreamMetrics>,
}

/// The streams that are up to date, each with its audience.
#[derive(Debug)]
struct Hub {
    open: HashMap<Audience, Vec<Open>>,
    /// Everything up to here was offered to them.
    passed: Position,
    is_over: bool,
}

impl StreamFilter {
    /// Of the events that its audience hears of.
    fn wants(&self, event: &Event) -> bool {
        let device = self.device.is_none_or(|device| event.source == Source::Device(device));
        device && event.name.starts_with(&self.prefix)
    }
}

impl Streams {
    /// None open. To be made before the first event is committed to the journal of these `events`.
    pub fn new(events: Events, replay: Replay, metrics: Arc<StreamMetrics>) -> Self {
        let hub = Hub { open: HashMap::new(), passed: events.last(), is_over: false };
        Self { hub: Mutex::new(hub), events, replay, metrics }
    }

    /// Opens a stream of what is committed from now on, or after the position that the filter names.
    pub fn open(self: &Arc<Self>, filter: StreamFilter) -> EventStream {
        let filter = Arc::new(filter);
        let origin = Some(Origin::new(self, &filter));
        if let Some(after) = filter.after {
            self.metrics.continued.inc();
            if after <= self.events.last() {
                return EventStream::new(origin, None, after.next(), None);
            }
            self.metrics.gaps.inc();
        }
        let queue = self.join(&filter);
        let next = queue.begins;
        let gap = filter.after.map(|_| Gap::Unknown { last: Position(next.0 - 1) });
        EventStream::new(origin, Some(queue), next, gap)
    }

    /// Passes batches on until the writer is gone. Each also goes past `history`.
    pub async fn run(&self, mut batches: mpsc::Receiver<CommittedEvents>, mut history: Option<Feed>) {
        loop {
            match timeout(SILENCE, batches.recv()).await {
                Ok(Some(batch)) => {
                    self.pass_on(&batch);
                    if let Some(history) = &mut history {
                        history.offer(&batch);
                    }
                }
                Ok(None) => break,
                Err(_) => self.pass_over_missed(),
            }
        }
        // Ends every stream, so that its response ends.
        self.with(|hub| {
            hub.open.clear();
            hub.is_over = true;
        });
    }

    /// A queue that gets what comes from now on.
    fn join(&self, filter: &Arc<StreamFilter>) -> EventQueue {
        self.with(|hub| {
            let (sender, queue) = event_queue(hub.passed.next());
            if !hub.is_over {
                let open = hub.open.entry(filter.audience).or_default();
                // Readers that come and go while nothing is published.
                open.retain(|open| !open.sender.is_abandoned());
                open.push(Open { filter: Arc::clone(filter), sender });
            }
            queue
        })
    }

    fn pass_on(&self, batch: &[Placed]) {
        self.with(|hub| {
            if batch.first().is_some_and(|(first, _)| *first > hub.passed.next()) {
                hub.leave_all_behind();
            }
            let passed = hub.passed;
            for (position, event) in batch.iter().filter(|(position, _)| *position > passed) {
                hub.passed = *position;
                event.whose().audiences().for_each(|audience| self.offer_to(hub, audience, *position, event));
            }
        });
    }

    /// Offers an event to the streams of one of those who hear of it.
    fn offer_to(&self, hub: &mut Hub, audience: Audience, position: Position, event: &Arc<Event>) {
        let Some(open) = hub.open.get_mut(&audience) else { return };
        open.retain(|open| !open.filter.wants(event) || self.offer(&open.sender, position, event));
        if open.is_empty() {
            hub.open.remove(&audience);
        }
    }

    /// Nothing comes, and yet there may be events that were not passed on.
    fn pass_over_missed(&self) {
        let last = self.events.last();
        self.with(|hub| {
            if last > hub.passed {
                hub.leave_all_behind();
                hub.passed = last;
            }
        });
    }

    /// `false` takes the stream off the list.
    fn offer(&self, sender: &EventSender, position: Position, event: &Arc<Event>) -> bool {
        let sent = sender.send(position, event);
        match sent {
            Ok(()) => self.metrics.events.inc(),
            Err(StreamEnd::Full) => self.metrics.behind.inc(),
            Err(StreamEnd::Left) => {}
        }
        sent.is_ok()
    }

    fn with<T>(&self, action: impl FnOnce(&mut Hub) -> T) -> T {
        action(&mut self.hub.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Hub {
    /// Every stream reads the journal from where it is.
    fn leave_all_behind(&mut self) {
        let now = Instant::now();
        for open in self.open.drain().flat_map(|(_, open)| open) {
            open.sender.leave_behind(now);
        }
    }
}

#[cfg(test)]
mod tests;
