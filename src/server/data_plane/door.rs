//! The way of callers to one shard, and of its answers back. When another thread takes the shard over, whoever waits is told so at once, and what the old one
//! still answers is refused.

use std::sync::{Mutex, PoisonError};

use prometheus::IntCounter;
use router::epoch::{Epoch, Epochs, Tenure};
use router::shard::Input;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::mailbox::Lane;
use crate::shards::Reply;

/// The way to one shard.
pub(super) struct Door {
    shard: usize,
    lane: Mutex<Lane<Input<Reply>>>,
    /// Of the thread at the other end of the lane.
    epoch: watch::Sender<Epoch>,
    epochs: Epochs,
    /// Answers of threads that have their shard no more.
    refused: IntCounter,
}

/// What a caller holds that was let in, while it waits for an answer.
#[derive(Debug)]
pub struct Pass {
    tenure: Tenure,
    epoch: watch::Receiver<Epoch>,
    refused: IntCounter,
}

/// Why a shard gives no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoAnswer {
    /// It does not take what it was sent.
    #[error("the shard lets go of the question")]
    Refused,
    /// Another thread took it over meanwhile. What it was sent may have been done.
    #[error("the shard was taken over")]
    TakenOver,
}

impl Door {
    /// To the thread of `shard` at the end of `lane`.
    pub(super) fn new(shard: usize, lane: Lane<Input<Reply>>, epochs: &Epochs, refused: IntCounter) -> Self {
        let (epoch, _) = watch::channel(epochs.of(shard));
        Self { shard, lane: Mutex::new(lane), epoch, epochs: epochs.clone(), refused }
    }

    /// Tells the shard something. `None` if there is no room.
    pub(super) fn enter(&self, input: Input<Reply>) -> Option<Pass> {
        let mut lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: it is the epoch of the thread at the end of this lane.
        let epoch = self.epoch.subscribe();
        let tenure = self.epochs.tenure(self.shard, *epoch.borrow());
        lane.send(input).is_ok().then(|| Pass { tenure, epoch, refused: self.refused.clone() })
    }

    /// From now on the shard is another thread, at the end of `lane`. Whoever waits for the old one is told so.
    pub(super) fn lead_to(&self, lane: Lane<Input<Reply>>, epoch: Epoch) {
        let mut old = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        *old = lane;
        self.epoch.send_replace(epoch);
    }
}

impl Pass {
    /// Waits for the answer.
    ///
    /// # Errors
    /// There will be none.
    pub async fn answer<T>(mut self, receiver: oneshot::Receiver<T>) -> Result<T, NoAnswer> {
        let asked = self.tenure.epoch();
        tokio::select! {
            biased;
            Ok(_) = self.epoch.wait_for(|epoch| *epoch != asked) => Err(NoAnswer::TakenOver),
            answer = receiver => match answer {
                Ok(_) if self.tenure.is_over() => {
                    self.refused.inc();
                    Err(NoAnswer::TakenOver)
                }
                answer => answer.map_err(|_| NoAnswer::Refused),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Question;
    use crate::mailbox::MailboxBuilder;

    fn door() -> (Door, Epochs, IntCounter) {
        let (epochs, refused) = (Epochs::new(2), IntCounter::new("refused", "refused").unwrap());
        let lane = MailboxBuilder::new().unwrap().lane(4);
        (Door::new(1, lane, &epochs, refused.clone()), epochs, refused)
    }

    fn knock(door: &Door) -> (Pass, oneshot::Sender<u8>, oneshot::Receiver<u8>) {
        let (views, _) = oneshot::channel();
        let pass = door.enter(Input::View { devices: Vec::new(), reply: Reply::Views(views, Question::of_nobody()) }).unwrap();
        let (sender, receiver) = oneshot::channel();
        (pass, sender, receiver)
    }

    #[tokio::test]
    async fn an_answer_comes_through_or_is_known_not_to_come() {
        let (door, ..) = door();
        let (pass, sender, receiver) = knock(&door);
        sender.send(7).unwrap();
        assert_eq!(pass.answer(receiver).await, Ok(7));
        let (pass, sender, receiver) = knock(&door);
        drop(sender);
        assert_eq!(pass.answer(receiver).await, Err(NoAnswer::Refused));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_of_a_takeover_and_an_answer_of_the_old_thread_is_refused() {
        let (door, epochs, refused) = door();
        let (waiting, _sender, receiver) = knock(&door);
        let (answered, sender, late) = knock(&door);
        let epoch = epochs.raise(1);
        sender.send(7).unwrap();
        assert_eq!((answered.answer(late).await, refused.get()), (Err(NoAnswer::TakenOver), 1));
        let waiting = tokio::spawn(waiting.answer(receiver));
        door.lead_to(MailboxBuilder::new().unwrap().lane(4), epoch);
        assert_eq!(waiting.await.unwrap(), Err(NoAnswer::TakenOver));
        let (pass, sender, receiver) = knock(&door);
        sender.send(8).unwrap();
        assert_eq!(pass.answer(receiver).await, Ok(8), "the new thread answers");
    }
}
