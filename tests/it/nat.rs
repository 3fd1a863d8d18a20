//! A device whose address changes in the middle of its handshake.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::device_driver::Driver;
use crate::drive::Drive;
use crate::sessions::Running;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Where the type of the first handshake message stands, behind the record's header.
const MESSAGE_TYPE_AT: usize = 13;

/// A NAT that forgets a device after its hellos: what it sends then comes from another port.
struct ForgetfulNat {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl ForgetfulNat {
    fn before(server: SocketAddr) -> Self {
        let inside = socket();
        let (address, over) = (inside.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&over);
        Self { address, over, thread: thread::spawn(move || pass_on(&inside, server, &seen)) }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    socket
}

fn pass_on(inside: &UdpSocket, server: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let (hellos, others, mut buffer, mut device) = (socket(), socket(), [0; 2048], None);
    let mut arrived = |socket: &UdpSocket| socket.recv_from(&mut buffer).map(|(len, from)| (buffer[..len].to_vec(), from));
    while !over.load(Ordering::Relaxed) {
        if let Ok((datagram, from)) = arrived(inside) {
            device = Some(from);
            let is_hello = datagram.first() == Some(&HANDSHAKE) && datagram.get(MESSAGE_TYPE_AT) == Some(&CLIENT_HELLO);
            let way = if is_hello { &hellos } else { &others };
            way.send_to(&datagram, server)?;
        }
        for way in [&hellos, &others] {
            if let (Ok((datagram, _)), Some(device)) = (arrived(way), device) {
                inside.send_to(&datagram, device)?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_changes_within_the_handshake_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    running.register(1).await;
    let nat = ForgetfulNat::before(running.plane.udp());
    let mut driver = Driver::new(1, nat.address, running.server_key());
    driver.connect();
    let publish = driver.publish("temperature", b"21.5");
    driver.run_until(Duration::from_secs(10), |driver| driver.published(publish));
    assert_eq!(driver.handshakes(), 1);
    nat.end();
    running.stop();
}
