//! What a shard knows of one of its devices.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::crypto::digest64;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::{DeviceId, Identity};
use firmware_protocol::session::describe::{Application, DescribeKind};
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::modules::Modules;
use firmware_protocol::session::publish::is_system_name;
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};
use firmware_protocol::session::variable::VariableType;
use firmware_protocol::time::{Now, UnixMillis};

use crate::presence::Presence;
use crate::rate::Bucket;
use crate::shared::Shared;
use crate::table::Keyed;

/// Most subscriptions that are kept of one device. Firmware has room for six.
pub const SUBSCRIPTIONS_MAX: usize = 16;

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
    pub(crate) identity: Identity,
    pub(crate) link: Option<Link>,
    pub(crate) presence: Presence,
    pub(crate) firmware: Option<Firmware>,
    pub(crate) application: Option<Arc<Application>>,
    pub(crate) has_system_describe: bool,
    /// Its application lacks something that it needs.
    pub(crate) safe_mode: bool,
    pub(crate) subscriptions: Arc<Vec<Subscription>>,
    /// It said goodbye and has not been heard since.
    pub(crate) left: Option<Box<Left>>,
    pub(crate) last_heard: Moment,
    pub(crate) last_handshake: Moment,
    pub(crate) last_ip: Option<IpAddr>,
    /// Its session was taken over from a former process, and it has not been heard since.
    pub(crate) restored: bool,
    /// A timer looks after the end of its lease.
    pub(crate) lease_timer: bool,
    /// Since when it has been online without a break.
    pub(crate) online_since: Moment,
    /// Events taken from it since then.
    pub(crate) published: u64,
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
        self.identity.device
    }
}

/// What is kept of a Hello.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firmware {
    pub(crate) platform: u16,
    pub(crate) flags: u16,
    pub(crate) system_version: Option<u16>,
    pub(crate) takes_typed_events: bool,
}

impl From<&Hello> for Firmware {
    fn from(hello: &Hello) -> Self {
        let Hello { platform, flags, system_version, .. } = *hello;
        Self { platform, flags, system_version, takes_typed_events: hello.takes_typed_events() }
    }
}

/// When something last happened, if it ever did; half as long as an `Option<UnixMillis>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Moment(UnixMillis);

impl Moment {
    pub(crate) fn at(at: UnixMillis) -> Self {
        Self(at)
    }

    pub(crate) fn get(self) -> Option<UnixMillis> {
        Some(self.0).filter(|at| at.0 != 0)
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

/// What devices of the same firmware have in common.
#[derive(Debug, Default)]
pub(crate) struct InCommon {
    applications: Shared<Application>,
    subscriptions: Shared<Vec<Subscription>>,
}

impl InCommon {
    fn application(&mut self, payload: &[u8]) -> Option<Arc<Application>> {
        Some(self.applications.hold(digest64(payload), Application::parse(payload)?))
    }

    /// The application's part of a describe of firmware and application together.
    fn application_within_system(&mut self, payload: &[u8]) -> Option<Arc<Application>> {
        Some(self.applications.hold(digest64(payload), Application::within_system(payload)?))
    }

    fn subscriptions(&mut self, subscriptions: Vec<Subscription>) -> Arc<Vec<Subscription>> {
        let mut text = Vec::new();
        for Subscription { prefix, handler, publisher } in &subscriptions {
            text.extend_from_slice(prefix.as_bytes());
            publisher.iter().for_each(|device| text.extend_from_slice(&device.0));
            text.push(match handler {
                HandlerKind::Text => 0,
                HandlerKind::Binary => 1,
                HandlerKind::Cbor => 2,
            });
        }
        self.subscriptions.hold(digest64(&text), subscriptions)
    }
}

/// What recovery knows of a device.
#[derive(Clone, Debug)]
pub struct RestoredDevice {
    /// Who it is, as its session says.
    pub identity: Identity,
    /// Its session.
    pub link: Link,
    /// When that session was made.
    pub established_at: UnixMillis,
    /// Where it was.
    pub ip: IpAddr,
    /// Payload of its last Hello.
    pub hello: Option<Vec<u8>>,
    /// Payload of its application describe.
    pub application: Option<Vec<u8>>,
    /// Payload of its system describe.
    pub system: Option<Vec<u8>>,
    /// Its goodbye, if nothing that begins a session came after it.
    pub left: Option<Left>,
    /// Its subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Whether it was online as far as its owner was told.
    pub online: bool,
}

/// A device that was online when the former process ended and whose session is gone: one on TCP, for example.
#[derive(Clone, Debug)]
pub struct AwaitedDevice {
    /// Who it is, as the registry says.
    pub identity: Identity,
    /// Payload of its last Hello.
    pub hello: Option<Vec<u8>>,
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
    /// Names that can be called, once it has said them.
    pub functions: Option<Vec<String>>,
    /// Names that can be read, once it has said them.
    pub variables: Option<Vec<(String, VariableType)>>,
}

impl Device {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
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
            last_ip: None,
            restored: false,
            lease_timer: false,
            online_since: Moment::default(),
            published: 0,
            vitals_asked: false,
            claiming: false,
            wishes: Bucket::default(),
        }
    }

    pub(crate) fn restored(restored: RestoredDevice, common: &mut InCommon) -> Self {
        let mut device = Self {
            link: Some(restored.link),
            firmware: restored.hello.as_deref().and_then(Hello::parse).map(|hello| Firmware::from(&hello)),
            safe_mode: restored.system.as_deref().is_some_and(lacks_modules),
            subscriptions: common.subscriptions(restored.subscriptions),
            left: restored.left.map(Box::new),
            last_handshake: Moment::at(restored.established_at),
            last_ip: Some(restored.ip),
            restored: true,
            ..Self::new(restored.identity)
        };
        // A describe of the application alone is newer than what the firmware's says of it: one that has both comes first or comes alone.
        restored.system.iter().for_each(|payload| device.describe(DescribeKind::System, payload, common));
        restored.application.iter().for_each(|payload| device.describe(DescribeKind::Application, payload, common));
        device
    }

    /// A Hello: what was said before no longer holds.
    pub(crate) fn introduce(&mut self, hello: &Hello) {
        self.firmware = Some(hello.into());
        self.application = None;
        (self.has_system_describe, self.safe_mode) = (false, false);
        self.subscriptions = Arc::default();
    }

    pub(crate) fn describe(&mut self, kind: DescribeKind, payload: &[u8], common: &mut InCommon) {
        match kind {
            DescribeKind::System => {
                (self.has_system_describe, self.safe_mode) = (true, lacks_modules(payload));
                self.application = common.application_within_system(payload).or(self.application.take());
            }
            DescribeKind::Application => self.application = common.application(payload),
            DescribeKind::Metrics => {}
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
            device: self.identity.device,
            asleep_until: self.asleep_until(now.unix),
            left_for: self.left.as_ref().and_then(|left| left.goodbye.reason()),
            safe_mode: self.safe_mode,
            online: self.link.is_some() && self.presence.is_online(now.at),
            last_heard: self.last_heard.get(),
            last_handshake: self.last_handshake.get(),
            last_ip: self.last_ip,
            platform: self.platform(),
            system_version: self.firmware.and_then(|firmware| firmware.system_version),
            functions: self.application.as_ref().map(|application| application.functions.clone()),
            variables: self.application.as_ref().map(|application| application.variables.clone()),
        }
    }
}

/// A describe that is none says nothing.
fn lacks_modules(system: &[u8]) -> bool {
    Modules::parse(system).is_some_and(|modules| modules.missing().next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_takes_no_more_than_it_says_in_memory() {
        // The next size that an allocator has is 224: a million devices are 32 MB.
        assert!(size_of::<Device>() <= 192, "{}", size_of::<Device>());
    }
}
