//! Reachability probes (docs/protocol.md): a device that looks for a working interface sends one and waits for it to come back unchanged.
//! Answering strangers makes a reflector of factor 1, so there are limits, kept in a table that never grows.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Millis;
use crate::wire::Reader;

/// First byte of a probe.
pub const PROBE: u8 = 252;

/// Echoes to one source per window: a device sends at most ten in five seconds, and several may share an address.
const PER_SOURCE: u16 = 40;
/// Echoes to all sources per window.
const GLOBAL: u32 = 5_000;
const WINDOW: Duration = Duration::from_secs(5);
const SLOTS: usize = 4_096;

/// Whether `datagram` is a well-formed probe: version, high bit of the epoch, length 1 to 511 and right.
pub fn is_probe(datagram: &[u8]) -> bool {
    let mut reader = Reader::new(datagram);
    let parsed = (|| Some((reader.u8()?, reader.u16()?, reader.u16()?, reader.u48()?, reader.vec16()?)))();
    parsed.is_some_and(|(kind, version, epoch, _, payload)| {
        kind == PROBE && version == 0xfefd && epoch >= 0x8000 && (1..512).contains(&payload.len()) && reader.is_empty()
    })
}

/// Decides which probes are echoed.
#[derive(Debug)]
pub struct ProbeLimits {
    window_started: Millis,
    total: u32,
    /// Echoes of this window by hash of the source. Two sources that share a slot share an allowance.
    counts: Box<[u16]>,
    salt: u64,
}

impl ProbeLimits {
    /// `salt` keeps a stranger from choosing addresses that share a slot.
    pub fn new(salt: u64) -> Self {
        Self { window_started: Millis(0), total: 0, counts: vec![0; SLOTS].into(), salt }
    }

    /// Whether one more probe of `source` is answered now.
    pub fn allow(&mut self, now: Millis, source: IpAddr) -> bool {
        if now.since(self.window_started) >= WINDOW {
            self.window_started = now;
            self.total = 0;
            self.counts.fill(0);
        }
        let slot = self.slot(source);
        let count = &mut self.counts[slot];
        if self.total >= GLOBAL || *count >= PER_SOURCE {
            return false;
        }
        self.total += 1;
        *count += 1;
        true
    }

    fn slot(&self, source: IpAddr) -> usize {
        let bits = match source {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            // A host has a /64 to itself.
            IpAddr::V6(ip) => u64::try_from(ip.to_bits() >> 64).unwrap_or_default(),
        };
        let mixed = (bits ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 52).unwrap_or_default() % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(len: u16, payload: usize) -> Vec<u8> {
        let mut bytes = vec![252, 0xfe, 0xfd, 0x80, 4, 0, 0, 1, 2, 0, 3];
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.resize(13 + payload, 0xaa);
        bytes
    }

    #[test]
    fn only_well_formed_probes_count() {
        assert!(is_probe(&probe(1, 1)) && is_probe(&probe(511, 511)));
        for bad in [probe(0, 0), probe(512, 512), probe(5, 4), probe(5, 6), probe(5, 5)[..12].to_vec(), vec![]] {
            assert!(!is_probe(&bad), "{bad:?}");
        }
        for (at, value) in [(0, 253), (1, 0), (3, 0x7f)] {
            let mut bad = probe(5, 5);
            bad[at] = value;
            assert!(!is_probe(&bad));
        }
    }

    #[test]
    fn a_source_and_all_together_have_limits_that_return() {
        let mut limits = ProbeLimits::new(7);
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        let allowed = (0..100).filter(|_| limits.allow(Millis(0), source(1))).count();
        assert_eq!(allowed, usize::from(PER_SOURCE));
        let total = (0..100_000).filter(|n| limits.allow(Millis(1), source(*n))).count();
        assert_eq!(total + allowed, GLOBAL as usize);
        assert!(limits.allow(Millis(5_000), source(1)));
    }
}
