//! Event streams: one open answer per reader, fed from a bounded queue.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use firmware_protocol::id::{DeviceId, ProductId};
use firmware_protocol::session::publish::is_system_name;
use futures_util::{Stream, stream};
use router::event::{Event, Position, Source};

use super::bulkhead::Seat;
use super::error::ApiError;
use super::gateway::{EventStream, Item, StreamFilter};
use super::path::{OfDevice, OfDeviceWithPrefix, WithPrefix};
use super::publish::EVENT_NAME_LEN_MAX;
use super::request::{Call, Caller};
use super::{Context, sse};
use crate::dates;
use crate::store::ProductKey;

/// `GET /v1/devices/events`
#[utoipa::path(get, path = "/v1/devices/events", tag = "events", security(("token" = ["events:get"])), responses((status = 200, description = "Events as they come.", body = String, content_type = "text/event-stream")))]
pub(super) async fn all(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    open(context, call, None, String::new())
}

/// `GET /v1/devices/events/{prefix}`
#[utoipa::path(get, path = "/v1/devices/events/{*prefix}", tag = "events", security(("token" = ["events:get"])), responses((status = 200, description = "Events as they come.", body = String, content_type = "text/event-stream")))]
pub(super) async fn all_with_prefix(
    State(context): State<Context>,
    Path(WithPrefix { prefix }): Path<WithPrefix>,
    call: Call,
) -> Result<Response, ApiError> {
    open(context, call, None, prefix)
}

/// `GET /v1/events/{prefix}`: here all events are one's own.
#[utoipa::path(get, path = "/v1/events/{*prefix}", tag = "events", security(("token" = ["events:get"])), responses((status = 200, description = "Events as they come.", body = String, content_type = "text/event-stream")))]
pub(super) async fn own_with_prefix(
    State(context): State<Context>,
    Path(WithPrefix { prefix }): Path<WithPrefix>,
    call: Call,
) -> Result<Response, ApiError> {
    open(context, call, None, prefix)
}

/// `GET /v1/devices/{device}/events`
#[utoipa::path(get, path = "/v1/devices/{device}/events", tag = "events", security(("token" = ["events:get"])), responses((status = 200, description = "Events as they come.", body = String, content_type = "text/event-stream")))]
pub(super) async fn of_device(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?.id();
    open(context, call, Some(device), String::new())
}

/// `GET /v1/devices/{device}/events/{prefix}`
#[utoipa::path(get, path = "/v1/devices/{device}/events/{*prefix}", tag = "events", security(("token" = ["events:get"])), responses((status = 200, description = "Events as they come.", body = String, content_type = "text/event-stream")))]
pub(super) async fn of_device_with_prefix(
    State(context): State<Context>,
    Path(OfDeviceWithPrefix { device, prefix }): Path<OfDeviceWithPrefix>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?.id();
    open(context, call, Some(device), prefix)
}

/// `GET /v1/products/{product}/events`
#[utoipa::path(get, path = "/v1/products/{product}/events", tag = "events", security(("token" = ["events:get"])), responses((status = 200, description = "Events as they come.", body = String, content_type = "text/event-stream")))]
pub(super) async fn of_product(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    open(context, call, None, String::new())
}

/// `GET /v1/products/{product}/events/{prefix}`
#[utoipa::path(get, path = "/v1/products/{product}/events/{*prefix}", tag = "events", security(("token" = ["events:get"])), responses((status = 200, description = "Events as they come.", body = String, content_type = "text/event-stream")))]
pub(super) async fn of_product_with_prefix(
    State(context): State<Context>,
    Path(WithPrefix { prefix }): Path<WithPrefix>,
    call: Call,
) -> Result<Response, ApiError> {
    open(context, call, None, prefix)
}

/// `GET /v1/events`
#[utoipa::path(get, path = "/v1/events", tag = "events", security(("token" = ["events:get"])), responses((status = 400, description = "There is no stream without a prefix here.")))]
pub(super) async fn prefix_required(_: Call) -> ApiError {
    ApiError::bad_request("event prefix filter is required")
}

/// Opens a stream of what is heard where the call acts: of one device, if one is named, and with names that begin so.
fn open(context: Context, call: Call, device: Option<DeviceId>, prefix: String) -> Result<Response, ApiError> {
    if prefix.len() > EVENT_NAME_LEN_MAX {
        return Err(ApiError::bad_request("An event prefix has at most 64 bytes"));
    }
    let filter = StreamFilter { audience: call.place.audience(), device, prefix, after: last_event_id(&call.headers) };
    let events = context.gateway().stream(filter);
    let product = call.place.product().ok().map(|product| product.id);
    let reader = Reader { events, product, caller: call.caller, context, waiting: Some(sse::OPENING), _seat: call.seat };
    Ok(respond(Body::from_stream(reader.into_stream())))
}

fn respond(body: Body) -> Response {
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONNECTION, "keep-alive"),
        // Proxies that buffer would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Where a reader that comes back left off. What is not one of our positions is one that no journal comes to, so that the reader is told.
fn last_event_id(headers: &HeaderMap) -> Option<Position> {
    let text = headers.get("last-event-id")?.to_str().unwrap_or_default().trim();
    (!text.is_empty()).then(|| Position(text.parse().unwrap_or(u64::MAX)))
}

/// One open stream.
struct Reader {
    events: EventStream,
    /// Whose stream it is, if it is that of a product.
    product: Option<ProductId>,
    caller: Caller,
    context: Context,
    /// What is to be sent before anything else.
    waiting: Option<Bytes>,
    /// Its place among the streams, until it ends.
    _seat: Option<Seat>,
}

impl Reader {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut reader| async move { Some((Ok(reader.next().await?), reader)) })
    }

    /// The next bytes: the opening, an event, or a heartbeat after silence. `None` when the server stops, the gateway ends the stream, or the
    /// reader may no longer read it.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(waiting) = self.waiting.take() {
            return Some(waiting);
        }
        let item = tokio::select! {
            biased;
            () = self.context.shutdown().cancelled() => return None,
            item = self.events.next() => Some(item?),
            () = tokio::time::sleep(self.context.settings().heartbeat) => None,
        };
        if !self.may_still_read() {
            return None;
        }
        Some(self.encode(item).await)
    }

    /// The token is still good, and where the stream is of a product, whoever holds it still has something to do with that. Both are known in memory.
    fn may_still_read(&self) -> bool {
        let registry = self.context.registry();
        let is_in_team = |product| registry.products().find_for(&self.caller.record.holder, &ProductKey::Number(product)).is_some();
        self.caller.is_still_good(registry.tokens()) && self.product.is_none_or(is_in_team)
    }

    async fn encode(&mut self, item: Option<Item>) -> Bytes {
        match (item, self.product) {
            (None, _) => sse::HEARTBEAT,
            (Some(Item::Event((position, event))), None) => sse::encode(position, &event),
            (Some(Item::Event((position, event))), Some(product)) => {
                let member = self.member(product, &event).await;
                sse::encode_of_product(position, &event, member)
            }
            (Some(Item::Gap(gap)), _) => {
                self.waiting = Some(sse::gap_event(gap, dates::now()));
                sse::gap_comment(gap)
            }
            (Some(Item::Cut(cut)), _) => sse::cut_comment(cut),
        }
    }

    /// What the stream of a product says of whoever published. The registry is asked in memory only, and devices once in a while.
    async fn member(&self, product: ProductId, event: &Event) -> sse::Member {
        let Source::Device(device) = event.source else {
            return sse::Member { product, user: Some(event.owner), version: 0 };
        };
        let user = self.context.registry().devices().find(device).and_then(|device| device.owner());
        let ask = || self.context.gateway().presences(vec![device]);
        let version = self.context.versions().of(device, is_system_name(&event.name), ask).await;
        sse::Member { product, user, version }
    }
}
