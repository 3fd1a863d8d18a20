//! All devices, in memory: what the API needs to know to find a device by id or name and to see whose it is.
//!
//! Of the threads that serve devices only the one with handshakes over TCP reads it, where firmware that shows no key is known by its id; the others
//! have the key ring.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use firmware_protocol::crypto::DevicePublicKey;
use firmware_protocol::id::{DeviceId, Identity, KeyHash, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;

/// What is registered about a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Whose it is, if it has been claimed.
    pub owner: Option<OwnerId>,
    /// The product it belongs to.
    pub product: Option<ProductId>,
    /// The kind of hardware, if it was said on registration.
    pub platform_id: Option<u16>,
    /// Its name, unique among the devices of its owner.
    pub name: Option<String>,
    /// Free text of its owner.
    pub notes: Option<String>,
    /// The key it proves itself with.
    pub key: Option<KeyHash>,
    /// The key itself if it is one of TCP: very old firmware there does not show it.
    pub rsa_key: Option<Arc<DevicePublicKey>>,
    /// When it was registered.
    pub created_at: UnixMillis,
}

impl Device {
    /// What the key ring says about it, if it has a key.
    pub fn identity(&self) -> Option<Identity> {
        self.key.map(|key| Identity { device: self.id, key, owner: self.owner, product: self.product })
    }
}

/// The devices, by id and by owner.
#[derive(Default)]
pub struct DeviceBook {
    pages: RwLock<Pages>,
}

#[derive(Default)]
struct Pages {
    devices: HashMap<DeviceId, Arc<Device>>,
    owners: HashMap<OwnerId, Shelf>,
}

/// The devices of one owner.
#[derive(Default)]
struct Shelf {
    ids: BTreeSet<DeviceId>,
    names: BTreeMap<String, DeviceId>,
}

impl DeviceBook {
    /// The device with this id.
    pub fn find(&self, id: DeviceId) -> Option<Arc<Device>> {
        self.read().devices.get(&id).cloned()
    }

    /// The device of `owner` with this id or, failing that, this name.
    pub fn find_owned(&self, owner: OwnerId, id_or_name: &str) -> Option<Arc<Device>> {
        let pages = self.read();
        let id = id_or_name.parse().ok().or_else(|| pages.owners.get(&owner)?.names.get(id_or_name).copied())?;
        pages.devices.get(&id).filter(|device| device.owner == Some(owner)).cloned()
    }

    /// The device of `owner` with this name.
    pub fn find_named(&self, owner: OwnerId, name: &str) -> Option<DeviceId> {
        self.read().owners.get(&owner)?.names.get(name).copied()
    }

    /// The ids of all devices of `owner`, in order.
    pub fn owned_by(&self, owner: OwnerId) -> Vec<DeviceId> {
        self.read().owners.get(&owner).map_or_else(Vec::new, |shelf| shelf.ids.iter().copied().collect())
    }

    /// All devices, in order of their ids.
    pub fn all(&self) -> Vec<Arc<Device>> {
        let mut devices: Vec<_> = self.read().devices.values().cloned().collect();
        devices.sort_by_key(|device| device.id);
        devices
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.read().devices.len()
    }

    /// Whether there is no device at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn fill(&self, devices: impl IntoIterator<Item = Device>) {
        let mut pages = self.write();
        for device in devices {
            pages.put(Arc::new(device));
        }
    }

    pub(super) fn put(&self, device: Arc<Device>) {
        self.write().put(device);
    }

    pub(super) fn remove(&self, id: DeviceId) {
        self.write().take(id);
    }

    fn read(&self) -> RwLockReadGuard<'_, Pages> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pages> {
        self.pages.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn put(&mut self, device: Arc<Device>) {
        self.take(device.id);
        if let Some(owner) = device.owner {
            let shelf = self.owners.entry(owner).or_default();
            shelf.ids.insert(device.id);
            if let Some(name) = &device.name {
                shelf.names.insert(name.clone(), device.id);
            }
        }
        self.devices.insert(device.id, device);
    }

    fn take(&mut self, id: DeviceId) {
        let Some(device) = self.devices.remove(&id) else { return };
        let Some((owner, shelf)) = device.owner.and_then(|owner| Some((owner, self.owners.get_mut(&owner)?))) else {
            return;
        };
        shelf.ids.remove(&id);
        if let Some(name) = &device.name {
            shelf.names.remove(name);
        }
        if shelf.ids.is_empty() {
            self.owners.remove(&owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8, owner: Option<u64>, name: Option<&str>) -> Device {
        Device {
            id: DeviceId([number; 12]),
            owner: owner.map(OwnerId),
            product: None,
            platform_id: None,
            name: name.map(str::to_owned),
            notes: None,
            key: None,
            rsa_key: None,
            created_at: UnixMillis(0),
        }
    }

    #[test]
    fn devices_are_found_by_id_and_by_name_and_only_by_their_owner() {
        let book = DeviceBook::default();
        book.fill([device(1, Some(1), Some("kitchen")), device(2, Some(2), Some("kitchen")), device(3, None, Some("loose"))]);
        let found = |owner, text: &str| book.find_owned(OwnerId(owner), text).map(|device| device.id.0[0]);
        assert_eq!(found(1, "kitchen"), Some(1));
        assert_eq!(found(2, "kitchen"), Some(2));
        assert_eq!(found(1, "010101010101010101010101"), Some(1));
        assert_eq!(found(2, "010101010101010101010101"), None);
        assert_eq!(found(1, "loose"), None);
        assert_eq!(found(1, "030303030303030303030303"), None);
    }

    #[test]
    fn a_renamed_or_moved_device_leaves_nothing_behind() {
        let book = DeviceBook::default();
        book.put(Arc::new(device(1, Some(1), Some("old"))));
        book.put(Arc::new(device(1, Some(1), Some("new"))));
        assert_eq!(book.find_named(OwnerId(1), "old"), None);
        book.put(Arc::new(device(1, Some(2), Some("new"))));
        assert!(book.owned_by(OwnerId(1)).is_empty());
        assert_eq!(book.owned_by(OwnerId(2)), [DeviceId([1; 12])]);
        book.remove(DeviceId([1; 12]));
        assert!(book.is_empty());
        assert!(book.read().owners.is_empty());
    }
}
