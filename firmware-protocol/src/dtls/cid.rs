//! Connection ids. Devices keep theirs for weeks, so the format is frozen (docs/adr/0004-connection-id.md).
//!
//! ```text
//! version 4 bits · node 12 · bucket 8 · random 24 · tag 16
//! ```
//!
//! The node says which server gave the id out, the bucket which of its workers owns the session, and the tag, keyed, that it was given out at
//! all: an id with a right tag that nobody knows belongs to a device whose session was lost, one with a wrong tag is junk.

use std::fmt;

use crate::crypto::{Hmac, equal};
use crate::entropy::Entropy;

const VERSION: u8 = 1;
/// Of names that are never on the wire.
const INTERNAL: u8 = 0;

/// The 8 bytes a device puts into every record it sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub [u8; ConnectionId::LEN]);

impl ConnectionId {
    /// Length in bytes: Device OS takes exactly eight.
    pub const LEN: usize = 8;

    /// The server that gave it out, 0 to 4095.
    pub fn node(self) -> u16 {
        u16::from_be_bytes([self.0[0] & 0x0f, self.0[1]])
    }

    /// Which of that server's 256 buckets owns the session.
    pub fn bucket(self) -> u8 {
        self.0[2]
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::id::write_hex(f, &self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name for a session over TCP, which needs none on the wire: 60 random bits, and no id of a session over UDP.
pub fn internal(entropy: &mut impl Entropy) -> ConnectionId {
    let mut name = entropy.array::<8>();
    name[0] = INTERNAL << 4 | name[0] & 0x0f;
    ConnectionId(name)
}

/// A key of the tag. Persisted, because ids outlive processes.
pub type TagKey = [u8; 32];

/// Gives out connection ids and recognises those that were given out. Two keys are live, so that one can be changed.
#[derive(Clone, Debug)]
pub struct ConnectionIds {
    node: u16,
    tags: Vec<Hmac>,
}

impl ConnectionIds {
    /// For `node` (12 bits). The first key makes tags, every key is accepted.
    pub fn new(node: u16, current: &TagKey, previous: Option<&TagKey>) -> Self {
        let tags = std::iter::once(current).chain(previous).map(|key| Hmac::new(key)).collect();
        Self { node: node & 0x0fff, tags }
    }

    /// A new id in `bucket`. The caller makes sure that no live session has it.
    pub fn allocate(&self, bucket: u8, entropy: &mut impl Entropy) -> ConnectionId {
        let [high, low] = self.node.to_be_bytes();
        let [a, b, c] = entropy.array::<3>();
        let body = [VERSION << 4 | high, low, bucket, a, b, c];
        let [x, y] = tag(&self.tags[0], &body);
        ConnectionId([body[0], body[1], body[2], a, b, c, x, y])
    }

    /// Whether this server gave `id` out.
    pub fn gave_out(&self, id: ConnectionId) -> bool {
        let (body, claimed) = id.0.split_at(6);
        id.0[0] >> 4 == VERSION && id.node() == self.node && self.tags.iter().any(|key| equal(&tag(key, body), claimed))
    }
}

fn tag(key: &Hmac, body: &[u8]) -> [u8; 2] {
    let [a, b, ..] = key.code(&[body]);
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::{RecordedEntropy, SeededEntropy};

    #[test]
    fn the_format_is_frozen() {
        let ids = ConnectionIds::new(0xabc, &[7; 32], None);
        let id = ids.allocate(0x42, &mut RecordedEntropy::new([1, 2, 3]));
        assert_eq!(id.to_string(), "1abc42010203907b");
        assert_eq!((id.node(), id.bucket()), (0xabc, 0x42));
    }

    #[test]
    fn an_internal_name_is_no_id_that_was_given_out() {
        let ids = ConnectionIds::new(0xfff, &[7; 32], None);
        let name = internal(&mut RecordedEntropy::new([0xff; 8]));
        assert_eq!(name.to_string(), "0fffffffffffffff");
        let mut entropy = SeededEntropy::new(5);
        assert!((0..200_000).all(|_| !ids.gave_out(internal(&mut entropy))));
    }

    #[test]
    fn ids_of_both_keys_are_known_and_no_others() {
        let mut entropy = SeededEntropy::new(3);
        let old = ConnectionIds::new(1, &[1; 32], None);
        let new = ConnectionIds::new(1, &[2; 32], Some(&[1; 32]));
        let id = old.allocate(9, &mut entropy);
        assert!(new.gave_out(id) && new.gave_out(new.allocate(9, &mut entropy)));
        assert!(!ConnectionIds::new(1, &[2; 32], None).gave_out(id));
        assert!(!ConnectionIds::new(2, &[1; 32], None).gave_out(id));
        for bit in 0..64 {
            let mut changed = id;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!new.gave_out(changed), "bit {bit}");
        }
    }
}
