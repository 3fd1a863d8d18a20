//! Records for tests: a few fixed ones, and a strategy for any.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::keys::KeyBlock;
use firmware_protocol::dtls::server::FinalFlight;
use firmware_protocol::id::{DeviceId, Identity, KeyHash, OwnerId, ProductId};
use firmware_protocol::path::Path;
use firmware_protocol::session::stored::{Floor, Generation, StoredSession};
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::{Event, EventId, NewEvent, Source};
use router::journal::{DescribeKind, HandlerKind, Record, RetireReason, Subscription};

/// Session `number`, in one of the shapes that options and address families allow. From 10 on its device knows no connection ids.
pub(crate) fn session(number: u8) -> StoredSession {
    let final_flight = FinalFlight { verify: [number ^ 0x33; 12], message_sequence: 7, record_sequence: number.into() };
    let v6 = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number.into()), 5684, 3, 2);
    StoredSession {
        connection: ConnectionId([number; 8]),
        id_on_wire: number < 10,
        identity: Identity {
            device: DeviceId([number / 2; 12]),
            key: KeyHash([number ^ 0x55; 32]),
            owner: (number & 1 == 0).then_some(OwnerId(u64::MAX - u64::from(number))),
            product: (number & 2 == 0).then_some(ProductId(number.into())),
        },
        keys: KeyBlock(std::array::from_fn(|index| number ^ u8::try_from(index).unwrap().wrapping_mul(77))),
        birth: Generation(70_000 + u32::from(number)),
        established_at: UnixMillis(1_767_225_600_000 + u64::from(number)),
        final_flight,
        path: Path {
            peer: if number & 4 == 0 { SocketAddr::from((Ipv4Addr::new(192, 0, 2, number), 40_000)) } else { v6.into() },
            local: match number % 3 {
                0 => None,
                1 => Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))),
                _ => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            },
        },
    }
}

/// Record `sequence` of session `number`.
pub(super) fn floor(number: u8, sequence: u64) -> Floor {
    let connection = session(number).connection;
    Floor { connection, sequence, message_id: u16::try_from(sequence & 0xffff).unwrap(), digest: sequence.wrapping_mul(0x9e37_79b9) }
}

/// An event that can be told from others by its id.
pub(crate) fn event(number: u64) -> Arc<Event> {
    let mut id = [0x70; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Arc::new(Event {
        id: EventId(id),
        owner: OwnerId(number),
        product: None,
        source: Source::Device(DeviceId([3; 12])),
        name: format!("sensor/{number}"),
        content_format: 0,
        data: Some(format!("{{\"value\":{number}}}").into_bytes()),
        ttl_s: 60,
        published_at: UnixMillis(1_767_225_600_000),
    })
}

/// An event of the API that differs from others in what is given only.
pub(crate) fn event_of(owner: OwnerId, at: UnixMillis, data: Option<Vec<u8>>) -> Record {
    let new = NewEvent { owner, product: None, source: Source::Api, name: "a".into(), content_format: 0, data, ttl_s: 60 };
    Record::Event { floor: None, event: Arc::new(new.accept(at, [0; 10])) }
}

/// Every kind of record once, in the order of their kinds.
pub(crate) fn one_of_each() -> [Record; 9] {
    let (opened, at) = (session(4), UnixMillis(1_767_225_700_000));
    let device = opened.identity.device;
    [
        Record::SessionOpened(opened.clone()),
        Record::SessionRetired { connection: session(2).connection, device, reason: RetireReason::Replaced, at },
        Record::SessionMoved { connection: opened.connection, path: session(8).path },
        Record::Hello { floor: floor(4, 1), device, payload: vec![0, 1, 0xff], at },
        Record::Describe { floor: Some(floor(4, 2)), device, kind: DescribeKind::System, payload: vec![7; 40], at },
        Record::Subscribed { floor: floor(4, 3), device, subscription: Subscription::new("particle", HandlerKind::Cbor) },
        Record::Goodbye { floor: floor(4, 4), device, payload: vec![5, 6, 0x90, 0x1c], at },
        Record::Event { floor: Some(floor(4, 5)), event: event(1) },
        Record::Seen { floor: floor(4, 6) },
    ]
}

/// What only version 2 of a record can say: a session whose id is not on the wire, what happens to it, and a subscription to one device.
pub(super) fn only_in_version_2() -> [Record; 4] {
    let opened = session(10);
    let device = opened.identity.device;
    let subscription = Subscription { publisher: Some(DeviceId([0xe0; 12])), ..Subscription::new("news", HandlerKind::Text) };
    [
        Record::SessionOpened(opened),
        Record::SessionOpened(session(11)),
        Record::SessionRetired { connection: session(11).connection, device, reason: RetireReason::Replaced, at: UnixMillis(99) },
        Record::Subscribed { floor: floor(10, 3), device, subscription },
    ]
}

/// An owner is told that a device comes or goes.
pub(crate) fn status(device: DeviceId, text: &str) -> Arc<Event> {
    let event = Event { source: Source::Device(device), name: "spark/status".into(), data: Some(text.into()), ..(*event(7)).clone() };
    Arc::new(event)
}

/// What only version 3 of a snapshot can say: what owners were told of their devices.
pub(super) fn only_in_version_3() -> [Record; 2] {
    [(4, "online"), (5, "offline")]
        .map(|(number, text)| Record::Event { floor: None, event: status(session(number).identity.device, text) })
}

/// Any record, of one of a dozen sessions and devices so that records meet.
pub(super) fn any_record() -> impl Strategy<Value = Record> {
    let number = 0u8..12;
    let at = (0u64..1 << 42).prop_map(UnixMillis);
    let payload = proptest::collection::vec(any::<u8>(), 0..120);
    prop_oneof![
        2 => number.clone().prop_map(|number| Record::SessionOpened(session(number))),
        1 => (number.clone(), any_reason(), at.clone()).prop_map(|(number, reason, at)| Record::SessionRetired {
            connection: session(number).connection, device: session(number).identity.device, reason, at }),
        1 => (number.clone(), number.clone()).prop_map(|(number, other)| Record::SessionMoved {
            connection: session(number).connection, path: session(other).path }),
        1 => (any_floor(), number.clone(), payload.clone(), at.clone()).prop_map(|(floor, number, payload, at)| Record::Hello {
            floor, device: session(number).identity.device, payload, at }),
        1 => (proptest::option::of(any_floor()), number.clone(), any_describe(), payload.clone(), at.clone()).prop_map(|(floor, number, kind, payload, at)|
            Record::Describe { floor, device: session(number).identity.device, kind, payload, at }),
        1 => (any_floor(), number.clone(), any_subscription()).prop_map(|(floor, number, subscription)| Record::Subscribed {
            floor, device: session(number).identity.device, subscription }),
        1 => (any_floor(), number, payload, at).prop_map(|(floor, number, payload, at)| Record::Goodbye {
            floor, device: session(number).identity.device, payload, at }),
        6 => (proptest::option::of(any_floor()), any_event()).prop_map(|(floor, event)| Record::Event { floor, event: Arc::new(event) }),
        3 => any_floor().prop_map(|floor| Record::Seen { floor }),
        1 => (0u8..12, any::<bool>()).prop_map(|(number, online)| Record::Event {
            floor: None, event: status(session(number).identity.device, if online { "online" } else { "offline" }) }),
    ]
}

fn any_floor() -> impl Strategy<Value = Floor> {
    (0u8..12, 0u64..1 << 48).prop_map(|(number, sequence)| floor(number, sequence))
}

fn any_reason() -> impl Strategy<Value = RetireReason> {
    use RetireReason::*;
    proptest::sample::select(vec![Replaced, Revoked, ClosedByDevice, WrongDevice, StateLost])
}

fn any_describe() -> impl Strategy<Value = DescribeKind> {
    proptest::sample::select(vec![DescribeKind::System, DescribeKind::Application, DescribeKind::Metrics])
}

fn any_subscription() -> impl Strategy<Value = Subscription> {
    let handler = proptest::sample::select(vec![HandlerKind::Text, HandlerKind::Binary, HandlerKind::Cbor]);
    let publisher = proptest::option::of(any::<[u8; 12]>().prop_map(DeviceId));
    ("[a-z/]{0,64}", handler, publisher).prop_map(|(prefix, handler, publisher)| Subscription { prefix, handler, publisher })
}

fn any_event() -> impl Strategy<Value = Event> {
    let source = prop_oneof![any::<[u8; 12]>().prop_map(|id| Source::Device(DeviceId(id))), Just(Source::Api), Just(Source::Cloud)];
    let data = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..900));
    let product = proptest::option::of(any::<u32>().prop_map(ProductId));
    (any::<[u8; 16]>(), any::<u64>(), product, source, "\\PC{1,20}", any::<u16>(), data, any::<u32>(), any::<u64>()).prop_map(
        |(id, owner, product, source, name, content_format, data, ttl_s, at)| Event {
            id: EventId(id),
            owner: OwnerId(owner),
            product,
            source,
            name,
            content_format,
            data,
            ttl_s,
            published_at: UnixMillis(at),
        },
    )
}
