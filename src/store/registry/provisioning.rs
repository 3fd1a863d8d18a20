//! Keys that callers send for devices: one of theirs gets another key, and one that they may bring along gets in.

use std::sync::Arc;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use sqlx::SqliteConnection;

use super::audit::Act;
use super::devices::{NewDevice, insert, insert_key, object};
use super::imports::{awaited_by, unlist};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{Device, DeviceRecord, PublicKey, Role, Standing};

/// What became of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Provisioned {
    /// The device has it.
    Done(Arc<Device>),
    /// The device is somebody else's, or of a product that the caller has nothing to do with.
    Foreign,
    /// The device is nobody's, or is not registered, and nothing lets the caller bring it along.
    Unlisted,
}

/// By what right an account sets the key of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    /// The device is the account's.
    Owner,
    /// The device is nobody's, and in a product that the account looks after, or on the list of one.
    Product(ProductId),
    /// The device is nobody's, and the pairing window is open for the account.
    Pairing,
}

impl Registry {
    /// Gives a device the key that an account says it has, if it may say so: a device of the account gets another key, and its sessions are over. One of
    /// nobody gets in if a product that the account looks after has or awaits it; or while the pairing window is open, and then it is the account's.
    ///
    /// # Errors
    /// The key belongs to another device, or the database failed.
    pub async fn provision(&self, user: OwnerId, id: DeviceId, key: PublicKey) -> Result<Provisioned, RegistryError> {
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let right = match registry.right_to(&mut transaction, user, id).await? {
                Ok(right) => right,
                Err(refused) => return Ok(refused),
            };
            registry.check_key_is_free(id, key.hash())?;
            let record = match registry.devices().find(id) {
                Some(device) if device.key() == Some(key.hash()) && right != Right::Pairing => return Ok(Provisioned::Done(device)),
                Some(device) => registry.set_key(&mut transaction, &device, &key, Some(user).filter(|_| right == Right::Pairing)).await?,
                None => registry.add_by(&mut transaction, right, user, NewDevice::bare(id, key)).await?,
            };
            transaction.commit().await?;
            if right == Right::Pairing {
                let paired = registry.pairing().count();
                tracing::info!(device = %id, user = user.0, paired, "a device came through the pairing window");
            }
            Ok(Provisioned::Done(registry.remember(record)))
        })
        .await
    }

    /// By what right, if any, an account sets the key of a device now.
    async fn right_to(
        &self,
        connection: &mut SqliteConnection,
        user: OwnerId,
        id: DeviceId,
    ) -> Result<Result<Right, Provisioned>, RegistryError> {
        let looks_after = |product: ProductId| {
            let product = self.products().find(product);
            product.and_then(|product| product.role_of(user)).is_some_and(|role| role >= Role::Developer)
        };
        let may_pair = || self.pairing().admits(dates::now(), user);
        Ok(match self.devices().find(id) {
            Some(device) => match (device.owner(), device.product()) {
                (Some(owner), _) if owner == user => Ok(Right::Owner),
                (Some(_), _) => Err(Provisioned::Foreign),
                (None, Some(product)) if !looks_after(product) => Err(Provisioned::Foreign),
                (None, Some(product)) if device.standing() == Standing::Accepted => Ok(Right::Product(product)),
                (None, None) if may_pair() => Ok(Right::Pairing),
                (None, _) => Err(Provisioned::Unlisted),
            },
            None => match awaited_by(connection, id).await? {
                Some(product) if looks_after(product) => Ok(Right::Product(product)),
                _ if may_pair() => Ok(Right::Pairing),
                _ => Err(Provisioned::Unlisted),
            },
        })
    }

    /// Writes another key of a device and, if that is said, another owner.
    async fn set_key(
        &self,
        connection: &mut SqliteConnection,
        device: &Device,
        key: &PublicKey,
        owner: Option<OwnerId>,
    ) -> Result<DeviceRecord, RegistryError> {
        let id = device.id();
        sqlx::query("DELETE FROM device_keys WHERE device = $1").bind(id.to_string()).execute(&mut *connection).await?;
        insert_key(connection, id, key).await?;
        self.write_down(connection, Act::new("device.key", object(id)).with(key.hash())).await?;
        let before = match owner {
            None => device.record(),
            Some(owner) => {
                let (name, notes) = (self.name_with(owner, device), device.notes().map(str::to_owned));
                self.write_owner(connection, device, Some(owner), name, notes).await?
            }
        };
        Ok(DeviceRecord { key: Some(key.hash()), rsa_key: key.rsa(), ..before })
    }

    /// Writes a device that was not registered.
    async fn add_by(
        &self,
        connection: &mut SqliteConnection,
        right: Right,
        user: OwnerId,
        device: NewDevice,
    ) -> Result<DeviceRecord, RegistryError> {
        let (owner, product) = match right {
            Right::Product(product) => (None, Some(product)),
            Right::Owner | Right::Pairing => (Some(user), None),
        };
        let device = NewDevice { owner, product, ..device };
        let record = device.record();
        insert(connection, &record, &device.key).await?;
        if product.is_some() {
            unlist(connection, device.id).await?;
        }
        let how = if product.is_some() { "by the list of its product" } else { "through the pairing window" };
        self.write_down(connection, Act::new("device.add", object(device.id)).with(how)).await?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests;
