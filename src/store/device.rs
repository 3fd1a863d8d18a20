//! What is registered about a device: spelled out as a record, and packed as the row that stays in memory.

use std::fmt;
use std::sync::{Arc, LazyLock};

use firmware_protocol::crypto::DevicePublicKey;
use firmware_protocol::id::{DeviceId, Identity, KeyHash, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use router::table::Keyed;

use super::GroupId;
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
    /// What is printed on it.
    pub serial_number: Option<String>,
    /// What is said of it as a device of its product.
    pub membership: Membership,
    /// Whose its product is, while nobody has claimed it: it acts for that account.
    pub product_owner: Option<OwnerId>,
}

/// What is said of a device as one of its product. Of most devices nothing is, which is what the default says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Whether it belongs there.
    pub standing: Standing,
    /// Whether it is for trying firmware out, and gets none that is released.
    pub development: bool,
    /// Whether updates are forced on it.
    pub firmware_updates_forced: bool,
    /// The firmware that it alone shall have.
    pub desired_firmware_version: Option<u16>,
    /// The groups it is in, in order of their numbers.
    pub groups: Box<[GroupId]>,
}

/// Whether a device belongs to the product it says it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// It does.
    #[default]
    Accepted,
    /// Nobody has said so yet: nothing that it publishes is anybody's.
    Quarantined,
    /// Somebody has said that it does not: the same, until it is imported again.
    Denied,
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
    acts: ActsFor,
    has_product: bool,
    has_platform_id: bool,
    created_at: UnixMillis,
    name: Option<Box<str>>,
    rare: Option<Box<Rare>>,
}

/// For whom a device acts: for whom the row names as its owner, if for anybody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ActsFor {
    Nobody,
    ItsOwner,
    ItsProductsOwner,
}

/// What few devices have.
#[derive(Clone, PartialEq, Eq, Default)]
struct Rare {
    notes: Option<Box<str>>,
    /// In a box of its own: there are fleets of devices with groups and no such key.
    rsa_key: Option<Box<DevicePublicKey>>,
    serial_number: Option<Box<str>>,
    membership: Membership,
}

/// What is said of a device of which nothing is.
static NOTHING_SAID: LazyLock<Membership> = LazyLock::new(Membership::default);

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
        (self.acts == ActsFor::ItsOwner).then_some(self.owner)
    }

    /// The account that it acts for, to which its events belong: its owner or, if nobody has claimed it, the owner of its product. It acts for nobody while
    /// it does not belong to the product it is of.
    pub fn acts_for(&self) -> Option<OwnerId> {
        (self.acts != ActsFor::Nobody && self.standing() == Standing::Accepted).then_some(self.owner)
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
        self.rare.as_ref()?.rsa_key.as_deref()
    }

    /// What is printed on it.
    pub fn serial_number(&self) -> Option<&str> {
        self.rare.as_ref()?.serial_number.as_deref()
    }

    /// What is said of it as a device of its product.
    pub fn membership(&self) -> &Membership {
        self.rare.as_ref().map_or_else(|| &*NOTHING_SAID, |rare| &rare.membership)
    }

    /// Whether it belongs to its product. Of a device without one it says nothing.
    pub fn standing(&self) -> Standing {
        self.membership().standing
    }

    /// When it was registered.
    pub fn created_at(&self) -> UnixMillis {
        self.created_at
    }

    /// What the key ring says about it, if it has a key. One that does not belong to the product it is of has a session there, and nothing else.
    pub fn identity(&self) -> Option<Identity> {
        let product = self.product().filter(|_| self.standing() == Standing::Accepted);
        self.key().map(|key| Identity { device: self.id, key, owner: self.acts_for(), product })
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
            serial_number: self.serial_number().map(str::to_owned),
            membership: self.membership().clone(),
            product_owner: (self.acts == ActsFor::ItsProductsOwner).then_some(self.owner),
        }
    }
}

impl From<DeviceRecord> for Device {
    fn from(record: DeviceRecord) -> Self {
        let rare = Rare {
            notes: record.notes.map(String::into_boxed_str),
            rsa_key: record.rsa_key.map(Box::new),
            serial_number: record.serial_number.map(String::into_boxed_str),
            membership: record.membership,
        };
        let (acts, owner) = match (record.owner, record.product_owner) {
            (Some(owner), _) => (ActsFor::ItsOwner, owner),
            (None, Some(owner)) => (ActsFor::ItsProductsOwner, owner),
            (None, None) => (ActsFor::Nobody, OwnerId(0)),
        };
        Self {
            id: record.id,
            key: record.key.unwrap_or(KeyHash([0; KeyHash::LEN])),
            owner,
            product: record.product.unwrap_or(ProductId(0)),
            platform_id: record.platform_id.unwrap_or(0),
            has_key: record.key.is_some(),
            acts,
            has_product: record.product.is_some(),
            has_platform_id: record.platform_id.is_some(),
            created_at: record.created_at,
            name: record.name.map(String::into_boxed_str),
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
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
            serial_number: None,
            membership: Membership::default(),
            product_owner: None,
        };
        // Zero is a platform, and not the same as none.
        let zeros = DeviceRecord { product: Some(ProductId(0)), platform_id: Some(0), ..bare.clone() };
        let noted = DeviceRecord { owner: Some(OwnerId(3)), name: Some("kitchen".into()), notes: Some(String::new()), ..bare.clone() };
        let pair = DeviceKeyPair::generate().expect("a pair");
        let old = DeviceRecord { key: Some(KeyHash([5; 32])), rsa_key: Some(*pair.public()), ..noted.clone() };
        let membership =
            Membership { development: true, desired_firmware_version: Some(0), groups: Box::new([GroupId(4)]), ..Default::default() };
        let tried = DeviceRecord { product: Some(ProductId(10_001)), product_owner: Some(OwnerId(9)), membership, ..bare.clone() };
        let printed = DeviceRecord { serial_number: Some("P00123".into()), ..zeros.clone() };
        for record in [bare, zeros, noted, old, tried, printed] {
            let row = Device::from(record.clone());
            assert_eq!(row.record(), record);
            assert_eq!(
                (row.id(), row.owner(), row.product(), row.platform_id()),
                (record.id, record.owner, record.product, record.platform_id)
            );
            assert_eq!((row.name(), row.notes()), (record.name.as_deref(), record.notes.as_deref()));
            assert_eq!((row.serial_number(), row.membership()), (record.serial_number.as_deref(), &record.membership));
            assert_eq!((row.key(), row.rsa_key(), row.created_at()), (record.key, record.rsa_key.as_ref(), record.created_at));
            assert_eq!(row.identity().map(|identity| (identity.device, identity.key)), record.key.map(|key| (record.id, key)));
        }
    }
    #[test]
    fn a_device_acts_for_its_owner_or_its_products_and_for_nobody_while_it_does_not_belong_there() {
        let acts = |owner: Option<u64>, product_owner: Option<u64>, standing| {
            let membership = Membership { standing, ..Default::default() };
            let record = DeviceRecord {
                id: DeviceId([1; 12]),
                owner: owner.map(OwnerId),
                product: Some(ProductId(10_001)),
                platform_id: None,
                name: None,
                notes: None,
                key: Some(KeyHash([2; 32])),
                rsa_key: None,
                created_at: UnixMillis(7),
                serial_number: None,
                membership,
                product_owner: product_owner.map(OwnerId),
            };
            let row = Device::from(record);
            let identity = row.identity().expect("it has a key");
            assert_eq!((row.owner(), row.product()), (owner.map(OwnerId), Some(ProductId(10_001))), "whatever it is good for");
            (identity.owner.map(|owner| owner.0), identity.product.map(|product| product.0))
        };
        assert_eq!(acts(Some(1), Some(2), Standing::Accepted), (Some(1), Some(10_001)));
        assert_eq!(acts(None, Some(2), Standing::Accepted), (Some(2), Some(10_001)));
        assert_eq!(acts(None, None, Standing::Accepted), (None, Some(10_001)));
        for standing in [Standing::Quarantined, Standing::Denied] {
            assert_eq!(acts(Some(1), Some(2), standing), (None, None));
            assert_eq!(acts(None, Some(2), standing), (None, None));
        }
    }
}
