//! The least that a server has to do for a request: read it, know its token, write an answer of the same shape. The same HTTP library, and nothing
//! behind it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::any;
use serde_json::{Value, json};

use super::thread_cpu;
use crate::callers::{Callers, CallersPlan};

const WINDOW: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_millis(200);

/// What handlers share.
struct Shared {
    tokens: HashMap<String, u64>,
    answered: AtomicU64,
    answer: Value,
}

/// Processor time of the server for each request, of callers that ask like this.
pub(super) fn measure(plan: impl Fn(SocketAddr) -> CallersPlan, token: &str, answer: Value) -> Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let server = listener.local_addr()?;
    let shared = Arc::new(Shared { tokens: HashMap::from([(token.to_owned(), 1)]), answered: AtomicU64::new(0), answer });
    let serving = thread::Builder::new().name("bare-rest".into()).spawn(move || serve(listener, &shared))?;
    let callers = Callers::start(plan(server))?;
    callers.work(true);
    let served = serving.join().ok().context("the bare server panicked")?;
    callers.stop()?;
    let (answered, cpu) = served?;
    ensure!(answered > 0, "the bare server answered nothing");
    Ok(cpu / answered)
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) -> Result<(u32, Duration)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = Router::new().fallback(any(handle)).with_state(Arc::clone(shared));
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(async { axum::serve(listener, router).await });
        tokio::time::sleep(WARM_UP).await;
        let (answered, cpu) = (shared.answered.load(Ordering::Relaxed), thread_cpu()?);
        tokio::time::sleep(WINDOW).await;
        let answered = shared.answered.load(Ordering::Relaxed) - answered;
        Ok((u32::try_from(answered)?, thread_cpu()? - cpu))
    })
}

async fn handle(State(shared): State<Arc<Shared>>, headers: HeaderMap, _body: String) -> (StatusCode, axum::Json<Value>) {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if token.and_then(|token| shared.tokens.get(token)).is_none() {
        return (StatusCode::UNAUTHORIZED, axum::Json(json!({ "error": "invalid_token" })));
    }
    shared.answered.fetch_add(1, Ordering::Relaxed);
    (StatusCode::OK, axum::Json(shared.answer.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_cost() -> Result<()> {
        let request: Arc<[u8]> = b"GET / HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer t\r\n\r\n".as_slice().into();
        assert!(
            !measure(
                |server| CallersPlan { server, callers: 4, requests: vec![Arc::clone(&request)], every: None },
                "t",
                json!({ "ok": true })
            )?
            .is_zero()
        );
        Ok(())
    }
}
