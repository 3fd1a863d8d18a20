//! The link of one TCP connection: bytes come late, in other pieces, sometimes not for a while, and sometimes the connection breaks in the middle.
//! Bytes that arrive are the right ones in the right order. It knows no clock and no socket.

use std::collections::VecDeque;

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::Millis;

use super::Direction;
use super::counts::Counts;
use super::rules::{Rules, around};

/// Most bytes that are on the way in one direction. A sender that is faster has to wait.
pub(super) const LANE_BYTES_MAX: usize = 64 * 1024;

/// What comes out at an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// The other end sends no more.
    End,
    /// The connection breaks, in both directions.
    Cut,
}

/// One connection's link.
#[derive(Debug)]
pub struct Stream {
    rules: Rules,
    entropy: SeededEntropy,
    lanes: [Lane; 2],
    /// Bytes until the cut, both directions counted.
    left: Option<u64>,
    /// When the device's port changes, which the connection does not survive.
    rebind_at: Option<Millis>,
    cut: bool,
}

/// One direction.
#[derive(Debug)]
struct Lane {
    flying: VecDeque<(Millis, Piece)>,
    bytes: usize,
    /// When the last piece arrives: nothing overtakes it.
    last: Millis,
    /// Nothing arrives from the first to the second of these.
    stall: (Millis, Millis),
    ended: bool,
}

impl Stream {
    /// A link with nothing on it.
    pub fn new(rules: Rules, seed: u64, now: Millis) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        let left = rules.cut_after.map(|mean| 1 + entropy.below(mean.saturating_mul(2).max(1)));
        let rebind_at = rules.rebind_every.map(|every| now + around(every, &mut entropy));
        let lane = || Lane { flying: VecDeque::new(), bytes: 0, last: now, stall: (now, now), ended: false };
        Self { rules, entropy, lanes: [lane(), lane()], left, rebind_at, cut: false }
    }

    /// From now on it is not cut, unless a cut is on its way.
    pub fn calm(&mut self) {
        (self.left, self.rebind_at) = (None, None);
    }

    /// How many bytes may be offered in this direction.
    pub fn room(&self, direction: Direction) -> usize {
        let lane = &self.lanes[direction as usize];
        if self.cut || lane.ended { 0 } else { LANE_BYTES_MAX.saturating_sub(lane.bytes) }
    }

    /// Takes bytes, at most [`Stream::room`], that one end has sent.
    pub fn offer(&mut self, now: Millis, direction: Direction, bytes: &[u8], counts: &mut Counts) {
        counts.taken += 1;
        let whole = bytes.len() as u64;
        let kept = self.left.map_or(whole, |left| left.min(whole));
        if let Some(left) = &mut self.left {
            *left -= kept;
            self.cut = *left == 0;
        }
        counts.bytes_cut += whole - kept;
        let bytes = &bytes[..usize::try_from(kept).unwrap_or(bytes.len())];
        let torn = self.rules.tear.strikes(&mut self.entropy) && direction == Direction::Up && bytes.len() > 1;
        let (first, second) = bytes.split_at(if torn { self.place_in(bytes.len()) } else { 0 });
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            self.push(now, direction, Piece::Bytes(part.to_vec()), counts);
        }
        if self.cut {
            self.push(now, direction, Piece::Cut, counts);
        }
    }

    /// Somewhere between the first and the last of `len` bytes.
    fn place_in(&mut self, len: usize) -> usize {
        usize::try_from(self.entropy.below(len as u64 - 1)).map_or(1, |place| place + 1)
    }

    /// One end sends no more.
    pub fn end(&mut self, now: Millis, direction: Direction, counts: &mut Counts) {
        if !self.cut && !std::mem::replace(&mut self.lanes[direction as usize].ended, true) {
            self.push(now, direction, Piece::End, counts);
        }
    }

    fn push(&mut self, now: Millis, direction: Direction, piece: Piece, counts: &mut Counts) {
        let (rules, entropy, lane) = (&self.rules, &mut self.entropy, &mut self.lanes[direction as usize]);
        let mut at = lane.last.max(now + rules.latency(entropy));
        if let Some(every) = rules.stall_every {
            while lane.stall.1 <= at {
                let from = lane.stall.1 + around(every, entropy);
                lane.stall = (from, from + rules.stall_for.max(std::time::Duration::from_millis(1)));
            }
            if at >= lane.stall.0 {
                counts.stalls += u64::from(lane.last < lane.stall.0);
                at = lane.stall.1;
            }
        }
        lane.last = at;
        lane.bytes += piece.len();
        lane.flying.push_back((at, piece));
    }

    /// The next thing that arrives in this direction by `now`. After [`Piece::Cut`] nothing counts any more.
    pub fn poll(&mut self, now: Millis, direction: Direction, counts: &mut Counts) -> Option<Piece> {
        if self.rebind_at.is_some_and(|at| at <= now) {
            counts.rebinds += 1;
            return Some(self.break_now(counts));
        }
        let lane = &mut self.lanes[direction as usize];
        lane.flying.front().filter(|(at, _)| *at <= now)?;
        let (_, piece) = lane.flying.pop_front()?;
        lane.bytes -= piece.len();
        match piece {
            Piece::Bytes(_) => counts.delivered += 1,
            Piece::End => {}
            Piece::Cut => return Some(self.break_now(counts)),
        }
        Some(piece)
    }

    /// What is on the way is gone.
    fn break_now(&mut self, counts: &mut Counts) -> Piece {
        (self.cut, self.rebind_at) = (true, None);
        counts.cuts += 1;
        counts.bytes_cut += self.lanes.iter().map(|lane| lane.bytes as u64).sum::<u64>();
        Piece::Cut
    }

    /// When something arrives in this direction next.
    pub fn timeout_at(&self, direction: Direction) -> Option<Millis> {
        self.lanes[direction as usize].flying.front().map(|(at, _)| *at).into_iter().chain(self.rebind_at).min()
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::End | Self::Cut => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Chance;
    use super::*;
    use std::time::Duration;

    const MESSAGE: &[u8] = b"0123456789abcdef";

    /// Sends a message up each 10 ms, as long as there is room: bytes that arrive, the moments, what was counted, and whether it was cut.
    fn play(rules: Rules, seed: u64, count: u64) -> (Vec<u8>, Vec<u64>, Counts, bool) {
        let (mut stream, mut counts) = (Stream::new(rules, seed, Millis(0)), Counts::default());
        let (mut arrived, mut moments) = (Vec::new(), Vec::new());
        for now in (0..count * 10 + 60_000).map(Millis) {
            if now.0 % 10 == 0 && now.0 < count * 10 && stream.room(Direction::Up) >= MESSAGE.len() {
                stream.offer(now, Direction::Up, MESSAGE, &mut counts);
            }
            if now.0 == count * 10 {
                stream.end(now, Direction::Up, &mut counts);
            }
            match stream.poll(now, Direction::Up, &mut counts) {
                Some(Piece::Bytes(bytes)) => {
                    arrived.extend(bytes);
                    moments.push(now.0);
                }
                Some(Piece::End) => return (arrived, moments, counts, false),
                Some(Piece::Cut) => return (arrived, moments, counts, true),
                None => {}
            }
        }
        panic!("the end never came");
    }

    #[test]
    fn bytes_arrive_whole_and_in_order_however_late() {
        let rules = Rules {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(40),
            tear: Chance::percent(30.0).expect("0 to 100"),
            stall_every: Some(Duration::from_secs(1)),
            stall_for: Duration::from_millis(500),
            ..Rules::default()
        };
        let (arrived, moments, counts, cut) = play(rules, 1, 1000);
        assert_eq!(arrived, MESSAGE.repeat(1000));
        assert!(!cut && counts.delivered > counts.taken && counts.cuts == 0);
        assert!((4..=12).contains(&counts.stalls), "{counts:?}");
        assert!(moments.windows(2).filter(|pair| pair[1] - pair[0] >= 400).count() as u64 >= counts.stalls);
    }

    #[test]
    fn a_stream_is_cut_somewhere_within_twice_the_mean() {
        let rules = Rules { cut_after: Some(1000), ..Rules::default() };
        let lengths: Vec<usize> = (0..100)
            .map(|seed| {
                let (arrived, _, counts, cut) = play(rules, seed, 1000);
                assert!(cut && counts.cuts == 1 && MESSAGE.repeat(1000).starts_with(&arrived));
                assert_eq!(arrived.len() as u64 + counts.bytes_cut, counts.taken * MESSAGE.len() as u64);
                arrived.len()
            })
            .collect();
        assert!(lengths.iter().all(|len| (1..=2000).contains(len)) && lengths.iter().any(|len| len % MESSAGE.len() != 0));
    }

    #[test]
    fn a_change_of_port_cuts_a_stream_at_about_its_time_and_not_when_it_is_calm() {
        let rules = Rules { rebind_every: Some(Duration::from_secs(1)), ..Rules::default() };
        for seed in 0..50 {
            let (arrived, _, counts, cut) = play(rules, seed, 1000);
            assert!(cut && (counts.cuts, counts.rebinds) == (1, 1) && MESSAGE.repeat(1000).starts_with(&arrived));
            assert!((500..=1500).contains(&(arrived.len() / MESSAGE.len() * 10 + 10)), "{}", arrived.len());
            let mut stream = Stream::new(rules, seed, Millis(0));
            assert!(stream.timeout_at(Direction::Down).is_some());
            stream.calm();
            assert_eq!((stream.timeout_at(Direction::Down), stream.timeout_at(Direction::Up)), (None, None));
        }
    }

    #[test]
    fn a_sender_waits_when_the_lane_is_full() {
        let (mut stream, mut counts) =
            (Stream::new(Rules { delay: Duration::from_secs(1), ..Rules::default() }, 1, Millis(0)), Counts::default());
        stream.offer(Millis(0), Direction::Down, &vec![0; LANE_BYTES_MAX], &mut counts);
        assert_eq!((stream.room(Direction::Down), stream.room(Direction::Up)), (0, LANE_BYTES_MAX));
        assert_eq!(stream.poll(Millis(999), Direction::Down, &mut counts), None);
        assert!(stream.poll(Millis(1000), Direction::Down, &mut counts).is_some());
        assert_eq!(stream.room(Direction::Down), LANE_BYTES_MAX);
    }

    #[test]
    fn a_seed_gives_the_same_stream() {
        let rules = Rules { jitter: Duration::from_millis(30), cut_after: Some(500), ..Rules::default() };
        assert_eq!(play(rules, 3, 1000), play(rules, 3, 1000));
        assert_ne!(play(rules, 3, 1000).0, play(rules, 4, 1000).0);
    }
}
