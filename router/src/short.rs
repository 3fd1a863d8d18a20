//! A moment in six bytes instead of eight, in the order of time: in milliseconds enough for eight thousand years, in microseconds for nine. There are
//! many of them for each device.

/// So many units of time, or as many as fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Short([u8; 6]);

impl Short {
    /// The latest.
    pub const MAX: Self = Self([u8::MAX; 6]);

    /// The value, or the largest that fits.
    pub fn new(value: u64) -> Self {
        let [_, _, kept @ ..] = value.min((1 << 48) - 1).to_be_bytes();
        Self(kept)
    }

    /// The value.
    pub fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_and_the_value_are_kept(one in 0..1_u64 << 48, two in 0..1_u64 << 48) {
            prop_assert_eq!((Short::new(one).get(), Short::new(two).get()), (one, two));
            prop_assert_eq!(Short::new(one).cmp(&Short::new(two)), one.cmp(&two));
            prop_assert_eq!(Short::new(one + (1 << 48)), Short::new(u64::MAX), "more is as late as can be");
        }
    }
}
