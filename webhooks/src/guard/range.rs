//! Which ranges of addresses are not public, and which of them an operator can allow all the same.
//!
//! The IPv4 ranges are those of the IANA special-purpose registry (RFC 6890 with its updates). Of IPv6 only global unicast is assigned to anybody
//! (2000::/3, RFC 4291 §2.4), so everything else is refused whether it has a name or not. What carries an IPv4 address inside (mapped, compatible, NAT64,
//! 6to4, Teredo) is refused whole, whatever it carries: no public receiver is reached that way only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not public.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Range {
    /// 0.0.0.0/8 and ::, "this host on this network" (RFC 791 §3.2, RFC 4291 §2.5.2).
    Unspecified,
    /// 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918).
    Private,
    /// 100.64.0.0/10, between a provider and its customers (RFC 6598).
    Shared,
    /// 127.0.0.0/8 and ::1 (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
    Loopback,
    /// 169.254.0.0/16 and fe80::/10 (RFC 3927, RFC 4291 §2.5.6).
    LinkLocal,
    /// 192.0.0.0/24 and 2001::/23, for protocols (RFC 6890 §2.1, RFC 2928).
    Protocol,
    /// 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32, 3fff::/20 (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// 198.18.0.0/15 and 2001:2::/48 (RFC 2544, RFC 5180).
    Benchmarking,
    /// 192.88.99.0/24 and 2002::/16, 6to4 and its relays (RFC 3056, RFC 7526).
    SixToFour,
    /// 2001::/32 (RFC 4380).
    Teredo,
    /// 224.0.0.0/4 and ff00::/8 (RFC 5771, RFC 4291 §2.7).
    Multicast,
    /// 240.0.0.0/4, once called class E (RFC 1112 §4).
    Reserved,
    /// 255.255.255.255 (RFC 919 §7).
    Broadcast,
    /// ::ffff:0:0/96, ::/96, 64:ff9b::/96 and 64:ff9b:1::/48: an IPv4 address in another form (RFC 4291 §2.5.5, RFC 6052, RFC 8215).
    Translated,
    /// fc00::/7 (RFC 4193).
    UniqueLocal,
    /// fec0::/10 (RFC 3879).
    SiteLocal,
    /// 100::/64 (RFC 6666).
    Discard,
    /// 5f00::/16 (RFC 9602).
    SegmentRouting,
    /// Of IPv6, assigned to nobody.
    Unassigned,
    /// Where a machine at a provider of machines asks for its own credentials, and other services that such a machine alone can reach.
    Metadata,
}

const V4: [(Ipv4Addr, u8, Range); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, Range::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Range::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Range::Shared),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Range::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Range::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Range::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Range::Protocol),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Range::Documentation),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Range::SixToFour),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Range::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Range::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Range::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Range::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Range::Multicast),
    (Ipv4Addr::new(255, 255, 255, 255), 32, Range::Broadcast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Range::Reserved),
    // 192.175.48.0/24 and 192.31.196.0/24 answer questions about private addresses (RFC 7534, RFC 7535) and are public; 192.52.193.0/24 relays multicast.
    (Ipv4Addr::new(192, 52, 193, 0), 24, Range::Protocol),
];

/// The narrower before the wider.
const V6: [(Ipv6Addr, u8, Range); 18] = [
    (Ipv6Addr::UNSPECIFIED, 128, Range::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, Range::Loopback),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, Range::Translated),
    (Ipv6Addr::UNSPECIFIED, 96, Range::Translated),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, Range::Translated),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Range::Translated),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, Range::Discard),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, Range::Teredo),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, Range::Benchmarking),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Range::Protocol),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Range::Documentation),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Range::Documentation),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Range::SixToFour),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, Range::SegmentRouting),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Range::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Range::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Range::SiteLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Range::Multicast),
];

/// Global unicast, the only part of IPv6 that is assigned.
const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The services of providers that are known by their address: the first is that of nearly all, then container credentials, a provider's name service and
/// time service, its container credentials again, two providers with addresses of their own, and the same over IPv6.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl Range {
    /// The range that makes an address not public; `None` if it is.
    pub fn of(address: IpAddr) -> Option<Self> {
        if METADATA.contains(&address) {
            return Some(Self::Metadata);
        }
        match address {
            IpAddr::V4(address) => V4.iter().find(|(network, len, _)| starts_v4(address, *network, *len)).map(|(_, _, range)| *range),
            IpAddr::V6(address) => {
                let named = V6.iter().find(|(network, len, _)| starts_v6(address, *network, *len)).map(|(_, _, range)| *range);
                named.or_else(|| (!starts_v6(address, GLOBAL_UNICAST.0, GLOBAL_UNICAST.1)).then_some(Self::Unassigned))
            }
        }
    }

    /// Whether the list of what is allowed can make an exception: for networks in which somebody may have a receiver.
    pub fn can_be_allowed(self) -> bool {
        matches!(
            self,
            Self::Private
                | Self::Shared
                | Self::Loopback
                | Self::LinkLocal
                | Self::Documentation
                | Self::Benchmarking
                | Self::UniqueLocal
                | Self::SiteLocal
        )
    }

    /// What it is called, as in "a private address".
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Private => "private",
            Self::Shared => "carrier-shared",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Protocol => "protocol",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::SixToFour => "6to4",
            Self::Teredo => "Teredo",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Broadcast => "broadcast",
            Self::Translated => "translated",
            Self::UniqueLocal => "unique-local",
            Self::SiteLocal => "site-local",
            Self::Discard => "discard",
            Self::SegmentRouting => "segment-routing",
            Self::Unassigned => "unassigned",
            Self::Metadata => "metadata",
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether the address begins with the first `len` bits of the network.
pub(super) fn starts_v4(address: Ipv4Addr, network: Ipv4Addr, len: u8) -> bool {
    (address.to_bits() ^ network.to_bits()).checked_shr(32 - u32::from(len)).unwrap_or(0) == 0
}

/// Whether the address begins with the first `len` bits of the network.
pub(super) fn starts_v6(address: Ipv6Addr, network: Ipv6Addr, len: u8) -> bool {
    (address.to_bits() ^ network.to_bits()).checked_shr(128 - u32::from(len)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Range> {
        Range::of(text.parse().unwrap())
    }

    #[test]
    fn a_range_ends_where_its_neighbour_begins() {
        for (before, first, last, after, range) in [
            ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0", Range::Private),
            ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0", Range::Private),
            ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0", Range::Private),
            ("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0", Range::Shared),
            ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0", Range::Loopback),
            ("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0", Range::LinkLocal),
            ("191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0", Range::Protocol),
            ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0", Range::Documentation),
            ("192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0", Range::SixToFour),
            ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0", Range::Benchmarking),
            ("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0", Range::Documentation),
            ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0", Range::Documentation),
            ("2001:db7:ffff::", "2001:db8::", "2001:db8:ffff:ffff::1", "2001:db9::", Range::Documentation),
            ("2003::", "2002::", "2002:ffff::", "2003::1", Range::SixToFour),
            ("3ffe::1", "3fff::", "3fff:fff::1", "3fff:1000::", Range::Documentation),
        ] {
            assert_eq!([of(before), of(first), of(last), of(after)], [None, Some(range), Some(range), None], "{range}");
        }
    }

    #[test]
    fn of_ipv6_only_what_is_assigned_is_public() {
        for (text, range) in [
            ("::", Range::Unspecified),
            ("::1", Range::Loopback),
            ("::2", Range::Translated),
            ("::ffff:8.8.8.8", Range::Translated),
            ("64:ff9b::8.8.8.8", Range::Translated),
            ("64:ff9b:1:2::1", Range::Translated),
            ("64:ff9b:2::1", Range::Unassigned),
            ("100::1", Range::Discard),
            ("2001::1", Range::Teredo),
            ("2001:2::1", Range::Benchmarking),
            ("2001:1ff::1", Range::Protocol),
            ("4000::1", Range::Unassigned),
            ("5f00::1", Range::SegmentRouting),
            ("fc00::1", Range::UniqueLocal),
            ("fdff::1", Range::UniqueLocal),
            ("fe00::1", Range::Unassigned),
            ("febf::1", Range::LinkLocal),
            ("fec0::1", Range::SiteLocal),
            ("ff02::1", Range::Multicast),
        ] {
            assert_eq!(of(text), Some(range), "{text}");
        }
        for text in ["2000::1", "2001:200::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
