//! A world with one device and a reader, in which one hook after the other is tried: the rows of a table.

use firmware_protocol::coap::format;
use serde_json::{Value as Json, json};

use super::ear::{Ear, Heard};
use super::receiver::{PATIENCE, Received, Reply};
use super::world::World;
use crate::device_driver::{Driver, id};
use crate::drive::Drive;

/// The event that triggers a hook in a table.
pub(super) const EVENT: &str = "tide/high";

/// Name and data of an event.
pub(super) type Event = (String, Option<String>);

pub(super) struct Bench {
    pub(super) world: World,
    pub(super) device: Driver,
    pub(super) ear: Ear,
}

impl Bench {
    pub(super) async fn start() -> Self {
        let world = World::start().await;
        let device = world.device(1).await;
        let ear = world.listen().await;
        Self { world, device, ear }
    }

    /// The device's id.
    pub(super) fn id() -> String {
        id(1).to_string()
    }

    /// What the receiver gets at `/in` from a hook that says this, for an event of the device with these data.
    pub(super) async fn send(&mut self, fields: Json, data: &str) -> Received {
        self.send_typed(fields, format::TEXT, data.as_bytes()).await
    }

    /// The same with data of any kind.
    pub(super) async fn send_typed(&mut self, fields: Json, content_format: u16, data: &[u8]) -> Received {
        self.run(fields, content_format, data, 1).await.0
    }

    /// What is published of an answer to a request of a hook that says this: names and data of so many events, in their order.
    pub(super) async fn answered(&mut self, fields: Json, reply: Reply, count: usize) -> Vec<Event> {
        self.world.receiver.answers("/in", [reply]);
        self.run(fields, format::TEXT, b"21.5", count).await.1
    }

    /// Makes a hook, has an event trigger it, waits for the request and for what is published of the answer, and removes it.
    async fn run(&mut self, fields: Json, content_format: u16, data: &[u8], count: usize) -> (Received, Vec<Event>) {
        let hook = self.world.hook(fields).await;
        self.publish_typed(content_format, data);
        let received = self.world.receiver.next("/in").await;
        let events = self.events(count).await;
        self.world.remove(&hook).await;
        (received, events)
    }

    /// Names and data of the next events of hooks, once there are so many.
    pub(super) async fn events(&mut self, count: usize) -> Vec<Event> {
        let heard = self.ear.take(count).await;
        heard.into_iter().map(|Heard { name, said }| (name, said["data"].as_str().map(str::to_owned))).collect()
    }

    pub(super) fn publish(&mut self, data: &str) {
        self.publish_typed(format::TEXT, data.as_bytes());
    }

    fn publish_typed(&mut self, content_format: u16, data: &[u8]) {
        let publish = self.device.publish_typed(EVENT, content_format, data);
        self.device.run_until(PATIENCE, |device| device.published(publish));
    }
}

/// An event without data, as [`Bench::events`] has it.
pub(super) fn silent(name: &str) -> Event {
    (name.to_owned(), None)
}

/// An event with data.
pub(super) fn saying(name: &str, data: &str) -> Event {
    (name.to_owned(), Some(data.to_owned()))
}

/// Fields with a template for the data and without the defaults.
pub(super) fn only(field: &str, value: Json) -> Json {
    json!({ field: value, "noDefaults": true })
}
