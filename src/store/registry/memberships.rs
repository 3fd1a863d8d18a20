//! What is said of devices as those of their products: rows for the few of which anything is.

use std::collections::HashMap;

use firmware_protocol::id::DeviceId;
use futures_util::TryStreamExt;
use sqlx::{FromRow, SqliteConnection};

use super::{Registry, RegistryError};
use crate::store::{DeviceRecord, GroupId, Membership, Standing};

/// Groups that one device may be in.
pub(super) const GROUPS_PER_DEVICE_MAX: usize = 50;

/// What is said of a device, with its serial number.
pub(super) type Said = (Option<String>, Membership);

#[derive(FromRow)]
struct Row {
    device: String,
    serial_number: Option<String>,
    quarantined: i64,
    denied: i64,
    development: i64,
    firmware_updates_forced: i64,
    desired_firmware_version: Option<i64>,
}

impl Registry {
    /// Of every device of which something is said, what.
    pub(super) async fn load_memberships(&self) -> Result<HashMap<DeviceId, Said>, RegistryError> {
        let mut said = HashMap::new();
        let select = "SELECT device, serial_number, quarantined, denied, development, firmware_updates_forced, desired_firmware_version \
                      FROM device_memberships";
        let mut rows = sqlx::query_as::<_, Row>(select).fetch(self.pool());
        while let Some(row) = rows.try_next().await? {
            said.insert(device_id(&row.device)?, row.said()?);
        }
        let select = "SELECT device, group_id FROM device_groups ORDER BY device, group_id";
        let mut rows = sqlx::query_as::<_, (String, i64)>(select).fetch(self.pool());
        let mut together: (Option<DeviceId>, Vec<GroupId>) = (None, Vec::new());
        while let Some((device, group)) = rows.try_next().await? {
            let device = device_id(&device)?;
            if together.0 != Some(device) {
                keep(&mut said, std::mem::replace(&mut together, (Some(device), Vec::new())));
            }
            together.1.push(group_id(group)?);
        }
        keep(&mut said, together);
        Ok(said)
    }
}

fn keep(said: &mut HashMap<DeviceId, Said>, (device, groups): (Option<DeviceId>, Vec<GroupId>)) {
    if let Some(device) = device {
        said.entry(device).or_default().1.groups = groups.into();
    }
}

/// Writes what is said of a device but for its groups.
pub(super) async fn write_membership(connection: &mut SqliteConnection, record: &DeviceRecord) -> Result<(), RegistryError> {
    let Membership { standing, development, firmware_updates_forced, desired_firmware_version, .. } = record.membership;
    let said = Membership { groups: Box::default(), ..record.membership.clone() };
    if said == Membership::default() && record.serial_number.is_none() {
        let delete = sqlx::query("DELETE FROM device_memberships WHERE device = $1").bind(record.id.to_string());
        return Ok(delete.execute(connection).await.map(drop)?);
    }
    let statement = "INSERT INTO device_memberships \
                     (device, serial_number, quarantined, denied, development, firmware_updates_forced, desired_firmware_version) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (device) DO UPDATE SET serial_number = excluded.serial_number, \
                     quarantined = excluded.quarantined, denied = excluded.denied, development = excluded.development, \
                     firmware_updates_forced = excluded.firmware_updates_forced, \
                     desired_firmware_version = excluded.desired_firmware_version";
    sqlx::query(statement)
        .bind(record.id.to_string())
        .bind(&record.serial_number)
        .bind(i64::from(standing == Standing::Quarantined))
        .bind(i64::from(standing == Standing::Denied))
        .bind(i64::from(development))
        .bind(i64::from(firmware_updates_forced))
        .bind(desired_firmware_version.map(i64::from))
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes which groups a device is in.
pub(super) async fn write_groups(connection: &mut SqliteConnection, record: &DeviceRecord) -> Result<(), RegistryError> {
    let device = record.id.to_string();
    sqlx::query("DELETE FROM device_groups WHERE device = $1").bind(&device).execute(&mut *connection).await?;
    for group in &record.membership.groups {
        let insert = sqlx::query("INSERT INTO device_groups (device, group_id) VALUES ($1, $2)").bind(&device).bind(i64::from(group.0));
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// A device that is of no product any more. What is its own stays.
pub(super) fn release(record: DeviceRecord) -> DeviceRecord {
    let firmware_updates_forced = record.membership.firmware_updates_forced;
    DeviceRecord { product: None, membership: Membership { firmware_updates_forced, ..Default::default() }, ..record }
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, RegistryError> {
    text.parse().map_err(|_| RegistryError::Damaged("the id of a device"))
}

pub(super) fn group_id(number: i64) -> Result<GroupId, RegistryError> {
    u32::try_from(number).map(GroupId).map_err(|_| RegistryError::Damaged("the number of a group"))
}

impl Row {
    fn said(self) -> Result<Said, RegistryError> {
        let desired = self.desired_firmware_version.map(u16::try_from).transpose();
        let membership = Membership {
            standing: match (self.quarantined, self.denied) {
                (0, 0) => Standing::Accepted,
                (_, 0) => Standing::Quarantined,
                _ => Standing::Denied,
            },
            development: self.development != 0,
            firmware_updates_forced: self.firmware_updates_forced != 0,
            desired_firmware_version: desired.map_err(|_| RegistryError::Damaged("the firmware that a device shall have"))?,
            groups: Box::default(),
        };
        Ok((self.serial_number, membership))
    }
}
