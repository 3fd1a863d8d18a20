//! Replays of a hook: deliveries that are done with are made again, as its owner asks.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::desk::{asked, desk, read};
use super::{OfHook, stored};
use crate::api::Context;
use crate::api::error::ApiError;
use crate::api::json::{json_response, ok};
use crate::api::request::Call;
use crate::dates;
use crate::dispatch::DeskError;
use crate::hook_view::{self, ReplayCount, ReplayFields, ReplayView};

/// Replays in one answer; of more, the newest.
const SHOWN_MAX: usize = 100;

/// A path with a replay in it.
#[derive(Deserialize)]
pub(in crate::api) struct OfReplay {
    hook: String,
    replay: String,
}

/// `GET /v1/integrations/{hook}/replays`
#[utoipa::path(get, path = "/v1/integrations/{hook}/replays", tag = "hooks", security(("token" = ["integrations:get"])),
    responses((status = 200, description = "As `replays`: those that are remembered, the newest first, at most 100.", body = [ReplayView])))]
pub(in crate::api) async fn list(
    State(context): State<Context>,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let hook = stored(&context, &call, &hook).await?.id;
    let jobs = asked(call.deadline, desk(&context)?.jobs(hook)).await?;
    let shown: Vec<ReplayView> = jobs.iter().take(SHOWN_MAX).map(hook_view::replay).collect();
    Ok(ok(&json!({ "replays": shown })))
}

/// `POST /v1/integrations/{hook}/replays`: begins one, or counts what it would make again.
#[utoipa::path(post, path = "/v1/integrations/{hook}/replays", tag = "hooks", request_body = ReplayFields,
    security(("token" = ["integrations:replay"])),
    responses((status = 200, description = "So many would be made again: the answer to `dry_run`.", body = ReplayCount),
        (status = 202, description = "It has begun, as `replay`.", body = ReplayView)))]
pub(in crate::api) async fn begin(
    State(context): State<Context>,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let hook = stored(&context, &call, &hook).await?.id;
    let fields: ReplayFields = call.body.read()?;
    let selection = fields.selection(dates::now()).map_err(|error| ApiError::bad_request(&error))?;
    if fields.dry_run {
        let counted: ReplayCount = read(&context, call.deadline, move |reader| hook_view::count(reader, hook, &selection)).await?;
        return Ok(ok(&json!(counted)));
    }
    let job = asked(call.deadline, desk(&context)?.replay(hook, selection)).await?;
    Ok(json_response(StatusCode::ACCEPTED, &json!({ "ok": true, "replay": hook_view::replay(&job) })))
}

/// `GET /v1/integrations/{hook}/replays/{replay}`
#[utoipa::path(get, path = "/v1/integrations/{hook}/replays/{replay}", tag = "hooks", security(("token" = ["integrations:get"])),
    responses((status = 200, description = "As `replay`: how far it has come.", body = ReplayView)))]
pub(in crate::api) async fn show(
    State(context): State<Context>,
    Path(OfReplay { hook, replay }): Path<OfReplay>,
    call: Call,
) -> Result<Response, ApiError> {
    let hook = stored(&context, &call, &hook).await?.id;
    let id = hook_view::job(&replay).ok_or(DeskError::NoSuchJob)?;
    let jobs = asked(call.deadline, desk(&context)?.jobs(hook)).await?;
    let job = jobs.iter().find(|job| job.id == id).ok_or(DeskError::NoSuchJob)?;
    Ok(ok(&json!({ "replay": hook_view::replay(job) })))
}

/// `DELETE /v1/integrations/{hook}/replays/{replay}`: what is under way is not called back.
#[utoipa::path(delete, path = "/v1/integrations/{hook}/replays/{replay}", tag = "hooks", security(("token" = ["integrations:replay"])),
    responses((status = 200, description = "It has ended, as `replay`.", body = ReplayView)))]
pub(in crate::api) async fn cancel(
    State(context): State<Context>,
    Path(OfReplay { hook, replay }): Path<OfReplay>,
    call: Call,
) -> Result<Response, ApiError> {
    let hook = stored(&context, &call, &hook).await?.id;
    let id = hook_view::job(&replay).ok_or(DeskError::NoSuchJob)?;
    let job = asked(call.deadline, desk(&context)?.cancel(hook, id)).await?;
    Ok(ok(&json!({ "ok": true, "replay": hook_view::replay(&job) })))
}
