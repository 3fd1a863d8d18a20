//! The least that a server has to do before it can say that it is ready: bind its sockets and answer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::server::Ports;

/// It ends by itself after this.
const LIMIT: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_millis(500);

/// Binds the ports and answers 200 on the last until it is killed, for a minute at most.
pub fn bare(ports: Ports) -> Result<()> {
    let _devices = UdpSocket::bind((Ipv4Addr::LOCALHOST, ports.udp))?;
    let _streams = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.tcp))?;
    let _rest = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.http))?;
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.admin))?;
    admin.set_nonblocking(true)?;
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        let Ok((mut stream, _)) = admin.accept() else {
            thread::sleep(Duration::from_micros(200));
            continue;
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // Whoever asks may have gone by now.
        let _ = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    }
    Ok(())
}
