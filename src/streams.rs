//! Event streams: every committed batch goes past here once, and each open stream gets what its filter wants. A stream has a bounded queue; a
//! reader that falls behind is cut, and nobody else notices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use firmware_protocol::id::{DeviceId, OwnerId};
use router::event::{CommittedEvents, Event, Position, Source};
use tokio::sync::mpsc;

use crate::metrics::StreamMetrics;

/// Events a stream may have waiting.
const QUEUE_EVENTS: usize = 256;
/// Bytes of names and data a stream may have waiting.
const QUEUE_BYTES: usize = 64 * 1024;

/// Which events a stream wants.
#[derive(Clone, Debug)]
pub struct StreamFilter {
    /// Whose.
    pub owner: OwnerId,
    /// Of which device, if not of all.
    pub device: Option<DeviceId>,
    /// Name prefix, empty for all.
    pub prefix: String,
}

/// One event on its way to a reader.
pub type Item = (Position, Arc<Event>);

/// The reader's end.
#[derive(Debug)]
pub struct Stream {
    items: mpsc::Receiver<Item>,
    waiting: Arc<std::sync::atomic::AtomicUsize>,
    _open: OpenGauge,
}

#[derive(Debug)]
struct OpenGauge(prometheus::IntGauge);

impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Stream {
    /// The next event; `None` when the stream was cut or the server stops.
    pub async fn next(&mut self) -> Option<Item> {
        let item = self.items.recv().await?;
        self.waiting.fetch_sub(size(&item.1), std::sync::atomic::Ordering::Relaxed);
        Some(item)
    }
}

#[derive(Debug)]
struct Open {
    filter: StreamFilter,
    items: mpsc::Sender<Item>,
    waiting: Arc<std::sync::atomic::AtomicUsize>,
}

/// All open streams, by owner.
#[derive(Debug)]
pub struct Streams {
    open: Mutex<HashMap<OwnerId, Vec<Open>>>,
    metrics: Arc<StreamMetrics>,
}

fn size(event: &Event) -> usize {
    event.name.len() + event.data.as_ref().map_or(0, Vec::len)
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
    pub fn open(&self, filter: StreamFilter) -> Stream {
        let (sender, items) = mpsc::channel(QUEUE_EVENTS);
        let waiting = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        self.metrics.open.inc();
        let open = Open { items: sender, waiting: Arc::clone(&waiting), filter };
        self.with(|streams| streams.entry(open.filter.owner).or_default().push(open));
        Stream { items, waiting, _open: OpenGauge(self.metrics.open.clone()) }
    }

    /// Passes batches on until the writer is gone.
    pub async fn run(&self, mut batches: mpsc::Receiver<CommittedEvents>) {
        while let Some(batch) = batches.recv().await {
            self.pass_on(&batch);
        }
        // Ends every stream, so that its response ends.
        self.with(HashMap::clear);
    }

    fn pass_on(&self, batch: &[Item]) {
        self.with(|streams| {
            for (position, event) in batch {
                let Some(of_owner) = streams.get_mut(&event.owner) else { continue };
                of_owner.retain(|open| !open.filter.wants(event) || self.offer(open, *position, event));
                if of_owner.is_empty() {
                    streams.remove(&event.owner);
                }
            }
        });
    }

    /// `false` cuts the stream.
    fn offer(&self, open: &Open, position: Position, event: &Arc<Event>) -> bool {
        let bytes = size(event);
        let waiting = open.waiting.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        let taken = waiting + bytes <= QUEUE_BYTES && open.items.try_send((position, Arc::clone(event))).is_ok();
        match taken {
            true => self.metrics.events.inc(),
            false if !open.items.is_closed() => self.metrics.cut.inc(),
            false => {}
        }
        taken
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
        StreamFilter { owner: OwnerId(1), device: device.map(|n| DeviceId([n; 12])), prefix: prefix.into() }
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
        streams.run(receiver).await;
        assert_eq!(all.next().await.unwrap().1.name, "temp");
        assert_eq!(all.next().await.unwrap().0, Position(2));
        assert_eq!(some.next().await.unwrap().1.name, "temp");
        assert!(all.next().await.is_none() && some.next().await.is_none() && other.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_at_64_kib() {
        let metrics = Arc::new(Metrics::new().streams());
        let streams = Streams::new(Arc::clone(&metrics));
        let mut slow = streams.open(filter("", None));
        streams.pass_on(&batch(&["temp"; 80]));
        assert_eq!(metrics.cut.get(), 1);
        let mut read = 0;
        while slow.next().await.is_some() {
            read += 1;
        }
        assert_eq!(read, QUEUE_BYTES / 1004, "what was queued before can still be read");
        drop(slow);
        assert_eq!(metrics.open.get(), 0);
    }
}
