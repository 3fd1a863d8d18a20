//! What devices saw acknowledged against what the server says that it accepted.

use std::collections::HashMap;

use anyhow::Result;
use firmware_protocol::id::DeviceId;

use crate::cli::AcceptedEvent;
use crate::fleet::text::{EVENT_NAME, EventText};
use crate::fleet::{Fate, Ledger};

/// The comparison, counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// Publishes that a device saw acknowledged and that were not accepted.
    pub lost: u64,
    /// Publishes that were accepted more than once, whatever the device saw.
    pub twice: u64,
    /// Publishes that were not acknowledged to their device.
    pub unacknowledged: u64,
    /// Accepted events under the fleet's name that no device of this run published.
    pub unknown: u64,
    /// Accepted events of this run.
    pub accepted: u64,
}

/// Compares all publishes of `run` with all accepted events.
pub fn judge(ledgers: &[Ledger], run: u32, events: impl Iterator<Item = Result<AcceptedEvent>>) -> Result<Verdict> {
    let index: HashMap<DeviceId, usize> = ledgers.iter().enumerate().map(|(index, ledger)| (ledger.device, index)).collect();
    let mut times: Vec<Vec<u8>> = ledgers.iter().map(|ledger| vec![0; ledger.fates.len()]).collect();
    let mut verdict = Verdict::default();
    for event in events {
        let event = event?;
        if event.name != EVENT_NAME {
            continue;
        }
        let text = event.data.as_deref().and_then(|data| data.parse::<EventText>().ok()).filter(|text| text.run == run);
        let place = text.and_then(|text| times.get_mut(*index.get(&text.device)?)?.get_mut(text.count as usize));
        match place {
            Some(times) => {
                *times = times.saturating_add(1);
                verdict.accepted += 1;
            }
            None => verdict.unknown += 1,
        }
    }
    for (fate, times) in ledgers.iter().zip(&times).flat_map(|(ledger, times)| ledger.fates.iter().zip(times)) {
        verdict.lost += u64::from(*fate == Fate::Acknowledged && *times == 0);
        verdict.twice += u64::from(*times > 1);
        verdict.unacknowledged += u64::from(*fate != Fate::Acknowledged);
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 7;

    fn event(device: u8, run: u32, count: u32) -> Result<AcceptedEvent> {
        let text = EventText { device: DeviceId([device; 12]), run, count };
        Ok(AcceptedEvent { position: 1, name: EVENT_NAME.into(), data: Some(text.to_string()), source: None })
    }

    fn ledgers() -> Vec<Ledger> {
        let ledger =
            |device, fates: &[Fate]| Ledger { device: DeviceId([device; 12]), fates: fates.to_vec(), news: Vec::new(), disconnects: 0 };
        vec![ledger(1, &[Fate::Acknowledged, Fate::Acknowledged]), ledger(2, &[Fate::Acknowledged, Fate::Failed, Fate::Open])]
    }

    #[test]
    fn what_was_accepted_once_is_well() -> Result<()> {
        let events = [event(1, RUN, 0), event(2, RUN, 0), event(1, RUN, 1), event(2, RUN, 1)];
        let verdict = judge(&ledgers(), RUN, events.into_iter())?;
        assert_eq!(verdict, Verdict { unacknowledged: 2, accepted: 4, ..Verdict::default() });
        Ok(())
    }

    #[test]
    fn what_is_missing_double_or_unheard_of_is_counted() -> Result<()> {
        let other = AcceptedEvent { position: 9, name: "spark/status".into(), data: None, source: None };
        let events =
            [event(1, RUN, 0), event(2, RUN, 1), event(1, RUN, 0), event(2, RUN, 1), event(1, RUN, 5), event(3, RUN, 0), event(1, 8, 1)];
        let verdict = judge(&ledgers(), RUN, events.into_iter().chain([Ok(other)]))?;
        assert_eq!(verdict, Verdict { lost: 2, twice: 2, unacknowledged: 2, unknown: 3, accepted: 4 });
        Ok(())
    }

    #[test]
    fn an_unreadable_journal_is_no_verdict() {
        assert!(judge(&ledgers(), RUN, [Err(anyhow::anyhow!("torn"))].into_iter()).is_err());
    }
}
