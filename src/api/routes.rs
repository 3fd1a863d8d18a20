//! Every route. Literal words are matched before names.

use axum::Router;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    Context, access_tokens, description, device_claims, devices, diagnostics, events, functions, oauth, products, publish, users, variables,
};

/// The routes, and what is said of them. The paths in that are written as the router has them.
pub(super) fn all() -> (Router<Context>, OpenApi) {
    OpenApiRouter::with_openapi(description::opening())
        .routes(routes!(oauth::token))
        .routes(routes!(access_tokens::current, access_tokens::revoke_current))
        .routes(routes!(access_tokens::revoke))
        .routes(routes!(users::show))
        .routes(routes!(users::create))
        .routes(routes!(device_claims::create))
        .routes(routes!(devices::list))
        .routes(routes!(events::all, publish::publish))
        .routes(routes!(events::all_with_prefix))
        .routes(routes!(devices::show, devices::update))
        .routes(routes!(devices::ping))
        .routes(routes!(events::of_device))
        .routes(routes!(events::of_device_with_prefix))
        .routes(routes!(variables::read, functions::call))
        .routes(routes!(diagnostics::history))
        .routes(routes!(diagnostics::last))
        .routes(routes!(diagnostics::update))
        .routes(routes!(events::prefix_required))
        .routes(routes!(events::own_with_prefix))
        .routes(routes!(products::list))
        .routes(routes!(products::of_user))
        .routes(routes!(products::organizations))
        .split_for_parts()
}

/// The description itself, which anybody may read.
pub(super) fn description(text: String) -> Router<Context> {
    Router::new().route("/v1/openapi.json", get(move || async move { super::json::ok_written(text.into()) }))
}
