//! What whoever drives many devices needs besides datagrams and timeouts: a look into what came, and ways to make a device do at once what it would do in
//! its own time.

use super::{Device, DeviceTools, Purpose, RESTORES_MAX, State};
use crate::coap::{Code, Kind, Message};
use crate::dtls::keys::DirectionKeys;
use crate::time::Millis;

impl Device {
    /// Whether it has the keys of a session, in use or retained.
    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// What the server seals with in the session at hand: tells whose a datagram is, and lets an observer look into it.
    pub fn server_keys(&self) -> Option<DirectionKeys> {
        self.session.as_ref().map(|session| session.keys.keys.server())
    }

    /// Power off, and retained memory is lost as well: after power on comes a handshake.
    pub fn forget_session(&mut self) {
        self.power_off();
        self.session = None;
    }

    /// Pings the server as after a long silence; [`super::DeviceEvent::PingAnswered`] tells the answer. Does nothing without a connection, or
    /// while another ping is open.
    pub fn ping(&mut self, now: Millis, tools: &mut DeviceTools) {
        if let State::Online { pinged_at: pinged_at @ None, .. } = &mut self.state {
            *pinged_at = Some(now);
            self.start(now, tools, Purpose::Ping, Message::new(Kind::Confirmable, Code::EMPTY, 0, &[]));
        }
    }

    /// How many messages were sent once more since the last call.
    pub fn take_retransmissions(&mut self) -> u64 {
        std::mem::take(&mut self.retransmissions)
    }

    pub(super) fn can_resume(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.restores < RESTORES_MAX)
    }
}
