//! Whose something is that an account or a product can have: hooks, clients, devices within reach.

use std::fmt;
use std::str::FromStr;

use firmware_protocol::id::{OwnerId, ProductId};
use router::event::Audience;
use thiserror::Error;

/// An account or a product. Whatever is looked for is looked for within one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Realm {
    /// What belongs to an account.
    User(OwnerId),
    /// What belongs to a product.
    Product(ProductId),
}

impl Realm {
    /// Who hears what happens there.
    pub fn audience(self) -> Audience {
        match self {
            Self::User(user) => Audience::Owner(user),
            Self::Product(product) => Audience::Product(product),
        }
    }
}

/// A text names no realm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("this is neither an account nor a product")]
pub struct NoRealm;

/// As the database has it.
impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{}", user.0),
            Self::Product(product) => write!(f, "product:{}", product.0),
        }
    }
}

impl FromStr for Realm {
    type Err = NoRealm;

    fn from_str(text: &str) -> Result<Self, NoRealm> {
        let (kind, number) = text.split_once(':').ok_or(NoRealm)?;
        match kind {
            "user" => number.parse().map(|number| Self::User(OwnerId(number))).map_err(|_| NoRealm),
            "product" => number.parse().map(|number| Self::Product(ProductId(number))).map_err(|_| NoRealm),
            _ => Err(NoRealm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_reads_back_as_it_was_written() {
        for realm in [Realm::User(OwnerId(7)), Realm::Product(ProductId(10_001))] {
            assert_eq!(realm.to_string().parse(), Ok(realm));
        }
        for bad in ["", "user", "user:", "user:x", "org:1", "product:-1", "product:4294967296"] {
            assert_eq!(bad.parse::<Realm>(), Err(NoRealm), "{bad:?}");
        }
    }
}
