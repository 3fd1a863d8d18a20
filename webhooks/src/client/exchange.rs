//! One connection that speaks HTTP/1.1, and one request and its answer on it.
//!
//! The connection is polled by whoever waits for something on it, and by nobody while it is kept. So a request needs no task beside its own, and whatever the other
//! side sends or does in between is seen when the connection is taken up again.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use url::{Position, Url};

use super::connect::Origin;
use super::progress::{Progress, Stage};
use super::stream::{Noted, Stream};
use super::{Answer, BODY_READ_MAX, Failure, answer, words};
use crate::delivery::Phase;

/// Largest head of an answer, and most that is read at once.
const HEAD_LEN_MAX: usize = 32 * 1024;
/// What belongs to the connection, and is set by whoever speaks on it.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    UPGRADE,
    EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Wire = Connection<TokioIo<Noted>, Payload>;

/// What is sent, on whichever connection.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    keep_max: usize,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Live {
    sender: SendRequest<Payload>,
    /// None when it has ended.
    wire: Option<Box<Wire>>,
    progress: Progress,
    origin: Origin,
    /// How long it may be kept, if it may.
    keep: Option<Duration>,
    _permit: OwnedSemaphorePermit,
}

/// An exchange did not come to its end, and the connection is of no more use.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// The connection was closed before anything of an answer.
    is_unanswered: bool,
    has_written: bool,
}

/// The body of a request, all in one piece.
#[derive(Debug)]
struct Payload {
    bytes: Bytes,
    progress: Progress,
}

impl Sending {
    /// Takes what belongs to the connection out of the headers.
    pub(super) fn new(method: Method, url: &Url, mut headers: HeaderMap, body: Bytes, keep_max: usize) -> Result<Self, Failure> {
        let path = Bytes::copy_from_slice(url[Position::BeforePath..Position::AfterQuery].as_bytes());
        let path = PathAndQuery::from_maybe_shared(path)
            .map_err(|_| Failure::new(Phase::Render, "the address has letters that cannot be sent"))?;
        for name in &OF_THE_CONNECTION {
            headers.remove(name);
        }
        Ok(Self { method, uri: path.into(), headers, body, keep_max: keep_max.min(BODY_READ_MAX) })
    }

    fn into_request(mut self, live: &Live) -> Request<Payload> {
        let host = self.headers.remove(HOST).unwrap_or_else(|| live.origin.header.clone());
        self.headers.insert(HOST, host);
        // A body that is expected and is not there is told of (RFC 9110 §8.6).
        if self.body.is_empty() && matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = Request::new(Payload { bytes: self.body, progress: live.progress.clone() });
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

impl Broken {
    /// Whether the request may go out once more in the same attempt. `can_repeat` says that the receiver can tell that it is the same.
    pub(super) fn is_repeatable(&self, can_repeat: bool) -> bool {
        self.is_unanswered && (can_repeat || !self.has_written)
    }
}

impl Live {
    /// Begins to speak HTTP/1.1.
    pub(super) async fn new(stream: Stream, origin: Origin, permit: OwnedSemaphorePermit) -> Result<Self, Failure> {
        let progress = Progress::default();
        let io = TokioIo::new(Noted::new(stream, progress.clone()));
        let begun = Builder::new().max_buf_size(HEAD_LEN_MAX).handshake(io).await;
        let (sender, wire) = begun.map_err(|error| Failure::new(Phase::Write, words::http(&error, &progress)))?;
        Ok(Self { sender, wire: Some(Box::new(wire)), progress, origin, keep: None, _permit: permit })
    }

    /// Where it goes.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How long it may be kept, at most so long; `None` if it may not.
    pub(super) fn idle_for(&self, max: Duration) -> Option<Duration> {
        self.keep.map(|keep| keep.min(max)).filter(|keep| !keep.is_zero())
    }

    /// Sends a request and reads its answer.
    pub(super) async fn exchange(&mut self, sending: Sending, stage: &Stage) -> Result<Answer, Broken> {
        let keep_max = sending.keep_max;
        self.keep = None;
        self.progress.begin(!sending.body.is_empty());
        let request = sending.into_request(self);
        let answer = self.sender.send_request(request);
        let answer = self.drive(stage, answer).await.map_err(|error| self.broken(&error))?;
        let (head, incoming) = answer.into_parts();
        let (body, is_cut, is_over) = self.read(incoming, keep_max, stage).await.map_err(|error| self.broken(&error))?;
        if is_over && self.is_open().await {
            self.keep = Some(answer::keep_alive(&head.headers).unwrap_or(Duration::MAX));
        }
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after_s: answer::retry_after(&head.headers, SystemTime::now),
            content_type: answer::content_type(&head.headers),
            body,
            is_cut,
        })
    }

    /// Reads a body: its beginning, whether that is not all, and whether it was read to its end.
    async fn read(&mut self, mut incoming: Incoming, keep_max: usize, stage: &Stage) -> Result<(Vec<u8>, bool, bool), hyper::Error> {
        // What is larger than all that is read is not read for the sake of the connection.
        let read_max = if incoming.size_hint().lower() > BODY_READ_MAX as u64 { keep_max } else { BODY_READ_MAX };
        let (mut body, mut seen) = (Vec::new(), 0);
        while let Some(frame) = self.drive(stage, incoming.frame()).await {
            let frame = frame?;
            let Some(data) = frame.data_ref() else { continue };
            body.extend_from_slice(&data[..data.len().min(keep_max - body.len())]);
            seen += data.len();
            if seen >= read_max && !incoming.is_end_stream() {
                return Ok((body, true, false));
            }
        }
        let is_cut = seen > body.len();
        Ok((body, is_cut, true))
    }

    /// Whether another request can be sent, as far as one can see from here.
    pub(super) async fn is_open(&mut self) -> bool {
        poll_fn(|cx| {
            poll_wire(&mut self.wire, cx);
            let is_ready = self.wire.is_some() && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())));
            Poll::Ready(is_ready)
        })
        .await
    }

    /// Waits for something that happens on the connection, and keeps it going meanwhile.
    async fn drive<T>(&mut self, stage: &Stage, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            poll_wire(&mut self.wire, cx);
            stage.set(self.progress.phase());
            work.as_mut().poll(cx)
        })
        .await
    }

    fn broken(&self, error: &hyper::Error) -> Broken {
        Broken {
            failure: Failure::new(self.progress.phase(), words::http(error, &self.progress)),
            is_unanswered: !error.is_parse() && !self.progress.has_read(),
            has_written: self.progress.has_written(),
        }
    }
}

/// Lets the connection do what it can. Its errors come to whoever waits for an answer; one that has ended is not asked again.
fn poll_wire(wire: &mut Option<Box<Wire>>, cx: &mut Context<'_>) {
    if let Some(open) = wire
        && Pin::new(open).poll(cx).is_ready()
    {
        *wire = None;
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        self.progress.took_body();
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
