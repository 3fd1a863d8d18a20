//! Faults that a server lets be injected into its threads, if it was started for that: a line on a Unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The server answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Injects what `line` says.
///
/// # Errors
/// Nobody is there, or the server does not do that.
pub(crate) fn inject(socket: &Path, line: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("the server lets no faults be injected")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer.trim_end() == "ok", "{line}: {}", answer.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn a_fault_is_in_when_the_server_says_so() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("faults");
        assert!(inject(&socket, "freeze shard-3 apply").is_err());
        let listener = UnixListener::bind(&socket)?;
        let server = thread::spawn(move || -> std::io::Result<()> {
            for answer in ["ok\n", "no part is called shard-99\n"] {
                let (stream, _) = listener.accept()?;
                BufReader::new(&stream).read_line(&mut String::new())?;
                (&stream).write_all(answer.as_bytes())?;
            }
            Ok(())
        });
        inject(&socket, "freeze shard-3 apply")?;
        let error = inject(&socket, "freeze shard-99 apply").expect_err("there is none");
        assert!(error.to_string().contains("shard-99"), "{error}");
        server.join().expect("the thread does not panic")?;
        Ok(())
    }
}
