//! Who passes heartbeats on and yet does not serve its users. They say so (`evidence.rs`), and here it is decided whether to believe them.
//!
//! A message counts as failed if it has no answer although heartbeats that were sent two seconds after it have come through its shard, the journal and
//! whoever handed it over. So nothing fails that only waits: not in a pause of the machine, not for a slow disk, not for want of processor time. That is also
//! why nobody has to be excused here.
//!
//! A shard is gray if two observers see messages of theirs fail, or one does and the shard's own counts show that messages stay in it; these say at which
//! stage. If more than a third of all shards are, it is something that they share: a terminator, if nobody else sees it, or else the journal. Nothing is gray
//! for long after its users are served again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use firmware_protocol::time::Millis;

use crate::evidence::{LATE_AFTER, Observer, Page, SLOT_MS, Table, slot_of};
use crate::progress::{Part, Reading, Stage};
use crate::verdict::OWN_PAUSE;

/// Messages are looked at together that came within this time, in slots: eight seconds, so that what befalls a few is known within ten.
const WINDOW: u64 = 8_000 / SLOT_MS;
/// What all of the newest messages have in common is what all of these have, in slots: a second.
const NEWEST: u64 = 1_000 / SLOT_MS;
/// Fewer messages than this that fail are no complaint of an observer.
const COMPLAINT_MIN: u32 = 2;
/// Nor is less than one in so many.
const COMPLAINT_SHARE: u32 = 50;
/// Fewer than this of all observers are no reason to doubt a shard, unless all fail.
const FAILED_MIN: u32 = 3;
/// How long a part stays gray after the last reason for it: what comes and goes is one thing.
const LINGERS: Duration = Duration::from_secs(2);
/// A shard of which nothing comes through for so long is as good as stalled.
const HOPELESS_AFTER: Duration = Duration::from_secs(5);
/// Unless they are fewer.
const HOPELESS_MIN: u32 = 5;
/// How far back it is known how many messages stayed in a shard.
const LEVELS_SPAN: Duration = Duration::from_secs(10);
/// The part of it that counts as now. The least within it is compared, because what is on its way at one moment says nothing.
const LEVELS_NOW: Duration = Duration::from_millis(1_000);
/// If heartbeats come through all at once that were sent over so long a time, something has held them up.
const JUMP: Duration = Duration::from_millis(750);
/// Then what else was held up has time to be seen to be answered: by those whose heartbeats come through that are sent so long after that.
const CATCHES_UP: Duration = Duration::from_millis(500);
/// Where messages can stay in a shard.
const STAYS: [Stage; 3] = [Stage::Mailbox, Stage::Apply, Stage::Output];

/// What users say of one part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gray {
    /// Of whom.
    pub part: Part,
    /// Where messages stay, as well as can be told.
    pub stage: Option<Stage>,
    /// Since when it is known.
    pub since: Millis,
    /// Who noticed.
    pub observers: Vec<Observer>,
    /// How many of their newest messages failed.
    pub failed: u32,
    /// Of how many.
    pub handed: u32,
    /// Nothing of its users has come through for so long that it is as good as stalled. Said once.
    pub is_hopeless: bool,
}

impl Gray {
    /// One of which nothing more is known.
    pub fn of(part: Part, since: Millis) -> Self {
        Self { part, stage: None, since, observers: Vec::new(), failed: 0, handed: 0, is_hopeless: false }
    }
}

/// What users say of all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Findings {
    /// Who is gray.
    pub gray: Vec<Gray>,
    /// Who was not the last time.
    pub began: Vec<Part>,
    /// Who is no more.
    pub ended: Vec<Part>,
}

/// Messages of one slot that have been looked at.
#[derive(Clone, Copy, Debug)]
struct Looked {
    number: u64,
    handed: u32,
    failed: u32,
}

/// What one observer's messages to one shard came to.
#[derive(Default, Debug)]
struct Tale {
    /// The last slot that was looked at.
    last: Option<u64>,
    looked: VecDeque<Looked>,
    /// What came before this had its time.
    horizon: Millis,
    /// What it will be, once heartbeats of whoever tells have come through that are sent after this.
    held_up: Option<(Millis, Millis)>,
}

impl Tale {
    /// Moves the horizon, by how far heartbeats have come through everything, and how far through whoever tells.
    fn look_ahead(&mut self, now: Millis, through_all: Millis, through_observer: Millis) -> Millis {
        match self.held_up {
            Some((horizon, until)) if through_observer >= until => (self.horizon, self.held_up) = (horizon, None),
            Some(_) => {}
            None if through_all.since(self.horizon) > JUMP => self.held_up = Some((through_all, now + CATCHES_UP)),
            None => self.horizon = through_all,
        }
        self.horizon
    }

    /// Looks at what came before `horizon` and has not been looked at.
    fn go_on(&mut self, page: &Page, shard: usize, horizon: Millis) {
        let Some(upto) = slot_of(Millis(horizon.0.saturating_sub(LATE_MS))).checked_sub(1) else { return };
        let last = self.last.unwrap_or(upto).max(upto.saturating_sub(WINDOW));
        for number in last + 1..=upto {
            let (handed, failed) = page.slot(shard, number);
            if handed > 0 {
                self.looked.push_back(Looked { number, handed, failed });
            }
        }
        self.last = Some(last.max(upto));
        while self.looked.front().is_some_and(|first| first.number + WINDOW <= upto) {
            self.looked.pop_front();
        }
    }

    /// How many failed, of how many, since this slot.
    fn failed_since(&self, number: u64) -> (u32, u32) {
        let newest = self.looked.iter().filter(|looked| looked.number >= number);
        newest.fold((0, 0), |(failed, handed), looked| (failed + looked.failed, handed + looked.handed))
    }

    fn complains(&self) -> bool {
        let (failed, handed) = self.failed_since(0);
        failed >= COMPLAINT_MIN && failed.saturating_mul(COMPLAINT_SHARE) >= handed
    }
}

const LATE_MS: u64 = LATE_AFTER.as_secs() * 1_000;

/// How many messages stayed in a shard, over time.
#[derive(Default, Debug)]
struct Levels(VecDeque<(Millis, [i64; 3])>);

impl Levels {
    fn note(&mut self, now: Millis, staying: [i64; 3]) {
        self.0.push_back((now, staying));
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > LEVELS_SPAN) {
            self.0.pop_front();
        }
    }

    /// Where more and more stay, if they are about as many as fail.
    fn growing(&self, now: Millis, failed: u32) -> Option<Stage> {
        let least = |stage: usize, of_now: bool| {
            let levels = self.0.iter().filter(|(at, _)| (now.since(*at) < LEVELS_NOW) == of_now);
            levels.map(|(_, staying)| staying[stage]).min()
        };
        let grown = |stage: usize| Some(least(stage, true)? - least(stage, false)?);
        let (most, stage) =
            (0..STAYS.len()).filter_map(|stage| Some((grown(stage)?, stage))).max_by_key(|(most, stage)| (*most, usize::MAX - stage))?;
        (most >= i64::from(failed / 4).max(2)).then_some(STAYS[stage])
    }
}

/// Why a part is gray.
#[derive(Clone, Debug)]
struct Standing {
    since: Millis,
    /// When there was a reason last.
    reason_at: Millis,
    stage: Option<Stage>,
    /// Since when nothing has come through.
    nothing_since: Option<Millis>,
    observers: BTreeSet<Observer>,
    failed: u32,
    handed: u32,
}

/// What is held against one part at one moment.
#[derive(Clone, Debug)]
struct Reason {
    observers: BTreeSet<Observer>,
    stage: Option<Stage>,
    failed: u32,
    handed: u32,
    /// Nothing comes through.
    is_all: bool,
    /// It is enough to call it gray.
    is_enough: bool,
}

/// Who decides.
#[derive(Debug)]
pub struct GrayJudge {
    last: Millis,
    swept: u64,
    tales: BTreeMap<(usize, Observer), Tale>,
    levels: BTreeMap<usize, Levels>,
    standing: BTreeMap<Part, Standing>,
}

impl GrayJudge {
    /// Begins to decide.
    pub fn new(now: Millis) -> Self {
        Self { last: now, swept: 0, tales: BTreeMap::new(), levels: BTreeMap::new(), standing: BTreeMap::new() }
    }

    /// Decides by what users note in `table`, and by how far heartbeats have come.
    pub fn judge(&mut self, now: Millis, table: &Table, readings: &[Reading]) -> Findings {
        table.sweep(now, &mut self.swept);
        if now.since(self.last) >= OWN_PAUSE {
            // What is old and what is new cannot be told apart.
            self.tales.clear();
            self.levels.clear();
        }
        self.last = now;
        let come: BTreeMap<Part, Millis> = readings.iter().filter_map(|reading| Some((reading.part, come_through(reading)?))).collect();
        let mut reasons = BTreeMap::new();
        for shard in 0..table.shards() {
            self.levels.entry(shard).or_default().note(now, table.staying(shard));
            if let Some(reason) = self.reason(now, table, shard, &come) {
                reasons.insert(shard, reason);
            }
        }
        let reasons = match shared(&reasons, table.shards()) {
            Some((part, reason)) => vec![(part, reason)],
            None => reasons.into_iter().map(|(shard, reason)| (part_of(shard), reason)).collect(),
        };
        self.conclude(now, reasons)
    }

    /// What is held against a shard.
    fn reason(&mut self, now: Millis, table: &Table, shard: usize, come: &BTreeMap<Part, Millis>) -> Option<Reason> {
        let (own, journal) = (*come.get(&part_of(shard))?, *come.get(&Part::Journal)?);
        let (mut failed, mut handed, mut observers, mut newest) = (0, 0, BTreeSet::new(), (0, 0));
        for page in table.pages() {
            let observer = *come.get(&page.observer().part())?;
            let through_all = own.min(journal).min(observer);
            let tale = self.tales.entry((shard, page.observer())).or_default();
            let horizon = tale.look_ahead(now, through_all, observer);
            tale.go_on(page, shard, horizon);
            let of_all = tale.failed_since(0);
            (failed, handed) = (failed + of_all.0, handed + of_all.1);
            let of_newest = tale.failed_since(tale.last.unwrap_or_default().saturating_sub(NEWEST - 1));
            newest = (newest.0 + of_newest.0, newest.1 + of_newest.1);
            if tale.complains() {
                observers.insert(page.observer());
            }
        }
        let is_all = newest.0 > 0 && newest.0 == newest.1;
        if observers.is_empty() {
            return None;
        }
        let stage = self.levels.get(&shard).and_then(|levels| levels.growing(now, failed));
        let is_enough = (failed >= FAILED_MIN || is_all) && (observers.len() > 1 || stage.is_some());
        Some(Reason { observers, stage, failed, handed, is_all, is_enough })
    }

    /// What to say, by what is held against whom.
    fn conclude(&mut self, now: Millis, reasons: Vec<(Part, Reason)>) -> Findings {
        let mut findings = Findings::default();
        for (part, reason) in reasons {
            if !reason.is_enough && !self.standing.contains_key(&part) {
                continue;
            }
            let standing = self.standing.entry(part).or_insert_with(|| {
                findings.began.push(part);
                let (observers, stage) = (BTreeSet::new(), None);
                Standing { since: now, reason_at: now, stage, nothing_since: None, observers, failed: 0, handed: 0 }
            });
            standing.reason_at = now;
            standing.stage = reason.stage.or(standing.stage);
            standing.nothing_since = reason.is_all.then(|| standing.nothing_since.unwrap_or(now));
            standing.observers.extend(reason.observers);
            (standing.failed, standing.handed) = (reason.failed, reason.handed);
        }
        let mut hopeless = Vec::new();
        self.standing.retain(|part, standing| {
            if now.since(standing.reason_at) > LINGERS {
                findings.ended.push(*part);
                return false;
            }
            let nothing = standing.nothing_since.is_some_and(|since| now.since(since) >= HOPELESS_AFTER);
            let is_hopeless = nothing && standing.failed >= HOPELESS_MIN && matches!(part, Part::Shard(_));
            if is_hopeless {
                hopeless.push(*part);
            }
            let Standing { since, stage, failed, handed, .. } = *standing;
            let observers = standing.observers.iter().copied().collect();
            findings.gray.push(Gray { part: *part, stage, since, observers, failed, handed, is_hopeless });
            true
        });
        // Whatever is done about it, it begins anew.
        for part in hopeless {
            self.standing.remove(&part);
            self.tales.retain(|(shard, _), _| part_of(*shard) != part);
        }
        findings
    }
}

/// What was sent before this has come through all of a part; `None` before anything has.
fn come_through(reading: &Reading) -> Option<Millis> {
    reading.passed.iter().map(|(_, passed)| passed.map(|heartbeat| heartbeat.0)).min().flatten()
}

/// What it is that so many shards share, if they are so many.
fn shared(reasons: &BTreeMap<usize, Reason>, shards: usize) -> Option<(Part, Reason)> {
    let are_many = |count: usize| count > 1 && count * 3 > shards;
    if !are_many(reasons.len()) {
        return None;
    }
    let observers: BTreeSet<Observer> = reasons.values().flat_map(|reason| reason.observers.iter().copied()).collect();
    let stays = reasons.values().filter(|reason| reason.stage.is_some()).count();
    let part = match observers.first() {
        Some(Observer::Terminator(number)) if observers.len() == 1 && stays * 2 < reasons.len() => Part::Terminator(*number),
        _ if are_many(reasons.values().filter(|reason| reason.is_enough).count()) => Part::Journal,
        _ => return None,
    };
    let sum = |count: fn(&Reason) -> u32| reasons.values().map(count).sum();
    let (failed, handed) = (sum(|reason| reason.failed), sum(|reason| reason.handed));
    Some((part, Reason { observers, stage: None, failed, handed, is_all: false, is_enough: true }))
}

fn part_of(shard: usize) -> Part {
    Part::Shard(u16::try_from(shard).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests;
