//! What happened while the disk was sick, and what of that must be so.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::StallDrill;
use super::asker::Asked;
use crate::api::Told;
use crate::drill::bystanders::Record;
use crate::drill::judge::Verdict;
use crate::fleet::{FleetReport, Moment};
use crate::herald::{Word, Words};
use crate::metrics::Metrics;
use crate::report::{Check, DrillReport};
use crate::stats::Latencies;

/// What a caller may wait beyond what was promised, on a machine that has other things to do.
const MARGIN: Duration = Duration::from_secs(2);
/// Everything is accepted again within this time after the disk is well.
const AGAIN_MOST: Duration = Duration::from_secs(10);
/// After this time a message of a device has been answered, whatever the disk does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(40);

/// What happened besides what devices saw.
#[derive(Default)]
pub(super) struct Story {
    pub(super) calm: Part,
    pub(super) calm_publishes: Latencies,
    pub(super) hangs: Part,
    pub(super) full: Part,
    pub(super) end: Moment,
    pub(super) verdict: Verdict,
    /// Events of callers that were accepted and are not there.
    pub(super) lost_of_callers: u64,
    /// Messages of devices that the server answered 5.03, and records that it did not write.
    unkept: u64,
    unwritten: u64,
}

/// One sickness.
#[derive(Default)]
pub(super) struct Part {
    pub(super) begun: Option<Instant>,
    pub(super) mended: Option<Instant>,
    pub(super) asked: Asked,
    /// Publishes of devices that failed meanwhile.
    pub(super) failed: u64,
    /// From its end until a caller's publish was accepted.
    pub(super) accepted_again: Duration,
    /// Publishes of devices that were acknowledged soon after it.
    pub(super) served_again: u64,
}

/// What callers were told of publishes that began in a part and did not end well.
#[derive(Default)]
struct Refusals {
    in_words: u64,
    otherwise: u64,
    slowest: Duration,
}

impl Story {
    pub(super) fn take_metrics(&mut self, metrics: &Metrics) {
        self.unkept = metrics.sum("holdfast_messages_unkept_total", None);
        self.unwritten = metrics.sum("holdfast_journal_refused_records_total", None);
    }
}

impl Part {
    fn refusals(&self, calls: &Words) -> Refusals {
        let mut refusals = Refusals::default();
        let here =
            |word: &&Word| self.begun.is_some_and(|begun| word.begun >= begun) && self.mended.is_some_and(|mended| word.begun < mended);
        for word in calls.all.iter().filter(here).filter(|word| word.told != Told::Accepted) {
            let column = if word.told == Told::Later { &mut refusals.in_words } else { &mut refusals.otherwise };
            *column += 1;
            refusals.slowest = refusals.slowest.max(word.took);
        }
        refusals
    }
}

/// Judges.
pub(super) fn conclude(drill: &StallDrill, story: &Story, record: &Record, report: &FleetReport, calls: &Words) -> DrillReport {
    let (tally, devices) = (&report.tally, u64::from(drill.devices));
    let (hangs, full) = (story.hangs.refusals(calls), story.full.refusals(calls));
    let promised = Duration::from_secs(drill.call_timeout_s());
    let never_answered = calls.all.iter().filter(|word| !matches!(word.told, Told::Accepted | Told::Later)).count() as u64;
    let mut checks = vec![
        Check::equal("devices_connected_at_the_end", devices, story.end.connected),
        Check::equal("handshakes_after_connecting", 0, tally.handshakes - record.connected.handshakes),
        Check::equal("connections_lost", 0, tally.disconnects.values().sum()),
        Check::equal("acknowledged_events_lost", 0, story.verdict.lost + story.lost_of_callers),
        Check::equal("events_accepted_twice", 0, story.verdict.twice),
        Check::equal("sequences_seen_twice", 0, tally.sequences_repeated + tally.wire_sequences_repeated),
        Check::equal("pings_and_reads_failed", 0, [&story.calm, &story.hangs, &story.full].iter().map(|part| part.asked.failed).sum()),
        Check::equal("callers_refused_without_words", 0, never_answered),
        Check::at_least("callers_refused_while_it_hangs", 1, hangs.in_words),
        Check::at_most("slowest_refusal_ms_while_it_hangs", ms(promised + MARGIN), ms(hangs.slowest)),
        Check::at_most("accepted_again_ms_after_it_hung", ms(AGAIN_MOST), ms(story.hangs.accepted_again)),
        Check::at_least("devices_served_again_after_it_hung", devices, story.hangs.served_again),
        Check::at_least("callers_refused_while_it_is_full", 1, full.in_words),
        Check::at_least("devices_refused_while_it_is_full", 1, story.full.failed),
        Check::at_most("slowest_refusal_ms_while_it_is_full", ms(MARGIN), ms(full.slowest)),
        Check::at_most("accepted_again_ms_after_it_was_full", ms(AGAIN_MOST), ms(story.full.accepted_again)),
        Check::at_least("devices_served_again_after_it_was_full", devices, story.full.served_again),
    ];
    if drill.hangs > ANSWERED_WITHIN {
        checks.push(Check::at_least("devices_refused_while_it_hangs", 1, story.unkept.min(story.hangs.failed)));
    }
    let mut figures = drill.bystanders().figures(record);
    add_figures(&mut figures, drill, story, report, [hangs.otherwise, full.otherwise]);
    DrillReport::new(checks, figures)
}

fn add_figures(figures: &mut Map<String, Value>, drill: &StallDrill, story: &Story, report: &FleetReport, unworded: [u64; 2]) {
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("seconds", json!((drill.hangs + drill.full).as_secs()));
    note("seconds_hanging", json!(drill.hangs.as_secs()));
    note("seconds_full", json!(drill.full.as_secs()));
    note("call_timeout_s", drill.call_timeout_s().into());
    note("publish_latency_ms_calm", json!(story.calm_publishes));
    for (name, part) in [("calm", &story.calm), ("hanging", &story.hangs), ("full", &story.full)] {
        note(&format!("pings_and_reads_{name}"), part.asked.answered.count().into());
        note(&format!("ping_and_read_ms_{name}"), json!(part.asked.answered));
        note(&format!("device_publishes_failed_{name}"), part.failed.into());
    }
    note("callers_refused_without_words_hanging_and_full", json!(unworded));
    note("device_messages_answered_unkept", story.unkept.into());
    note("records_not_written", story.unwritten.into());
    note("events_accepted", story.verdict.accepted.into());
    note("fleet", report.figures());
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_while_it_was_sick_and_was_not_accepted_is_a_refusal() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let word = |ms, told, took| Word { begun: at(ms), took: Duration::from_millis(took), told };
        let words = [
            word(0, Told::Later, 900),
            word(10, Told::Later, 30),
            word(15, Told::Accepted, 800),
            word(20, Told::Nothing, 50),
            word(30, Told::Otherwise(500), 700),
        ];
        let part = Part { begun: Some(at(10)), mended: Some(at(30)), ..Part::default() };
        let refusals = part.refusals(&Words::new("n", words.to_vec()));
        assert_eq!((refusals.in_words, refusals.otherwise, refusals.slowest), (1, 1, Duration::from_millis(50)));
    }
}
