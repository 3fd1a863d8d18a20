//! The chaos proxy between plain clients and plain echo servers on loopback sockets.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_load::chaos::{Chance, Proxy, ProxyPlan, Rules, Weather};

/// Nothing here takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(60);
const NAP: Duration = Duration::from_millis(5);

fn plan(server: SocketAddr, rules: Rules, links_max: usize) -> ProxyPlan {
    let weather = Weather { seed: 1, common: rules, others: Vec::new() };
    ProxyPlan { listen: (Ipv4Addr::LOCALHOST, 0).into(), server, weather, links_max }
}

/// Echoes datagrams until nobody wants to know: who sent what.
fn udp_echo() -> Result<(SocketAddr, Receiver<(SocketAddr, u8)>)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (address, (heard, told)) = (socket.local_addr()?, channel());
    thread::spawn(move || echo_datagrams(&socket, &heard));
    Ok((address, told))
}

fn echo_datagrams(socket: &UdpSocket, heard: &Sender<(SocketAddr, u8)>) -> std::io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..len], from)?;
        if heard.send((from, buffer[0])).is_err() {
            return Ok(());
        }
    }
}

fn client(server: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(NAP))?;
    Ok(socket)
}

#[test]
fn answers_find_their_device_however_often_it_changes_its_port() -> Result<()> {
    let (server, told) = udp_echo()?;
    let rules = Rules { jitter: Duration::from_millis(4), rebind_every: Some(Duration::from_millis(20)), ..Rules::default() };
    let proxy = Proxy::udp(plan(server, rules, 5))?;
    let clients = (0..5).map(|_| client(proxy.address())).collect::<Result<Vec<_>>>()?;
    let (begun, mut buffer, mut answered) = (Instant::now(), [0; 64], HashMap::<u8, u64>::new());
    while answered.len() < 5 || answered.values().any(|count| *count < 20) || proxy.counts().rebinds < 25 {
        ensure!(begun.elapsed() < LIMIT, "{answered:?} {:?}", proxy.counts());
        for (number, client) in (0u8..).zip(&clients) {
            client.send(&[number; 10])?;
            while let Ok(len) = client.recv(&mut buffer) {
                assert_eq!(&buffer[..len], [number; 10], "an answer for another device");
                *answered.entry(number).or_default() += 1;
            }
        }
    }
    let counts = proxy.stop()?;
    let mut ports = HashMap::<u8, HashSet<u16>>::new();
    for (from, number) in told.try_iter() {
        ports.entry(number).or_default().insert(from.port());
    }
    assert!(ports.len() == 5 && ports.values().all(|ports| ports.len() > 1), "{ports:?}");
    assert_eq!((counts.links, counts.links_refused, counts.lost, counts.rebinds_refused), (5, 0, 0, 0));
    Ok(())
}

#[test]
fn more_devices_than_allowed_are_turned_away_and_what_is_lost_is_counted() -> Result<()> {
    let (server, told) = udp_echo()?;
    let rules = Rules { loss: Chance::percent(100.0).unwrap_or_default(), ..Rules::default() };
    let proxy = Proxy::udp(plan(server, rules, 1))?;
    let (first, second) = (client(proxy.address())?, client(proxy.address())?);
    let begun = Instant::now();
    while proxy.counts().lost < 10 || proxy.counts().links_refused < 10 {
        ensure!(begun.elapsed() < LIMIT, "{:?}", proxy.counts());
        first.send(b"x")?;
        second.send(b"x")?;
        thread::yield_now();
    }
    let counts = proxy.stop()?;
    assert_eq!((counts.links, counts.delivered, told.try_iter().count()), (1, 0, 0));
    Ok(())
}

/// Echoes connections, each until its client sends no more.
fn tcp_echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || echo_bytes(connection));
        }
    });
    Ok(address)
}

fn echo_bytes(mut connection: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer)? {
            0 => return connection.shutdown(Shutdown::Write),
            len => connection.write_all(&buffer[..len])?,
        }
    }
}

/// Sends `bytes` and the end: what comes back until the end, and whether it ended in order.
fn roundtrip(server: SocketAddr, bytes: &[u8]) -> Result<(Vec<u8>, bool)> {
    let mut reading = TcpStream::connect(server)?;
    reading.set_read_timeout(Some(LIMIT))?;
    let mut writing = reading.try_clone()?;
    let bytes = bytes.to_vec();
    let writer = thread::spawn(move || writing.write_all(&bytes).and_then(|()| writing.shutdown(Shutdown::Write)).is_ok());
    let (mut echoed, mut buffer) = (Vec::new(), [0; 4096]);
    let whole = loop {
        match reading.read(&mut buffer) {
            Ok(0) => break true,
            Ok(len) => echoed.extend(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break false,
            Err(error) => return Err(error.into()),
        }
    };
    Ok((echoed, writer.join().unwrap_or_default() && whole))
}

fn text(len: usize) -> Vec<u8> {
    (0u32..).flat_map(|number| number.to_be_bytes()).take(len).collect()
}

#[test]
fn a_bad_stream_brings_every_byte_in_order() -> Result<()> {
    let rules = Rules {
        jitter: Duration::from_millis(2),
        tear: Chance::percent(50.0).unwrap_or_default(),
        stall_every: Some(Duration::from_millis(20)),
        stall_for: Duration::from_millis(10),
        ..Rules::default()
    };
    let proxy = Proxy::tcp(plan(tcp_echo()?, rules, 10))?;
    let begun = Instant::now();
    while proxy.counts().stalls == 0 {
        ensure!(begun.elapsed() < LIMIT, "{:?}", proxy.counts());
        for len in [0, 1, 1000, 1_000_000] {
            let (echoed, whole) = roundtrip(proxy.address(), &text(len))?;
            assert!(whole && echoed == text(len), "{len}: {} came back, {:?}", echoed.len(), proxy.counts());
        }
    }
    let counts = proxy.stop()?;
    assert!(counts.links >= 4 && counts.cuts == 0 && counts.links_refused == 0, "{counts:?}");
    Ok(())
}

#[test]
fn a_cut_stream_brings_a_beginning_and_then_breaks() -> Result<()> {
    let proxy = Proxy::tcp(plan(tcp_echo()?, Rules { cut_after: Some(100_000), ..Rules::default() }, 10))?;
    for _ in 0..10 {
        let (echoed, whole) = roundtrip(proxy.address(), &text(1_000_000))?;
        assert!(!whole && echoed.len() < 200_000 && text(1_000_000).starts_with(&echoed), "{}", echoed.len());
    }
    let counts = proxy.stop()?;
    assert_eq!((counts.links, counts.cuts), (10, 10));
    Ok(())
}

#[test]
fn where_no_server_listens_connections_break() -> Result<()> {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let proxy = Proxy::tcp(plan(nobody, Rules::default(), 10))?;
    assert_eq!(roundtrip(proxy.address(), b"anyone?")?, (Vec::new(), false));
    assert!(Proxy::udp(plan("192.0.2.1:5684".parse()?, Rules::default(), 1)).is_err());
    Ok(())
}
