//! What a shard knows of one of its devices.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::{DeviceId, Identity, KeyHash, OwnerId, ProductId};
use firmware_protocol::session::describe::{Application, DescribeKind};
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::hello::{Hello, flag};
use firmware_protocol::session::publish::is_system_name;
use firmware_protocol::session::subscribe::Subscription;
use firmware_protocol::session::variable::VariableType;
use firmware_protocol::time::{Now, UnixMillis};

use crate::in_common::{Described, InCommon};
use crate::presence::Presence;
use crate::rate::Bucket;
use crate::short::Short;
use crate::table::Keyed;

/// Most subscriptions that are kept of one device. Firmware has room for six.
pub const SUBSCRIPTIONS_MAX: usize = 16;

/// What a device publishes that is in safe mode, once in each connection.
pub(crate) const SAFE_MODE: &str = "spark/device/safemode";

/// What an application says that has no version.
const NO_VERSION: u16 = 0xffff;

/// How long after its goodbye a device may still be heard: as long as it waits for acknowledgements by default.
const LEAVING_MS: u64 = 30_000;

/// Where a session lives: which terminator, and under which connection id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Link {
    /// Index of the terminator.
    pub terminator: u16,
    /// The session's id.
    pub connection: ConnectionId,
}

/// One device.
#[derive(Debug)]
pub struct Device {
    id: DeviceId,
    key: KeyMark,
    /// Mean something only if the flags after them say so: there is one of these for each device, and an `Option` is twice as long.
    owner: OwnerId,
    product: ProductId,
    has_owner: bool,
    has_product: bool,
    pub(crate) link: Option<Link>,
    pub(crate) presence: Presence,
    pub(crate) firmware: Option<Firmware>,
    pub(crate) application: Option<Arc<Application>>,
    pub(crate) has_system_describe: bool,
    /// Its application does not run: it lacks something that it needs, or somebody asked for that.
    pub(crate) safe_mode: bool,
    pub(crate) subscriptions: Arc<Vec<Subscription>>,
    /// It said goodbye and has not been heard since.
    pub(crate) left: Option<Box<Left>>,
    pub(crate) last_heard: Moment,
    pub(crate) last_handshake: Moment,
    pub(crate) last_ip: KeptIp,
    /// Its session was taken over from a former process, and it has not been heard since.
    pub(crate) restored: bool,
    /// A timer looks after the end of its lease.
    pub(crate) lease_timer: bool,
    /// Since when it has been online without a break.
    pub(crate) online_since: Moment,
    /// Events taken from it since then.
    pub(crate) published: u32,
    /// It is being asked for its vitals.
    pub(crate) vitals_asked: bool,
    /// It presented a claim code that is being looked at.
    pub(crate) claiming: bool,
    /// How often it asks the cloud for something.
    pub(crate) wishes: Bucket,
}

impl Keyed for Device {
    type Key = DeviceId;

    fn key(&self) -> DeviceId {
        self.id
    }
}

/// What is kept of the hash of a device's key, to tell it from another: as hard to find a second key for as for the key itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct KeyMark([u8; 16]);

impl From<KeyHash> for KeyMark {
    fn from(hash: KeyHash) -> Self {
        Self(std::array::from_fn(|index| hash.0[index]))
    }
}

/// An address, if it is known: one of IPv4 in its form of IPv6, and the one that nobody has for none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct KeptIp([u8; 16]);

impl KeptIp {
    pub(crate) fn get(self) -> Option<IpAddr> {
        let address = Ipv6Addr::from(self.0);
        (!address.is_unspecified()).then(|| IpAddr::V6(address).to_canonical())
    }
}

impl From<IpAddr> for KeptIp {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => Self(address.octets()),
        }
    }
}

/// What is kept of a Hello.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firmware {
    pub(crate) platform: u16,
    /// 0 if it did not say.
    system_version: u16,
    /// Of its application; [`NO_VERSION`] for none.
    version: u16,
    pub(crate) takes_typed_events: bool,
    /// It can be asked for its vitals.
    pub(crate) reports_vitals: bool,
}

impl From<&Hello> for Firmware {
    fn from(hello: &Hello) -> Self {
        Self {
            platform: hello.platform,
            system_version: hello.system_version.unwrap_or(0),
            version: hello.product_version,
            takes_typed_events: hello.takes_typed_events(),
            reports_vitals: hello.flags & flag::DIAGNOSTICS != 0,
        }
    }
}

/// When something last happened, if it ever did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Moment(Short);

impl Moment {
    pub(crate) fn at(at: UnixMillis) -> Self {
        Self(Short::new(at.0))
    }

    pub(crate) fn get(self) -> Option<UnixMillis> {
        Some(UnixMillis(self.0.get())).filter(|at| at.0 != 0)
    }
}

/// A goodbye, and when it was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// When.
    pub at: UnixMillis,
    /// What it said.
    pub goodbye: Goodbye,
}

impl Left {
    /// When the device means to wake, if it said so and that is still to come.
    pub fn asleep_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        let wakes = |sleep: Duration| UnixMillis(self.at.0.saturating_add(u64::try_from(sleep.as_millis()).unwrap_or(u64::MAX)));
        self.goodbye.sleep.map(wakes).filter(|until| *until > now)
    }
}

/// What recovery knows of a device.
#[derive(Clone, Debug)]
pub struct RestoredDevice<'a> {
    /// Who it is, as its session says.
    pub identity: Identity,
    /// Its session.
    pub link: Link,
    /// When that session was made.
    pub established_at: UnixMillis,
    /// Where it was.
    pub ip: IpAddr,
    /// Its last Hello.
    pub hello: Option<Hello>,
    /// Payload of its application describe. Devices that describe the same share it, here and in the next two.
    pub application: Option<&'a Arc<[u8]>>,
    /// Payload of its system describe.
    pub system: Option<&'a Arc<[u8]>>,
    /// Its goodbye, if nothing that begins a session came after it.
    pub left: Option<Left>,
    /// Its subscriptions, if it has told any.
    pub subscriptions: Option<&'a Arc<BTreeSet<Subscription>>>,
    /// Whether it was online as far as its owner was told.
    pub online: bool,
}

/// A device that was online when the former process ended and whose session is gone: one on TCP, for example.
#[derive(Clone, Debug)]
pub struct AwaitedDevice {
    /// Who it is, as the registry says.
    pub identity: Identity,
    /// Its last Hello.
    pub hello: Option<Hello>,
}

/// What the API may know of a device.
#[derive(Clone, PartialEq, Debug)]
pub struct DeviceView {
    /// Which device.
    pub device: DeviceId,
    /// Whether its lease holds.
    pub online: bool,
    /// When it means to wake, if it said that it sleeps.
    pub asleep_until: Option<UnixMillis>,
    /// Why it left, in a word, if it said so.
    pub left_for: Option<&'static str>,
    /// Its application lacks something that it needs, so only the system runs.
    pub safe_mode: bool,
    /// When it was last heard.
    pub last_heard: Option<UnixMillis>,
    /// When its session was made.
    pub last_handshake: Option<UnixMillis>,
    /// Where it is.
    pub last_ip: Option<IpAddr>,
    /// From its Hello.
    pub platform: Option<u16>,
    /// From its Hello, e.g. 6200.
    pub system_version: Option<u16>,
    /// Version of its application, if that has one.
    pub firmware_version: Option<u16>,
    /// Names that can be called, once it has said them.
    pub functions: Option<Vec<String>>,
    /// Names that can be read, once it has said them.
    pub variables: Option<Vec<(String, VariableType)>>,
}

impl Device {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            id: identity.device,
            key: identity.key.into(),
            owner: identity.owner.unwrap_or(OwnerId(0)),
            product: identity.product.unwrap_or(ProductId(0)),
            has_owner: identity.owner.is_some(),
            has_product: identity.product.is_some(),
            link: None,
            presence: Presence::default(),
            firmware: None,
            application: None,
            has_system_describe: false,
            safe_mode: false,
            subscriptions: Arc::default(),
            left: None,
            last_heard: Moment::default(),
            last_handshake: Moment::default(),
            last_ip: KeptIp::default(),
            restored: false,
            lease_timer: false,
            online_since: Moment::default(),
            published: 0,
            vitals_asked: false,
            claiming: false,
            wishes: Bucket::default(),
        }
    }

    pub(crate) fn restored(restored: RestoredDevice<'_>, common: &mut InCommon) -> Self {
        let mut device = Self {
            link: Some(restored.link),
            firmware: restored.hello.as_ref().map(Firmware::from),
            subscriptions: restored.subscriptions.map(|own| common.subscriptions_again(own)).unwrap_or_default(),
            left: restored.left.map(Box::new),
            last_handshake: Moment::at(restored.established_at),
            last_ip: restored.ip.into(),
            restored: true,
            ..Self::new(restored.identity)
        };
        // A describe of the application alone is newer than what the firmware's says of it: one that has both comes first or comes alone.
        for (kind, payload) in [(DescribeKind::System, restored.system), (DescribeKind::Application, restored.application)] {
            payload.into_iter().for_each(|payload| device.described(kind, common.described_again(kind, payload)));
        }
        device
    }

    /// Its id.
    pub(crate) fn id(&self) -> DeviceId {
        self.id
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> Option<OwnerId> {
        self.has_owner.then_some(self.owner)
    }

    /// The product it belongs to.
    pub(crate) fn product(&self) -> Option<ProductId> {
        self.has_product.then_some(self.product)
    }

    /// Whether this is the key it proved itself with.
    pub(crate) fn has_key(&self, key: KeyHash) -> bool {
        self.key == key.into()
    }

    /// The registry says this of it. `true` if that is news.
    pub(crate) fn identify(&mut self, identity: Identity) -> bool {
        let Identity { device: _, key, owner, product } = identity;
        let news = !self.has_key(key) || self.owner() != owner || self.product() != product;
        self.key = key.into();
        (self.owner, self.has_owner) = (owner.unwrap_or(OwnerId(0)), owner.is_some());
        (self.product, self.has_product) = (product.unwrap_or(ProductId(0)), product.is_some());
        news
    }

    /// A Hello: what was said before no longer holds.
    pub(crate) fn introduce(&mut self, hello: &Hello) {
        self.firmware = Some(hello.into());
        self.application = None;
        (self.has_system_describe, self.safe_mode) = (false, false);
        self.subscriptions = Arc::default();
    }

    pub(crate) fn describe(&mut self, kind: DescribeKind, payload: &[u8], common: &mut InCommon) {
        self.described(kind, common.described(kind, payload));
    }

    fn described(&mut self, kind: DescribeKind, said: Described) {
        match kind {
            DescribeKind::System => {
                (self.has_system_describe, self.safe_mode) = (true, said.lacks_modules);
                self.application = said.application.or(self.application.take());
            }
            DescribeKind::Application => {
                self.application = said.application;
                // In safe mode there is nothing to describe.
                self.safe_mode &= self
                    .application
                    .as_ref()
                    .is_none_or(|application| application.functions.is_empty() && application.variables.is_empty());
            }
            DescribeKind::Metrics => {}
        }
    }

    /// What the name of an event that it publishes says of its mode.
    pub(crate) fn note_mode(&mut self, name: &str) {
        if name == SAFE_MODE {
            self.safe_mode = true;
        } else if !is_system_name(name) {
            // Its application did.
            self.safe_mode = false;
        }
    }

    /// Whether events go to it with their Content-Format.
    pub(crate) fn takes_typed_events(&self) -> bool {
        self.firmware.is_some_and(|firmware| firmware.takes_typed_events)
    }

    /// Adds a subscription once. `false` if there is no more room.
    pub(crate) fn subscribe(&mut self, subscription: Subscription, common: &mut InCommon) -> bool {
        if self.subscriptions.contains(&subscription) {
            return true;
        }
        let room = self.subscriptions.len() < SUBSCRIPTIONS_MAX;
        if room {
            let more = self.subscriptions.iter().cloned().chain([subscription]).collect();
            self.subscriptions = common.subscriptions(more);
        }
        room
    }

    /// Whether any subscription can match an event of an application. Every device subscribes to the system's own prefixes.
    pub(crate) fn subscribes_to_applications(&self) -> bool {
        self.subscriptions.iter().any(|subscription| !is_system_name(&subscription.prefix))
    }

    /// When it means to wake, if it sleeps.
    pub(crate) fn asleep_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.left.as_ref().and_then(|left| left.asleep_until(now))
    }

    /// Whether it is just about to leave: it stays until what it waits for was acknowledged, and that is no proof that it came back.
    pub(crate) fn is_leaving(&self, now: UnixMillis) -> bool {
        self.left.as_ref().is_some_and(|left| now.0.saturating_sub(left.at.0) < LEAVING_MS)
    }

    /// Whether its session has brought all that a device says only once.
    pub(crate) fn is_complete(&self) -> bool {
        self.firmware.is_some() && !self.subscriptions.is_empty() && self.missing_describes().next().is_none()
    }

    /// What a session that goes on should have brought and has not.
    pub(crate) fn missing_describes(&self) -> impl Iterator<Item = DescribeKind> {
        let system = (!self.has_system_describe).then_some(DescribeKind::System);
        let application = self.application.is_none().then_some(DescribeKind::Application);
        system.into_iter().chain(application)
    }

    pub(crate) fn platform(&self) -> Option<u16> {
        self.firmware.map(|firmware| firmware.platform)
    }

    pub(crate) fn view(&self, now: Now) -> DeviceView {
        DeviceView {
            device: self.id,
            asleep_until: self.asleep_until(now.unix),
            left_for: self.left.as_ref().and_then(|left| left.goodbye.reason()),
            safe_mode: self.safe_mode,
            online: self.link.is_some() && self.presence.is_online(now.at),
            last_heard: self.last_heard.get(),
            last_handshake: self.last_handshake.get(),
            last_ip: self.last_ip.get(),
            platform: self.platform(),
            system_version: self.firmware.map(|firmware| firmware.system_version).filter(|version| *version != 0),
            firmware_version: self.firmware.map(|firmware| firmware.version).filter(|version| *version != NO_VERSION),
            functions: self.application.as_ref().map(|application| application.functions.clone()),
            variables: self.application.as_ref().map(|application| application.variables.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_it_is_shown() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(KeptIp::from(address).get(), Some(address));
        }
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!((KeptIp::from(mapped).get(), KeptIp::default().get()), (Some(mapped.to_canonical()), None));
    }

    #[test]
    fn a_device_takes_no_more_than_it_says_in_memory() {
        // There is one for each device of a fleet: eight bytes more are eight megabytes for a million.
        assert!(size_of::<Option<Device>>() <= 144, "{}", size_of::<Option<Device>>());
    }
}
