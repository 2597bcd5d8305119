//! Which peer a request is from and whether it may speak. Pure, and the only user of `ipnet`. Knows no sockets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

/// Who a request is from, after the rules of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(IpAddr);

impl Peer {
    /// The peer of a TCP connection. An IPv4 address that came over an IPv6 socket (`::ffff:192.0.2.1`) is that address.
    pub fn of(address: SocketAddr) -> Self {
        Self(address.ip().to_canonical())
    }

    /// Its address.
    pub fn address(self) -> IpAddr {
        self.0
    }

    /// Whether it is an address of this machine or of a network that is not the Internet, where Belvo never is.
    pub fn is_nearby(self) -> bool {
        match self.0 {
            IpAddr::V4(ip) => {
                let [first, second, ..] = ip.octets();
                // RFC 6598: between customers and their provider, and in tunnels.
                let is_shared = first == 100 && second & 0xc0 == 64;
                ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared
            }
            IpAddr::V6(ip) => {
                ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
            }
        }
    }
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

/// The sources that may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList(Vec<Source>);

/// One address or network that may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(IpNet);

impl FromStr for Source {
    type Err = String;

    /// An address, or a network in CIDR notation whose host bits are zero: `3.130.254.46`, `10.0.0.0/8`, `2001:db8::/32`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?} is neither an address like 3.130.254.46 nor a network like 10.0.0.0/8"
            )
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| expected())?;
        if network.addr() != network.network() {
            return Err(format!(
                "{text:?} has bits beyond its prefix; write {}",
                network.trunc()
            ));
        }
        match (network.addr(), network.addr().to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) if network.prefix_len() >= 96 => {
                IpNet::new(mapped.into(), network.prefix_len() - 96)
                    .map(Self)
                    .map_err(|_| expected())
            }
            _ => Ok(Self(network)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            return self.0.addr().fmt(f);
        }
        self.0.fmt(f)
    }
}

impl AllowList {
    /// These sources and no others.
    pub fn new(sources: Vec<Source>) -> Self {
        Self(sources)
    }

    /// One of these sources that shares an address with one of `other`, and that one.
    pub fn shared_with(&self, other: &Self) -> Option<(Source, Source)> {
        let pairs = self
            .0
            .iter()
            .flat_map(|mine| other.0.iter().map(move |theirs| (*mine, *theirs)));
        // Two networks are apart, or one holds the other.
        let share = |(mine, theirs): &(Source, Source)| {
            mine.0.contains(&theirs.0) || theirs.0.contains(&mine.0)
        };
        pairs.into_iter().find(share)
    }

    /// The sources and this peer, as the configuration writes them.
    pub fn written_with(&self, peer: Peer) -> Vec<String> {
        let added = peer.address().to_string();
        self.0
            .iter()
            .map(ToString::to_string)
            .chain([added])
            .collect()
    }

    /// An IPv4 address that may speak: this machine's own when it may, otherwise the first there is.
    pub fn an_ipv4_address(&self) -> Option<Ipv4Addr> {
        let own = Peer::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if self.allows(own) {
            return Some(Ipv4Addr::LOCALHOST);
        }
        self.0.iter().find_map(|source| match source.0 {
            IpNet::V4(network) => network.hosts().next(),
            IpNet::V6(_) => None,
        })
    }

    /// Whether the peer may speak.
    pub fn allows(&self, peer: Peer) -> bool {
        self.0.iter().any(|source| source.0.contains(&peer.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(sources: &[&str]) -> AllowList {
        AllowList::new(
            sources
                .iter()
                .map(|text| text.parse().expect("a source"))
                .collect(),
        )
    }

    fn peer(address: &str) -> Peer {
        Peer::of(SocketAddr::new(
            address.parse().expect("an address"),
            40_000,
        ))
    }

    #[test]
    fn only_the_listed_addresses_are_allowed() {
        let belvo = list(&["3.130.254.46", "18.220.61.186", "18.223.45.212"]);
        assert!(belvo.allows(peer("18.220.61.186")));
        assert!(
            !belvo.allows(peer("18.220.61.187"))
                && !belvo.allows(peer("127.0.0.1"))
                && !belvo.allows(peer("::1"))
        );
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_stands_for() {
        assert!(list(&["3.130.254.46"]).allows(peer("::ffff:3.130.254.46")));
        assert!(list(&["::ffff:3.130.254.46"]).allows(peer("3.130.254.46")));
        assert!(list(&["::ffff:3.130.254.0/120"]).allows(peer("3.130.254.46")));
    }

    #[test]
    fn a_network_allows_its_addresses() {
        let list = list(&["10.1.0.0/16", "2001:db8::/32"]);
        assert!(list.allows(peer("10.1.255.1")) && list.allows(peer("2001:db8::7")));
        assert!(!list.allows(peer("10.2.0.1")) && !list.allows(peer("2001:db9::7")));
    }

    #[test]
    fn two_lists_that_share_an_address_say_where() {
        let ours = list(&["3.130.254.46", "10.1.0.0/16"]);
        for other in ["10.1.2.3", "10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"] {
            let (mine, theirs) = ours.shared_with(&list(&["127.0.0.1", other])).expect(other);
            assert_eq!(theirs.to_string(), other);
            assert_eq!(mine.to_string() == "3.130.254.46", other == "0.0.0.0/0");
        }
        assert_eq!(
            ours.shared_with(&list(&["10.2.0.0/16", "::/0", "3.130.254.47"])),
            None
        );
    }

    #[test]
    fn belvo_is_never_nearby() {
        for near in [
            "127.0.0.2",
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(peer(near).is_nearby(), "{near}");
        }
        for far in [
            "3.130.254.46",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "2600:1f16::46",
        ] {
            assert!(!peer(far).is_nearby(), "{far}");
        }
    }

    #[test]
    fn a_mistyped_source_says_what_was_expected() {
        assert!(
            "3.130.254"
                .parse::<Source>()
                .expect_err("short")
                .contains("neither an address")
        );
        assert!(
            "10.0.0.1/8"
                .parse::<Source>()
                .expect_err("host bits")
                .contains("write 10.0.0.0/8")
        );
    }

    proptest! {
        #[test]
        fn a_list_of_one_address_allows_that_address_alone(listed in any::<u32>(), other in any::<u32>(), mapped in any::<bool>()) {
            let list = list(&[&Ipv4Addr::from(listed).to_string()]);
            let ip = Ipv4Addr::from(other);
            let ip = if mapped { ip.to_ipv6_mapped().into() } else { IpAddr::from(ip) };
            prop_assert_eq!(list.allows(Peer::of(SocketAddr::new(ip, 1))), listed == other);
        }

        #[test]
        fn reading_a_source_never_panics(text in "[0-9a-f:./ ]{0,24}") {
            drop(text.parse::<Source>());
        }
    }
}
