//! The socket through which faults come in: a line each, answered with `ok` or with what is the matter.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::Injector;

/// Longest conversation, in bytes.
const CONVERSATION_MAX: u64 = 4_096;

/// Takes faults until the process ends.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(path: &Path, injector: Injector) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(stream, injector.clone()));
    }
}

async fn converse(stream: UnixStream, injector: Injector) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(CONVERSATION_MAX)).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = injector.perform(&line).map_or_else(|problem| format!("{problem}\n"), |()| "ok\n".to_owned());
        write.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
