//! How many datagrams the kernel has dropped because a socket's buffer was full.

use std::fs;
use std::io;
use std::net::SocketAddr;

/// The sum over all IPv4 sockets bound to the port of `address`, since they were opened.
pub(crate) fn socket_drops(address: SocketAddr) -> io::Result<u64> {
    Ok(parse(&fs::read_to_string("/proc/net/udp")?, address.port()))
}

/// Lines of `/proc/net/udp`: the second field is the local address, the last one counts drops.
fn parse(table: &str, port: u16) -> u64 {
    let ending = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace());
    let own = lines.filter(|fields| fields.clone().nth(1).is_some_and(|local| local.ends_with(&ending)));
    own.filter_map(|fields| fields.last()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn drops_of_one_port_add_up() {
        let table = "   sl  local_address rem_address   st … drops\n\
                     1: 0100007F:1634 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0 7\n\
                     2: 0100007F:1634 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 6 2 0 5\n\
                     3: 0100007F:1635 0100007F:1634 07 00000000:00000000 00:00000000 00000000     0        0 7 2 0 9\n";
        assert_eq!((parse(table, 0x1634), parse(table, 1)), (12, 0));
    }

    #[test]
    fn a_socket_that_nobody_reads_drops() -> io::Result<()> {
        let (full, sender) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        let address = full.local_addr()?;
        for _ in 0..100_000 {
            sender.send_to(&[0; 1000], address)?;
            if socket_drops(address)? > 0 {
                return Ok(());
            }
        }
        panic!("nothing was dropped")
    }
}
