//! Where a request acts: among what belongs to its caller, or within a product. The path says which, and nothing is ever looked for outside.

use std::sync::Arc;

use axum::extract::RawPathParams;
use firmware_protocol::id::OwnerId;

use super::access::Need;
use super::error::ApiError;
use super::gateway::Audience;
use super::request::Caller;
use crate::store::{Product, ProductBook, ProductKey, Realm, Role};

/// The parameter that names a product.
const PRODUCT: &str = "product";

/// Where.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Among what belongs to an account.
    Own(OwnerId),
    /// Within a product, with which the caller has something to do.
    Product(Arc<Product>),
}

impl Place {
    /// Where a request with these parameters in its path acts, if its caller may.
    ///
    /// # Errors
    /// The caller has nothing to do with the product, or there is none; its role does not allow what the route needs; or it acts for a product and is
    /// outside of it.
    pub(super) fn find(products: &ProductBook, caller: &Caller, need: &Need, parameters: &RawPathParams) -> Result<Self, ApiError> {
        let named = parameters.iter().find(|(name, _)| *name == PRODUCT).map(|(_, value)| ProductKey::from(value));
        match (named, caller.record.holder.realm()) {
            (Some(key), _) => {
                let (product, role) = products.find_for(&caller.record.holder, &key).ok_or_else(ApiError::unknown_product)?;
                let allowed = matches!(need, Need::Scope(scope) if role.allows(scope)) || role >= Role::Administrator;
                if allowed { Ok(Self::Product(product)) } else { Err(ApiError::role_missing(role)) }
            }
            (None, Realm::User(user)) => Ok(Self::Own(user)),
            (None, Realm::Product(_)) => Err(ApiError::not_for_programs()),
        }
    }

    /// What belongs there.
    pub(super) fn realm(&self) -> Realm {
        match self {
            Self::Own(user) => Realm::User(*user),
            Self::Product(product) => Realm::Product(product.id),
        }
    }

    /// Who hears what happens there.
    pub(super) fn audience(&self) -> Audience {
        self.realm().audience()
    }

    /// The account among whose things it is.
    ///
    /// # Errors
    /// It is within a product.
    pub(super) fn own(&self) -> Result<OwnerId, ApiError> {
        match self {
            Self::Own(user) => Ok(*user),
            Self::Product(_) => Err(ApiError::not_found()),
        }
    }

    /// The product.
    ///
    /// # Errors
    /// The path has none. Routes below a product are the only ones that ask.
    pub(super) fn product(&self) -> Result<&Arc<Product>, ApiError> {
        match self {
            Self::Product(product) => Ok(product),
            Self::Own(_) => Err(ApiError::unknown_product()),
        }
    }
}
