//! What is kept about users, products and devices, and the memory it is served from.
//!
//! The [`Registry`] is the database: every change goes there first and into memory after. Whatever serves devices or callers reads memory
//! only: [`KeyRing`] for the terminators, [`TokenCache`], [`ProductBook`] and [`DeviceBook`] for the API. Ring and book of devices hold the same rows.
//! Sessions and events are not here, see the journal.

pub mod actor;
pub mod claim_code;
pub mod device;
pub mod device_book;
mod digest_map;
pub mod envelope;
mod firmware_files;
pub mod holder;
pub mod key_ring;
pub mod master_key_file;
pub mod pairing;
mod passwords;
pub mod product;
pub mod product_book;
pub mod public_key;
pub mod realm;
pub mod registry;
pub mod scopes;
pub mod secret;
mod shelf;
pub mod short_id;
mod slug;
pub mod token;

pub use actor::{Actor, Who};
pub use claim_code::{ClaimCode, ClaimHash};
pub use device::{Device, DeviceRecord, Membership, Standing};
pub use device_book::DeviceBook;
pub use envelope::{EnvelopeError, MasterKeys};
pub(crate) use firmware_files::FOLDER as FIRMWARE_FOLDER;
pub use holder::{ApiUserId, ClientNumber, Holder};
pub use key_ring::{KeyChange, KeyChanges, KeyRing};
pub use master_key_file::{KeySource, MasterKeyFile};
pub use pairing::{Pairing, PairingWindow};
pub use product::{BadGroupName, Group, GroupId, GroupName, Member, OptIn, Product, ProductKey, ProductSettings, Protection, Role};
pub use product_book::ProductBook;
pub use public_key::{Algorithm, PublicKey, PublicKeyError};
pub use realm::Realm;
pub use registry::{Registry, RegistryError};
pub use scopes::Scopes;
pub use secret::{SecretHash, SecretText};
pub use short_id::TransferId;
pub use token::{TokenCache, TokenHash, TokenRecord, TokenText};
pub use webhooks::hook::HookId;
