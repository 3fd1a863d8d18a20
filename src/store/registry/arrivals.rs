//! Devices that say themselves which product they are of, by the firmware that runs on them.

use firmware_protocol::id::{DeviceId, ProductId};

use super::audit::Act;
use super::devices::object;
use super::imports::{awaited_by, joined, write_joined, write_product};
use super::memberships::{release, write_groups, write_membership};
use super::{Registry, RegistryError};
use crate::store::{Device, DeviceRecord, Membership, Standing, Who};

/// What becomes of a device that says that it is of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It belongs there.
    Member,
    /// It waits there until somebody approves it.
    Quarantined,
    /// Somebody has said that it does not belong there.
    Denied,
    /// It belongs to another product, and stays there.
    Elsewhere,
    /// Nobody awaits it there, or there is no such product: it stays its owner's.
    Unlisted,
}

impl Registry {
    /// A device that proved its key says that it is of a product. It gets in if it was imported; otherwise it waits for approval, where the product has it
    /// so. Most arrive where they are, which costs no look at the database.
    ///
    /// # Errors
    /// There is no such device, or the database failed.
    pub async fn arrive_in_product(&self, id: DeviceId, product: ProductId) -> Result<Arrival, RegistryError> {
        let device = self.known(id)?;
        if let Some(settled) = settled(&device, product) {
            return Ok(settled);
        }
        if device.product().is_none() && self.products().find(product).is_none() {
            return Ok(Arrival::Unlisted);
        }
        self.by(Who::Device(id))
            .change(move |registry| async move {
                let device = registry.known(id)?;
                match settled(&device, product) {
                    Some(settled) => Ok(settled),
                    None => registry.take_in(&device, product).await,
                }
            })
            .await
    }

    /// Puts a device that is in no product, or waits in another one, where it belongs.
    async fn take_in(&self, device: &Device, id: ProductId) -> Result<Arrival, RegistryError> {
        let product = self.products().find(id);
        let mut transaction = self.begin().await?;
        let is_awaited = product.is_some() && awaited_by(&mut transaction, device.id()).await? == Some(id);
        let (arrival, act, record) = match product {
            Some(_) if is_awaited => (Arrival::Member, "device.accept", joined(device.record(), id)),
            Some(product) if product.settings.quarantine => (Arrival::Quarantined, "device.quarantine", quarantined(device.record(), id)),
            // Where it waited nobody waits for it any more, since it says something else now.
            _ if device.product().is_some() => (Arrival::Unlisted, "device.release", release(device.record())),
            _ => return Ok(Arrival::Unlisted),
        };
        match arrival {
            Arrival::Member => write_joined(&mut transaction, &record).await?,
            _ => {
                write_product(&mut transaction, &record).await?;
                write_membership(&mut transaction, &record).await?;
                write_groups(&mut transaction, &record).await?;
            }
        }
        self.write_down(&mut transaction, Act::new(act, object(record.id)).with(format!("product:{}", id.0))).await?;
        transaction.commit().await?;
        self.remember(record);
        Ok(arrival)
    }
}

/// What memory alone says of an arrival.
fn settled(device: &Device, product: ProductId) -> Option<Arrival> {
    match (device.product(), device.standing()) {
        (Some(own), standing) if own == product => Some(match standing {
            Standing::Accepted => Arrival::Member,
            Standing::Quarantined => Arrival::Quarantined,
            Standing::Denied => Arrival::Denied,
        }),
        (Some(_), Standing::Accepted | Standing::Denied) => Some(Arrival::Elsewhere),
        (Some(_), Standing::Quarantined) | (None, _) => None,
    }
}

fn quarantined(record: DeviceRecord, product: ProductId) -> DeviceRecord {
    let firmware_updates_forced = record.membership.firmware_updates_forced;
    let membership = Membership { standing: Standing::Quarantined, firmware_updates_forced, ..Default::default() };
    DeviceRecord { product: Some(product), membership, ..record }
}

#[cfg(test)]
mod tests;
