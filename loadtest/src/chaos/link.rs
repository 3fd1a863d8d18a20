//! The link of one device that speaks over UDP. It knows no clock and no socket: what is offered comes out of [`Link::poll`] when its time has come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::Millis;

use super::Direction;
use super::counts::Counts;
use super::rules::{Rules, around, up_to};
use super::witness::Witness;

/// Most datagrams of one device that are on the way, in both directions together.
pub(super) const FLYING_MAX: usize = 64;

/// What a link wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// A datagram has arrived.
    Deliver {
        /// Where.
        direction: Direction,
        /// Its bytes.
        datagram: Vec<u8>,
    },
    /// From now on the device has another source port; what is sent to the old one is lost.
    Rebind,
}

/// One device's link.
#[derive(Debug)]
pub struct Link {
    rules: Rules,
    entropy: SeededEntropy,
    flying: BinaryHeap<Reverse<Flying>>,
    offered: u64,
    rebind_at: Option<Millis>,
    witness: Witness,
}

/// In the order of arrival; at the same moment, in the order in which they were sent.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Flying {
    at: Millis,
    number: u64,
    direction: Direction,
    datagram: Vec<u8>,
}

impl Link {
    /// A link with nothing on it.
    pub fn new(rules: Rules, seed: u64, now: Millis) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        let rebind_at = rules.rebind_every.map(|every| now + up_to(every, &mut entropy));
        Self { rules, entropy, flying: BinaryHeap::new(), offered: 0, rebind_at, witness: Witness::default() }
    }

    /// Takes a datagram that one end has sent.
    pub fn offer(&mut self, now: Millis, direction: Direction, datagram: &[u8], counts: &mut Counts) {
        counts.taken += 1;
        if direction == Direction::Up {
            self.witness.sent(now, datagram, counts);
        }
        if self.rules.loss.strikes(&mut self.entropy) {
            counts.lost += 1;
            return self.witness.harmed(now);
        }
        self.fly(now, direction, datagram, counts);
        if self.rules.duplicate.strikes(&mut self.entropy) {
            counts.duplicated += 1;
            self.fly(now, direction, datagram, counts);
        }
    }

    fn fly(&mut self, now: Millis, direction: Direction, datagram: &[u8], counts: &mut Counts) {
        if self.flying.len() >= FLYING_MAX {
            counts.overflowed += 1;
            return self.witness.harmed(now);
        }
        let mut at = now + self.rules.latency(&mut self.entropy);
        if self.rules.reorder.strikes(&mut self.entropy) {
            counts.reordered += 1;
            at = at + self.rules.reorder_hold;
        }
        self.offered += 1;
        self.flying.push(Reverse(Flying { at, number: self.offered, direction, datagram: datagram.to_vec() }));
    }

    /// The next thing to do by `now`. To be called until there is none.
    pub fn poll(&mut self, now: Millis, counts: &mut Counts) -> Option<Output> {
        if let (Some(at), Some(every)) = (self.rebind_at, self.rules.rebind_every)
            && at <= now
        {
            self.rebind_at = Some(now + around(every, &mut self.entropy));
            self.witness.harmed(now);
            return Some(Output::Rebind);
        }
        self.flying.peek().filter(|Reverse(next)| next.at <= now)?;
        let Reverse(Flying { direction, datagram, .. }) = self.flying.pop()?;
        counts.delivered += 1;
        Some(Output::Deliver { direction, datagram })
    }

    /// When [`Link::poll`] has something to do next.
    pub fn timeout_at(&self) -> Option<Millis> {
        self.flying.peek().map(|Reverse(next)| next.at).into_iter().chain(self.rebind_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Chance;
    use super::*;
    use std::time::Duration;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn percent(percent: f64) -> Chance {
        Chance::percent(percent).expect("0 to 100")
    }

    /// Sends `count` numbered datagrams up, one each millisecond: what arrives, when, and what was counted.
    fn play(rules: Rules, seed: u64, count: u64) -> (Vec<(u64, u64)>, Counts) {
        let (mut link, mut counts, mut arrived) = (Link::new(rules, seed, Millis(0)), Counts::default(), Vec::new());
        for now in 0..count + 10_000 {
            if now < count {
                link.offer(Millis(now), Direction::Up, &now.to_be_bytes(), &mut counts);
            }
            while let Some(output) = link.poll(Millis(now), &mut counts) {
                if let Output::Deliver { direction: Direction::Up, datagram } = output {
                    arrived.push((u64::from_be_bytes(datagram.try_into().expect("eight bytes")), now));
                }
            }
        }
        (arrived, counts)
    }

    #[test]
    fn a_link_without_rules_passes_everything_at_once_and_in_order() {
        let (arrived, counts) = play(Rules::default(), 1, 1000);
        assert_eq!(arrived, (0..1000).map(|number| (number, number)).collect::<Vec<_>>());
        assert_eq!(counts, Counts { taken: 1000, delivered: 1000, ..Counts::default() });
    }

    #[test]
    fn what_is_lost_or_doubled_is_counted_and_accounts_for_what_arrives() {
        let rules = Rules { delay: ms(5), loss: percent(10.0), duplicate: percent(5.0), ..Rules::default() };
        let (arrived, counts) = play(rules, 1, 10_000);
        assert!((900..1100).contains(&counts.lost) && (400..500).contains(&counts.duplicated), "{counts:?}");
        assert_eq!(arrived.len() as u64, counts.taken - counts.lost + counts.duplicated - counts.overflowed);
        assert!(arrived.iter().all(|(number, at)| *at == number + 5));
    }

    #[test]
    fn jitter_and_holding_back_reorder() {
        let rules = Rules { delay: ms(20), jitter: ms(10), ..Rules::default() };
        let (arrived, _) = play(rules, 1, 1000);
        assert!(arrived.iter().all(|(number, at)| (20..=30).contains(&(at - number))) && !arrived.is_sorted());
        let (arrived, counts) = play(Rules { reorder: percent(10.0), reorder_hold: ms(15), ..Rules::default() }, 1, 1000);
        let held = arrived.iter().filter(|(number, at)| at - number == 15).count();
        assert_eq!((held as u64, arrived.len()), (counts.reordered, 1000));
    }

    #[test]
    fn more_than_a_link_holds_is_dropped_and_counted() {
        let (mut link, mut counts) = (Link::new(Rules { delay: ms(1), ..Rules::default() }, 1, Millis(0)), Counts::default());
        (0..FLYING_MAX + 9).for_each(|_| link.offer(Millis(0), Direction::Down, b"x", &mut counts));
        assert_eq!((counts.overflowed, link.poll(Millis(0), &mut counts), link.timeout_at()), (9, None, Some(Millis(1))));
        assert_eq!(std::iter::from_fn(|| link.poll(Millis(1), &mut counts)).count(), FLYING_MAX);
        assert_eq!(link.timeout_at(), None);
    }

    #[test]
    fn a_device_changes_its_port_about_as_often_as_it_shall() {
        let rules = Rules { rebind_every: Some(Duration::from_secs(60)), ..Rules::default() };
        let (mut link, mut counts, mut at) = (Link::new(rules, 1, Millis(0)), Counts::default(), Vec::new());
        while let Some(next) = link.timeout_at().filter(|next| *next < Millis(6_000_000)) {
            assert_eq!(link.poll(next, &mut counts), Some(Output::Rebind));
            at.push(next);
        }
        assert!((80..120).contains(&at.len()) && at[0] <= Millis(60_000), "{at:?}");
        assert!(at.windows(2).all(|pair| (ms(30_000)..=ms(90_000)).contains(&pair[1].since(pair[0]))));
    }

    #[test]
    fn a_seed_gives_the_same_link() {
        let rules = Rules { jitter: ms(50), loss: percent(5.0), duplicate: percent(5.0), reorder: percent(5.0), ..Rules::default() };
        assert_eq!(play(rules, 7, 500), play(rules, 7, 500));
        assert_ne!(play(rules, 7, 500), play(rules, 8, 500));
    }
}
