//! What becomes of a committed event for subscribed devices.

/// What became of an event for one device, or for all devices of a shard together. In the order of what outweighs what: an event counts as delivered
/// if all devices that were online took it, and else as the worst that happened to it. Devices that were offline count only if none was online.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fate {
    /// No device has a subscription for it.
    Unwanted,
    /// The device acknowledged it; over TCP it was written to the connection.
    Delivered,
    /// The device was not online, or its session ended before it answered.
    Offline,
    /// The device was online and did not answer in time.
    Unanswered,
    /// Too much was on its way to the device already.
    Busy,
    /// Longer than the device takes.
    TooLarge,
    /// The device answered with an error.
    Refused,
}

impl Fate {
    /// Number of fates.
    pub const COUNT: usize = 7;
    /// All, by their index.
    pub const ALL: [Fate; Fate::COUNT] =
        [Fate::Unwanted, Fate::Delivered, Fate::Offline, Fate::Unanswered, Fate::Busy, Fate::TooLarge, Fate::Refused];

    /// Its place in [`Fate::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// What it is called in ledgers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Unwanted => "unwanted",
            Fate::Delivered => "delivered",
            Fate::Offline => "offline",
            Fate::Unanswered => "unanswered",
            Fate::Busy => "busy",
            Fate::TooLarge => "too-large",
            Fate::Refused => "refused",
        }
    }
}

/// How many times each fate was met, by [`Fate::index`].
pub type Fates = [u64; Fate::COUNT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fate_has_its_place_and_a_name_of_its_own() {
        for (index, fate) in Fate::ALL.into_iter().enumerate() {
            assert_eq!(fate.index(), index);
            assert_eq!(Fate::ALL.iter().filter(|other| other.name() == fate.name()).count(), 1);
        }
        assert!(Fate::Delivered < Fate::Offline && Fate::Offline < Fate::Refused, "the worst outweighs");
    }
}
