//! What went wrong, in words for the owner of a hook: which part, and what the other side did, but nothing of what this server is made of or saw of its
//! own network.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use super::progress::Progress;
use crate::delivery::Phase;

/// The time of all of it was up.
pub(super) fn late(phase: Phase, limit: Duration) -> String {
    let what = match phase {
        Phase::Render | Phase::Guard | Phase::Dns => "the name of the host was not looked up",
        Phase::Connect => "there was no connection",
        Phase::Tls => "there was no agreement on TLS",
        Phase::Write => "the request was not taken whole",
        Phase::Wait => "there was no answer",
        Phase::Body => "the answer did not end",
    };
    within(what, limit)
}

/// Something did not happen in time.
pub(super) fn within(what: &str, limit: Duration) -> String {
    format!("{what} within {} s", limit.as_secs_f32())
}

/// What an error of the connection means.
pub(super) fn io(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            "the other side broke the connection"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "there is no way to the host",
        io::ErrorKind::TimedOut => "the host does not answer",
        io::ErrorKind::UnexpectedEof => "the other side closed the connection",
        _ => "the connection failed",
    }
}

/// What an error of HTTP means, by how far the request had come.
pub(super) fn http(error: &hyper::Error, progress: &Progress) -> &'static str {
    if error.is_parse_too_large() {
        return "the head of the answer is too large";
    }
    if error.is_parse() {
        return "the answer is not HTTP";
    }
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source {
        Some(source) => io(source),
        None if progress.has_read() => "the other side closed the connection in the middle of its answer",
        None => "the other side closed the connection without an answer",
    }
}
