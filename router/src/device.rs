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
use firmware_protocol::session::publish::is_system_name;
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};
use firmware_protocol::session::variable::VariableType;
use firmware_protocol::time::{Now, UnixMillis};

use crate::presence::Presence;
use crate::shared::Shared;

/// Most subscriptions that are kept of one device. Firmware has room for six.
pub const SUBSCRIPTIONS_MAX: usize = 16;

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
    pub(crate) hello: Option<Hello>,
    pub(crate) application: Option<Arc<Application>>,
    pub(crate) has_system_describe: bool,
    pub(crate) subscriptions: Arc<Vec<Subscription>>,
    pub(crate) asleep_until: Option<UnixMillis>,
    pub(crate) last_heard: Option<UnixMillis>,
    pub(crate) last_handshake: Option<UnixMillis>,
    pub(crate) last_ip: Option<IpAddr>,
    /// Its session was taken over from a former process, and it has not been heard since.
    pub(crate) restored: bool,
    /// A timer looks after the end of its lease.
    pub(crate) lease_timer: bool,
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

    fn subscriptions(&mut self, subscriptions: Vec<Subscription>) -> Arc<Vec<Subscription>> {
        let mut text = Vec::new();
        for Subscription { prefix, handler } in &subscriptions {
            text.extend_from_slice(prefix.as_bytes());
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
    /// Whether there is a system describe.
    pub has_system_describe: bool,
    /// Its subscriptions.
    pub subscriptions: Vec<Subscription>,
}

/// What the API may know of a device.
#[derive(Clone, PartialEq, Debug)]
pub struct DeviceView {
    /// Which device.
    pub device: DeviceId,
    /// Whether its lease holds.
    pub online: bool,
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
            hello: None,
            application: None,
            has_system_describe: false,
            subscriptions: Arc::default(),
            asleep_until: None,
            last_heard: None,
            last_handshake: None,
            last_ip: None,
            restored: false,
            lease_timer: false,
        }
    }

    pub(crate) fn restored(restored: RestoredDevice, common: &mut InCommon) -> Self {
        Self {
            link: Some(restored.link),
            hello: restored.hello.as_deref().and_then(Hello::parse),
            application: restored.application.as_deref().and_then(|payload| common.application(payload)),
            has_system_describe: restored.has_system_describe,
            subscriptions: common.subscriptions(restored.subscriptions),
            last_handshake: Some(restored.established_at),
            last_ip: Some(restored.ip),
            restored: true,
            ..Self::new(restored.identity)
        }
    }

    /// A Hello: what was said before no longer holds.
    pub(crate) fn introduce(&mut self, hello: Hello) {
        self.hello = Some(hello);
        self.application = None;
        self.has_system_describe = false;
        self.subscriptions = Arc::default();
    }

    pub(crate) fn describe(&mut self, kind: DescribeKind, payload: &[u8], common: &mut InCommon) {
        match kind {
            DescribeKind::System => self.has_system_describe = true,
            DescribeKind::Application => self.application = common.application(payload),
            DescribeKind::Metrics => {}
        }
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

    pub(crate) fn say_goodbye(&mut self, now: Now, goodbye: &Goodbye) {
        let wakes = |sleep: Duration| UnixMillis(now.unix.0 + u64::try_from(sleep.as_millis()).unwrap_or(u64::MAX / 2));
        self.asleep_until = goodbye.sleep.map(wakes);
    }

    /// Whether its session has brought all that a device says only once.
    pub(crate) fn is_complete(&self) -> bool {
        self.hello.is_some() && !self.subscriptions.is_empty() && self.missing_describes().next().is_none()
    }

    /// What a session that goes on should have brought and has not.
    pub(crate) fn missing_describes(&self) -> impl Iterator<Item = DescribeKind> {
        let system = (!self.has_system_describe).then_some(DescribeKind::System);
        let application = self.application.is_none().then_some(DescribeKind::Application);
        system.into_iter().chain(application)
    }

    pub(crate) fn platform(&self) -> Option<u16> {
        self.hello.map(|hello| hello.platform)
    }

    pub(crate) fn view(&self, now: Now) -> DeviceView {
        DeviceView {
            device: self.identity.device,
            online: self.link.is_some() && self.presence.is_online(now.at),
            last_heard: self.last_heard,
            last_handshake: self.last_handshake,
            last_ip: self.last_ip,
            platform: self.platform(),
            system_version: self.hello.and_then(|hello| hello.system_version),
            functions: self.application.as_ref().map(|application| application.functions.clone()),
            variables: self.application.as_ref().map(|application| application.variables.clone()),
        }
    }
}
