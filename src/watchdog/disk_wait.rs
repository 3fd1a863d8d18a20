//! Whether a part that stands still waits for the disk, or did a moment ago: when the disk answers again, what comes behind it is late as well, and is let go on.

use std::time::Duration;

use firmware_protocol::time::Millis;
use router::progress::{Part, Stage};
use router::verdict::Verdict;

/// How long the journal may take to go on once it waits for the disk no more.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// It.
#[derive(Debug, Default)]
pub(super) struct DiskWait {
    /// When the journal was seen last as it waited.
    journal_at: Option<Millis>,
}

impl DiskWait {
    /// Whether what stands still waits for the disk.
    pub(super) fn is(verdict: &Verdict) -> bool {
        matches!(verdict.stage, Some(Stage::Commit | Stage::Read))
    }

    /// Takes out of what stands still whatever the disk is to blame for.
    pub(super) fn excuse(&mut self, now: Millis, stuck: &mut Vec<Verdict>) {
        if stuck.iter().any(|verdict| verdict.part == Part::Journal && verdict.stage == Some(Stage::Commit)) {
            self.journal_at = Some(now);
        }
        let goes_on = self.journal_at.is_some_and(|at| now.since(at) < PATIENCE);
        stuck.retain(|verdict| !(Self::is(verdict) || goes_on && verdict.part == Part::Journal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use router::verdict::State;

    fn left(wait: &mut DiskWait, now: u64, part: Part, stage: Stage) -> usize {
        let mut stuck = vec![Verdict { part, state: State::Stalled, stage: Some(stage), since: Millis(0) }];
        wait.excuse(Millis(now), &mut stuck);
        stuck.len()
    }

    #[test]
    fn a_journal_that_waited_for_the_disk_has_a_moment_to_go_on() {
        let mut wait = DiskWait::default();
        assert_eq!(left(&mut wait, 1_000, Part::Journal, Stage::Output), 1, "it has not waited");
        assert_eq!(left(&mut wait, 5_000, Part::Journal, Stage::Commit), 0);
        assert_eq!(left(&mut wait, 5_100, Part::Journal, Stage::Output), 0);
        assert_eq!(left(&mut wait, 6_499, Part::Journal, Stage::Output), 0);
        assert_eq!(left(&mut wait, 6_500, Part::Journal, Stage::Output), 1, "it does not go on");
    }

    #[test]
    fn nobody_else_is_excused_by_that() {
        let mut wait = DiskWait::default();
        assert_eq!(left(&mut wait, 5_000, Part::FanOut, Stage::Read), 0);
        assert_eq!(left(&mut wait, 5_100, Part::Journal, Stage::Output), 1);
        assert_eq!(left(&mut wait, 5_200, Part::Journal, Stage::Commit), 0);
        assert_eq!(left(&mut wait, 5_300, Part::Shard(1), Stage::Output), 1);
    }
}
