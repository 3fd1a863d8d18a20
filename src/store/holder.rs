//! Who holds a token: an account, a program that acts for a product, or a program that acts for whoever registered it.

use std::fmt;

use firmware_protocol::id::{OwnerId, ProductId};

use super::Realm;

/// The number of an API user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ApiUserId(pub u64);

/// The number of an OAuth client, which stands at the end of its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClientNumber(pub u64);

/// Who holds a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Holder {
    /// A person, by account.
    User(OwnerId),
    /// An API user: a program that reaches one product and nothing else.
    ApiUser {
        /// The product.
        product: ProductId,
        /// Which of its API users.
        id: ApiUserId,
    },
    /// An OAuth client that has a token of its own.
    Client {
        /// Which client.
        number: ClientNumber,
        /// For whom it was registered.
        realm: Realm,
    },
}

impl Holder {
    /// What the token reaches: an account with all of its products, or one product only. What belongs to the account that owns a product is out of
    /// reach of those who hold a token for the product.
    pub fn realm(&self) -> Realm {
        match *self {
            Self::User(user) => Realm::User(user),
            Self::ApiUser { product, .. } => Realm::Product(product),
            Self::Client { realm, .. } => realm,
        }
    }

    /// The account, if it is a person who holds the token.
    pub fn user(&self) -> Option<OwnerId> {
        match *self {
            Self::User(user) => Some(user),
            _ => None,
        }
    }
}

/// As the database has it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{}", user.0),
            Self::ApiUser { product, id } => write!(f, "api-user:{}/{}", product.0, id.0),
            Self::Client { number, .. } => write!(f, "client:{}", number.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_token_for_a_product_does_not_reach_its_owners_account() {
        let (user, product) = (OwnerId(1), ProductId(10_001));
        let person = Holder::User(user);
        let program = Holder::ApiUser { product, id: ApiUserId(3) };
        let client = Holder::Client { number: ClientNumber(5), realm: Realm::Product(product) };
        assert_eq!((person.realm(), person.user()), (Realm::User(user), Some(user)));
        for holder in [program, client] {
            assert_eq!((holder.realm(), holder.user()), (Realm::Product(product), None));
        }
        assert_eq!(format!("{person} {program} {client}"), "user:1 api-user:10001/3 client:5");
    }
}
