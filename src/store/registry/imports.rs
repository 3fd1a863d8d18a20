//! Lists of devices that are brought into a product, registered or not: those that are not go in when they are.

use std::collections::BTreeSet;

use firmware_protocol::id::{DeviceId, ProductId};
use firmware_protocol::time::UnixMillis;
use sqlx::SqliteConnection;

use super::audit::Act;
use super::memberships::{device_id, write_groups, write_membership};
use super::products::product_id;
use super::users::{to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{Device, DeviceRecord, Membership, Product, Realm, Standing};

/// Ids in one list.
const IMPORT_MAX: usize = 10_000;
/// Ids that one product may know before the devices are registered.
const KNOWN_PER_PRODUCT_MAX: i64 = 1_000_000;
/// Ids in one answer.
const KNOWN_PAGE_MAX: u32 = 10_000;
/// How much is repeated of a text that is no id.
const INVALID_LEN_MAX: usize = 64;

/// What became of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Imported {
    /// So many devices belong to the product now, or will when they are registered.
    pub updated: usize,
    /// These belong to another product, or to an account that has nothing to do with this one.
    pub nonmember: Vec<DeviceId>,
    /// These are no ids.
    pub invalid: Vec<String>,
}

/// A device that is awaited and not registered yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownDevice {
    /// Its id.
    pub id: DeviceId,
    /// When it was imported.
    pub created_at: UnixMillis,
}

impl Registry {
    /// Brings devices into a product: those that are registered at once, unless they are somebody else's, the others when they are. One that waits for
    /// approval is approved, and one that was denied is let in again.
    ///
    /// # Errors
    /// There is no such product, the list is too long, the product awaits too many devices, or the database failed.
    pub async fn import_devices(&self, product: ProductId, ids: Vec<String>) -> Result<Imported, RegistryError> {
        if ids.len() > IMPORT_MAX {
            return Err(RegistryError::TooMany("devices in one list; 10000 go"));
        }
        self.change(move |registry| async move {
            let product = registry.known_product(product)?;
            let mut transaction = registry.begin().await?;
            check_room(&mut transaction, product.id, ids.len()).await?;
            let (wanted, mut imported) = read(&ids);
            let mut changed = Vec::new();
            for id in wanted {
                match registry.devices().find(id) {
                    None if list(&mut transaction, product.id, id).await? => imported.updated += 1,
                    Some(device) if is_member(&product, &device) => imported.updated += 1,
                    Some(device) if may_join(&product, &device) => {
                        let record = joined(device.record(), product.id);
                        write_joined(&mut transaction, &record).await?;
                        changed.push(record);
                        imported.updated += 1;
                    }
                    _ => imported.nonmember.push(id),
                }
            }
            let act = Act::new("device.import", Realm::Product(product.id)).with(format!("{} of {}", imported.updated, ids.len()));
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            changed.into_iter().for_each(|record| drop(registry.remember(record)));
            Ok(imported)
        })
        .await
    }

    /// Devices that a product awaits and that are not registered yet: at most so many, in order of their ids, beginning after one of them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn known_devices(&self, product: ProductId, after: Option<DeviceId>, count: u32) -> Result<Vec<KnownDevice>, RegistryError> {
        let select = "SELECT device, created_at FROM product_known WHERE product = $1 AND device > $2 ORDER BY device LIMIT $3";
        let query = sqlx::query_as(select)
            .bind(i64::from(product.0))
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(count.min(KNOWN_PAGE_MAX)));
        let rows: Vec<(String, i64)> = self.answer(query.fetch_all(self.pool())).await?;
        let known = |(id, at): (String, i64)| Ok(KnownDevice { id: device_id(&id)?, created_at: UnixMillis(to_u64(at)?) });
        rows.into_iter().map(known).collect()
    }

    /// Whether any product awaits any device.
    pub(super) async fn knows_some(&self, connection: &mut SqliteConnection) -> Result<bool, RegistryError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM product_known LIMIT 1").fetch_optional(connection).await?;
        Ok(found.is_some())
    }

    /// The product that a device is of which is about to be registered: that which was said or, where its owner may bring it there, the one that awaits it.
    /// A list alone takes no device away from the account it is registered for.
    pub(super) async fn product_of_new(
        &self,
        connection: &mut SqliteConnection,
        device: &DeviceRecord,
    ) -> Result<Option<ProductId>, RegistryError> {
        let Some(awaits) = awaited_by(&mut *connection, device.id).await? else { return Ok(device.product) };
        let may = |product: &Product| device.owner.is_none_or(|owner| product.role_of(owner).is_some());
        let product = device.product.or(Some(awaits).filter(|id| self.products().find(*id).is_some_and(|product| may(&product))));
        if product == Some(awaits) {
            unlist(connection, device.id).await?;
        }
        Ok(product)
    }
}

/// Ids without repetitions, and what is none.
fn read(texts: &[String]) -> (BTreeSet<DeviceId>, Imported) {
    let (mut wanted, mut imported) = (BTreeSet::new(), Imported::default());
    for text in texts {
        match text.trim().parse() {
            Ok(id) => drop(wanted.insert(id)),
            Err(_) => imported.invalid.push(text.chars().take(INVALID_LEN_MAX).collect()),
        }
    }
    (wanted, imported)
}

fn is_member(product: &Product, device: &Device) -> bool {
    device.product() == Some(product.id) && device.standing() == Standing::Accepted
}

/// Whether those who look after a product may bring a device there. One that says itself that it is of this product may be anybody's.
fn may_join(product: &Product, device: &Device) -> bool {
    if device.product() == Some(product.id) {
        return true;
    }
    let is_free = device.product().is_none() || device.standing() == Standing::Quarantined;
    is_free && device.owner().is_none_or(|owner| product.role_of(owner).is_some())
}

/// A device that belongs to a product now.
pub(super) fn joined(record: DeviceRecord, product: ProductId) -> DeviceRecord {
    let known = record.product == Some(product);
    let firmware_updates_forced = record.membership.firmware_updates_forced;
    let membership = match known {
        true => Membership { standing: Standing::Accepted, ..record.membership },
        false => Membership { firmware_updates_forced, ..Default::default() },
    };
    DeviceRecord { product: Some(product), membership, ..record }
}

/// Writes that a device belongs to its product, for which nobody waits any more.
pub(super) async fn write_joined(connection: &mut SqliteConnection, record: &DeviceRecord) -> Result<(), RegistryError> {
    write_product(&mut *connection, record).await?;
    write_membership(&mut *connection, record).await?;
    write_groups(&mut *connection, record).await?;
    unlist(connection, record.id).await
}

/// Writes which product a device is of.
pub(super) async fn write_product(connection: &mut SqliteConnection, record: &DeviceRecord) -> Result<(), RegistryError> {
    let update = sqlx::query("UPDATE devices SET product = $1 WHERE id = $2").bind(record.product.map(|product| i64::from(product.0)));
    Ok(update.bind(record.id.to_string()).execute(connection).await.map(drop)?)
}

/// The product that awaits a device.
pub(super) async fn awaited_by(connection: &mut SqliteConnection, id: DeviceId) -> Result<Option<ProductId>, RegistryError> {
    let select = "SELECT product FROM product_known WHERE device = $1";
    let product: Option<i64> = sqlx::query_scalar(select).bind(id.to_string()).fetch_optional(connection).await?;
    product.map(product_id).transpose()
}

/// Lets a product await a device. Says whether it does: not if another one has been faster.
async fn list(connection: &mut SqliteConnection, product: ProductId, id: DeviceId) -> Result<bool, RegistryError> {
    let insert = "INSERT INTO product_known (device, product, created_at) VALUES ($1, $2, $3) ON CONFLICT (device) DO NOTHING";
    sqlx::query(insert).bind(id.to_string()).bind(i64::from(product.0)).bind(to_i64(dates::now().0)).execute(&mut *connection).await?;
    Ok(awaited_by(connection, id).await? == Some(product))
}

/// Lets nobody await a device any more.
pub(super) async fn unlist(connection: &mut SqliteConnection, id: DeviceId) -> Result<(), RegistryError> {
    Ok(sqlx::query("DELETE FROM product_known WHERE device = $1").bind(id.to_string()).execute(connection).await.map(drop)?)
}

async fn check_room(connection: &mut SqliteConnection, product: ProductId, more: usize) -> Result<(), RegistryError> {
    let select = "SELECT COUNT(*) FROM product_known WHERE product = $1";
    let count: i64 = sqlx::query_scalar(select).bind(i64::from(product.0)).fetch_one(connection).await?;
    if count.saturating_add_unsigned(more as u64) > KNOWN_PER_PRODUCT_MAX {
        return Err(RegistryError::TooMany("devices that this product awaits"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
