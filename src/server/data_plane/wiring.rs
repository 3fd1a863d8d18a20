//! Who can tell whom: every mailbox, and a lane of its own for each thread that sends into it.

use std::io;
use std::sync::Arc;

use prometheus::IntCounter;
use router::event::CommittedEvents;
use router::progress::Heartbeat;
use router::shard::Input;
use tokio::sync::mpsc::{self, Receiver};

use super::rewiring::{Bells, Rewiring, ShardPlaces};
use crate::commit_bell::CommitBell;
use crate::errands::{self, Asked};
use crate::fan_out::{ToFanOut, UNTAKEN_MAX};
use crate::mailbox::{Lane, LanePlace, Mailbox, MailboxBuilder};
use crate::shards::{Reply, ShardLanes, SubscribedOwners, ToShards};
use crate::takeover::TakenOver;
use crate::terminators::tcp::{TcpLanes, ToRsaHandshakes};
use crate::terminators::{ToHandshakes, ToTerminator, WorkerLanes};
use crate::watchdog::{WATCHDOG_LANE, Watch, WatchdogLanes};
use crate::writer::{ToWriter, WriterLanes};

/// Room in a lane between two threads.
pub(super) const LANE: usize = 4_096;
/// Room for hellos that come all at once, before the handshake thread lets them wait.
const HELLO_LANE: usize = 16_384;
/// Room in a lane of the API, which many callers share.
pub(super) const API_LANE: usize = 1_024;
/// Takeovers that wait for whoever has a part in them.
const TAKEOVERS: usize = 4;
/// Batches of events that wait for the streams.
const STREAM_BATCHES: usize = 1_024;

/// What each thread holds of the others. Terminators are numbered from 0, the one of TCP last.
pub(super) struct Wiring {
    pub(super) workers: Vec<(Mailbox<ToTerminator>, WorkerLanes)>,
    pub(super) tcp: (Mailbox<ToTerminator>, TcpLanes),
    pub(super) handshakes: (Mailbox<ToHandshakes>, Vec<Lane<ToTerminator>>),
    pub(super) rsa_handshakes: (Mailbox<ToRsaHandshakes>, Vec<Lane<ToTerminator>>),
    pub(super) shards: Vec<(Mailbox<Input<Reply>>, ShardLanes)>,
    /// The fan-out's mailbox, and its lane to each shard.
    pub(super) fan_out: (Mailbox<ToFanOut>, Vec<Lane<Input<Reply>>>),
    /// Whose events shards want.
    pub(super) subscribed: Arc<SubscribedOwners>,
    pub(super) writer: (Mailbox<ToWriter>, WriterLanes),
    pub(super) watchdog: (WatchdogLanes, Mailbox<TakenOver>),
    /// Heartbeats for those who serve the API.
    pub(super) api_heartbeats: Receiver<Heartbeat>,
    pub(super) api: Vec<Lane<Input<Reply>>>,
    pub(super) streams: Receiver<CommittedEvents>,
    /// Rings when events were committed.
    pub(super) bell: CommitBell,
    pub(super) errands: Receiver<Asked>,
    /// For shards that are taken over.
    pub(super) rewiring: Rewiring,
}

impl Wiring {
    /// For that many `workers` on UDP and `shards`. `enqueued` counts what terminators tell each shard, and `shard_full` what they could not; `watch` has what
    /// they note.
    pub(super) fn new(workers: usize, shards: usize, enqueued: &[IntCounter], shard_full: &IntCounter, watch: &Watch) -> io::Result<Self> {
        let mut terminator_boxes = mailboxes::<ToTerminator>(workers + 1)?;
        let mut shard_boxes = mailboxes::<Input<Reply>>(shards)?;
        let mut writer_box = MailboxBuilder::<ToWriter>::new()?;
        let mut handshake_box = MailboxBuilder::<ToHandshakes>::new()?;
        let mut rsa_box = MailboxBuilder::<ToRsaHandshakes>::new()?;
        let (stream_sender, streams) = mpsc::channel(STREAM_BATCHES);
        let (errand_sender, errands) = mpsc::channel(errands::WAITING_MAX);
        let mut fan_out_box = MailboxBuilder::<ToFanOut>::new()?;
        let (mut order_box, mut watchdog_box) = (MailboxBuilder::new()?, MailboxBuilder::new()?);
        let (subscribed, bell) = (Arc::new(SubscribedOwners::new()), CommitBell::default());

        let worker_lanes: Vec<_> = (0..workers)
            .map(|worker| WorkerLanes {
                workers: lanes(&mut terminator_boxes[..workers], LANE),
                shards: ToShards::new(lanes(&mut shard_boxes, LANE), enqueued, shard_full.clone(), watch.notes_of(worker)),
                writer: writer_box.lane(LANE),
                handshakes: handshake_box.lane(HELLO_LANE),
            })
            .collect();
        let tcp_shards = ToShards::new(lanes(&mut shard_boxes, LANE), enqueued, shard_full.clone(), watch.notes_of(workers));
        let tcp_lanes = TcpLanes { shards: tcp_shards, handshakes: rsa_box.lane(LANE) };
        let places = (0..shards).map(|shard| {
            // Each lane is the first that a shard has there, and the shards' come one after the other.
            let place = |first: LanePlace| first.after(shard);
            ShardPlaces {
                terminators: terminator_boxes.iter().map(|terminator| place(terminator.next_place())).collect(),
                writer: place(writer_box.next_place()),
                fan_out: place(fan_out_box.next_place()),
            }
        });
        let places = places.collect();
        let shard_lanes: Vec<_> = (0..shards)
            .map(|_| ShardLanes {
                terminators: lanes(&mut terminator_boxes, LANE),
                writer: writer_box.lane(LANE),
                errands: errand_sender.clone(),
                fan_out: fan_out_box.lane(LANE),
            })
            .collect();
        let writer_lanes = WriterLanes {
            terminators: lanes(&mut terminator_boxes, LANE),
            // One wake-up that was not seen yet says all.
            fan_out: fan_out_box.lane(1),
            subscribed: Arc::clone(&subscribed),
            bell: bell.clone(),
            streams: stream_sender,
        };
        let handshake_lanes = lanes(&mut terminator_boxes[..workers], LANE);
        let rsa_lanes = lanes(&mut terminator_boxes, LANE);
        let api = lanes(&mut shard_boxes, API_LANE);
        let fan_out_lanes = lanes(&mut shard_boxes, UNTAKEN_MAX);

        let (api_sender, api_heartbeats) = mpsc::channel(WATCHDOG_LANE);
        let watchdog = WatchdogLanes {
            terminators: lanes(&mut terminator_boxes, WATCHDOG_LANE),
            shards: lanes(&mut shard_boxes, WATCHDOG_LANE),
            writer: writer_box.lane(WATCHDOG_LANE),
            fan_out: fan_out_box.lane(WATCHDOG_LANE),
            api: api_sender,
            takeover: order_box.lane(shards),
        };
        let rewiring = Rewiring {
            orders: order_box.build()?,
            writer: writer_box.lane(TAKEOVERS),
            fan_out: fan_out_box.lane(TAKEOVERS),
            watchdog: watchdog_box.lane(TAKEOVERS),
            errands: errand_sender,
            bells: Bells {
                terminators: terminator_boxes.iter().map(MailboxBuilder::bell).collect(),
                writer: writer_box.bell(),
                fan_out: fan_out_box.bell(),
            },
            places,
        };
        let mut terminators = built(terminator_boxes)?;
        let tcp_mailbox = terminators.pop().expect("one more was made than there are workers");
        let shards = built(shard_boxes)?.into_iter().zip(shard_lanes);
        Ok(Self {
            workers: terminators.into_iter().zip(worker_lanes).collect(),
            tcp: (tcp_mailbox, tcp_lanes),
            handshakes: (handshake_box.build()?, handshake_lanes),
            rsa_handshakes: (rsa_box.build()?, rsa_lanes),
            shards: shards.collect(),
            fan_out: (fan_out_box.build()?, fan_out_lanes),
            subscribed,
            writer: (writer_box.build()?, writer_lanes),
            watchdog: (watchdog, watchdog_box.build()?),
            api_heartbeats,
            api,
            streams,
            bell,
            errands,
            rewiring,
        })
    }
}

fn mailboxes<T>(count: usize) -> io::Result<Vec<MailboxBuilder<T>>> {
    (0..count).map(|_| MailboxBuilder::new()).collect()
}

fn lanes<T>(mailboxes: &mut [MailboxBuilder<T>], capacity: usize) -> Vec<Lane<T>> {
    mailboxes.iter_mut().map(|mailbox| mailbox.lane(capacity)).collect()
}

fn built<T>(mailboxes: Vec<MailboxBuilder<T>>) -> io::Result<Vec<Mailbox<T>>> {
    mailboxes.into_iter().map(MailboxBuilder::build).collect()
}
