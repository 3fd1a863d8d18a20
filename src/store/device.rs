//! What is registered about a device: spelled out as a record, and packed as the row that stays in memory.

use std::fmt;
use std::sync::Arc;

use firmware_protocol::crypto::DevicePublicKey;
use firmware_protocol::id::{DeviceId, Identity, KeyHash, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use router::table::Keyed;

use super::digest_map::{Digest, Digested};

/// What is registered about a device, spelled out: for writing and changing it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceRecord {
    /// Its id.
    pub id: DeviceId,
    /// Whose it is, if it has been claimed.
    pub owner: Option<OwnerId>,
    /// The product it belongs to.
    pub product: Option<ProductId>,
    /// The kind of hardware, if it was said on registration.
    pub platform_id: Option<u16>,
    /// Its name, unique among the devices of its owner.
    pub name: Option<String>,
    /// Free text of its owner.
    pub notes: Option<String>,
    /// The key it proves itself with.
    pub key: Option<KeyHash>,
    /// The key itself if it is one of TCP: very old firmware there does not show it.
    pub rsa_key: Option<DevicePublicKey>,
    /// When it was registered.
    pub created_at: UnixMillis,
}

/// A [`DeviceRecord`], packed: there is one for each device, and it never changes.
///
/// What says that a field is there stands beside the fields and not in them, where it would take up to eight bytes each. A field that is not
/// there is zero, so that equal records are equal rows.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    id: DeviceId,
    key: KeyHash,
    owner: OwnerId,
    product: ProductId,
    platform_id: u16,
    has_key: bool,
    has_owner: bool,
    has_product: bool,
    has_platform_id: bool,
    created_at: UnixMillis,
    name: Option<Box<str>>,
    rare: Option<Box<Rare>>,
}

/// What few devices have.
#[derive(Clone, PartialEq, Eq)]
struct Rare {
    notes: Option<Box<str>>,
    rsa_key: Option<DevicePublicKey>,
}

impl Keyed for Device {
    type Key = DeviceId;

    fn key(&self) -> DeviceId {
        self.id
    }
}

impl Device {
    /// Its id.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Whose it is, if it has been claimed.
    pub fn owner(&self) -> Option<OwnerId> {
        self.has_owner.then_some(self.owner)
    }

    /// The product it belongs to.
    pub fn product(&self) -> Option<ProductId> {
        self.has_product.then_some(self.product)
    }

    /// The kind of hardware, if it was said on registration.
    pub fn platform_id(&self) -> Option<u16> {
        self.has_platform_id.then_some(self.platform_id)
    }

    /// Its name, unique among the devices of its owner.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Free text of its owner.
    pub fn notes(&self) -> Option<&str> {
        self.rare.as_ref()?.notes.as_deref()
    }

    /// The key it proves itself with.
    pub fn key(&self) -> Option<KeyHash> {
        self.has_key.then_some(self.key)
    }

    /// The key itself if it is one of TCP.
    pub fn rsa_key(&self) -> Option<&DevicePublicKey> {
        self.rare.as_ref()?.rsa_key.as_ref()
    }

    /// When it was registered.
    pub fn created_at(&self) -> UnixMillis {
        self.created_at
    }

    /// What the key ring says about it, if it has a key.
    pub fn identity(&self) -> Option<Identity> {
        self.key().map(|key| Identity { device: self.id, key, owner: self.owner(), product: self.product() })
    }

    /// All of it, spelled out.
    pub fn record(&self) -> DeviceRecord {
        DeviceRecord {
            id: self.id,
            owner: self.owner(),
            product: self.product(),
            platform_id: self.platform_id(),
            name: self.name().map(str::to_owned),
            notes: self.notes().map(str::to_owned),
            key: self.key(),
            rsa_key: self.rsa_key().copied(),
            created_at: self.created_at,
        }
    }
}

impl From<DeviceRecord> for Device {
    fn from(record: DeviceRecord) -> Self {
        let rare = Rare { notes: record.notes.map(String::into_boxed_str), rsa_key: record.rsa_key };
        Self {
            id: record.id,
            key: record.key.unwrap_or(KeyHash([0; KeyHash::LEN])),
            owner: record.owner.unwrap_or(OwnerId(0)),
            product: record.product.unwrap_or(ProductId(0)),
            platform_id: record.platform_id.unwrap_or(0),
            has_key: record.key.is_some(),
            has_owner: record.owner.is_some(),
            has_product: record.product.is_some(),
            has_platform_id: record.platform_id.is_some(),
            created_at: record.created_at,
            name: record.name.map(String::into_boxed_str),
            rare: (rare.notes.is_some() || rare.rsa_key.is_some()).then(|| Box::new(rare)),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record().fmt(f)
    }
}

/// Of use only for a row that has a key.
impl Digested for Arc<Device> {
    fn digest(&self) -> &Digest {
        &self.key.0
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::crypto::DeviceKeyPair;

    use super::*;

    #[test]
    fn a_row_and_the_counters_of_its_arc_are_in_the_allocators_class_of_112_bytes() {
        // There is one for each device of a fleet. With anything more each takes 128 bytes, and a million of them sixteen megabytes.
        assert_eq!(size_of::<Device>() + 2 * size_of::<usize>(), 112);
    }

    #[test]
    fn a_row_says_what_its_record_said() {
        let bare = DeviceRecord {
            id: DeviceId([1; 12]),
            owner: None,
            product: None,
            platform_id: None,
            name: None,
            notes: None,
            key: None,
            rsa_key: None,
            created_at: UnixMillis(7),
        };
        // Zero is a platform, and not the same as none.
        let zeros = DeviceRecord { product: Some(ProductId(0)), platform_id: Some(0), ..bare.clone() };
        let noted = DeviceRecord { owner: Some(OwnerId(3)), name: Some("kitchen".into()), notes: Some(String::new()), ..bare.clone() };
        let pair = DeviceKeyPair::generate().expect("a pair");
        let old = DeviceRecord { key: Some(KeyHash([5; 32])), rsa_key: Some(*pair.public()), ..noted.clone() };
        for record in [bare, zeros, noted, old] {
            let row = Device::from(record.clone());
            assert_eq!(row.record(), record);
            assert_eq!(
                (row.id(), row.owner(), row.product(), row.platform_id()),
                (record.id, record.owner, record.product, record.platform_id)
            );
            assert_eq!((row.name(), row.notes()), (record.name.as_deref(), record.notes.as_deref()));
            assert_eq!((row.key(), row.rsa_key(), row.created_at()), (record.key, record.rsa_key.as_ref(), record.created_at));
            assert_eq!(row.identity().map(|identity| (identity.device, identity.key)), record.key.map(|key| (record.id, key)));
        }
    }
}
