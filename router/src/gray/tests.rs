use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::evidence::Passage;
use crate::progress::{Board, Heartbeat};
use crate::verdict::{Judge, Judgement, State, Verdict};

const SHARDS: usize = 16;
/// Messages that each observer hands each shard in a second.
const RATE: u64 = 20;

/// What becomes of a message in a shard: how long it stays, or `None` if it never leaves, and where.
type Fate = (Option<u64>, usize);

/// What a message is: of which observer, to which shard, the how-maniest there.
#[derive(Clone, Copy)]
struct Message {
    observer: usize,
    shard: usize,
    count: u64,
}

/// Terminators, the API, and shards that serve them.
struct Machine {
    board: Board,
    table: Table,
    judge: Judge,
    gray: GrayJudge,
    now: Millis,
    count: u64,
    /// Messages on their way, and when they are answered.
    open: VecDeque<(Millis, Millis, Message)>,
}

impl Machine {
    fn new() -> Self {
        let shards = (0..).take(SHARDS).map(Part::Shard);
        let parts = [Part::Journal, Part::Terminator(0), Part::Terminator(1), Part::Api].into_iter().chain(shards);
        let (judge, gray) = (Judge::new(Millis(0)), GrayJudge::new(Millis(0)));
        let mut machine =
            Self { board: Board::new(parts), table: Table::new(2, SHARDS), judge, gray, now: Millis(0), count: 0, open: VecDeque::new() };
        assert!(machine.run(20_000, |_| true, |_| (Some(20), 0)).is_empty());
        machine
    }

    fn passage(&self, shard: usize) -> Arc<Passage> {
        self.table.passage(shard)
    }

    /// Passes time. `beats` says who passes heartbeats on, `fate` what becomes of messages. What changed, and when after the begin.
    fn run(&mut self, for_ms: u64, beats: impl Fn(Part) -> bool, fate: impl Fn(Message) -> Fate) -> Vec<(u64, Verdict)> {
        let (begun, mut changed) = (self.now.0, Vec::new());
        while self.now.0 < begun + for_ms {
            self.now = Millis(self.now.0 + 50);
            if self.now.0.is_multiple_of(1_000 / RATE) {
                self.hand(&fate);
            }
            self.answer();
            if self.now.0.is_multiple_of(250) {
                let rows = self.board.rows().iter().filter(|row| beats(row.part()));
                rows.for_each(|row| row.part().stages().iter().for_each(|stage| row.pass(*stage, Heartbeat(self.now))));
            }
            if self.now.0.is_multiple_of(100) {
                let judgement = self.look();
                changed.extend(judgement.changed.into_iter().map(|verdict| (self.now.0 - begun, verdict)));
            }
        }
        changed
    }

    fn look(&mut self) -> Judgement {
        let readings: Vec<_> = self.board.rows().iter().map(|row| row.read()).collect();
        let mut judgement = self.judge.judge(self.now, &readings);
        judgement.add(self.now, self.gray.judge(self.now, &self.table, &readings));
        judgement
    }

    fn hand(&mut self, fate: &impl Fn(Message) -> Fate) {
        self.count += 1;
        for (observer, shard) in (0..2).flat_map(|observer| (0..SHARDS).map(move |shard| (observer, shard))) {
            let message = Message { observer, shard, count: self.count * 2 + observer as u64 };
            self.table.pages()[observer].handed(shard, self.now);
            let (stays, stage) = fate(message);
            let passage = self.passage(shard);
            let steps = [Passage::taken, Passage::decided, Passage::passed];
            let gone = stays.is_some_and(|stays| stays < 1_000);
            steps.iter().take(if gone { 3 } else { stage }).for_each(|step| step(&passage, 1));
            if let Some(stays) = stays {
                self.open.push_back((self.now, Millis(self.now.0 + stays), message));
            }
        }
    }

    fn answer(&mut self) {
        let (now, table) = (self.now, &self.table);
        self.open.retain(|(came, at, message)| {
            if *at <= now {
                table.pages()[message.observer].answered(message.shard, *came, now);
            }
            *at > now
        });
    }
}

fn everybody(_: Part) -> bool {
    true
}

const FINE: Fate = (Some(20), 0);

/// The first that is said to be gray, and when.
fn first_gray(changed: &[(u64, Verdict)]) -> Option<(u64, Part, Option<Stage>)> {
    changed.iter().find(|(_, verdict)| verdict.state == State::Gray).map(|(at, verdict)| (*at, verdict.part, verdict.stage))
}

#[test]
fn a_shard_that_passes_heartbeats_and_no_messages_is_gray_within_three_seconds_at_its_stage() {
    for (number, stage) in STAYS.into_iter().enumerate() {
        let mut machine = Machine::new();
        let changed = machine.run(4_000, everybody, |message| if message.shard == 7 { (None, number) } else { FINE });
        let (at, part, found) = first_gray(&changed).expect("it is gray");
        assert!(at <= 3_000, "{at}");
        assert_eq!((part, found), (Part::Shard(7), Some(stage)));
        assert!(changed.iter().all(|(_, verdict)| verdict.part == part), "nobody else is named: {changed:?}");
    }
}

#[test]
fn what_befalls_some_messages_of_a_shard_is_known_within_ten_seconds_and_passes() {
    let fates: [fn(Message) -> Fate; 4] = [
        |message| if message.count.is_multiple_of(5) { (Some(10_000), 1) } else { FINE },
        |message| if message.count.is_multiple_of(20) { (None, 1) } else { FINE },
        |message| if message.count.is_multiple_of(10) { (None, 1) } else { FINE },
        |message| if message.count % 4 < 2 { (None, 1) } else { FINE },
    ];
    for fate in fates {
        let mut machine = Machine::new();
        let changed = machine.run(60_000, everybody, |message| if message.shard == 3 { fate(message) } else { FINE });
        let (at, part, stage) = first_gray(&changed).expect("it is gray");
        assert!(at <= 10_000, "{at}");
        assert_eq!((part, stage), (Part::Shard(3), Some(Stage::Apply)));
        assert_eq!(changed.len(), 1, "it is said once and not ended: {changed:?}");
        let changed = machine.run(15_000, everybody, |_| FINE);
        assert_eq!(changed.last().map(|(_, verdict)| (verdict.part, verdict.state)), Some((Part::Shard(3), State::Healthy)));
    }
}

#[test]
fn one_observer_alone_is_believed_only_if_the_shard_shows_it_too() {
    let mut machine = Machine::new();
    let seen_by_one = |stage| move |message: Message| if (message.observer, message.shard) == (0, 2) { (None, stage) } else { FINE };
    assert!(machine.run(30_000, everybody, seen_by_one(3)).is_empty(), "it has passed everything on");
    let changed = machine.run(10_000, everybody, seen_by_one(0));
    assert_eq!(first_gray(&changed).map(|(_, part, stage)| (part, stage)), Some((Part::Shard(2), Some(Stage::Mailbox))));
    assert_eq!(machine.look().gray[0].observers, [Observer::Terminator(0)]);
}

#[test]
fn a_shard_of_which_nothing_comes_through_is_as_good_as_stalled() {
    let mut machine = Machine::new();
    let changed = machine.run(20_000, everybody, |message| if message.shard == 5 { (None, 1) } else { FINE });
    let stalled: Vec<_> = changed.iter().filter(|(_, verdict)| verdict.state == State::Stalled).collect();
    let (at, verdict) = stalled.first().expect("it is as good as stalled");
    assert!((6_500..=9_000).contains(at), "{at}");
    assert_eq!((verdict.part, verdict.stage), (Part::Shard(5), Some(Stage::Apply)));
    assert!(stalled.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 5_000), "after that it has its time again: {stalled:?}");
}

#[test]
fn shards_that_wait_are_not_gray() {
    let mut machine = Machine::new();
    for pause in [1_500, 1_900] {
        let changed = machine.run(pause, |_| false, |_| (Some(pause), 0));
        let after = machine.run(15_000, everybody, |_| FINE);
        assert!(first_gray(&changed).or(first_gray(&after)).is_none(), "a pause");
    }
    // The disk hangs, and the journal passes nothing on.
    let begun = machine.count;
    // What was held up is answered some time after the heartbeats that were.
    let until_it_answers = |message: Message| 9_400u64.saturating_sub((message.count / 2 - begun) * (1_000 / RATE));
    let changed = machine.run(9_000, |part| part != Part::Journal, |message| (Some(until_it_answers(message)), 3));
    let after = machine.run(9_000, everybody, |_| FINE);
    assert!(first_gray(&changed).or(first_gray(&after)).is_none(), "{changed:?} {after:?}");
}

#[test]
fn who_was_asleep_can_tell_nothing_of_that_time() {
    let mut machine = Machine::new();
    machine.hand(&|_| (None, 1));
    machine.now = Millis(machine.now.0 + 60_000);
    let changed = machine.run(20_000, everybody, |_| FINE);
    assert!(first_gray(&changed).is_none(), "{changed:?}");
}

#[test]
fn many_shards_at_once_share_what_is_wrong_with_them() {
    let mut machine = Machine::new();
    let some = |limit: usize| move |message: Message| if message.shard < limit { (None, 1) } else { FINE };
    machine.run(4_000, everybody, some(5));
    let gray: Vec<_> = machine.look().gray.iter().map(|gray| gray.part).collect();
    assert_eq!(gray, (0..5).map(Part::Shard).collect::<Vec<_>>(), "five of sixteen may be five");
    let mut machine = Machine::new();
    machine.run(4_000, everybody, some(9));
    assert_eq!(machine.look().gray.iter().map(|gray| gray.part).collect::<Vec<_>>(), [Part::Journal]);
}

#[test]
fn what_one_terminator_sees_of_all_shards_is_the_terminator() {
    let mut machine = Machine::new();
    let changed = machine.run(6_000, everybody, |message| if message.observer == 1 { (None, 3) } else { FINE });
    assert_eq!(first_gray(&changed).map(|(_, part, _)| part), Some(Part::Terminator(1)));
    assert!(changed.iter().all(|(_, verdict)| verdict.part == Part::Terminator(1)), "{changed:?}");
}
