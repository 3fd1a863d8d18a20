//! Devices: list, look, ping.

use std::cmp::Reverse;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use firmware_protocol::id::DeviceId;
use futures_util::stream;
use serde_json::json;

use super::Context;
use super::device_object::DeviceObject;
use super::error::ApiError;
use super::gateway::{Audience, Presence, Record};
use super::json::{ok, ok_written};
use super::path::OfDevice;
use super::request::Call;

/// Devices written at a time, so that a long list never stands in memory as a whole.
const LIST_CHUNK: usize = 256;

/// `GET /v1/devices`: a bare array, the latest handshake first.
#[utoipa::path(get, path = "/v1/devices", tag = "devices", security(("token" = ["devices:list"])), responses((status = 200, description = "The latest handshake first.", body = [DeviceObject])))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let owner = call.place.own()?;
    let ids = context.registry().devices().owned_by(owner);
    let presences = context.gateway().presences(ids.clone()).await;
    let resets = context.gateway().last_resets(Audience::Owner(owner), ids.clone()).await;
    let mut known: Vec<Known> = ids.into_iter().zip(presences).zip(resets).map(|((id, presence), reset)| (id, presence, reset)).collect();
    known.sort_by_key(|(id, presence, _)| (Reverse(presence.last_handshake_at), *id));
    if known.len() <= LIST_CHUNK {
        return Ok(ok_written([&b"["[..], &objects(&context, &known, true), b"]"].concat().into()));
    }
    let chunks: Vec<Vec<Known>> = known.chunks(LIST_CHUNK).map(<[Known]>::to_vec).collect();
    let parts = chunks.into_iter().enumerate().map(move |(number, chunk)| {
        let opening: &[u8] = if number == 0 { b"[" } else { b"" };
        Bytes::from([opening, &objects(&context, &chunk, number == 0)].concat())
    });
    let parts = parts.chain([Bytes::from_static(b"]")]).map(Ok::<_, Infallible>);
    Ok(ok_written(Body::from_stream(stream::iter(parts))))
}

/// A device, what is known of its session, and why it started last.
type Known = (DeviceId, Presence, Option<Record>);

/// Objects with commas between and, unless they are the first, before them. Devices that have gone meanwhile are left out.
fn objects(context: &Context, known: &[Known], first: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for (id, presence, reset) in known {
        let Some(device) = context.registry().devices().find(*id) else { continue };
        if !(first && text.is_empty()) {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &DeviceObject::new(&device, presence, reset.as_ref(), None))
            .expect("strings and numbers go into a vector");
    }
    text
}

/// `GET /v1/devices/{device}`: from what is known, so that it never waits for the device.
#[utoipa::path(get, path = "/v1/devices/{device}", tag = "devices", security(("token" = ["devices:get"])), responses((status = 200, description = "What is known of it.", body = DeviceObject)))]
pub(super) async fn show(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    let presence = context.presence(device.id()).await;
    let reset = context.gateway().last_resets(call.place.audience(), vec![device.id()]).await.pop().flatten();
    Ok(ok(&DeviceObject::new(&device, &presence, reset.as_ref(), call.place.product().ok().map(AsRef::as_ref))))
}

/// `PUT /v1/devices/{device}/ping`: really asks the device.
#[utoipa::path(put, path = "/v1/devices/{device}/ping", tag = "devices", security(("token" = ["devices:ping"])), responses((status = 200, description = "Whether it answered.", body = Object)))]
pub(super) async fn ping(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    let gateway = context.gateway();
    let answer = Box::pin(async { Ok(gateway.ping(device.id(), call.deadline).await) });
    let online = context.answer(call.deadline, answer).await.unwrap_or(false);
    Ok(ok(&json!({ "online": online, "ok": true })))
}
