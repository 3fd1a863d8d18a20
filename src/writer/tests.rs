use firmware_protocol::coap::{Kind, Message};
use firmware_protocol::session::test_receipt;
use prometheus::IntCounter;

use super::*;
use crate::journal::Options;
use crate::journal::test_records::event;
use crate::mailbox::MailboxBuilder;
use crate::metrics::Metrics;

/// A publish of the device whose message this is.
fn publish(id: u16) -> ToWriter {
    let receipt = test_receipt(&Message::new(Kind::Confirmable, Code::POST, id, &[]));
    let link = Link { terminator: 0, connection: ConnectionId([7; 8]) };
    let record = Record::Event { floor: None, event: event(id.into()) };
    ToWriter::Append(Append { record, after: After::Acknowledge { link, receipt } })
}

/// What the old thread of a shard got into the journal is acknowledged before terminators hear that another has it, and nothing of it after.
#[test]
fn a_takeover_comes_behind_what_the_old_thread_accepted_and_before_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), Options::new(3)).unwrap();
    let (mark, metrics) = (journal.latest_mark(), Metrics::new());
    let (mut own, mut terminator_box, mut answers) =
        (MailboxBuilder::new().unwrap(), MailboxBuilder::new().unwrap(), MailboxBuilder::new().unwrap());
    let (mut order, place, bell) = (own.lane(4), own.next_place().after(1), own.bell());
    let (_other, mut old) = (own.lane(4), own.lane(16));
    let lanes = WriterLanes {
        terminators: vec![terminator_box.lane(64)],
        fan_out: MailboxBuilder::new().unwrap().lane(1),
        subscribed: Arc::default(),
        bell: CommitBell::default(),
        streams: tokio::sync::mpsc::channel(1).0,
    };
    let (from_place, from_bell) = (terminator_box.next_place(), terminator_box.bell());
    let _from_shard = terminator_box.lane(4);
    let (mut terminator, missed) = (terminator_box.build().unwrap(), metrics.streams().missed);
    let mut writer = Writer::new(journal, own.build().unwrap(), lanes, metrics.journal().into(), missed, &Watch::new(1, 1));

    let refused = IntCounter::new("refused", "refused").unwrap();
    let (mut new, from_shard) = Lane::instead_of(place, &bell, 16, refused.clone());
    let (_, exchange) = Lane::instead_of(from_place, &from_bell, 4, refused.clone());
    let to_shard = MailboxBuilder::new().unwrap().lane(4);
    let handover = Handover { shard: 0, from_shard: exchange, to_shard, answer: answers.lane(1) };
    let takeover = WriterHandover { from_shard, terminators: vec![handover], answer: answers.lane(1) };
    (1..=3).for_each(|id| old.send(publish(id)).unwrap());
    order.send(ToWriter::TakeOver(Box::new(takeover))).unwrap();

    let mut turn = |writer: &mut Writer| {
        let mut batch = Batch::default();
        writer.fill(&mut batch);
        writer.take(&mut batch);
        writer.pass_takeovers_on();
        let mut told = Vec::new();
        terminator.drain(64, |message| {
            told.push(match message {
                ToTerminator::Acknowledge { .. } => "kept",
                ToTerminator::TakeOver(_) => "take over",
                other => panic!("{other:?}"),
            });
        });
        told
    };
    assert_eq!(turn(&mut writer), ["kept", "kept", "kept", "take over"]);
    let mut answers = answers.build().unwrap();
    let mut written = Vec::new();
    answers.drain(9, |answer| written.push(answer));
    assert!(matches!(written[..], [Answer::Written(upto)] if upto == mark.get() && upto.next == Position(4)));
    (4..=6).for_each(|id| old.send(publish(id)).unwrap());
    new.send(publish(7)).unwrap();
    assert_eq!((turn(&mut writer), refused.get()), (vec!["kept"], 3));
    assert_eq!(mark.get().next, Position(5), "in the journal there is nothing of what the old one said afterwards");
}
