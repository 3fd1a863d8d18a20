//! Products: created, edited, handed on and removed.

use std::sync::Arc;

use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use serde_json::to_string;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::clients::remove_clients_of;
use super::firmware::remove_firmware_of;
use super::hooks::remove_hooks_of;
use super::memberships::{release, write_membership};
use super::users::{owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::slug::slug;
use crate::store::{Product, ProductSettings, Protection, Realm, Standing};

/// Products that an account may create. Those that were removed count: their numbers are never given to others.
const PRODUCTS_PER_USER_MAX: i64 = 1_000;
/// Longest name of a product.
const NAME_LEN_MAX: usize = 64;
/// Longest text about a product or anything in it.
pub(super) const DESCRIPTION_LEN_MAX: usize = 1_024;

/// A product to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewProduct {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// The kind of hardware.
    pub platform_id: u16,
    /// How it is set up.
    pub settings: ProductSettings,
}

/// What to change about a product. Its slug stays, so that addresses do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProductEdit {
    /// Its name.
    pub name: Option<String>,
    /// What it is; the inner `None` takes that away.
    pub description: Option<Option<String>>,
    /// How it is set up.
    pub settings: Option<ProductSettings>,
    /// Whether its devices are protected.
    pub device_protection: Option<Protection>,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    slug: String,
    owner: i64,
    name: String,
    description: Option<String>,
    platform_id: i64,
    settings: String,
    device_protection: String,
    created_at: i64,
    updated_at: i64,
}

impl Registry {
    /// Creates a product. It gets the next number and, from its name, a slug that no other has.
    ///
    /// # Errors
    /// The name or the description does not do, the account has too many products, or the database failed.
    pub async fn create_product(&self, owner: OwnerId, new: NewProduct) -> Result<Arc<Product>, RegistryError> {
        check_name(&new.name)?;
        check_description(new.description.as_deref())?;
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            check_room(&mut transaction, owner).await?;
            let now = dates::now();
            let product = Product {
                id: registry.next_number(&mut transaction).await?,
                slug: registry.free_slug(&new.name),
                name: new.name,
                description: new.description,
                platform_id: new.platform_id,
                owner,
                settings: new.settings,
                device_protection: Protection::default(),
                created_at: now,
                updated_at: now,
                members: Vec::new(),
                groups: Vec::new(),
            };
            insert(&mut transaction, &product).await?;
            let act = Act::new("product.create", Realm::Product(product.id)).with(format!("{} of user:{}", product.slug, owner.0));
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            Ok(registry.remember_product(product))
        })
        .await
    }

    /// Changes a product.
    ///
    /// # Errors
    /// There is no such product, the name or the description does not do, or the database failed.
    pub async fn edit_product(&self, id: ProductId, edit: ProductEdit) -> Result<Arc<Product>, RegistryError> {
        edit.name.as_deref().map_or(Ok(()), check_name)?;
        check_description(edit.description.iter().flatten().next().map(String::as_str))?;
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(id)?);
            product.name = edit.name.unwrap_or(product.name);
            product.description = edit.description.unwrap_or(product.description);
            product.settings = edit.settings.unwrap_or(product.settings);
            product.device_protection = edit.device_protection.unwrap_or(product.device_protection);
            registry.rewrite_product(product, Act::new("product.edit", Realm::Product(id))).await
        })
        .await
    }

    /// Gives a product to another account. Devices that nobody has claimed act for that from now on, and tokens for the product are good as before.
    ///
    /// # Errors
    /// There is no such product or account, the account has too many products, or the database failed.
    pub async fn set_product_owner(&self, id: ProductId, owner: OwnerId) -> Result<Arc<Product>, RegistryError> {
        self.user(owner).await?.ok_or(RegistryError::NoSuch("account"))?;
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(id)?);
            let mut transaction = registry.begin().await?;
            check_room(&mut transaction, owner).await?;
            product.owner = owner;
            product.updated_at = dates::now();
            product.members.retain(|member| member.user != owner);
            update(&mut transaction, &product).await?;
            for statement in
                ["DELETE FROM team_members WHERE product = $1 AND user_id = $2", "UPDATE access_tokens SET user_id = $2 WHERE product = $1"]
            {
                sqlx::query(statement).bind(i64::from(id.0)).bind(to_i64(owner.0)).execute(&mut *transaction).await?;
            }
            let act = Act::new("product.owner", Realm::Product(id)).with(format!("user:{}", owner.0));
            registry.write_down(&mut transaction, act).await?;
            let tokens = registry.tokens_of_product(&mut transaction, id).await?;
            transaction.commit().await?;
            let product = registry.remember_product(product);
            for device in registry.devices().in_product(id) {
                registry.remember(device.record());
            }
            tokens.into_iter().for_each(|(hash, record)| registry.tokens().insert(hash, record));
            Ok(product)
        })
        .await
    }

    /// Removes a product that has no devices, with all that belongs to it. Devices that never belonged there are let go.
    ///
    /// # Errors
    /// There is no such product, it has devices, or the database failed.
    pub async fn remove_product(&self, id: ProductId) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let product = registry.known_product(id)?;
            let devices = registry.devices().in_product(id);
            if devices.iter().any(|device| device.standing() == Standing::Accepted) {
                return Err(RegistryError::Refused("this product has devices; remove them from it first"));
            }
            let released: Vec<_> = devices.iter().map(|device| release(device.record())).collect();
            let mut transaction = registry.begin().await?;
            for record in &released {
                let update = sqlx::query("UPDATE devices SET product = NULL WHERE id = $1").bind(record.id.to_string());
                update.execute(&mut *transaction).await?;
                write_membership(&mut transaction, record).await?;
            }
            let tokens = registry.tokens_of_product(&mut transaction, id).await?;
            let files = remove_firmware_of(&mut transaction, id).await?;
            remove_rows(&mut transaction, id).await?;
            let act = Act::new("product.remove", Realm::Product(id)).with(&product.slug);
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            registry.products().remove(id);
            released.into_iter().for_each(|record| drop(registry.remember(record)));
            tokens.iter().for_each(|(hash, _)| registry.tokens().remove(hash));
            registry.drop_files(files).await;
            Ok(())
        })
        .await
    }

    pub(super) async fn fill_products(&self) -> Result<(), RegistryError> {
        let select = "SELECT id, slug, owner, name, description, platform_id, settings, device_protection, created_at, updated_at \
                      FROM products WHERE removed_at IS NULL AND owner IS NOT NULL";
        let rows: Vec<Row> = sqlx::query_as(select).fetch_all(self.pool()).await?;
        let (mut members, mut groups) = (self.load_members().await?, self.load_groups().await?);
        for row in rows {
            let mut product = Product::try_from(row)?;
            product.members = members.remove(&product.id).unwrap_or_default();
            product.groups = groups.remove(&product.id).unwrap_or_default();
            self.remember_product(product);
        }
        Ok(())
    }

    pub(super) fn known_product(&self, id: ProductId) -> Result<Arc<Product>, RegistryError> {
        self.products().find(id).ok_or(RegistryError::NoSuch("product"))
    }

    /// Puts what the database now says about a product into memory.
    pub(super) fn remember_product(&self, product: Product) -> Arc<Product> {
        let product = Arc::new(product);
        self.products().put(Arc::clone(&product));
        product
    }

    /// Writes a product that changed, with the act.
    async fn rewrite_product(&self, mut product: Product, act: Act) -> Result<Arc<Product>, RegistryError> {
        product.updated_at = dates::now();
        let mut transaction = self.begin().await?;
        update(&mut transaction, &product).await?;
        self.write_down(&mut transaction, act).await?;
        transaction.commit().await?;
        Ok(self.remember_product(product))
    }

    /// The next number. One that devices carry already, because an operator said so, is left out.
    async fn next_number(&self, connection: &mut SqliteConnection) -> Result<ProductId, RegistryError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM products").fetch_one(connection).await?;
        let after = last.map_or(0, |last| u32::try_from(last).unwrap_or(u32::MAX)).saturating_add(1);
        let mut numbers = after.max(ProductId::FIRST.0)..=ProductId::LAST.0;
        let free = numbers.find(|number| self.devices().count_in_product(ProductId(*number)) == 0);
        free.map(ProductId).ok_or(RegistryError::TooMany("products on this server"))
    }

    /// A slug that is none of digits alone, which would be a number.
    fn free_slug(&self, name: &str) -> String {
        let mut base = slug(name, "product");
        if base.bytes().all(|byte| byte.is_ascii_digit()) {
            base.insert_str(0, "product-");
        }
        let mut number = 1_u32;
        let mut wanted = base.clone();
        while !self.products().is_free(&wanted) {
            number += 1;
            wanted = format!("{base}-{number}");
        }
        wanted
    }
}

async fn check_room(connection: &mut SqliteConnection, owner: OwnerId) -> Result<(), RegistryError> {
    let select = "SELECT COUNT(*) FROM products WHERE owner = $1";
    let count: i64 = sqlx::query_scalar(select).bind(to_i64(owner.0)).fetch_one(connection).await?;
    if count >= PRODUCTS_PER_USER_MAX { Err(RegistryError::TooMany("products of this account")) } else { Ok(()) }
}

async fn insert(connection: &mut SqliteConnection, product: &Product) -> Result<(), RegistryError> {
    let statement = "INSERT INTO products (id, slug, owner, name, description, platform_id, settings, device_protection, created_at, \
                     updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    sqlx::query(statement)
        .bind(i64::from(product.id.0))
        .bind(&product.slug)
        .bind(to_i64(product.owner.0))
        .bind(&product.name)
        .bind(&product.description)
        .bind(i64::from(product.platform_id))
        .bind(settings_text(&product.settings))
        .bind(product.device_protection.word())
        .bind(to_i64(product.created_at.0))
        .bind(to_i64(product.updated_at.0))
        .execute(connection)
        .await?;
    Ok(())
}

async fn update(connection: &mut SqliteConnection, product: &Product) -> Result<(), RegistryError> {
    let statement = "UPDATE products SET owner = $1, name = $2, description = $3, settings = $4, device_protection = $5, updated_at = $6 \
                     WHERE id = $7";
    sqlx::query(statement)
        .bind(to_i64(product.owner.0))
        .bind(&product.name)
        .bind(&product.description)
        .bind(settings_text(&product.settings))
        .bind(product.device_protection.word())
        .bind(to_i64(product.updated_at.0))
        .bind(i64::from(product.id.0))
        .execute(connection)
        .await?;
    Ok(())
}

/// All that belongs to a product. Its own row stays, for its number.
async fn remove_rows(connection: &mut SqliteConnection, id: ProductId) -> Result<(), RegistryError> {
    for statement in [
        "DELETE FROM access_tokens WHERE product = $1",
        "DELETE FROM api_users WHERE product = $1",
        "DELETE FROM team_members WHERE product = $1",
        "DELETE FROM product_groups WHERE product = $1",
        "DELETE FROM product_known WHERE product = $1",
    ] {
        sqlx::query(statement).bind(i64::from(id.0)).execute(&mut *connection).await?;
    }
    remove_clients_of(&mut *connection, Realm::Product(id)).await?;
    remove_hooks_of(&mut *connection, Realm::Product(id)).await?;
    let update = "UPDATE products SET slug = NULL, removed_at = $1 WHERE id = $2";
    sqlx::query(update).bind(to_i64(dates::now().0)).bind(i64::from(id.0)).execute(connection).await?;
    Ok(())
}

fn settings_text(settings: &ProductSettings) -> String {
    to_string(settings).expect("flags are JSON")
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    if is_name(name, NAME_LEN_MAX) {
        return Ok(());
    }
    Err(RegistryError::Unfit("the name of a product has from 1 to 64 bytes without control characters"))
}

/// Whether a text is a name: something that can be seen, on one line.
pub(super) fn is_name(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len()) && text.trim() == text && !text.contains(char::is_control)
}

pub(super) fn check_description(text: Option<&str>) -> Result<(), RegistryError> {
    if text.is_some_and(|text| text.len() > DESCRIPTION_LEN_MAX) {
        return Err(RegistryError::Unfit("a description has at most 1024 bytes"));
    }
    Ok(())
}

/// The number of a product, as the database has it.
pub(super) fn product_id(number: i64) -> Result<ProductId, RegistryError> {
    u32::try_from(number).map(ProductId).map_err(|_| RegistryError::Damaged("the number of a product"))
}

impl TryFrom<Row> for Product {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        use RegistryError::Damaged;
        Ok(Product {
            id: product_id(row.id)?,
            slug: row.slug,
            name: row.name,
            description: row.description,
            platform_id: u16::try_from(row.platform_id).map_err(|_| Damaged("the platform of a product"))?,
            owner: owner_id(row.owner)?,
            settings: serde_json::from_str(&row.settings).map_err(|_| Damaged("the settings of a product"))?,
            device_protection: row.device_protection.parse().map_err(|()| Damaged("the protection of a product's devices"))?,
            created_at: UnixMillis(to_u64(row.created_at)?),
            updated_at: UnixMillis(to_u64(row.updated_at)?),
            members: Vec::new(),
            groups: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
