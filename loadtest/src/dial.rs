//! TCP connections that are made and taken without waiting for them, and as many open files as they take.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Open files that are not sockets of devices.
const FILES_SPARE: u64 = 64;
/// Connections that may wait to be taken. A whole fleet may come at once, and one that does not fit in waits for seconds.
const BACKLOG: i32 = 4096;

/// A connection to `server` that is being made, from the address `from` and any port.
pub(crate) fn dial(server: SocketAddr, from: IpAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error.into()),
        _ => Ok(socket.into()),
    }
}

/// A socket that connections come to.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("binding {address}"))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Raises the limit on open files as far as it goes, and checks that `sockets` fit. Programs that are started afterwards inherit the limit.
pub(crate) fn allow_sockets(sockets: usize) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let fits = (sockets as u64).saturating_add(FILES_SPARE) <= hard;
    ensure!(fits, "{sockets} sockets are more than the {hard} open files allowed: devices on UDP can share them with --per-socket");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_sockets_are_refused_before_any_is_opened() {
        assert!(allow_sockets(1).is_ok());
        assert!(allow_sockets(usize::MAX / 2).is_err());
    }
}
