use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::coap::{Kind, Message};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::session::test_receipt;
use router::device::Link;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::journal::test_records::{event, one_of_each};
use crate::journal::{Options, faults};
use crate::mailbox::{Mailbox, MailboxBuilder};
use crate::metrics::Metrics;
use crate::shards::Reply;
use crate::watchdog::Watch;
use crate::writer::{Append, WriterLanes};

const CONNECTION: ConnectionId = ConnectionId([7; 8]);

struct World {
    dir: TempDir,
    writer: Writer,
    terminator: Mailbox<ToTerminator>,
    metrics: Metrics,
    now: Instant,
}

fn options() -> Options {
    Options { headroom_bytes: 1, reserve_bytes: 2_000, ..Options::new(3) }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), options()).unwrap();
        let (mut builder, mailbox) = (MailboxBuilder::new().unwrap(), MailboxBuilder::new().unwrap());
        let (streams, _) = tokio::sync::mpsc::channel(1);
        let fan_out = MailboxBuilder::new().unwrap().lane(1);
        let lanes =
            WriterLanes { terminators: vec![builder.lane(64)], fan_out, subscribed: Arc::default(), bell: Default::default(), streams };
        let metrics = Metrics::new();
        let missed = metrics.streams().missed;
        let writer = Writer::new(journal, mailbox.build().unwrap(), lanes, metrics.journal().into(), missed, &Watch::new(1, 1));
        Self { dir, writer, terminator: builder.build().unwrap(), metrics, now: Instant::now() }
    }

    /// What the terminator is told after these were taken together.
    fn take(&mut self, appends: impl IntoIterator<Item = Append>) -> Vec<String> {
        let mut batch = Batch::default();
        appends.into_iter().for_each(|append| batch.push(append));
        self.writer.take(&mut batch);
        assert!(batch.is_empty());
        let mut told = Vec::new();
        self.terminator.drain(64, |message| {
            told.push(match message {
                ToTerminator::Acknowledge { code: Code::EMPTY, .. } => "kept".to_owned(),
                ToTerminator::Acknowledge { code: Code::UNAVAILABLE, .. } => "refused".to_owned(),
                ToTerminator::Opened { .. } => "opened".to_owned(),
                ToTerminator::NotOpened { .. } => "not opened".to_owned(),
                other => format!("{other:?}"),
            });
        });
        told
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|shown| shown == line)
    }

    fn later(&mut self) {
        self.now += 2 * TRY_AGAIN_AFTER;
        self.writer.recover_if_due(self.now);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        faults::set_room(None);
    }
}

fn publish(number: u64) -> Append {
    let receipt = test_receipt(&Message::new(Kind::Confirmable, Code::POST, 1, &[]));
    let link = Link { terminator: 0, connection: CONNECTION };
    Append { record: Record::Event { floor: None, event: event(number) }, after: After::Acknowledge { link, receipt } }
}

fn session() -> Append {
    Append { record: one_of_each()[0].clone(), after: After::Opened { terminator: 0, connection: CONNECTION } }
}

#[test]
fn a_full_disk_refuses_events_and_opens_sessions_and_heals_by_itself() {
    let mut world = World::new();
    assert_eq!(world.take([publish(1)]), ["kept"]);
    faults::set_room(Some(0));
    assert_eq!(world.take([publish(2), session(), publish(3)]), ["refused", "refused", "opened"]);
    assert!(world.shows("holdfast_journal_degraded 1"));
    assert!(world.shows("holdfast_journal_refused_records_total{reason=\"disk_full\"} 2"));
    world.later();
    assert_eq!(world.take([publish(4)]), ["refused"], "there is still no room");
    faults::set_room(None);
    world.writer.recover_if_due(world.now);
    assert_eq!(world.take([publish(5)]), ["refused"], "it is not tried all the time");
    world.later();
    assert!(world.shows("holdfast_journal_degraded 0"));
    assert_eq!(world.take([publish(6)]), ["kept"]);
    let (_, recovered) = Journal::open(world.dir.path(), options()).unwrap();
    assert_eq!((recovered.next_position.0, recovered.state.sessions.len()), (3, 1), "what was refused was not written");
}

#[test]
fn when_the_reserve_is_used_up_new_sessions_are_refused_too() {
    let mut world = World::new();
    faults::set_room(Some(0));
    let opened = (0..).take_while(|_| world.take([session()]) == ["opened"]).count();
    assert!((3..12).contains(&opened), "{opened}");
    assert!(world.shows("holdfast_journal_refused_records_total{reason=\"reserve_used_up\"} 1"));
    assert_eq!(world.take([session(), publish(1)]), ["refused", "not opened"]);
    faults::set_room(None);
    world.later();
    assert_eq!(world.take([session(), publish(1)]), ["opened", "kept"]);
}

#[test]
fn a_caller_hears_at_once_that_its_event_was_refused() {
    let mut world = World::new();
    faults::set_room(Some(0));
    let (sender, mut receiver) = oneshot::channel();
    world.take([Append { record: Record::Event { floor: None, event: event(1) }, after: After::Tell(Reply::Published(sender)) }]);
    assert_eq!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Closed));
}

#[test]
fn only_what_makes_a_session_is_essential_and_only_if_it_is_short() {
    let essential: Vec<bool> = one_of_each().iter().map(is_essential).collect();
    assert_eq!(essential, [true, true, false, true, true, true, false, false, false]);
    let Record::Hello { floor, device, at, .. } = one_of_each()[3].clone() else { unreachable!() };
    assert!(!is_essential(&Record::Hello { floor, device, payload: vec![0; ESSENTIAL_BYTES_MAX + 1], at }));
    assert!(TRY_AGAIN_AFTER < Duration::from_secs(2));
}
