//! Products and organizations, of which this server has none. Clients ask for the lists and want them empty rather than missing.

use axum::response::Response;
use serde_json::json;

use super::json::ok;
use super::request::Call;

/// `GET /v1/products`, `GET /v1/user/products`
pub(super) async fn list(_: Call) -> Response {
    ok(&json!({ "products": [] }))
}

/// `GET /v1/orgs`
pub(super) async fn organizations(_: Call) -> Response {
    ok(&json!({ "organizations": [] }))
}
