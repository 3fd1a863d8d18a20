//! What the HTTP library answers by itself is turned into our words: it sends a bare status for a head that it cannot read, and clients want JSON.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest head of such an answer.
const HEAD_LEN_MAX: usize = 512;

/// A stream on which every refusal is JSON.
#[derive(Debug)]
pub(super) struct OwnWords<S> {
    stream: S,
    /// What is being written instead of what was handed over, and how far it is.
    instead: Option<Instead>,
}

#[derive(Debug)]
struct Instead {
    bytes: Vec<u8>,
    written: usize,
    /// Length of what was handed over.
    of: usize,
}

impl<S> OwnWords<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, instead: None }
    }
}

impl<S: AsyncWrite + Unpin> OwnWords<S> {
    /// Writes what stands instead, all of it before anything counts as written.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(instead) = &mut self.instead {
            let rest = &instead.bytes[instead.written..];
            if rest.is_empty() {
                let of = instead.of;
                self.instead = None;
                return Poll::Ready(Ok(of));
            }
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => instead.written += len,
            }
        }
        Poll::Ready(Ok(0))
    }

    fn is_instead(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none()
            && let Some(status) = bare(bytes)
        {
            self.instead = Some(Instead { bytes: refusal(status), written: 0, of: bytes.len() });
        }
        self.instead.is_some()
    }
}

/// A whole answer that closes the connection and says nothing: the status of a refusal without a body, which we never give ourselves.
fn bare(bytes: &[u8]) -> Option<StatusCode> {
    if bytes.len() > HEAD_LEN_MAX || !bytes.starts_with(b"HTTP/1.1 4") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = str::from_utf8(bytes).ok()?.to_ascii_lowercase();
    let is_bare = head.contains("\r\nconnection: close\r\n") && head.contains("\r\ncontent-length: 0\r\n");
    let status = head.get(9..12)?.parse().ok()?;
    is_bare.then(|| StatusCode::from_u16(status).ok()).flatten()
}

/// A whole answer that refuses a request of which no more than this is known.
pub(super) fn refusal(status: StatusCode) -> Vec<u8> {
    let text = match status {
        StatusCode::BAD_REQUEST => "The request is no HTTP that is understood here",
        StatusCode::REQUEST_TIMEOUT => "The head of the request took too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => "The head of the request is too large",
        other => other.canonical_reason().unwrap_or("The request was refused"),
    };
    let body = serde_json::json!({ "ok": false, "error": text }).to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\nContent-Length: {}",
        body.len()
    );
    format!("{head}\r\n\r\n{body}").into_bytes()
}

impl<S: AsyncRead + Unpin> AsyncRead for OwnWords<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OwnWords<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_instead(bytes) { self.poll_instead(context) } else { Pin::new(&mut self.stream).poll_write(context, bytes) }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut whole = slices.iter().filter(|slice| !slice.is_empty());
        if let (Some(only), None) = (whole.next(), whole.next())
            && self.is_instead(only)
        {
            return self.poll_instead(context);
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn only_refusals_that_say_nothing_are_replaced() {
        let bare_431 = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(bare(bare_431.as_bytes()), Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        for other in [
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 12\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n",
        ] {
            assert_eq!(bare(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_replacement_is_written_whole_over_a_narrow_connection() {
        let (near, mut far) = duplex(7);
        let reader = tokio::spawn(async move {
            let mut text = String::new();
            far.read_to_string(&mut text).await.map(|_| text)
        });
        let mut near = OwnWords::new(near);
        near.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        near.write_all(b"and on").await.unwrap();
        drop(near);
        let text = reader.await.unwrap().unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n") && text.ends_with("here\",\"ok\":false}and on"), "{text}");
    }
}
