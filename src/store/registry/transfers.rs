//! Devices that somebody asks the present owner for, who says yes or no.

use std::sync::Arc;

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::time::UnixMillis;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::devices::object;
use super::memberships::device_id;
use super::users::{owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{Device, TransferId};

/// How long a request stands.
const LIFE_MS: u64 = 7 * 86_400_000;
/// Requests of one account that stand at the same time.
const ASKED_PER_USER_MAX: i64 = 100;
/// Requests for one device that stand at the same time.
const ASKED_PER_DEVICE_MAX: i64 = 10;

/// A request for a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Its id.
    pub id: TransferId,
    /// The device.
    pub device: DeviceId,
    /// Whose it was when it was asked for.
    pub from: OwnerId,
    /// Who asks for it.
    pub to: OwnerId,
    /// When.
    pub created_at: UnixMillis,
}

#[derive(FromRow)]
struct Row {
    id: String,
    device: String,
    from_user: i64,
    to_user: i64,
    created_at: i64,
}

impl Registry {
    /// Asks the owner of a device for it. Who asks again gets the request that stands.
    ///
    /// # Errors
    /// The device is nobody's or the account's own, too many requests stand, or the database failed.
    pub async fn request_transfer(&self, to: OwnerId, device: DeviceId) -> Result<Transfer, RegistryError> {
        self.change(move |registry| async move {
            let owner = registry.known(device)?.owner().filter(|owner| *owner != to);
            let from = owner.ok_or(RegistryError::Refused("this device belongs to nobody else"))?;
            let mut transaction = registry.begin().await?;
            let now = dates::now();
            forget(&mut transaction, now).await?;
            if let Some(stands) = standing(&mut transaction, device, from, to).await? {
                transaction.commit().await?;
                return Ok(stands);
            }
            check_room(&mut transaction, to, device).await?;
            let transfer = Transfer { id: TransferId::random()?, device, from, to, created_at: now };
            insert(&mut transaction, &transfer).await?;
            let act = Act::new("transfer.request", object(device)).with(format!("from user:{} to user:{}", from.0, to.0));
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            Ok(transfer)
        })
        .await
    }

    /// The requests that stand which an account has to answer, or has made, the oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn transfers(&self, user: OwnerId) -> Result<Vec<Transfer>, RegistryError> {
        let select = "SELECT id, device, from_user, to_user, created_at FROM device_transfers \
                      WHERE (from_user = $1 OR to_user = $1) AND created_at > $2 ORDER BY created_at, id";
        let query = sqlx::query_as(select).bind(to_i64(user.0)).bind(begin_of_life(dates::now()));
        let rows: Vec<Row> = self.answer(query.fetch_all(self.pool())).await?;
        rows.into_iter().map(Transfer::try_from).collect()
    }

    /// The present owner gives the device to whoever asked for it. All other requests for it are over. It loses its name if its new owner has another device
    /// of that name, and its notes.
    ///
    /// # Errors
    /// No such request stands that is this account's to answer, or the database failed.
    pub async fn accept_transfer(&self, owner: OwnerId, id: TransferId) -> Result<Arc<Device>, RegistryError> {
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let transfer = find(&mut transaction, id).await?.filter(|transfer| transfer.from == owner);
            let transfer = transfer.ok_or(RegistryError::NoSuch("transfer"))?;
            let device = registry.devices().find(transfer.device).filter(|device| device.owner() == Some(owner));
            let device = device.ok_or(RegistryError::NoSuch("transfer"))?;
            let delete = sqlx::query("DELETE FROM device_transfers WHERE device = $1").bind(transfer.device.to_string());
            delete.execute(&mut *transaction).await?;
            let name = registry.name_with(transfer.to, &device);
            let record = registry.write_owner(&mut transaction, &device, Some(transfer.to), name, None).await?;
            transaction.commit().await?;
            Ok(registry.remember(record))
        })
        .await
    }

    /// Ends a request: its owner keeps the device, or whoever asked does not want it any more.
    ///
    /// # Errors
    /// No such request stands that this account has to answer or has made, or the database failed.
    pub async fn end_transfer(&self, user: OwnerId, id: TransferId) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let transfer = find(&mut transaction, id).await?.filter(|transfer| transfer.from == user || transfer.to == user);
            let transfer = transfer.ok_or(RegistryError::NoSuch("transfer"))?;
            sqlx::query("DELETE FROM device_transfers WHERE id = $1").bind(id.to_string()).execute(&mut *transaction).await?;
            registry.write_down(&mut transaction, Act::new("transfer.end", object(transfer.device)).with(id)).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Forgets requests that stood too long. Says how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_expired_transfers(&self, now: UnixMillis) -> Result<u64, RegistryError> {
        self.change(move |registry| async move {
            let mut connection = registry.pool().acquire().await?;
            forget(&mut connection, now).await
        })
        .await
    }
}

/// Requests that were made before this stand no more.
fn begin_of_life(now: UnixMillis) -> i64 {
    to_i64(now.0.saturating_sub(LIFE_MS))
}

async fn forget(connection: &mut SqliteConnection, now: UnixMillis) -> Result<u64, RegistryError> {
    let delete = sqlx::query("DELETE FROM device_transfers WHERE created_at <= $1").bind(begin_of_life(now));
    Ok(delete.execute(connection).await?.rows_affected())
}

async fn find(connection: &mut SqliteConnection, id: TransferId) -> Result<Option<Transfer>, RegistryError> {
    let select = "SELECT id, device, from_user, to_user, created_at FROM device_transfers WHERE id = $1 AND created_at > $2";
    let query = sqlx::query_as(select).bind(id.to_string()).bind(begin_of_life(dates::now()));
    let row: Option<Row> = query.fetch_optional(connection).await?;
    row.map(Transfer::try_from).transpose()
}

/// The request that an account has made of the present owner. One that was made of a former one is taken away.
async fn standing(
    connection: &mut SqliteConnection,
    device: DeviceId,
    from: OwnerId,
    to: OwnerId,
) -> Result<Option<Transfer>, RegistryError> {
    sqlx::query("DELETE FROM device_transfers WHERE device = $1 AND from_user <> $2")
        .bind(device.to_string())
        .bind(to_i64(from.0))
        .execute(&mut *connection)
        .await?;
    let select = "SELECT id, device, from_user, to_user, created_at FROM device_transfers WHERE device = $1 AND to_user = $2";
    let query = sqlx::query_as(select).bind(device.to_string()).bind(to_i64(to.0));
    let row: Option<Row> = query.fetch_optional(connection).await?;
    row.map(Transfer::try_from).transpose()
}

async fn insert(connection: &mut SqliteConnection, transfer: &Transfer) -> Result<(), RegistryError> {
    let statement = "INSERT INTO device_transfers (id, device, from_user, to_user, created_at) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(statement)
        .bind(transfer.id.to_string())
        .bind(transfer.device.to_string())
        .bind(to_i64(transfer.from.0))
        .bind(to_i64(transfer.to.0))
        .bind(to_i64(transfer.created_at.0))
        .execute(connection)
        .await?;
    Ok(())
}

async fn check_room(connection: &mut SqliteConnection, to: OwnerId, device: DeviceId) -> Result<(), RegistryError> {
    let of_user = sqlx::query_scalar("SELECT COUNT(*) FROM device_transfers WHERE to_user = $1").bind(to_i64(to.0));
    let of_device = sqlx::query_scalar("SELECT COUNT(*) FROM device_transfers WHERE device = $1").bind(device.to_string());
    let (of_user, of_device): (i64, i64) = (of_user.fetch_one(&mut *connection).await?, of_device.fetch_one(connection).await?);
    if of_user >= ASKED_PER_USER_MAX || of_device >= ASKED_PER_DEVICE_MAX {
        return Err(RegistryError::TooMany("requests for devices that have no answer yet"));
    }
    Ok(())
}

impl TryFrom<Row> for Transfer {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(Transfer {
            id: row.id.parse().map_err(|()| RegistryError::Damaged("the id of a transfer"))?,
            device: device_id(&row.device)?,
            from: owner_id(row.from_user)?,
            to: owner_id(row.to_user)?,
            created_at: UnixMillis(to_u64(row.created_at)?),
        })
    }
}

#[cfg(test)]
mod tests;
