//! Tells whoever started the server, such as systemd, that it serves and that its watchdog judges: a line on the socket that `NOTIFY_SOCKET` names
//! (sd_notify(3)). It never waits: a supervisor that takes nothing must not stop the watchdog.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

const VARIABLE: &str = "NOTIFY_SOCKET";

/// The way to it, if there is one.
#[derive(Debug)]
pub struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// Whoever the environment names.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os(VARIABLE).and_then(|name| {
            connect(&name).inspect_err(|error| tracing::warn!(%error, ?name, "the supervisor cannot be told anything")).ok()
        });
        Self(socket)
    }

    /// The server serves.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The server stops.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The watchdog has judged.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.0 {
            // One that is not heard is missed, which is all that can be done.
            let _ = socket.send(state.as_bytes());
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_by_path_and_by_abstract_name_and_never_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("holdfast-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&abstract_address).unwrap()];
        for (socket, name) in heard.iter().zip([path.into_os_string(), format!("@{name}").into()]) {
            let supervisor = Supervisor(Some(connect(&name).unwrap()));
            supervisor.ready();
            let mut line = [0; 32];
            let len = socket.recv(&mut line).unwrap();
            assert_eq!(&line[..len], b"READY=1");
            (0..100_000).for_each(|_| supervisor.alive());
        }
        Supervisor(None).stopping();
    }
}
