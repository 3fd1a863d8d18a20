//! Firmware of products: what it is, to whom it was released, and its bytes, which are in files beside the database.
//!
//! A file is durable before a row names it, and goes after the last row that did.

use std::collections::HashSet;
use std::io;

use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use sqlx::{FromRow, SqliteConnection};
use tokio::task::spawn_blocking;

use super::audit::Act;
use super::products::{check_description, is_name};
use super::users::{is_taken, owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{GroupName, Product, Realm};

/// Longest firmware, in bytes.
const SIZE_MAX: usize = 2 * 1024 * 1024;
/// Versions of one product.
const VERSIONS_PER_PRODUCT_MAX: i64 = 1_000;
/// Longest title.
const TITLE_LEN_MAX: usize = 128;
/// Longest name of a file.
const FILE_NAME_LEN_MAX: usize = 255;

/// A version of a product's firmware.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Firmware {
    /// Its number.
    pub version: u16,
    /// What it is called.
    pub title: String,
    /// What it is.
    pub description: Option<String>,
    /// Whether devices may not go on without it.
    pub mandatory: bool,
    /// Whether it is for every device that no group or wish says otherwise of.
    pub product_default: bool,
    /// The groups that it was released to, in order of their names.
    pub groups: Vec<GroupName>,
    /// The name of the file that was uploaded.
    pub file_name: String,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, in hex digits.
    pub sha256: String,
    /// Who uploaded it, if that was a person.
    pub uploaded_by: Option<OwnerId>,
    /// When it was uploaded.
    pub uploaded_on: UnixMillis,
    /// When it was changed or released last.
    pub updated_at: UnixMillis,
    /// When it was released first.
    pub released_at: Option<UnixMillis>,
}

/// Firmware to add.
#[derive(Clone, PartialEq, Eq)]
pub struct NewFirmware {
    /// Its number.
    pub version: u16,
    /// What it is called.
    pub title: String,
    /// What it is.
    pub description: Option<String>,
    /// Whether devices may not go on without it.
    pub mandatory: bool,
    /// The name of the file.
    pub file_name: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// Who uploads it, if that is a person.
    pub uploaded_by: Option<OwnerId>,
}

/// What to change about firmware. An inner `None` takes something away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FirmwareEdit {
    /// What it is called.
    pub title: Option<String>,
    /// What it is.
    pub description: Option<Option<String>>,
    /// Whether devices may not go on without it.
    pub mandatory: Option<bool>,
}

/// Whom firmware is released to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Release {
    /// Every device that no group or wish says otherwise of, instead of the firmware that was for these before.
    pub product_default: bool,
    /// The devices of these groups.
    pub groups: Vec<GroupName>,
}

#[derive(FromRow)]
struct Row {
    version: i64,
    title: String,
    description: Option<String>,
    mandatory: i64,
    product_default: i64,
    file_name: String,
    size: i64,
    sha256: String,
    uploaded_by: Option<i64>,
    uploaded_on: i64,
    updated_at: i64,
    released_at: Option<i64>,
}

/// A question for rows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT version, title, description, mandatory, product_default, file_name, size, sha256, uploaded_by, uploaded_on, updated_at, \
             released_at FROM firmware ",
            $rest
        )
    };
}

impl Registry {
    /// The firmware of a product, in order of its versions.
    ///
    /// # Errors
    /// There is no such product, or the database failed.
    pub async fn firmware(&self, product: ProductId) -> Result<Vec<Firmware>, RegistryError> {
        let known = self.known_product(product)?;
        let query = sqlx::query_as(select!("WHERE product = $1 ORDER BY version")).bind(i64::from(product.0));
        let rows: Vec<Row> = self.answer(query.fetch_all(self.pool())).await?;
        rows.into_iter().map(|row| row.firmware(&known)).collect()
    }

    /// A version of a product's firmware.
    ///
    /// # Errors
    /// There is no such product, or the database failed.
    pub async fn firmware_version(&self, product: ProductId, version: u16) -> Result<Option<Firmware>, RegistryError> {
        let known = self.known_product(product)?;
        let query = sqlx::query_as(select!("WHERE product = $1 AND version = $2")).bind(i64::from(product.0)).bind(i64::from(version));
        let row: Option<Row> = self.answer(query.fetch_optional(self.pool())).await?;
        row.map(|row| row.firmware(&known)).transpose()
    }

    /// The bytes of a version of a product's firmware.
    ///
    /// # Errors
    /// There is no such version, its file is gone or damaged, or the database failed.
    pub async fn firmware_bytes(&self, product: ProductId, version: u16) -> Result<Vec<u8>, RegistryError> {
        let found = self.firmware_version(product, version).await?.ok_or(RegistryError::NoSuch("firmware"))?;
        let files = self.inner.firmware.clone();
        blocking(move || files.read(&found.sha256)).await.map_err(RegistryError::Firmware)
    }

    /// Adds firmware to a product.
    ///
    /// # Errors
    /// There is no such product; it has this version, or too many; the title, the description, the name or the length does not do; the file cannot be
    /// written; or the database failed.
    pub async fn add_firmware(&self, product: ProductId, new: NewFirmware) -> Result<Firmware, RegistryError> {
        check(&new)?;
        self.change(move |registry| async move {
            let product = registry.known_product(product)?;
            registry.check_room(product.id, new.version).await?;
            let (files, bytes) = (registry.inner.firmware.clone(), new.bytes.clone());
            let sha256 = blocking(move || files.keep(&bytes)).await.map_err(RegistryError::Firmware)?;
            let added = registry.insert_firmware(&product, new, &sha256).await;
            if added.is_err() {
                registry.drop_files(vec![sha256]).await;
            }
            added
        })
        .await
    }

    /// Changes what is said of firmware.
    ///
    /// # Errors
    /// There is no such product or version, a text does not do, or the database failed.
    pub async fn edit_firmware(&self, product: ProductId, version: u16, edit: FirmwareEdit) -> Result<Firmware, RegistryError> {
        edit.title.as_deref().map_or(Ok(()), check_title)?;
        check_description(edit.description.iter().flatten().next().map(String::as_str))?;
        self.change(move |registry| async move {
            let known = registry.known_product(product)?;
            let mut transaction = registry.begin().await?;
            let mut firmware = find(&mut transaction, &known, version).await?;
            firmware.title = edit.title.unwrap_or(firmware.title);
            firmware.description = edit.description.unwrap_or(firmware.description);
            firmware.mandatory = edit.mandatory.unwrap_or(firmware.mandatory);
            firmware.updated_at = dates::now();
            update(&mut transaction, product, &firmware).await?;
            registry.write_down(&mut transaction, act("firmware.edit", product, version)).await?;
            transaction.commit().await?;
            Ok(firmware)
        })
        .await
    }

    /// Releases firmware.
    ///
    /// # Errors
    /// There is no such product, version or group, or the database failed.
    pub async fn release_firmware(&self, product: ProductId, version: u16, release: Release) -> Result<Firmware, RegistryError> {
        self.change(move |registry| async move {
            let mut known = Product::clone(&*registry.known_product(product)?);
            let mut transaction = registry.begin().await?;
            let mut firmware = find(&mut transaction, &known, version).await?;
            let now = dates::now();
            (firmware.updated_at, firmware.released_at) = (now, firmware.released_at.or(Some(now)));
            if release.product_default {
                let clear = sqlx::query("UPDATE firmware SET product_default = 0 WHERE product = $1").bind(i64::from(product.0));
                clear.execute(&mut *transaction).await?;
                firmware.product_default = true;
            }
            for name in &release.groups {
                let group = known.groups.iter_mut().find(|group| group.name == *name).ok_or(RegistryError::NoSuch("group"))?;
                (group.firmware_version, group.updated_at) = (Some(version), now);
                let update = sqlx::query("UPDATE product_groups SET firmware_version = $1, updated_at = $2 WHERE id = $3 AND product = $4");
                let update = update.bind(i64::from(version)).bind(to_i64(now.0)).bind(i64::from(group.id.0)).bind(i64::from(product.0));
                update.execute(&mut *transaction).await?;
            }
            update(&mut transaction, product, &firmware).await?;
            let names = release.groups.iter().map(GroupName::as_str).chain(release.product_default.then_some("everybody"));
            let to = names.collect::<Vec<_>>().join(" ");
            registry.write_down(&mut transaction, act("firmware.release", product, version).with(format!("{version} to {to}"))).await?;
            transaction.commit().await?;
            firmware.groups = groups_with(&known, version);
            registry.remember_product(known);
            Ok(firmware)
        })
        .await
    }

    /// Removes firmware that was never released.
    ///
    /// # Errors
    /// There is no such product or version, it was released, or the database failed.
    pub async fn remove_firmware(&self, product: ProductId, version: u16) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let known = registry.known_product(product)?;
            let mut transaction = registry.begin().await?;
            let firmware = find(&mut transaction, &known, version).await?;
            if firmware.released_at.is_some() {
                return Err(RegistryError::Refused("this firmware was released; devices may run it"));
            }
            let delete = sqlx::query("DELETE FROM firmware WHERE product = $1 AND version = $2").bind(i64::from(product.0));
            delete.bind(i64::from(version)).execute(&mut *transaction).await?;
            registry.write_down(&mut transaction, act("firmware.remove", product, version)).await?;
            transaction.commit().await?;
            registry.drop_files(vec![firmware.sha256]).await;
            Ok(())
        })
        .await
    }

    /// Removes files that no row names any more. What is left over is removed by the next start.
    pub(super) async fn drop_files(&self, names: Vec<String>) {
        for name in names {
            let select = sqlx::query_scalar("SELECT COUNT(*) FROM firmware WHERE sha256 = $1").bind(name.clone());
            if !matches!(select.fetch_one(self.pool()).await, Ok(0_i64)) {
                continue;
            }
            let files = self.inner.firmware.clone();
            if let Err(error) = blocking(move || files.remove(&name)).await {
                tracing::warn!(%error, "a file of firmware that was removed is still there");
            }
        }
    }

    /// Removes what an interrupted process left: files that no row names.
    pub(super) async fn sweep_firmware_files(&self) -> Result<(), RegistryError> {
        let names: Vec<String> = sqlx::query_scalar("SELECT DISTINCT sha256 FROM firmware").fetch_all(self.pool()).await?;
        let (files, wanted) = (self.inner.firmware.clone(), HashSet::from_iter(names));
        match blocking(move || files.sweep(&wanted)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "files of firmware that nobody wants were removed"),
            Err(error) => tracing::warn!(%error, "files of firmware that nobody wants could not be removed"),
        }
        Ok(())
    }

    async fn check_room(&self, product: ProductId, version: u16) -> Result<(), RegistryError> {
        let select = "SELECT COUNT(*), COUNT(CASE WHEN version = $2 THEN 1 END) FROM firmware WHERE product = $1";
        let query = sqlx::query_as(select).bind(i64::from(product.0)).bind(i64::from(version));
        let (count, taken): (i64, i64) = query.fetch_one(self.pool()).await?;
        if taken > 0 {
            return Err(RegistryError::Taken("version"));
        }
        if count >= VERSIONS_PER_PRODUCT_MAX { Err(RegistryError::TooMany("versions of this product's firmware")) } else { Ok(()) }
    }

    async fn insert_firmware(&self, product: &Product, new: NewFirmware, sha256: &str) -> Result<Firmware, RegistryError> {
        let now = dates::now();
        let firmware = Firmware {
            version: new.version,
            title: new.title,
            description: new.description,
            mandatory: new.mandatory,
            product_default: false,
            groups: groups_with(product, new.version),
            file_name: new.file_name,
            size: new.bytes.len() as u64,
            sha256: sha256.to_owned(),
            uploaded_by: new.uploaded_by,
            uploaded_on: now,
            updated_at: now,
            released_at: None,
        };
        let mut transaction = self.begin().await?;
        insert(&mut transaction, product.id, &firmware).await?;
        let act = act("firmware.add", product.id, firmware.version).with(format!("{} {sha256}", firmware.version));
        self.write_down(&mut transaction, act).await?;
        transaction.commit().await?;
        Ok(firmware)
    }
}

/// Removes all firmware of a product, and says which files it named.
pub(super) async fn remove_firmware_of(connection: &mut SqliteConnection, product: ProductId) -> Result<Vec<String>, RegistryError> {
    let delete = "DELETE FROM firmware WHERE product = $1 RETURNING sha256";
    Ok(sqlx::query_scalar(delete).bind(i64::from(product.0)).fetch_all(connection).await?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn act(name: &'static str, product: ProductId, version: u16) -> Act {
    Act::new(name, Realm::Product(product)).with(version)
}

fn groups_with(product: &Product, version: u16) -> Vec<GroupName> {
    product.groups.iter().filter(|group| group.firmware_version == Some(version)).map(|group| group.name.clone()).collect()
}

async fn find(connection: &mut SqliteConnection, product: &Product, version: u16) -> Result<Firmware, RegistryError> {
    let query = sqlx::query_as(select!("WHERE product = $1 AND version = $2")).bind(i64::from(product.id.0)).bind(i64::from(version));
    let row: Option<Row> = query.fetch_optional(connection).await?;
    row.ok_or(RegistryError::NoSuch("firmware"))?.firmware(product)
}

async fn insert(connection: &mut SqliteConnection, product: ProductId, firmware: &Firmware) -> Result<(), RegistryError> {
    let statement = "INSERT INTO firmware (product, version, title, description, mandatory, product_default, file_name, size, sha256, \
                     uploaded_by, uploaded_on, updated_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, $9, $10, $10)";
    let insert = sqlx::query(statement)
        .bind(i64::from(product.0))
        .bind(i64::from(firmware.version))
        .bind(&firmware.title)
        .bind(&firmware.description)
        .bind(i64::from(firmware.mandatory))
        .bind(&firmware.file_name)
        .bind(to_i64(firmware.size))
        .bind(&firmware.sha256)
        .bind(firmware.uploaded_by.map(|user| to_i64(user.0)))
        .bind(to_i64(firmware.uploaded_on.0));
    match insert.execute(connection).await {
        Err(error) if is_taken(&error) => Err(RegistryError::Taken("version")),
        inserted => Ok(inserted.map(drop)?),
    }
}

async fn update(connection: &mut SqliteConnection, product: ProductId, firmware: &Firmware) -> Result<(), RegistryError> {
    let statement = "UPDATE firmware SET title = $1, description = $2, mandatory = $3, product_default = $4, updated_at = $5, \
                     released_at = $6 WHERE product = $7 AND version = $8";
    sqlx::query(statement)
        .bind(&firmware.title)
        .bind(&firmware.description)
        .bind(i64::from(firmware.mandatory))
        .bind(i64::from(firmware.product_default))
        .bind(to_i64(firmware.updated_at.0))
        .bind(firmware.released_at.map(|at| to_i64(at.0)))
        .bind(i64::from(product.0))
        .bind(i64::from(firmware.version))
        .execute(connection)
        .await?;
    Ok(())
}

fn check(new: &NewFirmware) -> Result<(), RegistryError> {
    check_title(&new.title)?;
    check_description(new.description.as_deref())?;
    if !is_name(&new.file_name, FILE_NAME_LEN_MAX) {
        return Err(RegistryError::Unfit("the name of a file has from 1 to 255 bytes without control characters"));
    }
    if !(1..=SIZE_MAX).contains(&new.bytes.len()) {
        return Err(RegistryError::Unfit("firmware has from 1 byte to 2 MiB"));
    }
    Ok(())
}

fn check_title(title: &str) -> Result<(), RegistryError> {
    if is_name(title, TITLE_LEN_MAX) {
        return Ok(());
    }
    Err(RegistryError::Unfit("a title has from 1 to 128 bytes without control characters"))
}

impl Row {
    fn firmware(self, product: &Product) -> Result<Firmware, RegistryError> {
        let version = u16::try_from(self.version).map_err(|_| RegistryError::Damaged("the version of firmware"))?;
        Ok(Firmware {
            version,
            title: self.title,
            description: self.description,
            mandatory: self.mandatory != 0,
            product_default: self.product_default != 0,
            groups: groups_with(product, version),
            file_name: self.file_name,
            size: to_u64(self.size)?,
            sha256: self.sha256,
            uploaded_by: self.uploaded_by.map(owner_id).transpose()?,
            uploaded_on: UnixMillis(to_u64(self.uploaded_on)?),
            updated_at: UnixMillis(to_u64(self.updated_at)?),
            released_at: self.released_at.map(to_u64).transpose()?.map(UnixMillis),
        })
    }
}

#[cfg(test)]
mod tests;
