//! The REST surface that unmodified clients of these devices know, on axum.
//!
//! It knows users and devices from the registry's memory and reaches devices through a [`Gateway`] only. [`Api`] answers requests; `serve`
//! brings them from a socket.

mod access;
mod access_tokens;
mod address;
mod body;
mod bulkhead;
mod clients;
mod context;
mod counters;
mod description;
mod device_change;
mod device_claims;
mod device_object;
mod devices;
mod diagnostics;
mod elsewhere;
mod error;
mod events;
mod fields;
mod firmware;
mod functions;
pub mod gateway;
mod groups;
mod hooks;
mod idempotency;
mod json;
mod oauth;
pub mod offline;
mod own_words;
mod ownership;
mod password_reset;
mod path;
mod patience;
mod place;
mod platform;
mod probes;
mod product_devices;
mod products;
mod provisioning;
mod publish;
mod rates;
mod request;
mod routes;
mod serial_numbers;
mod series;
mod serve;
mod sse;
mod tally;
mod team;
mod throttle;
pub mod tls;
mod transfers;
mod upload;
mod users;
mod variables;
mod versions;
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
use router::content;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::cors::{Any, CorsLayer};

use crate::store::Registry;
use access::Needs;
use bulkhead::Arrived;
use context::{Context, Peer};

pub use bulkhead::Class;
pub use context::Settings;
pub use counters::{ClassCounters, Counters};
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
        let (routes, description) = routes::all();
        let context = Context::new(registry, gateway, settings, Needs::of(&description), shutdown);
        let text = description::finish(description).to_json().expect("a description is texts and numbers");
        let admitted = middleware::from_fn_with_state(context.clone(), bulkhead::admit);
        let once = middleware::from_fn_with_state(context.clone(), idempotency::once);
        let routes = routes.merge(routes::description(text)).layer(once).layer(admitted);
        let router = routes.layer(middleware::from_fn(wrap::wrap)).layer(cors());
        Self { router: router.with_state(context.clone()), context }
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
        let began = Instant::now();
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(Arrived(began));
        let answer: Result<Response, Infallible> = self.router.clone().oneshot(request).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        self.counters().answered(answer.status(), began.elapsed());
        answer
    }
}

/// Any page may use the API: what it needs is a token, which no page has by itself.
fn cors() -> CorsLayer {
    let headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        HeaderName::from_static("x-particle-tool"),
        HeaderName::from_static("x-particle-project"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("request-timeout"),
        HeaderName::from_static("idempotency-key"),
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD])
        .allow_headers(headers)
        .expose_headers([HeaderName::from_static("x-request-id"), HeaderName::from_static("idempotent-replayed"), header::RETRY_AFTER])
        .max_age(PREFLIGHT_AGE)
}
