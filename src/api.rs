//! The REST surface that unmodified clients of these devices know, on axum.
//!
//! It knows users and devices from the registry's memory and reaches devices through a [`Gateway`] only. [`Api`] answers requests; `serve`
//! brings them from a socket.

mod access_tokens;
mod address;
pub mod content;
mod context;
mod counters;
mod device_claims;
mod device_object;
mod devices;
mod diagnostics;
mod error;
mod events;
mod fields;
mod functions;
pub mod gateway;
mod json;
mod oauth;
pub mod offline;
mod path;
mod patience;
mod platform;
mod products;
mod publish;
mod request;
mod series;
mod serve;
mod sse;
mod throttle;
pub mod tls;
mod users;
mod variables;
mod wrap;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::cors::{Any, CorsLayer};

use crate::store::Registry;
use context::{Context, Peer};

pub use context::Settings;
pub use counters::Counters;
pub use gateway::Gateway;
pub use series::ApiSeries;
pub use serve::serve;

/// How long a browser may remember what it may send.
const PREFLIGHT_AGE: Duration = Duration::from_secs(86_400);

/// The API. A handle: clones are the same.
#[derive(Clone)]
pub struct Api {
    context: Context,
    router: Router,
}

impl Api {
    /// Puts it together. When `shutdown` is cancelled, event streams end.
    pub fn new(registry: Registry, gateway: Arc<dyn Gateway>, settings: Settings, shutdown: CancellationToken) -> Self {
        let context = Context::new(registry, gateway, settings, shutdown);
        Self { router: router(context.clone()), context }
    }

    /// What was refused so far.
    pub fn counters(&self) -> &Arc<Counters> {
        self.context.counters()
    }

    /// Answers one request that came from `peer`.
    pub async fn respond(&self, mut request: Request, peer: SocketAddr) -> Response {
        if let Some(tidy) = path::tidy(request.uri()) {
            *request.uri_mut() = tidy;
        }
        request.extensions_mut().insert(Peer(peer));
        let began = Instant::now();
        let answer: Result<Response, Infallible> = self.router.clone().oneshot(request).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        self.counters().answered(answer.status(), began.elapsed());
        answer
    }
}

/// Every route. Literal words are matched before names.
fn router(context: Context) -> Router {
    Router::new()
        .route("/oauth/token", post(oauth::token))
        .route("/v1/access_tokens/current", get(access_tokens::current).delete(access_tokens::revoke_current))
        .route("/v1/access_tokens/{token}", delete(access_tokens::revoke))
        .route("/v1/user", get(users::show))
        .route("/v1/users", post(users::create))
        .route("/v1/user/products", get(products::list))
        .route("/v1/products", get(products::list))
        .route("/v1/orgs", get(products::organizations))
        .route("/v1/device_claims", post(device_claims::create))
        .route("/v1/devices", get(devices::list))
        .route("/v1/devices/events", get(events::all).post(publish::publish))
        .route("/v1/devices/events/{*prefix}", get(events::all_with_prefix))
        .route("/v1/devices/{device}", get(devices::show).put(devices::update))
        .route("/v1/devices/{device}/ping", put(devices::ping))
        .route("/v1/devices/{device}/events", get(events::of_device))
        .route("/v1/devices/{device}/events/{*prefix}", get(events::of_device_with_prefix))
        .route("/v1/devices/{device}/{name}", get(variables::read).post(functions::call))
        .route("/v1/diagnostics/{device}", get(diagnostics::history))
        .route("/v1/diagnostics/{device}/last", get(diagnostics::last))
        .route("/v1/diagnostics/{device}/update", post(diagnostics::update))
        .route("/v1/events", get(events::prefix_required))
        .route("/v1/events/{*prefix}", get(events::all_with_prefix))
        .layer(middleware::from_fn(wrap::wrap))
        .layer(cors())
        .with_state(context)
}

/// Any page may use the API: what it needs is a token, which no page has by itself.
fn cors() -> CorsLayer {
    let headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        HeaderName::from_static("x-particle-tool"),
        HeaderName::from_static("x-particle-project"),
        HeaderName::from_static("last-event-id"),
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD])
        .allow_headers(headers)
        .expose_headers([HeaderName::from_static("x-request-id")])
        .max_age(PREFLIGHT_AGE)
}
