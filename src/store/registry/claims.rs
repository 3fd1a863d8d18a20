//! Claim codes, and the devices that come to an account by them.

use std::sync::Arc;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;

use super::audit::Act;
use super::devices::object;
use super::imports::{joined, write_joined};
use super::products::product_id;
use super::users::{owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::claim_code::{ClaimRecord, LIFE_MS};
use crate::store::{ClaimCode, ClaimHash, Device, DeviceRecord, Realm, Standing, Who};

/// Codes of one account that are good at the same time.
const CODES_PER_USER_MAX: i64 = 100;

/// What became of a device that was claimed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// It belonged to nobody and is the account's now.
    Now(Arc<Device>),
    /// It was the account's before.
    Before(Arc<Device>),
    /// There is no such code; or the device is somebody else's and stays so, or does not belong to the product it says it is of.
    Refused,
}

impl Registry {
    /// Makes a claim code for an account. It is good once and for an hour.
    ///
    /// # Errors
    /// The account has too many that are still good, or the database failed.
    pub async fn create_claim_code(&self, user: OwnerId) -> Result<ClaimCode, RegistryError> {
        self.create_claim_code_for(user, None).await
    }

    /// The same with a product that the device goes into, if the account looks after that and the device is in no other.
    ///
    /// # Errors
    /// As for [`Registry::create_claim_code`].
    pub async fn create_claim_code_for(&self, user: OwnerId, product: Option<ProductId>) -> Result<ClaimCode, RegistryError> {
        self.change(move |registry| async move {
            registry.forget_claim_codes(dates::now()).await?;
            let select = "SELECT COUNT(*) FROM claim_codes WHERE user_id = $1";
            let count: i64 = sqlx::query_scalar(select).bind(to_i64(user.0)).fetch_one(registry.pool()).await?;
            if count >= CODES_PER_USER_MAX {
                return Err(RegistryError::TooManyClaimCodes);
            }
            let (code, now) = (ClaimCode::random()?, dates::now());
            let record = ClaimRecord { user, product, expires_at: UnixMillis(now.0 + LIFE_MS) };
            sqlx::query("INSERT INTO claim_codes (code_hash, user_id, expires_at, created_at, product) VALUES ($1, $2, $3, $4, $5)")
                .bind(&code.hash().0[..])
                .bind(to_i64(user.0))
                .bind(to_i64(record.expires_at.0))
                .bind(to_i64(now.0))
                .bind(product.map(|product| i64::from(product.0)))
                .execute(registry.pool())
                .await?;
            registry.claims().insert((code.hash().0, record));
            Ok(code)
        })
        .await
    }

    /// A device that proved its key presents a claim code. If it belongs to nobody it becomes the account's, and the code is used up; a device
    /// that has an owner is never moved. It loses its name if the account has another device of that name.
    ///
    /// # Errors
    /// There is no such device, or the database failed.
    pub async fn claim_device(&self, id: DeviceId, code: ClaimHash) -> Result<Claimed, RegistryError> {
        // Looked up in memory first: what devices make up costs no turn at the database.
        if self.good_claim(&code).is_none() {
            return Ok(Claimed::Refused);
        }
        // Whoever has the code put it into the device, which now acts.
        self.by(Who::Device(id))
            .change(move |registry| async move {
                let before = registry.known(id)?;
                let Some(record) = registry.good_claim(&code) else { return Ok(Claimed::Refused) };
                let owner = before.owner().unwrap_or(record.user);
                let is_theirs = owner == record.user && before.standing() == Standing::Accepted;
                if !is_theirs || !registry.may_go_into(&before, record) {
                    return Ok(Claimed::Refused);
                }
                let mut transaction = registry.begin().await?;
                sqlx::query("DELETE FROM claim_codes WHERE code_hash = $1").bind(&code.0[..]).execute(&mut *transaction).await?;
                let mut after = before.record();
                if let Some(product) = record.product.filter(|product| before.product() != Some(*product)) {
                    after = joined(after, product);
                    write_joined(&mut transaction, &after).await?;
                    let act = Act::new("device.accept", object(id)).with(Realm::Product(product));
                    registry.write_down(&mut transaction, act).await?;
                }
                if before.owner().is_none() {
                    let (name, notes) = (registry.name_with(owner, &before), before.notes().map(str::to_owned));
                    let claimed = registry.write_owner(&mut transaction, &before, Some(owner), name, notes).await?;
                    after = DeviceRecord { owner: claimed.owner, name: claimed.name, ..after };
                }
                transaction.commit().await?;
                registry.claims().remove(&code.0);
                let is_new = before.owner().is_none();
                let device = if after == before.record() { before } else { registry.remember(after) };
                Ok(if is_new { Claimed::Now(device) } else { Claimed::Before(device) })
            })
            .await
    }

    /// Whether the product that a code is for, if it is for one, may still have the device.
    fn may_go_into(&self, device: &Device, record: ClaimRecord) -> bool {
        record.product.is_none_or(|id| {
            let is_looked_after = self.products().find(id).is_some_and(|product| product.role_of(record.user).is_some());
            is_looked_after && device.product().is_none_or(|product| product == id)
        })
    }

    /// Makes a device that belongs to nobody an account's, by its id alone. A device that has an owner is never moved, and one of a product is left to those
    /// who look after that. It loses its name if the account has another device of that name.
    ///
    /// # Errors
    /// There is no such device, or the database failed.
    pub async fn claim_device_of_nobody(&self, user: OwnerId, id: DeviceId) -> Result<Claimed, RegistryError> {
        self.change(move |registry| async move {
            let before = registry.known(id)?;
            if before.owner() == Some(user) {
                return Ok(Claimed::Before(before));
            }
            let product = before.product().and_then(|product| registry.products().find(product));
            let is_theirs = product.is_none_or(|product| product.role_of(user).is_some());
            if before.owner().is_some() || before.standing() != Standing::Accepted || !is_theirs {
                return Ok(Claimed::Refused);
            }
            let name = registry.name_with(user, &before);
            Ok(Claimed::Now(registry.hand_over(&before, Some(user), name).await?))
        })
        .await
    }

    /// The name that a device keeps with another owner.
    pub(super) fn name_with(&self, owner: OwnerId, device: &Device) -> Option<String> {
        device.name().filter(|name| self.devices().find_named(owner, name).is_none()).map(str::to_owned)
    }

    /// Forgets claim codes that are no longer good. Says how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_expired_claim_codes(&self, now: UnixMillis) -> Result<usize, RegistryError> {
        self.change(move |registry| async move { registry.forget_claim_codes(now).await }).await
    }

    pub(super) async fn fill_claims(&self) -> Result<(), RegistryError> {
        let select = "SELECT code_hash, user_id, product, expires_at FROM claim_codes";
        let rows: Vec<(Vec<u8>, i64, Option<i64>, i64)> = sqlx::query_as(select).fetch_all(self.pool()).await?;
        let claims = rows.into_iter().map(|(hash, user, product, expires_at)| {
            let (user, product) = (owner_id(user)?, product.map(product_id).transpose()?);
            Ok((digest(hash)?, ClaimRecord { user, product, expires_at: UnixMillis(to_u64(expires_at)?) }))
        });
        self.claims().insert_all(claims.collect::<Result<Vec<_>, RegistryError>>()?);
        Ok(())
    }

    fn good_claim(&self, code: &ClaimHash) -> Option<ClaimRecord> {
        self.claims().find(&code.0, |(_, record)| *record).filter(|record| record.expires_at > dates::now())
    }

    async fn forget_claim_codes(&self, now: UnixMillis) -> Result<usize, RegistryError> {
        let delete = "DELETE FROM claim_codes WHERE expires_at <= $1 RETURNING code_hash";
        let gone: Vec<Vec<u8>> = sqlx::query_scalar(delete).bind(to_i64(now.0)).fetch_all(self.pool()).await?;
        let count = gone.len();
        self.forget_codes(gone)?;
        Ok(count)
    }

    /// Takes claim codes out of memory that are no longer in the database.
    pub(super) fn forget_codes(&self, hashes: Vec<Vec<u8>>) -> Result<(), RegistryError> {
        for hash in hashes {
            self.claims().remove(&digest(hash)?);
        }
        Ok(())
    }
}

fn digest(bytes: Vec<u8>) -> Result<[u8; 32], RegistryError> {
    bytes.try_into().map_err(|_| RegistryError::Damaged("the hash of a claim code"))
}

#[cfg(test)]
mod tests;
