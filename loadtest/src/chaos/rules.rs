//! How bad a link is, and which device has which.

use std::time::Duration;

use firmware_protocol::crypto::digest64;
use firmware_protocol::entropy::SeededEntropy;

const MILLION: u32 = 1_000_000;

/// How often something happens, in parts of a million.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Chance(u32);

impl Chance {
    /// It does not happen.
    pub const NEVER: Self = Self(0);

    /// So many times in a hundred: 0 to 100.
    pub fn percent(percent: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
        (0.0..=100.0).contains(&percent).then(|| Self((percent / 100.0 * f64::from(MILLION)).round() as u32))
    }

    /// Throws the dice.
    pub(super) fn strikes(self, entropy: &mut SeededEntropy) -> bool {
        entropy.below(MILLION.into()) < self.0.into()
    }
}

/// What one device's link does. The default does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rules {
    /// The shortest way from one end to the other.
    pub delay: Duration,
    /// At most this much is added, a different amount each time.
    pub jitter: Duration,
    /// Datagrams that are lost.
    pub loss: Chance,
    /// Datagrams that come twice.
    pub duplicate: Chance,
    /// Datagrams that are held back for [`Rules::reorder_hold`].
    pub reorder: Chance,
    /// How long they are held back.
    pub reorder_hold: Duration,
    /// Mean time between two changes of the device's source port. Over TCP such a change cuts the connection.
    pub rebind_every: Option<Duration>,
    /// Mean time between two moments at which a direction of a stream stands still.
    pub stall_every: Option<Duration>,
    /// How long it stands still.
    pub stall_for: Duration,
    /// Mean number of bytes after which a stream is cut.
    pub cut_after: Option<u64>,
    /// Pieces of a stream towards the server that are torn in two. Towards a device they stay whole: it would lose half a frame's header.
    pub tear: Chance,
}

impl Rules {
    /// How long the next thing is on its way.
    pub(super) fn latency(&self, entropy: &mut SeededEntropy) -> Duration {
        self.delay + up_to(self.jitter, entropy)
    }
}

/// Time until something that happens once in `mean`: half of it to one and a half.
pub(super) fn around(mean: Duration, entropy: &mut SeededEntropy) -> Duration {
    mean / 2 + up_to(mean, entropy)
}

/// A time from none to `most`.
pub(super) fn up_to(most: Duration, entropy: &mut SeededEntropy) -> Duration {
    Duration::from_millis(entropy.below(u64::try_from(most.as_millis()).unwrap_or(u64::MAX - 1) + 1))
}

/// The rules of all devices. One seed decides everything.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Decides which device has which rules, and everything random on its link.
    pub seed: u64,
    /// The rules of most devices.
    pub common: Rules,
    /// Rules of some others, with their share of all devices.
    pub others: Vec<(Chance, Rules)>,
}

impl Weather {
    /// The rules of the device with this `name`, and the seed of its link.
    pub(super) fn of(&self, name: &[u8]) -> (Rules, u64) {
        let mut entropy = SeededEntropy::new(self.seed ^ digest64(name));
        let drawn = entropy.below(MILLION.into());
        let mut below = 0;
        let other = self.others.iter().find(|(share, _)| {
            below += u64::from(share.0);
            drawn < below
        });
        (other.map_or(self.common, |(_, rules)| *rules), entropy.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_a_share_of_all_throws() {
        let mut entropy = SeededEntropy::new(1);
        for percent in [0.0, 2.0, 50.0, 100.0] {
            let chance = Chance::percent(percent).expect("0 to 100");
            let struck = (0..100_000).filter(|_| chance.strikes(&mut entropy)).count() as f64 / 1000.0;
            assert!((struck - percent).abs() <= 0.5, "{struck} for {percent}");
        }
        assert!([-1.0, 100.1, f64::NAN].iter().all(|wrong| Chance::percent(*wrong).is_none()));
        assert!(!Chance::NEVER.strikes(&mut entropy));
    }

    #[test]
    fn a_tenth_of_the_devices_has_other_rules_and_always_the_same_tenth() {
        let other = Rules { rebind_every: Some(Duration::from_secs(60)), ..Rules::default() };
        let weather = |seed| Weather { seed, common: Rules::default(), others: vec![(Chance(100_000), other)] };
        let chosen = |seed| (0..10_000u32).map(|name| weather(seed).of(&name.to_be_bytes()).0 == other).collect::<Vec<_>>();
        let count = chosen(1).iter().filter(|is_other| **is_other).count();
        assert!((900..1100).contains(&count), "{count}");
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
        assert_eq!(weather(1).of(b"a").1, weather(1).of(b"a").1);
        assert_ne!(weather(1).of(b"a").1, weather(1).of(b"b").1);
    }

    #[test]
    fn times_stay_within_their_bounds() {
        let mut entropy = SeededEntropy::new(1);
        let rules = Rules { delay: Duration::from_millis(20), jitter: Duration::from_millis(10), ..Rules::default() };
        let latencies: Vec<Duration> = (0..1000).map(|_| rules.latency(&mut entropy)).collect();
        assert_eq!(latencies.iter().min(), Some(&Duration::from_millis(20)));
        assert_eq!(latencies.iter().max(), Some(&Duration::from_millis(30)));
        let minute = Duration::from_secs(60);
        assert!((0..1000).all(|_| (minute / 2..=minute * 3 / 2).contains(&around(minute, &mut entropy))));
    }
}
