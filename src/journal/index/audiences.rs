//! A small set of accounts and products that may say yes for one it does not hold, and never no for one it does.

use router::event::Audience;

const WORDS: usize = 16;

/// A Bloom filter of 1024 bits: with 100 of them in it, it is wrong about one in sixty others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Audiences([u64; WORDS]);

impl Audiences {
    pub(super) fn insert(&mut self, audience: Audience) {
        for bit in bits(audience) {
            self.0[bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(super) fn may_contain(&self, audience: Audience) -> bool {
        bits(audience).into_iter().all(|bit| self.0[bit / 64] & 1 << (bit % 64) != 0)
    }

    pub(super) fn merge(&mut self, other: &Audiences) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }
}

/// Three bits for each. Numbers of accounts follow each other and begin at 1, those of products are put at the other end; then they are mixed.
fn bits(audience: Audience) -> [usize; 3] {
    let number = match audience {
        Audience::Owner(owner) => owner.0.wrapping_add(1),
        Audience::Product(product) => u64::MAX - u64::from(product.0),
    };
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    [mixed >> 54, mixed >> 44 & 0x3ff, mixed >> 34 & 0x3ff].map(|bit| usize::try_from(bit).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::{OwnerId, ProductId};

    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let owner = |n| Audience::Owner(OwnerId(n));
        let product = |n| Audience::Product(ProductId(n));
        let mut audiences = Audiences::default();
        (0..50).for_each(|n| audiences.insert(owner(n)));
        let mut more = Audiences::default();
        (10_000..10_050).for_each(|n| more.insert(product(n)));
        audiences.merge(&more);
        assert!((0..50).all(|n| audiences.may_contain(owner(n))) && (10_000..10_050).all(|n| audiences.may_contain(product(n))));
        let owners = (50..10_050).filter(|n| audiences.may_contain(owner(*n))).count();
        let products = (0..10_000).filter(|n| audiences.may_contain(product(*n))).count();
        assert!(owners < 400 && products < 400, "{owners} and {products} of 10 000");
    }
}
