//! A limit: a number or none at all. No number stands for "none".

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// How much of something is allowed. Written as a number of at least 1, or as the word "unlimited".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// As much as there is.
    Unlimited,
    /// This much and no more; never 0.
    AtMost(u64),
}

impl Limit {
    const WORD: &str = "unlimited";

    /// Whether one more is allowed beside `present`.
    pub fn admits_beside(self, present: u64) -> bool {
        match self {
            Limit::Unlimited => true,
            Limit::AtMost(most) => present < most,
        }
    }

    /// The number, with everything the platform can count standing in for no limit. For semaphores and capacities.
    pub fn as_usize(self) -> usize {
        match self {
            Limit::Unlimited => usize::MAX,
            Limit::AtMost(most) => usize::try_from(most).unwrap_or(usize::MAX),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Unlimited => f.write_str(Limit::WORD),
            Limit::AtMost(most) => most.fmt(f),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Unlimited => serializer.serialize_str(Limit::WORD),
            Limit::AtMost(most) => serializer.serialize_u64(*most),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LimitVisitor)
    }
}

struct LimitVisitor;

impl Visitor<'_> for LimitVisitor {
    type Value = Limit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of at least 1, or \"unlimited\"")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Limit, E> {
        match number {
            0 => Err(E::invalid_value(de::Unexpected::Unsigned(0), &self)),
            most => Ok(Limit::AtMost(most)),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Limit, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Limit, E> {
        match word {
            Limit::WORD => Ok(Limit::Unlimited),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_positive_number_or_a_word() {
        let limit = |text: &str| serde_json::from_str::<Limit>(text);
        assert_eq!(limit("1").expect("a number"), Limit::AtMost(1));
        assert_eq!(limit("\"unlimited\"").expect("the word"), Limit::Unlimited);
        for bad in ["0", "-1", "\"none\"", "\"\"", "\"7\"", "true", "1.5", "null"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for limit in [Limit::Unlimited, Limit::AtMost(1), Limit::AtMost(u64::MAX)] {
            let text = serde_json::to_string(&limit).expect("it can be written");
            assert_eq!(serde_json::from_str::<Limit>(&text).expect("it reads back"), limit);
        }
    }

    #[test]
    fn one_more_is_allowed_below_the_limit_only() {
        assert!(Limit::AtMost(2).admits_beside(1));
        assert!(!Limit::AtMost(2).admits_beside(2));
        assert!(Limit::Unlimited.admits_beside(u64::MAX));
    }
}
