//! What it costs this machine to receive a datagram and send it back: the limit of anything that answers over UDP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::thread_cpu;

/// As long as a ping of a device.
const PAYLOAD: [u8; 53] = [0x5a; 53];
const WINDOW: Duration = Duration::from_secs(1);
/// Longest wait of either side, so that it sees the end.
const NAP: Duration = Duration::from_millis(50);
const BATCH: usize = 64;

/// Processor time for each echo, with `clients` datagrams under way.
pub(super) fn measure(clients: usize) -> Result<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(NAP))?;
    let (server, over) = (socket.local_addr()?, AtomicBool::new(false));
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&socket, &over));
        let driven = drive(server, clients);
        over.store(true, Ordering::Release);
        let (echoes, cpu) = echo.join().ok().context("the echo thread panicked")??;
        driven?;
        ensure!(echoes > 0, "nothing was echoed");
        Ok(cpu / echoes)
    })
}

fn echo(socket: &UdpSocket, over: &AtomicBool) -> Result<(u32, Duration)> {
    let (mut buffer, mut echoes, before) = ([0; 2048], 0u32, thread_cpu()?);
    while !over.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], from)?;
            echoes = echoes.saturating_add(1);
        }
    }
    Ok((echoes, thread_cpu()? - before))
}

/// Keeps one datagram of each client under way.
fn drive(server: SocketAddr, clients: usize) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut sockets = Vec::with_capacity(clients);
    for index in 0..clients {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        socket.send(&PAYLOAD)?;
        sockets.push(socket);
    }
    let (begun, mut events, mut buffer) = (Instant::now(), [EpollEvent::empty(); BATCH], [0; 2048]);
    while begun.elapsed() < WINDOW {
        let ready = epoll.wait(&mut events, u8::try_from(NAP.as_millis())?)?;
        for event in &events[..ready] {
            let socket = sockets.get(usize::try_from(event.data())?).context("a socket of ours")?;
            if socket.recv(&mut buffer).is_ok() {
                socket.send(&PAYLOAD)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_has_a_cost() -> Result<()> {
        assert!(!measure(8)?.is_zero());
        Ok(())
    }
}
