//! All devices, in memory: what the API needs to know to find a device by id or name and to see whose it is.
//!
//! Of the threads that serve devices only the one with handshakes over TCP reads it, where firmware that shows no key is known by its id; the others
//! have the key ring. What rows are found by stands in the rows alone: tables and shelves hold nothing but references to them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use router::table::Table;

use super::Device;
use super::shelf::{Roll, Shelf};

/// The devices, by id, by owner and by product.
#[derive(Default)]
pub struct DeviceBook {
    pages: RwLock<Pages>,
}

#[derive(Default)]
struct Pages {
    rows: Table<Arc<Device>>,
    owners: HashMap<OwnerId, Shelf>,
    products: HashMap<ProductId, Roll>,
}

impl DeviceBook {
    /// The device with this id.
    pub fn find(&self, id: DeviceId) -> Option<Arc<Device>> {
        self.read().rows.get(&id).cloned()
    }

    /// The device of `owner` with this id or, failing that, this name.
    pub fn find_owned(&self, owner: OwnerId, id_or_name: &str) -> Option<Arc<Device>> {
        let pages = self.read();
        match id_or_name.parse() {
            Ok(id) => pages.rows.get(&id).filter(|device| device.owner() == Some(owner)).cloned(),
            Err(_) => pages.named(owner, id_or_name).cloned(),
        }
    }

    /// The device of `owner` with this name.
    pub fn find_named(&self, owner: OwnerId, name: &str) -> Option<DeviceId> {
        self.read().named(owner, name).map(|device| device.id())
    }

    /// The ids of all devices of `owner`, in order.
    pub fn owned_by(&self, owner: OwnerId) -> Vec<DeviceId> {
        self.read().owners.get(&owner).map_or_else(Vec::new, |shelf| shelf.ids().collect())
    }

    /// The device of `product` with this id, whether or not it belongs there.
    pub fn find_in_product(&self, product: ProductId, id: DeviceId) -> Option<Arc<Device>> {
        self.read().rows.get(&id).filter(|device| device.product() == Some(product)).cloned()
    }

    /// The devices of `product`, in order of their ids, whether or not they belong there.
    pub fn in_product(&self, product: ProductId) -> Vec<Arc<Device>> {
        self.read().products.get(&product).map_or_else(Vec::new, |roll| roll.rows().cloned().collect())
    }

    /// How many devices `product` has, whether or not they belong there.
    pub fn count_in_product(&self, product: ProductId) -> usize {
        self.read().products.get(&product).map_or(0, Roll::len)
    }

    /// All devices, in order of their ids.
    pub fn all(&self) -> Vec<Arc<Device>> {
        let mut devices: Vec<_> = self.read().rows.iter().cloned().collect();
        devices.sort_by_cached_key(|device| device.id());
        devices
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.read().rows.len()
    }

    /// Whether there is no device at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts in many devices that were not there, with tables and shelves made for as many: for the start.
    pub(super) fn fill(&self, mut devices: Vec<Arc<Device>>) {
        devices.sort_by_cached_key(|device| (device.owner(), device.id()));
        let mut pages = self.write();
        pages.rows.reserve(devices.len());
        for together in devices.chunk_by(|one, next| one.owner() == next.owner()) {
            if let Some(owner) = together[0].owner() {
                pages.owners.entry(owner).or_default().put_all(together);
            }
        }
        let mut of_products: Vec<_> = devices.iter().filter(|device| device.product().is_some()).cloned().collect();
        of_products.sort_by_cached_key(|device| (device.product(), device.id()));
        for together in of_products.chunk_by(|one, next| one.product() == next.product()) {
            if let Some(product) = together[0].product() {
                pages.products.entry(product).or_default().put_all(together);
            }
        }
        for device in devices {
            pages.rows.insert(device);
        }
    }

    /// Puts a device in, and gives back the row that said of it what no longer holds.
    pub(super) fn put(&self, device: Arc<Device>) -> Option<Arc<Device>> {
        let mut pages = self.write();
        let before = pages.rows.insert(Arc::clone(&device));
        if let Some(before) = &before {
            pages.unshelve(before);
        }
        if let Some(product) = device.product() {
            pages.products.entry(product).or_default().put(Arc::clone(&device));
        }
        if let Some(owner) = device.owner() {
            pages.owners.entry(owner).or_default().put(device);
        }
        before
    }

    pub(super) fn remove(&self, id: DeviceId) {
        let mut pages = self.write();
        if let Some(device) = pages.rows.remove(&id) {
            pages.unshelve(&device);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Pages> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pages> {
        self.pages.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn named(&self, owner: OwnerId, name: &str) -> Option<&Arc<Device>> {
        self.owners.get(&owner)?.named(name)
    }

    fn unshelve(&mut self, device: &Arc<Device>) {
        if let Some((owner, shelf)) = device.owner().and_then(|owner| Some((owner, self.owners.get_mut(&owner)?))) {
            shelf.remove(device);
            if shelf.is_empty() {
                self.owners.remove(&owner);
            }
        }
        if let Some((product, roll)) = device.product().and_then(|product| Some((product, self.products.get_mut(&product)?))) {
            roll.remove(device);
            if roll.is_empty() {
                self.products.remove(&product);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::time::UnixMillis;

    use super::*;
    use crate::store::{DeviceRecord, Membership};

    fn device(number: u8, owner: Option<u64>, name: Option<&str>) -> Arc<Device> {
        let record = DeviceRecord {
            id: DeviceId([number; 12]),
            owner: owner.map(OwnerId),
            product: None,
            platform_id: None,
            name: name.map(str::to_owned),
            notes: None,
            key: None,
            rsa_key: None,
            created_at: UnixMillis(0),
            serial_number: None,
            membership: Membership::default(),
            product_owner: None,
        };
        Arc::new(record.into())
    }

    #[test]
    fn devices_are_found_by_id_and_by_name_and_only_by_their_owner() {
        let book = DeviceBook::default();
        book.fill(vec![device(1, Some(1), Some("kitchen")), device(2, Some(2), Some("kitchen")), device(3, None, Some("loose"))]);
        let found = |owner, text: &str| book.find_owned(OwnerId(owner), text).map(|device| device.id().0[0]);
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
        let old = device(1, Some(1), Some("old"));
        assert_eq!(book.put(Arc::clone(&old)), None);
        assert_eq!(book.put(device(1, Some(1), Some("new"))), Some(Arc::clone(&old)));
        assert_eq!((book.find_named(OwnerId(1), "old"), Arc::strong_count(&old)), (None, 1));
        book.put(device(1, Some(2), Some("new")));
        assert!(book.owned_by(OwnerId(1)).is_empty());
        assert_eq!(book.owned_by(OwnerId(2)), [DeviceId([1; 12])]);
        book.remove(DeviceId([1; 12]));
        assert!(book.is_empty());
        assert!(book.read().owners.is_empty());
    }

    #[test]
    fn devices_are_found_by_product_and_leave_it_without_a_trace() {
        let of = |number: u8, product: Option<u32>| {
            let record = DeviceRecord { product: product.map(ProductId), ..device(number, Some(1), None).record() };
            Arc::new(Device::from(record))
        };
        let (product, book) = (ProductId(10_001), DeviceBook::default());
        book.fill(vec![of(2, Some(10_001)), of(3, Some(10_002)), of(4, None)]);
        book.put(of(1, Some(10_001)));
        let listed = || book.in_product(product).iter().map(|device| device.id().0[0]).collect::<Vec<_>>();
        assert_eq!((listed(), book.count_in_product(product)), (vec![1, 2], 2));
        assert!(book.find_in_product(product, DeviceId([1; 12])).is_some());
        assert!(book.find_in_product(product, DeviceId([3; 12])).is_none());
        assert!(book.find_in_product(product, DeviceId([4; 12])).is_none());
        book.put(of(1, None));
        book.remove(DeviceId([2; 12]));
        assert!(listed().is_empty());
        book.remove(DeviceId([3; 12]));
        assert!(book.read().products.is_empty());
    }

    #[test]
    fn a_book_that_is_filled_is_the_same_as_one_that_grew() {
        let device = |number: u8| device(number, Some(u64::from(number % 3)).filter(|owner| *owner > 0), Some(&number.to_string()));
        let (filled, grown) = (DeviceBook::default(), DeviceBook::default());
        filled.fill((0..=255).rev().map(device).collect());
        (0..=255).for_each(|number| drop(grown.put(device(number))));
        for book in [&filled, &grown] {
            assert_eq!(book.len(), 256);
            assert_eq!(book.all(), (0..=255).map(device).collect::<Vec<_>>());
            for owner in [1, 2] {
                assert_eq!(
                    book.owned_by(OwnerId(owner)),
                    (0..=255).map(device).filter(|row| row.owner() == Some(OwnerId(owner))).map(|row| row.id()).collect::<Vec<_>>()
                );
            }
            for number in 0..=255 {
                assert_eq!(book.find(DeviceId([number; 12])), Some(device(number)));
                assert_eq!(
                    book.find_named(OwnerId(u64::from(number % 3)), &number.to_string()),
                    device(number).owner().map(|_| DeviceId([number; 12]))
                );
                book.remove(DeviceId([number; 12]));
            }
            assert!(book.is_empty() && book.read().owners.is_empty());
        }
    }
}
