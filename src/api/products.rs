//! Products and organizations, of which this server has none. Clients ask for the lists and want them empty rather than missing.

use axum::response::Response;
use serde_json::json;

use super::json::ok;
use super::request::Call;

/// `GET /v1/products`
#[utoipa::path(get, path = "/v1/products", tag = "products", security(("token" = ["products:list"])), responses((status = 200, description = "None.", body = Object)))]
pub(super) async fn list(_: Call) -> Response {
    ok(&json!({ "products": [] }))
}

/// `GET /v1/user/products`
#[utoipa::path(get, path = "/v1/user/products", tag = "products", security(("token" = ["products:list"])), responses((status = 200, description = "None.", body = Object)))]
pub(super) async fn of_user(_: Call) -> Response {
    ok(&json!({ "products": [] }))
}

/// `GET /v1/orgs`
#[utoipa::path(get, path = "/v1/orgs", tag = "products", security(("token" = [])), responses((status = 200, description = "None.", body = Object)))]
pub(super) async fn organizations(_: Call) -> Response {
    ok(&json!({ "organizations": [] }))
}
