//! The receiver of the synthetic hook: it does what receivers are told to do, and says what came of it.
//!
//! It listens on loopback, where others may knock too: what is not signed is refused before it is read any further.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use webhooks::sign::{Signed, VerifyingKey, WEBHOOK_ATTEMPT, verify};

use super::ledger::{Arrival, Ledger, Message};
use crate::clock::Clock;
use crate::metrics::{SyntheticFailure, SyntheticMetrics};

/// Connections at once.
const CONNECTIONS_MAX: usize = 32;
/// Longest body.
const BODY_LEN_MAX: usize = 4_096;
/// How long a body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(5);
/// How long the next request may take to come.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// After it could not take a connection.
const AGAIN: Duration = Duration::from_millis(100);

/// What decides about requests.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) key: VerifyingKey,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) clock: Clock,
    pub(super) metrics: SyntheticMetrics,
}

/// Takes requests for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, judge: Arc<Judge>) {
    let (places, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), JoinSet::new());
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = connection(stream, Arc::clone(&judge));
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn connection(stream: TcpStream, judge: Arc<Judge>) -> impl Future<Output = ()> {
    let service = service_fn(move |request| {
        let judge = Arc::clone(&judge);
        async move { Ok::<_, Infallible>(answer(judge.take(request).await)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX).max_buf_size(16 << 10);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    // Whoever breaks a connection has had no answer, and comes again.
    async move { drop(served.await) }
}

fn answer(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = status;
    answer
}

impl Judge {
    async fn take(&self, request: Request<Incoming>) -> StatusCode {
        let (head, body) = request.into_parts();
        let body = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, BODY_LEN_MAX).collect()).await;
        match body {
            Ok(Ok(body)) => self.judge(&head.headers, &body.to_bytes()),
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Says of a whole request what it is.
    pub(super) fn judge(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let now = self.clock.now().unix;
        let verified = Signed::read(headers).and_then(|signed| verify(std::slice::from_ref(&self.key), signed, body, now.0 / 1_000));
        if verified.is_err() {
            self.metrics.failed(SyntheticFailure::Signature);
            return StatusCode::UNAUTHORIZED;
        }
        let attempt = headers.get(WEBHOOK_ATTEMPT).and_then(|value| value.to_str().ok()?.parse().ok());
        let (Ok(message), Some(attempt)) = (serde_json::from_slice::<Message>(body), attempt) else {
            self.metrics.failed(SyntheticFailure::Malformed);
            return StatusCode::BAD_REQUEST;
        };
        let arrival = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).arrive(now, &message, attempt);
        match arrival {
            Arrival::Verified(took) => self.metrics.delivered(now, took),
            Arrival::Failed(why) => self.metrics.failed(why),
            Arrival::Unawaited => {}
        }
        StatusCode::NO_CONTENT
    }
}
