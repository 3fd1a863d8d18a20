//! Who hears of events while a server is broken again and again: a reader that continues its event stream, and the devices of the fleet, which have
//! subscribed to news that a caller publishes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Map, json};

use crate::api::{Api, Told};
use crate::cli::AcceptedEvent;
use crate::fleet::text::NEWS_PREFIX;
use crate::fleet::{Fleet, Ledger, Moment};
use crate::herald::{Account, Herald, HeraldPlan, Words};
use crate::reader::{Comparison, Difference, Reader, Seen};
use crate::report::Check;
use crate::server::Server;

/// Name of the event after which nothing counts for the reader.
const END: &str = "fleet/end";
/// Longest wait of a caller for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time until the reader is there, and until it has come to the end.
const READER_LIMIT: Duration = Duration::from_secs(30);
/// When no device has heard anything for so long, nothing more comes, if all may have heard everything.
const SILENCE: Duration = Duration::from_secs(8);
/// If not: what was lost is sent again for the last time no later than 28 s after the time before.
const LONG_SILENCE: Duration = Duration::from_secs(30);
/// Longest wait for either.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// They, at work.
#[derive(Debug)]
pub(super) struct Listeners {
    api: Api,
    reader: Reader,
    herald: Herald,
}

/// What they were told and saw.
#[derive(Debug)]
pub(super) struct Heard {
    news: Words,
    seen: Seen,
}

/// That against what the server says that it accepted.
#[derive(Debug)]
pub(super) struct Comparing<'a> {
    heard: &'a Heard,
    news: Account,
    stream: Comparison<'a>,
}

/// What became of everything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Outcome {
    news_published: u64,
    news_accepted: u64,
    news_lost: u64,
    events_seen: u64,
    connections: u64,
    difference: Difference,
    out_of_order: u64,
    gaps: u64,
    cuts: u64,
}

/// What devices heard of the news.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct NewsHeard {
    /// Accepted news that a device did not hear whose connection never ended.
    pub(super) missed: u64,
    /// The same of all other devices.
    pub(super) missed_by_others: u64,
    /// News that came to a device, each once.
    pub(super) delivered: u64,
    /// News that came to a device again.
    pub(super) repeated: u64,
}

impl Listeners {
    /// Lets the reader come; the news rest. Everything that is published from now on counts.
    pub(super) fn start(server: &Server, news_every: Duration) -> Result<Self> {
        let api = server.api()?;
        let reader = Reader::start(api.clone(), END, READER_LIMIT)?;
        let plan = HeraldPlan { name: NEWS_PREFIX, every: news_every, patience: PATIENCE, padding: 0 };
        Ok(Self { herald: Herald::start(api.clone(), plan)?, api, reader })
    }

    /// Begins to publish news, or rests.
    pub(super) fn speak(&self, speaks: bool) {
        self.herald.speak(speaks);
    }

    /// Waits until devices hear nothing more and the reader has come to the end. The fleet is to rest by now.
    pub(super) fn finish(self, fleet: &Fleet, show: impl FnMut(Moment)) -> Result<Heard> {
        let news = self.herald.stop()?;
        let wanted = news.accepted().count() as u64 * fleet.moment().connected;
        let last = Cell::new((0, Instant::now()));
        fleet.wait(SILENCE_LIMIT, show, |moment| {
            let (heard, since) = last.get();
            if moment.events_received != heard {
                last.set((moment.events_received, Instant::now()));
                return false;
            }
            since.elapsed() >= if heard >= wanted { SILENCE } else { LONG_SILENCE }
        });
        let told = self.api.publish(END, "0", PATIENCE);
        ensure!(told == Told::Accepted, "the last event was not accepted: {told:?}");
        self.reader.wait_end(READER_LIMIT);
        Ok(Heard { news, seen: self.reader.stop()? })
    }
}

impl Heard {
    /// Begins to compare with what was accepted.
    pub(super) fn compare(&self) -> Comparing<'_> {
        Comparing { heard: self, news: self.news.account(), stream: self.seen.compare() }
    }

    /// What devices heard of the accepted news.
    pub(super) fn by_devices(&self, ledgers: &[Ledger]) -> NewsHeard {
        let (accepted, mut sum): (Vec<usize>, _) = (self.news.accepted().collect(), NewsHeard::default());
        for ledger in ledgers {
            let missed = accepted.iter().filter(|number| ledger.news.get(**number).is_none_or(|times| *times == 0)).count() as u64;
            let column = if ledger.disconnects == 0 { &mut sum.missed } else { &mut sum.missed_by_others };
            *column += missed;
            sum.delivered += ledger.news.iter().filter(|times| **times > 0).count() as u64;
            sum.repeated += ledger.news.iter().map(|times| u64::from(times.saturating_sub(1))).sum::<u64>();
        }
        sum
    }
}

impl Comparing<'_> {
    /// Takes the next accepted event. They come in the order of their positions.
    pub(super) fn note(&mut self, event: &AcceptedEvent) {
        self.news.note(event);
        self.stream.note(event);
    }

    /// What is different.
    pub(super) fn end(self) -> Outcome {
        let Heard { news, seen } = self.heard;
        Outcome {
            news_published: news.all.len() as u64,
            news_accepted: news.accepted().count() as u64,
            news_lost: self.news.missing(),
            events_seen: seen.count() as u64,
            connections: seen.connections,
            difference: self.stream.end(),
            out_of_order: seen.out_of_order,
            gaps: seen.gaps,
            cuts: seen.cuts,
        }
    }
}

impl Outcome {
    /// What must be so of the reader and of the news.
    pub(super) fn checks(&self, devices: NewsHeard) -> Vec<Check> {
        vec![
            Check::equal("accepted_news_lost", 0, self.news_lost),
            Check::equal("accepted_news_missed_by_devices", 0, devices.missed),
            Check::equal("accepted_events_missing_to_reader", 0, self.difference.missing),
            Check::equal("events_repeated_to_reader_or_out_of_order", 0, self.out_of_order),
            Check::equal("events_shown_to_reader_and_not_kept", 0, self.difference.unknown),
            Check::equal("gaps_told_to_reader", 0, self.gaps),
        ]
    }

    /// What is good to know besides.
    pub(super) fn figures(&self, devices: NewsHeard, figures: &mut Map<String, serde_json::Value>) {
        let mut note = |name: &str, value: u64| figures.insert(name.to_owned(), json!(value));
        note("news_published", self.news_published);
        note("news_accepted", self.news_accepted);
        note("news_delivered_to_devices", devices.delivered);
        note("news_repeated_to_devices", devices.repeated);
        note("news_missed_by_devices_that_had_gone", devices.missed_by_others);
        note("events_seen_by_reader", self.events_seen);
        note("reader_connections", self.connections);
        note("reader_cuts", self.cuts);
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::DeviceId;

    use super::*;
    use crate::herald::Word;

    #[test]
    fn only_what_was_accepted_can_be_missed_and_only_by_who_stayed() {
        let word = |told| Word { begun: Instant::now(), took: Duration::ZERO, told };
        let all = [Told::Accepted, Told::Nothing, Told::Accepted].map(word).to_vec();
        let heard = Heard { news: Words::new(NEWS_PREFIX, all), seen: Seen::default() };
        let ledger = |news: &[u8], disconnects| Ledger { device: DeviceId([1; 12]), fates: Vec::new(), news: news.to_vec(), disconnects };
        let ledgers = [ledger(&[1, 1, 1], 0), ledger(&[3, 0, 1], 0), ledger(&[0, 1], 0), ledger(&[1], 1)];
        let expected = NewsHeard { missed: 2, missed_by_others: 1, delivered: 7, repeated: 2 };
        assert_eq!(heard.by_devices(&ledgers), expected);
    }
}
