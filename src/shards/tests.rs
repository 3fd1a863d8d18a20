use std::collections::BTreeSet;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::{Identity, KeyHash, OwnerId};
use firmware_protocol::session::request::Outcome;
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};
use firmware_protocol::time::UnixMillis;
use router::device::RestoredDevice;
use router::progress::Part;

use super::*;
use crate::fan_out::tests::{WANTED, event};
use crate::mailbox::MailboxBuilder;
use crate::metrics::Metrics;
use crate::watchdog::Watch;

#[test]
fn devices_of_a_batch_spread_over_the_shards() {
    let mut counts = [0; 16];
    for n in 0..16_000u32 {
        let mut id = [0xe0; 12];
        id[8..].copy_from_slice(&n.to_be_bytes());
        counts[shard_of(DeviceId(id), 16)] += 1;
    }
    assert!(counts.iter().all(|count| (700..1300).contains(count)), "{counts:?}");
}

/// A device that was online, and wants news.
fn restored(n: u8, subscriptions: &Arc<BTreeSet<Subscription>>) -> RestoredDevice<'_> {
    let owner: OwnerId = WANTED;
    RestoredDevice {
        identity: Identity { device: DeviceId([n; 12]), key: KeyHash([n; 32]), owner: Some(owner), product: None },
        link: Link { terminator: 0, connection: ConnectionId([n; 8]) },
        established_at: UnixMillis(0),
        ip: [127, 0, 0, 1].into(),
        hello: None,
        application: None,
        system: None,
        left: None,
        subscriptions: Some(subscriptions),
        online: true,
    }
}

#[test]
fn while_a_terminator_has_no_room_events_wait_and_none_is_lost() {
    let clock = Clock::start();
    let (mut own, mut terminator_box, mut fan_out_box) =
        (MailboxBuilder::new().unwrap(), MailboxBuilder::new().unwrap(), MailboxBuilder::new().unwrap());
    let writer = MailboxBuilder::new().unwrap().lane(64);
    let (errands, _running) = tokio::sync::mpsc::channel(1);
    let mut to_shard = own.lane(64);
    let lanes = ShardLanes { terminators: vec![terminator_box.lane(2)], writer, errands, fan_out: fan_out_box.lane(64) };
    let (mut terminator, mut fan_out) = (terminator_box.build().unwrap(), fan_out_box.build().unwrap());
    let mut shard = Shard::new(Box::new(SeededEntropy::new(1)));
    let subscriptions = Arc::new([Subscription::new("news", HandlerKind::Text)].into());
    shard.restore(clock.now(), (1..=3).map(|n| restored(n, &subscriptions)));
    let (metrics, subscribed, watch) = (Metrics::new(), Arc::new(SubscribedOwners::new()), Watch::new(0, 6));
    let mut thread = ShardThread::new(
        (5, shard),
        own.build().unwrap(),
        lanes,
        clock,
        Arc::new(metrics.shards()),
        Arc::clone(&subscribed),
        (watch.watched(Part::Shard(5)), watch.epochs.tenure(5, watch.epochs.of(5)), Arc::default()),
    );
    for position in 1..=4 {
        to_shard.push(Input::Committed { position: Position(position), event: event(WANTED, "news", clock, 0) }).unwrap();
    }
    let (mut inputs, mut outputs, mut fates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        thread.turn(INPUTS, &mut inputs, &mut outputs);
        assert!(thread.held.len() <= 3, "no more than one event's worth waits");
        terminator.drain(2, |message| {
            let ToTerminator::Request { id, .. } = message else { panic!("{message:?}") };
            inputs.push(Input::Settled { request: id, outcome: Ok(Outcome::Acknowledged) });
        });
        fan_out.drain(9, |told| match told {
            ToFanOut::Fates { shard: 5, fates: some, .. } => fates.extend(some),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(fates, [1, 2, 3, 4].map(|position| (Position(position), Fate::Delivered)));
    assert!(subscribed.wanting(WANTED).contains(5));
    assert!(metrics.render().contains("holdfast_deliveries_total{outcome=\"delivered\"} 12"));
}
