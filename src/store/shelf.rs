//! The devices of one owner, in order of their ids and by name, and those of one product, in order of their ids. Shelves and rolls hold references to
//! rows, and what they are sorted by stands in the rows.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use firmware_protocol::id::DeviceId;

use super::Device;

/// Devices in order of their ids.
#[derive(Default)]
pub(super) struct Roll(BTreeSet<ById>);

impl Roll {
    /// All of them, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.0.iter().map(|row| &row.0)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts in a device that is not there.
    pub(super) fn put(&mut self, device: Arc<Device>) {
        self.0.insert(ById(device));
    }

    /// Puts in many that are not there. Sets that are made of many at once have no spare room in their nodes.
    pub(super) fn put_all(&mut self, devices: &[Arc<Device>]) {
        self.0.append(&mut devices.iter().cloned().map(ById).collect());
    }

    /// Takes a device out that is there.
    pub(super) fn remove(&mut self, device: &Arc<Device>) {
        self.0.remove(&ById(Arc::clone(device)));
    }
}

/// The devices of one owner.
#[derive(Default)]
pub(super) struct Shelf {
    ids: Roll,
    /// Those that have a name.
    names: BTreeSet<ByName>,
}

impl Shelf {
    /// The device with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Device>> {
        self.names.get(name).map(|row| &row.0)
    }

    /// The ids of all, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = DeviceId> {
        self.ids.rows().map(|row| row.id())
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Puts in a device that is not there.
    pub(super) fn put(&mut self, device: Arc<Device>) {
        if device.name().is_some() {
            self.names.insert(ByName(Arc::clone(&device)));
        }
        self.ids.put(device);
    }

    /// Puts in many that are not there.
    pub(super) fn put_all(&mut self, devices: &[Arc<Device>]) {
        self.ids.put_all(devices);
        self.names.append(&mut devices.iter().filter(|device| device.name().is_some()).cloned().map(ByName).collect());
    }

    /// Takes a device out that is there.
    pub(super) fn remove(&mut self, device: &Arc<Device>) {
        self.ids.remove(device);
        if let Some(name) = device.name() {
            self.names.remove(name);
        }
    }
}

/// A row that is sorted by its id.
struct ById(Arc<Device>);

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id().cmp(&other.0.id())
    }
}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ById {}

/// A row that is sorted by its name, and has one.
struct ByName(Arc<Device>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name().unwrap_or_default()
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name().cmp(&other.0.name())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByName {}
