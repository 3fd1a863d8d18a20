//! Devices and their keys.

use std::sync::Arc;

use firmware_protocol::crypto::DevicePublicKey;
use firmware_protocol::id::{DeviceId, KeyHash, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use futures_util::TryStreamExt;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::memberships::Said;
use super::users::{is_taken, owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{Device, DeviceRecord, Membership, PublicKey};

/// Longest name of a device.
const NAME_LEN_MAX: usize = 64;
/// Longest notes about a device.
pub(super) const NOTES_LEN_MAX: usize = 4096;
/// Words that mean something else where a device's name may stand.
const RESERVED_NAMES: [&str; 2] = ["events", "null"];

/// A device to register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewDevice {
    /// Its id.
    pub id: DeviceId,
    /// The key it proves itself with.
    pub key: PublicKey,
    /// Whose it shall be.
    pub owner: Option<OwnerId>,
    /// The product it belongs to. Without one it goes into the product that it was imported into, if its owner looks after that or it has no owner.
    pub product: Option<ProductId>,
    /// The kind of hardware, if known.
    pub platform_id: Option<u16>,
    /// Its name.
    pub name: Option<String>,
}

impl NewDevice {
    /// One of which nothing else is known.
    pub(super) fn bare(id: DeviceId, key: PublicKey) -> Self {
        Self { id, key, owner: None, product: None, platform_id: None, name: None }
    }

    pub(super) fn record(&self) -> DeviceRecord {
        DeviceRecord {
            id: self.id,
            owner: self.owner,
            product: self.product,
            platform_id: self.platform_id,
            name: self.name.clone(),
            notes: None,
            key: Some(self.key.hash()),
            rsa_key: self.key.rsa(),
            created_at: dates::now(),
            serial_number: None,
            membership: Membership::default(),
            product_owner: None,
        }
    }
}

/// What became of devices to register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// These are new.
    pub added: usize,
    /// These were there with the same key, and are as they were.
    pub unchanged: usize,
}

/// What to change about a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceEdit {
    /// Its name, if that shall change.
    pub name: Option<String>,
    /// Its notes, if they shall change; the inner `None` takes them away.
    pub notes: Option<Option<String>>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    owner: Option<i64>,
    product: Option<i64>,
    platform_id: Option<i64>,
    name: Option<String>,
    notes: Option<String>,
    created_at: i64,
    key_hash: Option<Vec<u8>>,
    rsa_spki: Option<Vec<u8>>,
}

impl Registry {
    /// Registers devices: all of them or, if one cannot be, none.
    ///
    /// # Errors
    /// A device is registered with another key, a key belongs to another device, a name is in use or no name, or the database failed.
    pub async fn add_devices(&self, devices: Vec<NewDevice>) -> Result<Added, RegistryError> {
        for name in devices.iter().filter_map(|device| device.name.as_deref()) {
            check_name(name)?;
        }
        self.change(|registry| async move {
            let mut transaction = registry.begin().await?;
            let mut new = Vec::with_capacity(devices.len());
            let mut unchanged = 0;
            let some_known = registry.knows_some(&mut transaction).await?;
            for device in devices {
                if registry.is_there(&device)? {
                    unchanged += 1;
                } else {
                    let mut record = device.record();
                    if some_known {
                        record.product = registry.product_of_new(&mut transaction, &record).await?;
                    }
                    insert(&mut transaction, &record, &device.key).await?;
                    new.push(record);
                }
            }
            if let Some(act) = added(&new) {
                registry.write_down(&mut transaction, act).await?;
            }
            transaction.commit().await?;
            let added = new.len();
            for device in new {
                registry.remember(device);
            }
            Ok(Added { added, unchanged })
        })
        .await
    }

    /// Removes a device and its key.
    ///
    /// # Errors
    /// There is no such device, or the database failed.
    pub async fn remove_device(&self, id: DeviceId) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let before = registry.known(id)?;
            let mut transaction = registry.begin().await?;
            sqlx::query("DELETE FROM device_keys WHERE device = $1").bind(id.to_string()).execute(&mut *transaction).await?;
            sqlx::query("DELETE FROM devices WHERE id = $1").bind(id.to_string()).execute(&mut *transaction).await?;
            registry.write_down(&mut transaction, Act::new("device.remove", object(id))).await?;
            transaction.commit().await?;
            registry.devices().remove(id);
            registry.keys().replace(Some(&before), None);
            Ok(())
        })
        .await
    }

    /// Gives a device another key. Sessions under the old one are over.
    ///
    /// # Errors
    /// There is no such device, the key belongs to another, or the database failed.
    pub async fn set_device_key(&self, id: DeviceId, key: PublicKey) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let before = registry.known(id)?;
            registry.check_key_is_free(id, key.hash())?;
            let mut transaction = registry.begin().await?;
            sqlx::query("DELETE FROM device_keys WHERE device = $1").bind(id.to_string()).execute(&mut *transaction).await?;
            insert_key(&mut transaction, id, &key).await?;
            registry.write_down(&mut transaction, Act::new("device.key", object(id)).with(key.hash())).await?;
            transaction.commit().await?;
            registry.remember(DeviceRecord { key: Some(key.hash()), rsa_key: key.rsa(), ..before.record() });
            Ok(())
        })
        .await
    }

    /// Gives a device to an account, or to nobody.
    ///
    /// # Errors
    /// There is no such device, the new owner has one of the same name, or the database failed.
    pub async fn set_device_owner(&self, id: DeviceId, owner: Option<OwnerId>) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let before = registry.known(id)?;
            registry.hand_over(&before, owner, before.name().map(str::to_owned)).await.map(drop)
        })
        .await
    }

    /// Changes what its owner says about a device, whoever that is: for operators. Callers use [`Registry::change_device`], which says whose it has to be.
    ///
    /// # Errors
    /// There is no such device, the name is in use or no name, the notes are too long, or the database failed.
    pub async fn edit_device(&self, id: DeviceId, edit: DeviceEdit) -> Result<Arc<Device>, RegistryError> {
        edit.name.as_deref().map_or(Ok(()), check_name)?;
        if edit.notes.iter().flatten().any(|notes| notes.len() > NOTES_LEN_MAX) {
            return Err(RegistryError::BadNotes);
        }
        self.change(move |registry| async move {
            let before = registry.known(id)?;
            let mut record = before.record();
            record.name = edit.name.or(record.name);
            record.notes = edit.notes.unwrap_or(record.notes);
            let mut transaction = registry.begin().await?;
            write_texts(&mut transaction, &record).await?;
            registry.write_down(&mut transaction, Act::new("device.edit", object(id))).await?;
            transaction.commit().await?;
            Ok(registry.remember(record))
        })
        .await
    }

    /// The public key of a device, as registered.
    ///
    /// # Errors
    /// The database failed, or holds something that is no key.
    pub async fn device_key(&self, id: DeviceId) -> Result<Option<PublicKey>, RegistryError> {
        let select = "SELECT spki FROM device_keys WHERE device = $1";
        let spki: Option<Vec<u8>> = self.answer(sqlx::query_scalar(select).bind(id.to_string()).fetch_optional(self.pool())).await?;
        Ok(spki.map(|spki| PublicKey::from_spki(&spki)).transpose()?)
    }

    pub(super) async fn fill_devices(&self) -> Result<(), RegistryError> {
        let select = "SELECT d.id, d.owner, d.product, d.platform_id, d.name, d.notes, d.created_at, k.key_hash, \
                      CASE k.algorithm WHEN 'rsa' THEN k.spki END AS rsa_spki \
                      FROM devices d LEFT JOIN device_keys k ON k.device = d.id";
        let mut said = self.load_memberships().await?;
        // One at a time, so that what a million of them bring never stands in memory together.
        let mut rows = sqlx::query_as::<_, Row>(select).fetch(self.pool());
        let mut devices = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let mut record = DeviceRecord::try_from(row)?;
            if !said.is_empty() {
                let (serial_number, membership): Said = said.remove(&record.id).unwrap_or_default();
                (record.serial_number, record.membership) = (serial_number, membership);
            }
            record.product_owner = self.product_owner(&record);
            devices.push(Arc::new(Device::from(record)));
        }
        self.keys().fill(&devices);
        self.devices().fill(devices);
        Ok(())
    }

    /// Puts what the database now says about a device into memory.
    pub(super) fn remember(&self, mut record: DeviceRecord) -> Arc<Device> {
        record.product_owner = self.product_owner(&record);
        let device = Arc::new(Device::from(record));
        let before = self.devices().put(Arc::clone(&device));
        self.keys().replace(before.as_deref(), Some(&device));
        device
    }

    /// For whom a device acts that nobody has claimed.
    fn product_owner(&self, record: &DeviceRecord) -> Option<OwnerId> {
        let product = record.product.filter(|_| record.owner.is_none())?;
        self.products().find(product).map(|product| product.owner)
    }

    /// Gives a device to an account, or to nobody, under a name that its new owner has not given already. What the former one noted stays.
    pub(super) async fn hand_over(
        &self,
        before: &Device,
        owner: Option<OwnerId>,
        name: Option<String>,
    ) -> Result<Arc<Device>, RegistryError> {
        let mut transaction = self.begin().await?;
        let notes = before.notes().map(str::to_owned);
        let record = self.write_owner(&mut transaction, before, owner, name, notes).await?;
        transaction.commit().await?;
        Ok(self.remember(record))
    }

    /// Writes whose a device is, within a change. What it gives back has to be remembered after the commit.
    pub(super) async fn write_owner(
        &self,
        connection: &mut SqliteConnection,
        before: &Device,
        owner: Option<OwnerId>,
        name: Option<String>,
        notes: Option<String>,
    ) -> Result<DeviceRecord, RegistryError> {
        let update =
            sqlx::query("UPDATE devices SET owner = $1, name = $2, notes = $3 WHERE id = $4").bind(owner.map(|owner| to_i64(owner.0)));
        written(update.bind(&name).bind(&notes).bind(before.id().to_string()).execute(&mut *connection).await)?;
        let whose = |owner: Option<OwnerId>| owner.map_or_else(|| "nobody".to_owned(), |owner| format!("user:{}", owner.0));
        let detail = format!("from {} to {}", whose(before.owner()), whose(owner));
        self.write_down(connection, Act::new("device.owner", object(before.id())).with(detail)).await?;
        Ok(DeviceRecord { owner, name, notes, ..before.record() })
    }

    pub(super) fn known(&self, id: DeviceId) -> Result<Arc<Device>, RegistryError> {
        self.devices().find(id).ok_or(RegistryError::NoSuchDevice(id))
    }

    /// Whether the device is registered just so. With another key it is an error, as is a key that another device has.
    fn is_there(&self, device: &NewDevice) -> Result<bool, RegistryError> {
        let key = device.key.hash();
        self.check_key_is_free(device.id, key)?;
        match self.devices().find(device.id) {
            Some(known) if known.key() == Some(key) => Ok(true),
            Some(_) => Err(RegistryError::DeviceExists(device.id)),
            None => Ok(false),
        }
    }

    pub(super) fn check_key_is_free(&self, wanted_by: DeviceId, key: KeyHash) -> Result<(), RegistryError> {
        match self.keys().identity(&key) {
            Some(holder) if holder.device != wanted_by => Err(RegistryError::KeyTaken { wanted_by, held_by: holder.device }),
            _ => Ok(()),
        }
    }
}

pub(super) async fn insert(connection: &mut SqliteConnection, device: &DeviceRecord, key: &PublicKey) -> Result<(), RegistryError> {
    let statement = "INSERT INTO devices (id, owner, product, platform_id, name, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let insert = sqlx::query(statement)
        .bind(device.id.to_string())
        .bind(device.owner.map(|owner| to_i64(owner.0)))
        .bind(device.product.map(|product| i64::from(product.0)))
        .bind(device.platform_id.map(i64::from))
        .bind(&device.name)
        .bind(to_i64(device.created_at.0));
    written(insert.execute(&mut *connection).await)?;
    insert_key(connection, device.id, key).await
}

pub(super) async fn insert_key(connection: &mut SqliteConnection, device: DeviceId, key: &PublicKey) -> Result<(), RegistryError> {
    let statement = "INSERT INTO device_keys (key_hash, device, algorithm, spki, created_at) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(statement)
        .bind(&key.hash().0[..])
        .bind(device.to_string())
        .bind(key.algorithm().to_string())
        .bind(key.spki())
        .bind(to_i64(dates::now().0))
        .execute(connection)
        .await?;
    Ok(())
}

/// That devices were registered, unless none was.
fn added(devices: &[DeviceRecord]) -> Option<Act> {
    let (first, rest) = devices.split_first()?;
    let act = Act::new("device.add", object(first.id));
    Some(if rest.is_empty() { act } else { act.with(format!("and {} more", rest.len())) })
}

/// A device, as the log of acts has it.
pub(super) fn object(id: DeviceId) -> String {
    format!("device:{id}")
}

/// Writes the name and the notes of a device.
pub(super) async fn write_texts(connection: &mut SqliteConnection, record: &DeviceRecord) -> Result<(), RegistryError> {
    let update = sqlx::query("UPDATE devices SET name = $1, notes = $2 WHERE id = $3");
    written(update.bind(&record.name).bind(&record.notes).bind(record.id.to_string()).execute(connection).await).map(drop)
}

/// The only value besides ids and keys that can collide is a name.
fn written<T>(result: Result<T, sqlx::Error>) -> Result<T, RegistryError> {
    result.map_err(|error| if is_taken(&error) { RegistryError::NameTaken } else { error.into() })
}

pub(super) fn check_name(name: &str) -> Result<(), RegistryError> {
    let bad = |c: char| c.is_control() || c == '/';
    let ambiguous = name.parse::<DeviceId>().is_ok() || RESERVED_NAMES.contains(&name);
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains(bad) || name.trim() != name || ambiguous {
        return Err(RegistryError::BadName);
    }
    Ok(())
}

impl TryFrom<Row> for DeviceRecord {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        use RegistryError::Damaged;
        let product = row.product.map(u32::try_from).transpose().map_err(|_| Damaged("the product of a device"))?;
        let key = row.key_hash.map(<[u8; 32]>::try_from).transpose().map_err(|_| Damaged("the hash of a key"))?;
        Ok(DeviceRecord {
            id: row.id.parse().map_err(|_| Damaged("the id of a device"))?,
            owner: row.owner.map(owner_id).transpose()?,
            product: product.map(ProductId),
            platform_id: row.platform_id.map(u16::try_from).transpose().map_err(|_| Damaged("the platform of a device"))?,
            name: row.name,
            notes: row.notes,
            key: key.map(KeyHash),
            rsa_key: row.rsa_spki.and_then(|spki| DevicePublicKey::from_spki(&spki)),
            created_at: UnixMillis(to_u64(row.created_at)?),
            serial_number: None,
            membership: Membership::default(),
            product_owner: None,
        })
    }
}
