//! Everything that a request is judged by and that may change while the gateway runs, as one value: a connection and a
//! request each take the one that holds when they begin, and see no half of another. Pure. Knows no sockets and no files.

use super::auth::Authorization;
use super::hops::{Proxies, Told, Unclear};
use super::source::{AllowList, Peer};

/// The rules that hold at one time.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The sources that may speak.
    pub allow: AllowList,
    /// The proxies whose word counts, if there are any.
    pub proxies: Option<Proxies>,
    /// The `Authorization` values that count.
    pub authorization: Authorization,
    /// Whether a few refused connections are looked at, to see whether Belvo sends from a new address.
    pub drift_alarm: bool,
}

/// Who is at the other end of a connection, as far as the connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The peer of the TCP connection, or whom a PROXY line named in its place.
    pub peer: Peer,
    /// Whether a PROXY line named it.
    pub is_named: bool,
    /// Whether it was refused and counted before its first byte, and is only looked at.
    pub is_refused: bool,
}

impl Caller {
    /// The peer of a TCP connection.
    pub fn at(peer: Peer) -> Self {
        Self {
            peer,
            is_named: false,
            is_refused: false,
        }
    }

    /// Whom a PROXY line named.
    pub fn named(peer: Peer) -> Self {
        Self {
            is_named: true,
            ..Self::at(peer)
        }
    }
}

/// What the address of a connection is worth before a byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may speak.
    Allowed,
    /// It may say whom it speaks for, in this way.
    Proxy(Told),
    /// It may not.
    Stranger,
}

/// Whom a request is from, and what that is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It may speak.
    Allowed(Peer),
    /// It may not.
    Stranger(Peer),
    /// A trusted proxy does not say whom it speaks for.
    Unclear(Peer, Unclear),
}

impl Rules {
    /// What the address at the other end of a TCP connection is worth.
    pub fn standing(&self, peer: Peer) -> Standing {
        match &self.proxies {
            Some(proxies) if proxies.trusts(peer) => Standing::Proxy(proxies.told()),
            _ if self.allow.allows(peer) => Standing::Allowed,
            _ => Standing::Stranger,
        }
    }

    /// Whom a request is from. Who is no trusted proxy is judged by address alone, whatever its headers say; `lines` gives
    /// the lines of a header in their order.
    pub fn judge<'a, L>(&self, caller: Caller, lines: impl FnOnce(&'static str) -> L) -> Judged
    where
        L: Iterator<Item = &'a [u8]>,
    {
        let direct = match self.allow.allows(caller.peer) {
            true => Judged::Allowed(caller.peer),
            false => Judged::Stranger(caller.peer),
        };
        let proxies = match &self.proxies {
            Some(proxies) if !caller.is_named && proxies.trusts(caller.peer) => proxies,
            _ => return direct,
        };
        let spoken_for = match proxies.told().header() {
            Some(name) => proxies.speaks_for(name, lines(name)),
            None => Err(Unclear::NoProxyLine),
        };
        match spoken_for {
            Ok(peer) if self.allow.allows(peer) => Judged::Allowed(peer),
            Ok(peer) => Judged::Stranger(peer),
            Err(unclear) => Judged::Unclear(caller.peer, unclear),
        }
    }

    /// Whether there is anything by which Belvo could be known at another address.
    pub fn hears_drift(&self) -> bool {
        self.drift_alarm && self.authorization.is_configured()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn sources(texts: &[&str]) -> AllowList {
        let read = |text: &&str| text.parse().expect("a source");
        AllowList::new(texts.iter().map(read).collect())
    }

    fn rules(told: Option<Told>) -> Rules {
        Rules {
            allow: sources(&["3.130.254.46"]),
            proxies: told.map(|told| Proxies::new(sources(&["127.0.0.1", "10.0.0.0/8"]), told)),
            authorization: Authorization::default(),
            drift_alarm: true,
        }
    }

    fn peer(address: &str) -> Peer {
        Peer::of(SocketAddr::new(address.parse().expect("an address"), 1))
    }

    fn caller(address: &str, is_named: bool) -> Caller {
        Caller {
            is_named,
            ..Caller::at(peer(address))
        }
    }

    fn judge(told: Option<Told>, caller: Caller, header: &str) -> Judged {
        rules(told).judge(caller, |_| std::iter::once(header.as_bytes()))
    }

    #[test]
    fn who_is_no_trusted_proxy_is_judged_by_address_alone() {
        for told in [None, Some(Told::XForwardedFor), Some(Told::ProxyProtocol)] {
            assert_eq!(
                judge(told, caller("203.0.113.7", false), "3.130.254.46"),
                Judged::Stranger(peer("203.0.113.7"))
            );
            assert_eq!(
                judge(told, caller("3.130.254.46", false), "203.0.113.7"),
                Judged::Allowed(peer("3.130.254.46"))
            );
        }
    }

    #[test]
    fn a_trusted_proxy_says_whom_it_speaks_for_and_is_nobody_itself() {
        let told = Some(Told::XForwardedFor);
        let proxy = caller("127.0.0.1", false);
        assert_eq!(
            judge(told, proxy, "3.130.254.46"),
            Judged::Allowed(peer("3.130.254.46"))
        );
        assert_eq!(
            judge(told, proxy, "203.0.113.7"),
            Judged::Stranger(peer("203.0.113.7"))
        );
        assert_eq!(
            judge(told, proxy, "10.0.0.7"),
            Judged::Stranger(peer("10.0.0.7"))
        );
        assert_eq!(
            judge(told, proxy, "_x"),
            Judged::Unclear(peer("127.0.0.1"), Unclear::Hidden("x-forwarded-for"))
        );
    }

    #[test]
    fn whom_a_proxy_line_named_is_not_asked_again() {
        let told = Some(Told::ProxyProtocol);
        assert_eq!(
            judge(told, caller("3.130.254.46", true), "203.0.113.7"),
            Judged::Allowed(peer("3.130.254.46"))
        );
        assert_eq!(
            judge(told, caller("10.0.0.1", true), "3.130.254.46"),
            Judged::Stranger(peer("10.0.0.1"))
        );
        assert_eq!(
            judge(told, caller("127.0.0.1", false), "3.130.254.46"),
            Judged::Unclear(peer("127.0.0.1"), Unclear::NoProxyLine)
        );
    }

    proptest! {
        #[test]
        fn no_header_lets_a_stranger_in(address in any::<u32>(), header in "[ -~]{0,40}|3\\.130\\.254\\.46|for=3\\.130\\.254\\.46", mode in 0usize..4) {
            let told = [None, Some(Told::ProxyProtocol), Some(Told::XForwardedFor), Some(Told::Forwarded)][mode];
            let address = Ipv4Addr::from(address).to_string();
            let trusted = rules(told).standing(peer(&address)) != Standing::Stranger;
            prop_assume!(!trusted);
            for is_named in [false, true] {
                prop_assert_eq!(judge(told, caller(&address, is_named), &header), Judged::Stranger(peer(&address)));
            }
        }
    }
}
