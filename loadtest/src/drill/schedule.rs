//! When to kill the server.
//!
//! A device repeats a message after 4–6, 12–18 and 28–42 seconds; its application gives a publish up after 20 s, the device its session after
//! 60–90 s. Were kills spread evenly, a few of many thousand messages would meet a server that is down each time, and the devices would be right to
//! make new sessions. Kills therefore come in bursts that are over before anything is repeated for the second time; what a burst has delayed is
//! waited for before the next. So each message meets a running server in time, and all that goes wrong is the server's doing.

use std::time::Duration;

use firmware_protocol::entropy::SeededEntropy;

/// Shortest time between a start and the next kill.
const UP_MIN: Duration = Duration::from_secs(1);
const UP_SPREAD_MS: u64 = 2000;
const DOWN_SPREAD_MS: u64 = 1000;
/// From a burst's first kill to its last: with the last one's time down and a slow start, everything is over before 12 s.
const BURST_MAX: Duration = Duration::from_secs(8);

/// One kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kill {
    /// Time to let the server run before.
    pub(super) up: Duration,
    /// Time to leave it dead.
    pub(super) down: Duration,
}

/// Kills at random moments.
#[derive(Debug)]
pub(super) struct Schedule {
    entropy: SeededEntropy,
    left: u32,
}

impl Schedule {
    pub(super) fn new(seed: u64, kills: u32) -> Self {
        Self { entropy: SeededEntropy::new(seed), left: kills }
    }

    /// Whether all kills are done.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The next kill of a burst whose first one was `since_first` ago, or `None` if the burst is over.
    pub(super) fn next(&mut self, since_first: Option<Duration>) -> Option<Kill> {
        let up = UP_MIN + Duration::from_millis(self.entropy.below(UP_SPREAD_MS));
        let down = Duration::from_millis(self.entropy.below(DOWN_SPREAD_MS));
        let fits = since_first.is_none_or(|since| since + up <= BURST_MAX);
        if self.is_over() || !fits {
            return None;
        }
        self.left -= 1;
        Some(Kill { up, down })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a schedule with starts that take `start`: all kills, and how long each burst lasts from its first kill until the server is back.
    fn play(seed: u64, kills: u32, start: Duration) -> (Vec<Kill>, Vec<Duration>) {
        let (mut schedule, mut all, mut bursts) = (Schedule::new(seed, kills), Vec::new(), Vec::new());
        while !schedule.is_over() {
            let mut since_first = None;
            while let Some(kill) = schedule.next(since_first) {
                since_first = Some(since_first.map_or(Duration::ZERO, |since| since + kill.up) + kill.down + start);
                all.push(kill);
            }
            bursts.extend(since_first);
        }
        (all, bursts)
    }

    #[test]
    fn all_kills_happen_and_no_burst_lasts_until_a_second_repetition() {
        for seed in 0..200 {
            let (kills, bursts) = play(seed, 20, Duration::from_millis(500));
            assert_eq!(kills.len(), 20);
            assert!(kills.iter().all(|kill| kill.up >= UP_MIN && kill.down < Duration::from_secs(1)));
            assert!(bursts.iter().all(|burst| *burst < Duration::from_secs(12)), "{bursts:?}");
            assert!(bursts.len() < 15, "bursts are more than single kills: {bursts:?}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_kills() {
        assert_eq!(play(5, 10, Duration::ZERO), play(5, 10, Duration::ZERO));
        assert_ne!(play(5, 10, Duration::ZERO), play(6, 10, Duration::ZERO));
    }
}
