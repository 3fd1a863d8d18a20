//! Groups of a product's devices.

use std::collections::{BTreeSet, HashMap};

use firmware_protocol::id::ProductId;
use firmware_protocol::time::UnixMillis;
use futures_util::TryStreamExt;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::memberships::group_id;
use super::products::{check_description, product_id};
use super::users::{is_taken, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{DeviceRecord, Group, GroupId, GroupName, Membership, Product, Realm};

/// Groups of one product.
const GROUPS_PER_PRODUCT_MAX: usize = 500;
/// Longest name of a color.
const COLOR_LEN_MAX: usize = 32;

/// A group to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewGroup {
    /// Its name.
    pub name: GroupName,
    /// What it is for.
    pub description: Option<String>,
    /// How it is shown.
    pub color: Option<String>,
}

/// What to change about a group. An inner `None` takes something away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupEdit {
    /// Its name.
    pub name: Option<GroupName>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// How it is shown.
    pub color: Option<Option<String>>,
    /// The firmware that it gets.
    pub firmware_version: Option<Option<u16>>,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    product: i64,
    name: String,
    description: Option<String>,
    color: Option<String>,
    firmware_version: Option<i64>,
    created_at: i64,
    updated_at: i64,
}

impl Registry {
    /// The groups of a product whose names have this in them, in order of their names. Never waits.
    ///
    /// # Errors
    /// There is no such product.
    pub fn groups(&self, product: ProductId, part: &str) -> Result<Vec<Group>, RegistryError> {
        let product = self.known_product(product)?;
        Ok(product.groups.iter().filter(|group| group.name.as_str().contains(part)).cloned().collect())
    }

    /// How many devices of a product are in a group. Never waits.
    pub fn group_size(&self, product: ProductId, group: GroupId) -> usize {
        self.devices().in_product(product).iter().filter(|device| device.membership().groups.contains(&group)).count()
    }

    /// Creates a group.
    ///
    /// # Errors
    /// There is no such product, a group of the name, or too many; the description or the color is too long; or the database failed.
    pub async fn create_group(&self, product: ProductId, new: NewGroup) -> Result<Group, RegistryError> {
        check_description(new.description.as_deref())?;
        check_color(new.color.as_deref())?;
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(product)?);
            let mut transaction = registry.begin().await?;
            let group = registry.add_group(&mut transaction, &mut product, new).await?;
            transaction.commit().await?;
            registry.remember_product(product);
            Ok(group)
        })
        .await
    }

    /// Changes a group.
    ///
    /// # Errors
    /// There is no such product or group, the name is taken, the description or the color is too long, or the database failed.
    pub async fn edit_group(&self, product: ProductId, name: GroupName, edit: GroupEdit) -> Result<Group, RegistryError> {
        check_description(edit.description.iter().flatten().next().map(String::as_str))?;
        check_color(edit.color.iter().flatten().next().map(String::as_str))?;
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(product)?);
            let group = product.groups.iter_mut().find(|group| group.name == name).ok_or(RegistryError::NoSuch("group"))?;
            group.name = edit.name.unwrap_or_else(|| group.name.clone());
            group.description = edit.description.unwrap_or_else(|| group.description.clone());
            group.color = edit.color.unwrap_or_else(|| group.color.clone());
            group.firmware_version = edit.firmware_version.unwrap_or(group.firmware_version);
            group.updated_at = dates::now();
            let group = group.clone();
            let mut transaction = registry.begin().await?;
            update(&mut transaction, product.id, &group).await?;
            let act = Act::new("group.edit", Realm::Product(product.id)).with(format!("{name} {}", group.name));
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            product.groups.sort_by(|one, other| one.name.cmp(&other.name));
            registry.remember_product(product);
            Ok(group)
        })
        .await
    }

    /// Removes a group. Its devices stay.
    ///
    /// # Errors
    /// There is no such product or group, or the database failed.
    pub async fn remove_group(&self, product: ProductId, name: GroupName) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(product)?);
            let group = product.group(&name).ok_or(RegistryError::NoSuch("group"))?.id;
            product.groups.retain(|other| other.id != group);
            let mut transaction = registry.begin().await?;
            for statement in ["DELETE FROM device_groups WHERE group_id = $1", "DELETE FROM product_groups WHERE id = $1"] {
                sqlx::query(statement).bind(i64::from(group.0)).execute(&mut *transaction).await?;
            }
            registry.write_down(&mut transaction, Act::new("group.remove", Realm::Product(product.id)).with(&name)).await?;
            transaction.commit().await?;
            let product = registry.remember_product(product);
            for device in registry.devices().in_product(product.id) {
                if device.membership().groups.contains(&group) {
                    registry.remember(in_groups(device.record(), |groups| groups.retain(|other| *other != group)));
                }
            }
            Ok(())
        })
        .await
    }

    /// The numbers of groups by their names. Those that are missing are created, in the product too, which has to be remembered after the commit.
    pub(super) async fn groups_named(
        &self,
        connection: &mut SqliteConnection,
        product: &mut Product,
        names: Vec<GroupName>,
    ) -> Result<Vec<GroupId>, RegistryError> {
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            let id = match product.group(&name) {
                Some(group) => group.id,
                None => self.add_group(&mut *connection, product, NewGroup { name, description: None, color: None }).await?.id,
            };
            ids.push(id);
        }
        Ok(ids)
    }

    pub(super) async fn load_groups(&self) -> Result<HashMap<ProductId, Vec<Group>>, RegistryError> {
        let select =
            "SELECT id, product, name, description, color, firmware_version, created_at, updated_at FROM product_groups ORDER BY name";
        let mut rows = sqlx::query_as::<_, Row>(select).fetch(self.pool());
        let mut groups: HashMap<_, Vec<Group>> = HashMap::new();
        while let Some(row) = rows.try_next().await? {
            groups.entry(product_id(row.product)?).or_default().push(Group::try_from(row)?);
        }
        // As memory sorts names, whatever the database does.
        groups.values_mut().for_each(|groups| groups.sort_by(|one, other| one.name.cmp(&other.name)));
        Ok(groups)
    }

    async fn add_group(&self, connection: &mut SqliteConnection, product: &mut Product, new: NewGroup) -> Result<Group, RegistryError> {
        if product.groups.len() >= GROUPS_PER_PRODUCT_MAX {
            return Err(RegistryError::TooMany("groups in this product"));
        }
        let now = dates::now();
        let statement = "INSERT INTO product_groups (product, name, description, color, created_at, updated_at) \
                         VALUES ($1, $2, $3, $4, $5, $5) RETURNING id";
        let insert = sqlx::query_scalar(statement)
            .bind(i64::from(product.id.0))
            .bind(new.name.as_str())
            .bind(&new.description)
            .bind(&new.color)
            .bind(to_i64(now.0));
        let id = group_id(written(insert.fetch_one(&mut *connection).await)?)?;
        self.write_down(connection, Act::new("group.create", Realm::Product(product.id)).with(&new.name)).await?;
        let NewGroup { name, description, color } = new;
        let group = Group { id, name, description, color, firmware_version: None, created_at: now, updated_at: now };
        let at = product.groups.partition_point(|other| other.name < group.name);
        product.groups.insert(at, group.clone());
        Ok(group)
    }
}

/// A device whose groups `change` changes.
pub(super) fn in_groups(record: DeviceRecord, change: impl FnOnce(&mut BTreeSet<GroupId>)) -> DeviceRecord {
    let mut groups: BTreeSet<GroupId> = record.membership.groups.iter().copied().collect();
    change(&mut groups);
    let groups = groups.into_iter().collect();
    DeviceRecord { membership: Membership { groups, ..record.membership }, ..record }
}

async fn update(connection: &mut SqliteConnection, product: ProductId, group: &Group) -> Result<(), RegistryError> {
    let statement = "UPDATE product_groups SET name = $1, description = $2, color = $3, firmware_version = $4, updated_at = $5 \
                     WHERE id = $6 AND product = $7";
    let update = sqlx::query(statement)
        .bind(group.name.as_str())
        .bind(&group.description)
        .bind(&group.color)
        .bind(group.firmware_version.map(i64::from))
        .bind(to_i64(group.updated_at.0))
        .bind(i64::from(group.id.0))
        .bind(i64::from(product.0));
    written(update.execute(connection).await).map(drop)
}

fn written<T>(result: Result<T, sqlx::Error>) -> Result<T, RegistryError> {
    result.map_err(|error| if is_taken(&error) { RegistryError::Taken("name of a group") } else { error.into() })
}

fn check_color(text: Option<&str>) -> Result<(), RegistryError> {
    if text.is_some_and(|text| text.len() > COLOR_LEN_MAX || text.contains(char::is_control)) {
        return Err(RegistryError::Unfit("a color has at most 32 bytes"));
    }
    Ok(())
}

impl TryFrom<Row> for Group {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        use RegistryError::Damaged;
        let firmware_version = row.firmware_version.map(u16::try_from).transpose();
        Ok(Group {
            id: group_id(row.id)?,
            name: row.name.parse().map_err(|_| Damaged("the name of a group"))?,
            description: row.description,
            color: row.color,
            firmware_version: firmware_version.map_err(|_| Damaged("the firmware of a group"))?,
            created_at: UnixMillis(to_u64(row.created_at)?),
            updated_at: UnixMillis(to_u64(row.updated_at)?),
        })
    }
}

#[cfg(test)]
mod tests;
