//! A product: devices of one kind that belong together, their groups, and the people who look after them.

use std::fmt;
use std::str::FromStr;

use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Holder, Realm};

/// A product, as it is in memory. It never changes: a change makes another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    /// Its number.
    pub id: ProductId,
    /// Its name in addresses, which no other product has and which stays as it is.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// The kind of hardware.
    pub platform_id: u16,
    /// The account that it belongs to.
    pub owner: OwnerId,
    /// How it is set up.
    pub settings: ProductSettings,
    /// Whether its devices are protected.
    pub device_protection: Protection,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it was changed last.
    pub updated_at: UnixMillis,
    /// The people who look after it besides its owner, in order of their accounts.
    pub members: Vec<Member>,
    /// Its groups, in order of their names.
    pub groups: Vec<Group>,
}

/// How a product is set up, as clients write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProductSettings {
    /// Whether the places of devices are kept.
    pub location: OptIn,
    /// Whether devices get firmware only that the product knows.
    pub known_application: OptIn,
    /// Whether unknown devices that say they are of this product wait for somebody to approve them.
    pub quarantine: bool,
}

/// Something that is wanted or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OptIn {
    /// Whether it is.
    pub opt_in: bool,
}

/// Whether devices of a product can be opened over USB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protection {
    /// By everybody.
    #[default]
    None,
    /// Only with the server's help.
    Active,
}

/// Somebody who looks after a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who it is.
    pub user: OwnerId,
    /// What they may do.
    pub role: Role,
    /// Since when.
    pub since: UnixMillis,
}

/// What somebody may do with a product. Each may do what those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Look at it.
    Viewer,
    /// Work with its devices, firmware and integrations.
    Developer,
    /// Change the product and its team.
    Administrator,
    /// It is theirs.
    Owner,
}

/// The number of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GroupId(pub u32);

/// A name that a group can have: from 1 to 32 of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GroupName(String);

/// A text is no name of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the name of a group has from 1 to 32 lower-case letters, digits, hyphens and underscores")]
pub struct BadGroupName;

/// Devices of a product that get the same firmware.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// Its name, which no other group of the product has.
    pub name: GroupName,
    /// What it is for.
    pub description: Option<String>,
    /// How it is shown.
    pub color: Option<String>,
    /// The firmware that was released to it.
    pub firmware_version: Option<u16>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it was changed last.
    pub updated_at: UnixMillis,
}

/// What a product is asked for by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProductKey {
    /// Its number.
    Number(ProductId),
    /// Its slug.
    Slug(String),
}

impl Product {
    /// What this account may do with it; `None` if it has nothing to do with it.
    pub fn role_of(&self, user: OwnerId) -> Option<Role> {
        if user == self.owner {
            return Some(Role::Owner);
        }
        self.members.binary_search_by_key(&user, |member| member.user).ok().map(|at| self.members[at].role)
    }

    /// What the holder of a token may do with it, apart from what the scopes of the token say; `None` if it has nothing to do with it.
    pub fn role_for(&self, holder: &Holder) -> Option<Role> {
        match holder.realm() {
            Realm::User(user) => self.role_of(user),
            // Of those only the scopes tell.
            Realm::Product(product) => (product == self.id).then_some(Role::Administrator),
        }
    }

    /// The group of this name.
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == *name)
    }

    /// The names of these groups, in order. Whatever is no group of this product is left out.
    pub fn names_of(&self, groups: &[GroupId]) -> Vec<&str> {
        self.groups.iter().filter(|group| groups.contains(&group.id)).map(|group| group.name.as_str()).collect()
    }
}

impl Role {
    /// Whether whoever has it may make a request that needs this scope.
    pub fn allows(self, scope: &str) -> bool {
        let (object, action) = scope.split_once(':').unwrap_or((scope, ""));
        match self {
            Self::Owner => true,
            Self::Administrator => scope != "products:remove",
            Self::Developer => matches!(action, "list" | "get") || !["products", "teams.users", "clients"].contains(&object),
            Self::Viewer => matches!(action, "list" | "get"),
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Administrator => "administrator",
            Self::Owner => "owner",
        }
    }
}

impl FromStr for Role {
    type Err = ();

    /// Reads a role that can be given: an owner is made otherwise.
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Viewer, Self::Developer, Self::Administrator].into_iter().find(|role| role.word() == text).ok_or(())
    }
}

impl Protection {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Active => "active",
        }
    }
}

impl FromStr for Protection {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::None, Self::Active].into_iter().find(|protection| protection.word() == text).ok_or(())
    }
}

impl GroupName {
    const LEN_MAX: usize = 32;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = BadGroupName;

    fn from_str(text: &str) -> Result<Self, BadGroupName> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let good = (1..=Self::LEN_MAX).contains(&text.len()) && text.bytes().all(fits);
        if good { Ok(Self(text.to_owned())) } else { Err(BadGroupName) }
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ProductKey {
    /// Digits are a number: no slug is made of digits alone.
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(number) => Self::Number(ProductId(number)),
            Err(_) => Self::Slug(text.to_ascii_lowercase()),
        }
    }
}

impl From<ProductId> for ProductKey {
    fn from(id: ProductId) -> Self {
        Self::Number(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_plain_name() {
        for good in ["a", "beta-2_x", &"g".repeat(32)] {
            assert_eq!(good.parse::<GroupName>().expect("a name").as_str(), good);
        }
        for bad in ["", "Beta", "two words", "ü", &"g".repeat(33)] {
            assert_eq!(bad.parse::<GroupName>(), Err(BadGroupName), "{bad:?}");
        }
    }

    #[test]
    fn a_role_allows_what_the_ones_below_it_do_and_more() {
        let scopes = ["devices:list", "devices:update", "firmware:release", "clients:create", "teams.users:invite", "products:remove"];
        let allowed = |role: Role| scopes.iter().filter(|scope| role.allows(scope)).count();
        let roles = [Role::Viewer, Role::Developer, Role::Administrator, Role::Owner];
        assert_eq!(roles.map(allowed), [1, 3, 5, 6]);
        assert!(roles.is_sorted());
    }

    #[test]
    fn settings_are_read_whatever_is_missing() {
        let settings: ProductSettings = serde_json::from_str(r#"{"location":{},"quarantine":true}"#).expect("settings");
        assert_eq!(settings, ProductSettings { quarantine: true, ..Default::default() });
        assert_eq!(
            serde_json::to_string(&settings).expect("JSON"),
            r#"{"location":{"opt_in":false},"known_application":{"opt_in":false},"quarantine":true}"#
        );
    }
}
