//! A small set of accounts that may say yes for one it does not hold, and never no for one it does.

use firmware_protocol::id::OwnerId;

const WORDS: usize = 16;

/// A Bloom filter of 1024 bits: with 100 accounts in it, it is wrong about one in sixty others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Owners([u64; WORDS]);

impl Owners {
    pub(super) fn insert(&mut self, owner: OwnerId) {
        for bit in bits(owner) {
            self.0[bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(super) fn may_contain(&self, owner: OwnerId) -> bool {
        bits(owner).into_iter().all(|bit| self.0[bit / 64] & 1 << (bit % 64) != 0)
    }

    pub(super) fn merge(&mut self, other: &Owners) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }
}

/// Three bits for each account. Numbers of accounts follow each other, so they are mixed first.
fn bits(owner: OwnerId) -> [usize; 3] {
    let mixed = owner.0.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    [mixed >> 54, mixed >> 44 & 0x3ff, mixed >> 34 & 0x3ff].map(|bit| usize::try_from(bit).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let mut owners = Owners::default();
        (0..50).for_each(|n| owners.insert(OwnerId(n)));
        let mut more = Owners::default();
        (50..100).for_each(|n| more.insert(OwnerId(n)));
        owners.merge(&more);
        assert!((0..100).all(|n| owners.may_contain(OwnerId(n))));
        let wrong = (100..10_100).filter(|n| owners.may_contain(OwnerId(*n))).count();
        assert!(wrong < 400, "{wrong} of 10 000");
    }
}
