//! What a server says of its own parts, in its log and in its metrics.

use anyhow::Result;

use super::cases::Sign;
use crate::metrics::Metrics;
use crate::server::Server;

/// What is found at one moment.
#[derive(Clone, Default, Debug)]
pub(super) struct Signs {
    /// Parts that were said to have stalled since the begin, with their stages.
    stalled: Vec<(String, String)>,
    /// Parts that were said to be gray since the begin.
    gray: Vec<String>,
    /// Shards that are gray now, with their stages.
    gray_now: Vec<(String, String)>,
    /// Series that stand still now.
    stale: Vec<String>,
    degraded: bool,
    /// States that are not healthy now.
    unwell: Vec<String>,
    log: String,
}

impl Signs {
    /// What the server said since its log had so many bytes, and says now if it still can.
    pub(super) fn read(server: &Server, since: u64) -> Result<Self> {
        let mut signs = Self { log: server.log_since(since)?, ..Self::default() };
        for line in signs.log.lines() {
            if let Some((part, stage)) = last_words(line).or_else(|| stalled_line(line)) {
                signs.stalled.push((part, stage));
            } else if line.contains("its users are not served") {
                signs.gray.extend(field(line, "part="));
            }
        }
        if let Ok(metrics) = server.metrics() {
            signs.take(&metrics);
        }
        Ok(signs)
    }

    fn take(&mut self, metrics: &Metrics) {
        let label = |labels: &str, name: &str| field(labels, &format!("{name}=")).unwrap_or_default();
        let gray = metrics.ones("holdfast_shard_gray");
        self.gray_now = gray.iter().map(|labels| (label(labels, "shard"), label(labels, "stage"))).collect();
        self.stale = metrics.ones("holdfast_stale_series").iter().map(|labels| label(labels, "series")).collect();
        self.degraded = metrics.sum("holdfast_journal_degraded", None) > 0;
        let states = metrics.ones("holdfast_part_state");
        self.unwell = states.iter().filter(|labels| label(labels, "state") != "healthy").map(|labels| label(labels, "part")).collect();
    }

    /// Whether this is among them.
    pub(super) fn show(&self, sign: Sign) -> bool {
        let has = |all: &[(String, String)], one: (&str, &str)| all.iter().any(|(a, b)| (a.as_str(), b.as_str()) == one);
        match sign {
            Sign::Stalled(part, stage) => has(&self.stalled, (part, stage)),
            Sign::Gray(shard, stage) => has(&self.gray_now, (shard, stage)),
            Sign::Stale(series) => self.stale.iter().any(|stale| stale == series),
            Sign::Words(words) => self.log.contains(words),
            Sign::Degraded => self.degraded,
            Sign::Nothing => false,
        }
    }

    /// Parts that were named, and series.
    pub(super) fn named(&self) -> Vec<String> {
        let parts = self.stalled.iter().map(|(part, _)| part.clone()).chain(self.gray.iter().cloned());
        let mut named: Vec<String> = parts.chain(self.stale.iter().cloned()).collect();
        named.sort();
        named.dedup();
        named
    }

    /// Whether all is well now.
    pub(super) fn are_well(&self) -> bool {
        self.unwell.is_empty() && self.gray_now.is_empty() && self.stale.is_empty() && !self.degraded
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let stalled = self.stalled.iter().map(|(part, stage)| format!("{part} stalled in {stage}"));
        let gray =
            self.gray_now.iter().map(|(shard, stage)| format!("shard-{shard} gray in {}", if stage.is_empty() { "?" } else { stage }));
        let stale = self.stale.iter().map(|series| format!("{series} stands still"));
        let mut words: Vec<String> = stalled.chain(gray).chain(stale).collect();
        words.dedup();
        words.join("; ")
    }
}

/// What stands behind `name` in a line, without quotes: up to a blank, a comma or the end.
fn field(line: &str, name: &str) -> Option<String> {
    let rest = line.split_once(name)?.1;
    let value = rest.strip_prefix('"').map_or_else(|| rest.split([' ', ',', '}']).next(), |quoted| quoted.split('"').next());
    value.map(str::to_owned)
}

/// `holdfast: shard-3 has stalled in apply; …`
fn last_words(line: &str) -> Option<(String, String)> {
    let (part, rest) = line.strip_prefix("holdfast: ")?.split_once(" has stalled in ")?;
    Some((part.to_owned(), rest.split(';').next().unwrap_or_default().to_owned()))
}

/// The watchdog's line in the log.
fn stalled_line(line: &str) -> Option<(String, String)> {
    let said = line.contains("has stalled") && line.contains("part=");
    said.then(|| Some((field(line, "part=")?, field(line, "stage=")?))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_understood() {
        let line = "2026-11-29T21:00:00.000000Z ERROR holdfast::watchdog: has stalled part=shard-3 stage=\"apply\" for_ms=2100";
        let both = ("shard-3".to_owned(), "apply".to_owned());
        assert_eq!(stalled_line(line), Some(both.clone()));
        assert_eq!(last_words("holdfast: shard-3 has stalled in apply; ending the process, sessions go on after a restart"), Some(both));
        assert_eq!(field("{shard=\"3\",stage=\"\"}", "stage="), Some(String::new()));
        let mut signs = Signs::default();
        signs.take(&Metrics::new(
            "holdfast_shard_gray{shard=\"5\",stage=\"apply\"} 1\nholdfast_shard_gray{shard=\"6\",stage=\"\"} 0\n\
             holdfast_part_state{part=\"shard-5\",state=\"gray\"} 1\nholdfast_part_state{part=\"journal\",state=\"healthy\"} 1\n"
                .into(),
        ));
        assert!(signs.show(Sign::Gray("5", "apply")) && !signs.show(Sign::Gray("6", "")) && !signs.are_well());
        assert_eq!((signs.unwell, signs.gray_now.len()), (vec!["shard-5".to_owned()], 1));
    }
}
