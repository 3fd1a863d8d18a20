//! Event streams: every committed batch goes past here once, and each open stream gets what its filter wants. A stream has a bounded queue; a
//! reader that falls behind is cut, and nobody else notices.

mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use firmware_protocol::id::{DeviceId, OwnerId};
use router::event::{CommittedEvents, Event, Position, Source};
use tokio::sync::mpsc;

use self::queue::StreamEnd;
use crate::history::Feed;
use crate::metrics::StreamMetrics;

pub use self::queue::{EventSender, EventStream, Placed, event_stream};

/// Which events a stream carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamFilter {
    /// Events of this account,
    pub owner: OwnerId,
    /// of this device if one is named,
    pub device: Option<DeviceId>,
    /// whose name starts so,
    pub prefix: String,
    /// and which come after this one. `None` starts with the next event accepted, as does a position that is no longer kept.
    pub after: Option<Position>,
}

#[derive(Debug)]
struct Open {
    filter: StreamFilter,
    sender: EventSender,
}

/// All open streams, by owner.
#[derive(Debug)]
pub struct Streams {
    open: Mutex<HashMap<OwnerId, Vec<Open>>>,
    metrics: Arc<StreamMetrics>,
}

impl StreamFilter {
    fn wants(&self, event: &Event) -> bool {
        let device = self.device.is_none_or(|device| event.source == Source::Device(device));
        device && event.name.starts_with(&self.prefix)
    }
}

impl Streams {
    /// None open.
    pub fn new(metrics: Arc<StreamMetrics>) -> Self {
        Self { open: Mutex::default(), metrics }
    }

    /// Opens a stream of what is committed from now on.
    pub fn open(&self, filter: StreamFilter) -> EventStream {
        let (sender, stream) = event_stream();
        self.with(|streams| streams.entry(filter.owner).or_default().push(Open { filter, sender }));
        stream
    }

    /// Passes batches on until the writer is gone. Each also goes past `history`.
    pub async fn run(&self, mut batches: mpsc::Receiver<CommittedEvents>, mut history: Option<Feed>) {
        while let Some(batch) = batches.recv().await {
            self.pass_on(&batch);
            if let Some(history) = &mut history {
                history.offer(&batch);
            }
        }
        // Ends every stream, so that its response ends.
        self.with(HashMap::clear);
    }

    fn pass_on(&self, batch: &[Placed]) {
        self.with(|streams| {
            for (position, event) in batch {
                let Some(of_owner) = streams.get_mut(&event.owner) else { continue };
                of_owner.retain(|open| !open.filter.wants(event) || self.offer(&open.sender, *position, event));
                if of_owner.is_empty() {
                    streams.remove(&event.owner);
                }
            }
            self.metrics.open.set(streams.values().map(Vec::len).sum::<usize>().try_into().unwrap_or(i64::MAX));
        });
    }

    /// `false` ends the stream.
    fn offer(&self, sender: &EventSender, position: Position, event: &Arc<Event>) -> bool {
        let sent = sender.send(position, event);
        match sent {
            Ok(()) => self.metrics.events.inc(),
            Err(StreamEnd::Full) => self.metrics.cut.inc(),
            Err(StreamEnd::Left) => {}
        }
        sent.is_ok()
    }

    fn with<T>(&self, action: impl FnOnce(&mut HashMap<OwnerId, Vec<Open>>) -> T) -> T {
        action(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use firmware_protocol::time::UnixMillis;
    use router::event::NewEvent;

    fn batch(names: &[&str]) -> CommittedEvents {
        let event = |(n, name): (usize, &&str)| {
            let new = NewEvent {
                owner: OwnerId(1),
                product: None,
                source: Source::Device(DeviceId([3; 12])),
                name: (*name).into(),
                content_format: 0,
                data: Some(vec![0; 1000]),
                ttl_s: 60,
            };
            (Position(n as u64 + 1), Arc::new(new.accept(UnixMillis(0), [0; 10])))
        };
        names.iter().enumerate().map(event).collect()
    }

    fn filter(prefix: &str, device: Option<u8>) -> StreamFilter {
        StreamFilter { owner: OwnerId(1), device: device.map(|n| DeviceId([n; 12])), prefix: prefix.into(), after: None }
    }

    #[tokio::test]
    async fn streams_get_what_they_want_and_end_with_the_writer() {
        let streams = Streams::new(Arc::new(Metrics::new().streams()));
        let mut all = streams.open(filter("", None));
        let mut some = streams.open(filter("te", Some(3)));
        let mut other = streams.open(filter("", Some(4)));
        let (sender, receiver) = mpsc::channel(4);
        sender.send(batch(&["temp", "humidity"])).await.unwrap();
        drop(sender);
        streams.run(receiver, None).await;
        assert_eq!(all.next().await.unwrap().1.name, "temp");
        assert_eq!(all.next().await.unwrap().0, Position(2));
        assert_eq!(some.next().await.unwrap().1.name, "temp");
        assert!(all.next().await.is_none() && some.next().await.is_none() && other.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_and_the_others_go_on() {
        let metrics = Arc::new(Metrics::new().streams());
        let streams = Streams::new(Arc::clone(&metrics));
        let (mut slow, mut quick) = (streams.open(filter("", None)), streams.open(filter("", None)));
        for _ in 0..80 {
            streams.pass_on(&batch(&["temp"]));
            assert!(quick.next().await.is_some());
        }
        assert_eq!((metrics.cut.get(), metrics.open.get()), (1, 1));
        while slow.next().await.is_some() {}
    }
}
