//! Whose fault a lost session is.
//!
//! A device gives its session up when a message stays unanswered, and it sends each message four times within 42 seconds. A link that loses
//! datagrams makes this happen now and then, and then the device is right. So the link remembers when it did harm: whoever begins a handshake
//! although fewer than four datagrams could have been missed shortly before has lost its session by the server's doing.

use std::time::Duration;

use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::time::Millis;

use super::counts::Counts;

/// How often a device sends a message before it gives up.
const TRANSMISSIONS: usize = 4;
/// From a message's first transmission until the device gives up are at most 90 s; what is left is the way of the new handshake.
const SPAN: Duration = Duration::from_secs(100);

/// Sees what one device sends and what was done to it.
#[derive(Debug, Default)]
pub(super) struct Witness {
    in_session: bool,
    /// When it was harmed the last times, oldest first.
    harmed: [Option<Millis>; TRANSMISSIONS],
}

impl Witness {
    /// A datagram of the device, or for it, may not arrive.
    pub(super) fn harmed(&mut self, now: Millis) {
        self.harmed.rotate_left(1);
        self.harmed[TRANSMISSIONS - 1] = Some(now);
    }

    /// The device sends a datagram.
    pub(super) fn sent(&mut self, now: Millis, datagram: &[u8], counts: &mut Counts) {
        match demux(datagram) {
            Datagram::Record { .. } => self.in_session = true,
            Datagram::Hello(_) if std::mem::take(&mut self.in_session) => {
                let explained = self.harmed[0].is_some_and(|first| now.since(first) <= SPAN);
                *(if explained { &mut counts.sessions_given_up } else { &mut counts.sessions_lost }) += 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_protocol::crypto::{Curve, KeyPair};
    use firmware_protocol::dtls::client::ClientHandshake;
    use firmware_protocol::entropy::SeededEntropy;
    use firmware_protocol::error::KeyError;

    const RECORD: [u8; 29] = [25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];

    fn hello() -> Result<Vec<u8>, KeyError> {
        let mut entropy = SeededEntropy::new(1);
        let key = KeyPair::generate(&mut Curve::new()?, &mut entropy)?;
        let server_key = *key.public();
        Ok(ClientHandshake::new(Millis(0), key, server_key, true, &mut entropy).datagram().to_vec())
    }

    /// What is counted when a device with a session was harmed at these moments and begins a handshake at 200 s.
    fn judged(harmed_at_s: &[u64]) -> Result<(u64, u64), KeyError> {
        let (mut witness, mut counts) = (Witness::default(), Counts::default());
        witness.sent(Millis(0), &hello()?, &mut counts);
        witness.sent(Millis(1), &RECORD, &mut counts);
        harmed_at_s.iter().for_each(|at| witness.harmed(Millis(at * 1000)));
        witness.sent(Millis(200_000), &hello()?, &mut counts);
        witness.sent(Millis(203_000), &hello()?, &mut counts);
        Ok((counts.sessions_lost, counts.sessions_given_up))
    }

    #[test]
    fn a_session_is_lost_unless_the_link_explains_it() -> Result<(), KeyError> {
        assert_eq!(judged(&[])?, (1, 0));
        assert_eq!(judged(&[120, 125, 140])?, (1, 0));
        assert_eq!(judged(&[99, 125, 140, 170])?, (1, 0));
        assert_eq!(judged(&[100, 125, 140, 170])?, (0, 1));
        assert_eq!(judged(&[1, 2, 120, 125, 140, 170])?, (0, 1));
        Ok(())
    }
}
