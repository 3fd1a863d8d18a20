//! The least that it takes to send the requests of hooks: connections that stay, and the same request again and again, with the same HTTP library and
//! nothing around it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use nix::sched::CpuSet;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::super::thread_cpu;
use crate::cores::Moved;
use crate::hooks::Post;

/// Connections at once.
const CONNECTIONS: usize = 64;
const WINDOW: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_millis(200);

/// Requests like `post` for each second of processor time, on these processors.
pub(super) fn measure(receiver: SocketAddr, post: &Post, cores: CpuSet) -> Result<f64> {
    let post = post.clone();
    let sending = thread::Builder::new().name("bare-client".into()).spawn(move || {
        let _moved = Moved::to(cores)?;
        send(receiver, &post)
    })?;
    sending.join().ok().context("the bare client panicked")?
}

fn send(receiver: SocketAddr, post: &Post) -> Result<f64> {
    let (runtime, local) = (Builder::new_current_thread().enable_all().build()?, LocalSet::new());
    local.block_on(&runtime, async {
        let sent = Rc::new(Cell::new(0_u64));
        for _ in 0..CONNECTIONS {
            let (stream, post, sent) = (TcpStream::connect(receiver).await?, post.clone(), Rc::clone(&sent));
            stream.set_nodelay(true)?;
            let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            // It ends with the runtime, or shows in what was sent.
            tokio::task::spawn_local(async move { send_on(requests, &post, &sent).await.ok() });
        }
        tokio::time::sleep(WARM_UP).await;
        let (count, cpu) = (sent.get(), thread_cpu()?);
        tokio::time::sleep(WINDOW).await;
        let (count, cpu) = (sent.get() - count, thread_cpu()? - cpu);
        ensure!(count > 0, "the bare client sent nothing");
        Ok(count as f64 / cpu.as_secs_f64())
    })
}

async fn send_on(mut requests: SendRequest<Full<bytes::Bytes>>, post: &Post, sent: &Cell<u64>) -> Result<()> {
    loop {
        let mut request = Request::new(Full::new(post.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = post.path.parse()?;
        *request.headers_mut() = post.headers.clone();
        requests.ready().await?;
        let answer = requests.send_request(request).await?;
        answer.into_body().collect().await?;
        sent.set(sent.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::Cores;
    use crate::hooks::{Receivers, now};
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn requests_have_a_cost() -> Result<()> {
        let (cores, receivers, heard) = (Cores::part()?, Receivers::start()?, Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&heard);
        let address = receivers.open(Arc::new(move |post: Post| {
            assert_eq!((post.path.as_str(), &post.body[..]), ("/7", &b"{}"[..]));
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { StatusCode::OK })
        }))?;
        let headers = HeaderMap::from_iter([(hyper::header::HOST, "localhost".parse()?)]);
        let post = Post { path: "/7".into(), headers, body: Bytes::from("{}"), at: now() };
        assert!(measure(address, &post, cores.server())? > 0.0 && heard.load(Ordering::Relaxed) > 0);
        Ok(())
    }
}
