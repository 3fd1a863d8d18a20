//! Datagrams that the kernel dropped because a socket's buffer was full: nobody here ever saw them. The kernel counts them for each socket since it was
//! opened, and says so in a table, which is read when metrics are asked for.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};

/// Where the kernel keeps its tables of sockets on IPv4 and IPv6.
const TABLES: [&str; 2] = ["/proc/self/net/udp", "/proc/self/net/udp6"];
/// The field of a line that names the socket. The last one counts drops.
const INODE_FIELD: usize = 9;

/// What the kernel calls a socket, and which queue of terminators it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketName {
    /// What comes in there.
    pub queue: &'static str,
    /// The number of its inode.
    pub inode: u64,
}

/// The series.
#[derive(Clone, Debug)]
pub struct KernelDrops {
    sockets: Vec<SocketName>,
    drops: IntCounterVec,
}

impl KernelDrops {
    /// Of these sockets.
    ///
    /// # Errors
    /// A name or label is not well-formed.
    pub fn new(sockets: Vec<SocketName>) -> Result<Self, prometheus::Error> {
        let help = "Datagrams that the kernel dropped because a socket's buffer was full.";
        Ok(Self { sockets, drops: IntCounterVec::new(Opts::new("holdfast_udp_kernel_drops_total", help), &["queue"])? })
    }

    fn read(&self) {
        let tables = TABLES.map(|path| fs::read_to_string(path).unwrap_or_default());
        for queue in ["sessions", "others"] {
            let inodes: Vec<_> = self.sockets.iter().filter(|socket| socket.queue == queue).map(|socket| socket.inode).collect();
            let dropped: u64 = tables.iter().map(|table| drops_in(table, &inodes)).sum();
            let counter = self.drops.with_label_values(&[queue]);
            counter.inc_by(dropped.saturating_sub(counter.get()));
        }
    }
}

/// What the sockets with these inodes have dropped, as far as they are in `table`.
fn drops_in(table: &str, inodes: &[u64]) -> u64 {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace());
    let is_own = |inode: &str| inode.parse().is_ok_and(|inode| inodes.contains(&inode));
    let own = lines.filter(|fields| fields.clone().nth(INODE_FIELD).is_some_and(is_own));
    own.filter_map(|fields| fields.last()?.parse::<u64>().ok()).sum()
}

impl Collector for KernelDrops {
    fn desc(&self) -> Vec<&Desc> {
        self.drops.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.drops.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use nix::sys::stat::fstat;

    use super::*;

    #[test]
    fn drops_of_own_sockets_add_up() {
        let table = "   sl  local_address rem_address   st … drops\n\
                     1: 0100007F:1634 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 501 2 0 7\n\
                     2: 0100007F:1634 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 502 2 0 5\n\
                     3: 0100007F:1634 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 503 2 0 9\n";
        assert_eq!((drops_in(table, &[501, 502]), drops_in(table, &[1])), (12, 0));
    }

    #[test]
    fn what_a_socket_that_nobody_reads_drops_is_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (full, sender) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
            let series = KernelDrops::new(vec![SocketName { queue: "others", inode: fstat(&full).unwrap().st_ino }]).unwrap();
            (0..2_000).for_each(|_| drop(sender.send_to(&[0; 1000], full.local_addr().unwrap())));
            series.read();
            let drops = |queue| series.drops.with_label_values(&[queue]).get();
            assert!(drops("others") > 0 && drops("sessions") == 0);
        }
    }
}
