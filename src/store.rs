//! What is kept about users and devices, and the memory it is served from.
//!
//! The [`Registry`] is the database: every change goes there first and into memory after. Whatever serves devices or callers reads memory
//! only: [`KeyRing`] for the terminators, [`TokenCache`] and [`DeviceBook`] for the API. Ring and book hold the same rows. Sessions and events are
//! not here, see the journal.

pub mod claim_code;
pub mod device;
pub mod device_book;
mod digest_map;
pub mod key_ring;
mod passwords;
pub mod public_key;
pub mod registry;
pub mod scopes;
mod shelf;
pub mod token;

pub use claim_code::{ClaimCode, ClaimHash};
pub use device::{Device, DeviceRecord};
pub use device_book::DeviceBook;
pub use key_ring::{KeyChange, KeyChanges, KeyRing};
pub use public_key::{Algorithm, PublicKey, PublicKeyError};
pub use registry::{Registry, RegistryError};
pub use scopes::Scopes;
pub use token::{TokenCache, TokenHash, TokenRecord, TokenText};
