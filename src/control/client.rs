//! The command line's end of the socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{LINE_LEN_MAX, Request, Response};

/// How long the server may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a running server gave no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The socket cannot be opened.
    #[error("cannot reach the running server at {path}: {source}", path = path.display())]
    Unreachable {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server left without an answer, or took too long.
    #[error("the running server gave no answer: {0}")]
    NoAnswer(#[from] io::Error),
    /// The server speaks another version.
    #[error("the running server's answer is not understood: {0}")]
    Garbled(#[from] serde_json::Error),
}

/// Asks the server behind the socket at `path`.
///
/// # Errors
/// There is none, or it gives no answer that is understood.
pub fn ask(path: &Path, request: &Request) -> Result<Response, ClientError> {
    ask_within(path, request, ANSWER_TIMEOUT)
}

/// [`ask`] by somebody who waits no longer than this for each step.
///
/// # Errors
/// As for [`ask`].
pub fn ask_within(path: &Path, request: &Request, patience: Duration) -> Result<Response, ClientError> {
    let mut stream = UnixStream::connect(path).map_err(|source| ClientError::Unreachable { path: path.to_owned(), source })?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_LEN_MAX)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_str(&answer)?)
}
