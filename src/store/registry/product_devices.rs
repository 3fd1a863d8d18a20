//! Devices within reach of an account or of those who look after a product: found, changed, let go.

use std::collections::BTreeSet;
use std::sync::Arc;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};

use super::audit::Act;
use super::devices::{NOTES_LEN_MAX, check_name, object, write_texts};
use super::groups::in_groups;
use super::imports::{awaited_by, unlist, write_product};
use super::memberships::{GROUPS_PER_DEVICE_MAX, release, write_groups, write_membership};
use super::{Registry, RegistryError};
use crate::store::{Device, DeviceRecord, GroupId, GroupName, Membership, Product, Realm, Standing};

/// Devices in one change of groups.
const BATCH_MAX: usize = 10_000;
/// Longest serial number.
const SERIAL_LEN_MAX: usize = 64;

/// What to change about a device. An inner `None` takes something away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceChange {
    /// Its name.
    pub name: Option<String>,
    /// Its notes.
    pub notes: Option<Option<String>>,
    /// Whether updates are forced on it.
    pub firmware_updates_forced: Option<bool>,
    /// What is printed on it.
    pub serial_number: Option<Option<String>>,
    /// Whether it is for trying firmware out; within a product only, as is what follows.
    pub development: Option<bool>,
    /// The firmware that it alone shall have.
    pub desired_firmware_version: Option<Option<u16>>,
    /// The groups that it shall be in, and in no others. Those that are missing are created.
    pub groups: Option<Vec<GroupName>>,
}

/// Groups to put devices into and to take them out of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupsChange {
    /// The devices.
    pub devices: Vec<DeviceId>,
    /// Groups to put them into. Those that are missing are created.
    pub add: Vec<GroupName>,
    /// Groups to take them out of.
    pub remove: Vec<GroupName>,
}

/// Which devices of a product are looked for. What is empty lets all through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceFilter {
    /// Part of the id.
    pub id: Option<String>,
    /// Part of the name, in upper or lower case.
    pub name: Option<String>,
    /// Part of the serial number, in upper or lower case.
    pub serial_number: Option<String>,
    /// They are in one of these groups.
    pub groups: Vec<GroupName>,
    /// Whether they wait for approval; without it both kinds.
    pub quarantined: Option<bool>,
}

impl Registry {
    /// The devices of a product that a filter lets through, in order of their ids. Never waits.
    pub fn devices_of_product(&self, product: ProductId, filter: &DeviceFilter) -> Vec<Arc<Device>> {
        let mut devices = self.devices().in_product(product);
        let Some(sieve) = self.products().find(product).map(|product| Sieve::new(&product, filter)) else { return Vec::new() };
        devices.retain(|device| sieve.passes(device));
        devices
    }

    /// Changes a device that is within reach.
    ///
    /// # Errors
    /// There is no such device there, a text does not do, the name is in use, there are too many groups, or the database failed.
    pub async fn change_device(&self, realm: Realm, id: DeviceId, change: DeviceChange) -> Result<Arc<Device>, RegistryError> {
        check(&change)?;
        self.change(move |registry| async move {
            let mut record = registry.within_reach(realm, id)?.record();
            let mut product = registry.product_to_change(realm, &change)?;
            let mut transaction = registry.begin().await?;
            if let (Some(product), Some(names)) = (&mut product, change.groups.clone()) {
                record.membership.groups = sorted(registry.groups_named(&mut transaction, product, names).await?);
                write_groups(&mut transaction, &record).await?;
            }
            apply(&mut record, change);
            write_texts(&mut transaction, &record).await?;
            write_membership(&mut transaction, &record).await?;
            registry.write_down(&mut transaction, Act::new("device.edit", object(id)).with(realm)).await?;
            transaction.commit().await?;
            product.into_iter().for_each(|product| drop(registry.remember_product(product)));
            Ok(registry.remember(record))
        })
        .await
    }

    /// Puts devices of a product into groups and takes them out of others: all of them or, if one is not there, none.
    ///
    /// # Errors
    /// There is no such product or device, there are too many devices or groups, or the database failed.
    pub async fn change_groups(&self, product: ProductId, change: GroupsChange) -> Result<(), RegistryError> {
        if change.devices.len() > BATCH_MAX {
            return Err(RegistryError::TooMany("devices in one list; 10000 go"));
        }
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(product)?);
            let realm = Realm::Product(product.id);
            let mut transaction = registry.begin().await?;
            let add = registry.groups_named(&mut transaction, &mut product, change.add).await?;
            let remove: Vec<_> = change.remove.iter().filter_map(|name| product.group(name)).map(|group| group.id).collect();
            let mut changed = Vec::new();
            for id in &change.devices {
                let record = in_groups(registry.within_reach(realm, *id)?.record(), |groups| {
                    groups.extend(&add);
                    groups.retain(|group| !remove.contains(group));
                });
                check_groups(record.membership.groups.len())?;
                write_groups(&mut transaction, &record).await?;
                changed.push(record);
            }
            let act = Act::new("device.groups", realm).with(format!("of {} devices", changed.len()));
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            registry.remember_product(product);
            changed.into_iter().for_each(|record| drop(registry.remember(record)));
            Ok(())
        })
        .await
    }

    /// Takes a device out of a product or, with `deny`, lets it stay there and denies it: then it is nobody's until it is imported again. One that the
    /// product only awaits is awaited no more.
    ///
    /// # Errors
    /// There is no such product or device, or the database failed.
    pub async fn remove_from_product(&self, product: ProductId, id: DeviceId, deny: bool) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            registry.known_product(product)?;
            let Some(device) = registry.devices().find_in_product(product, id) else { return registry.await_no_more(product, id).await };
            let (act, record) = if deny { ("device.deny", denied(device.record())) } else { ("device.release", release(device.record())) };
            let mut transaction = registry.begin().await?;
            write_product(&mut transaction, &record).await?;
            write_membership(&mut transaction, &record).await?;
            write_groups(&mut transaction, &record).await?;
            registry.write_down(&mut transaction, Act::new(act, object(id)).with(Realm::Product(product))).await?;
            transaction.commit().await?;
            registry.remember(record);
            Ok(())
        })
        .await
    }

    /// Takes a device of a product away from the account that claimed it.
    ///
    /// # Errors
    /// There is no such device there, or the database failed.
    pub async fn remove_device_owner(&self, product: ProductId, id: DeviceId) -> Result<Arc<Device>, RegistryError> {
        self.give_up(Realm::Product(product), id).await
    }

    /// Gives up a device: its account's no longer, it is nobody's.
    ///
    /// # Errors
    /// The account has no such device, or the database failed.
    pub async fn release_device(&self, owner: OwnerId, id: DeviceId) -> Result<Arc<Device>, RegistryError> {
        self.give_up(Realm::User(owner), id).await
    }

    async fn give_up(&self, realm: Realm, id: DeviceId) -> Result<Arc<Device>, RegistryError> {
        self.change(move |registry| async move {
            let before = registry.within_reach(realm, id)?;
            registry.hand_over(&before, None, before.name().map(str::to_owned)).await
        })
        .await
    }

    /// The device, if whoever asks reaches it.
    fn within_reach(&self, realm: Realm, id: DeviceId) -> Result<Arc<Device>, RegistryError> {
        let found = match realm {
            Realm::User(owner) => self.devices().find(id).filter(|device| device.owner() == Some(owner)),
            Realm::Product(product) => self.devices().find_in_product(product, id),
        };
        found.ok_or(RegistryError::NoSuchDevice(id))
    }

    /// The product in which a change is made; `None` of an account's own device, about which less can be said.
    fn product_to_change(&self, realm: Realm, change: &DeviceChange) -> Result<Option<Product>, RegistryError> {
        match realm {
            Realm::Product(product) => Ok(Some(Product::clone(&*self.known_product(product)?))),
            Realm::User(_) if change.development.is_none() && change.desired_firmware_version.is_none() && change.groups.is_none() => {
                Ok(None)
            }
            Realm::User(_) => {
                Err(RegistryError::Unfit("only within a product a device has groups, firmware of its own, or is for development"))
            }
        }
    }

    async fn await_no_more(&self, product: ProductId, id: DeviceId) -> Result<(), RegistryError> {
        let mut transaction = self.begin().await?;
        if awaited_by(&mut transaction, id).await? != Some(product) {
            return Err(RegistryError::NoSuchDevice(id));
        }
        unlist(&mut transaction, id).await?;
        self.write_down(&mut transaction, Act::new("device.release", object(id)).with(Realm::Product(product))).await?;
        Ok(transaction.commit().await?)
    }
}

/// A filter that is ready for use.
struct Sieve<'a> {
    filter: &'a DeviceFilter,
    id: Option<String>,
    name: Option<String>,
    serial_number: Option<String>,
    groups: BTreeSet<GroupId>,
}

impl<'a> Sieve<'a> {
    fn new(product: &Product, filter: &'a DeviceFilter) -> Self {
        let part = |text: &Option<String>| text.as_deref().map(str::to_lowercase).filter(|text| !text.is_empty());
        let groups = filter.groups.iter().filter_map(|name| product.group(name)).map(|group| group.id).collect();
        Self { filter, id: part(&filter.id), name: part(&filter.name), serial_number: part(&filter.serial_number), groups }
    }

    fn passes(&self, device: &Device) -> bool {
        let has = |text: Option<&str>, part: &str| text.is_some_and(|text| text.to_lowercase().contains(part));
        let membership = device.membership();
        self.filter.quarantined.is_none_or(|wanted| wanted == (membership.standing == Standing::Quarantined))
            && (self.filter.groups.is_empty() || membership.groups.iter().any(|group| self.groups.contains(group)))
            && self.id.as_ref().is_none_or(|part| device.id().to_string().contains(part.as_str()))
            && self.name.as_ref().is_none_or(|part| has(device.name(), part))
            && self.serial_number.as_ref().is_none_or(|part| has(device.serial_number(), part))
    }
}

fn check(change: &DeviceChange) -> Result<(), RegistryError> {
    change.name.as_deref().map_or(Ok(()), check_name)?;
    if change.notes.iter().flatten().any(|notes| notes.len() > NOTES_LEN_MAX) {
        return Err(RegistryError::BadNotes);
    }
    let printable = |serial: &String| (1..=SERIAL_LEN_MAX).contains(&serial.len()) && serial.bytes().all(|byte| byte.is_ascii_graphic());
    if !change.serial_number.iter().flatten().all(printable) {
        return Err(RegistryError::Unfit("a serial number has from 1 to 64 printable characters"));
    }
    check_groups(change.groups.as_ref().map_or(0, Vec::len))
}

fn check_groups(count: usize) -> Result<(), RegistryError> {
    if count > GROUPS_PER_DEVICE_MAX { Err(RegistryError::TooMany("groups for one device; 50 go")) } else { Ok(()) }
}

fn apply(record: &mut DeviceRecord, change: DeviceChange) {
    let membership = &mut record.membership;
    membership.development = change.development.unwrap_or(membership.development);
    membership.firmware_updates_forced = change.firmware_updates_forced.unwrap_or(membership.firmware_updates_forced);
    membership.desired_firmware_version = change.desired_firmware_version.unwrap_or(membership.desired_firmware_version);
    record.serial_number = change.serial_number.unwrap_or(record.serial_number.take());
    record.name = change.name.or(record.name.take());
    record.notes = change.notes.unwrap_or(record.notes.take());
}

fn denied(record: DeviceRecord) -> DeviceRecord {
    let firmware_updates_forced = record.membership.firmware_updates_forced;
    let membership = Membership { standing: Standing::Denied, firmware_updates_forced, ..Default::default() };
    DeviceRecord { membership, ..record }
}

fn sorted<T: Ord>(items: Vec<T>) -> Box<[T]> {
    items.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
