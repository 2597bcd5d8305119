//! A TCP connection to this machine from an address that is somebody else's, for whoever tests who is let in. The route
//! of the answers is changed for this one connection only, by its two addresses and ports, so that nobody else's packets
//! go astray; giving the address to the machine itself would cut off its owner for as long. Needs root and `ip`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::limits::DETOUR_WAIT;

/// The routing table of the detour; a number that nothing else has.
const TABLE: &str = "84430";

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum Error {
    /// The address of somebody else could not be taken.
    #[error("a connection from {from} cannot be made: {source}{}", hint(source))]
    Address {
        /// That address.
        from: Ipv4Addr,
        /// What the system said.
        source: io::Error,
    },
    /// The answers could not be routed back.
    #[error(
        "the route for the answers cannot be set: {0}; run this as root where `ip` is (package iproute2)"
    )]
    Route(String),
    /// Nobody took the connection.
    #[error("{to} takes no connection: {source}")]
    Connect {
        /// Where it went.
        to: SocketAddrV4,
        /// What the system said.
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run this as root",
        _ => "",
    }
}

/// The connection, and the route for as long as it is needed.
#[derive(Debug)]
pub struct Detour {
    /// The connection.
    pub stream: TcpStream,
    _routed: Routed,
}

/// Connects to an address of this machine.
///
/// # Errors
/// When the machine does not let us, or nobody listens there.
pub fn connect(from: Ipv4Addr, to: SocketAddrV4) -> Result<Detour, Error> {
    let bound = bound(from).map_err(|source| Error::Address { from, source })?;
    let (socket, here) = bound;
    let routed = Routed::back(here, to)?;
    socket
        .connect_timeout(&SocketAddr::V4(to).into(), DETOUR_WAIT)
        .map_err(|source| Error::Connect { to, source })?;
    Ok(Detour {
        stream: socket.into(),
        _routed: routed,
    })
}

fn bound(from: Ipv4Addr) -> io::Result<(Socket, SocketAddrV4)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if !from.is_loopback() {
        socket.set_ip_transparent_v4(true)?;
    }
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    let here = socket.local_addr()?.as_socket_ipv4();
    Ok((socket, here.ok_or(io::ErrorKind::AddrNotAvailable)?))
}

/// Routes that are in force until this is dropped.
#[derive(Debug)]
struct Routed(Vec<Vec<String>>);

impl Routed {
    /// What goes from `to` to `here` stays on this machine.
    fn back(here: SocketAddrV4, to: SocketAddrV4) -> Result<Self, Error> {
        let mut routed = Self(Vec::new());
        if here.ip().is_loopback() {
            return Ok(routed);
        }
        let (from, port) = (to.ip(), to.port());
        let route = format!("local {}/32 dev lo table {TABLE}", here.ip());
        // TCP by its number: a small Debian has no list of names.
        let rule = format!(
            "from {from} to {} ipproto 6 sport {port} dport {} lookup {TABLE}",
            here.ip(),
            here.port()
        );
        // What a run left that was killed is replaced by the first, and harms nobody as for the second.
        routed.add(["route", "replace"], ["route", "del"], &route)?;
        routed.add(["rule", "add"], ["rule", "del"], &rule)?;
        Ok(routed)
    }

    fn add(&mut self, set: [&str; 2], unset: [&str; 2], what: &str) -> Result<(), Error> {
        let line = |verb: [&str; 2]| {
            verb.into_iter()
                .chain(what.split(' '))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let output = Command::new("ip").args(line(set)).output();
        let output = output.map_err(|error| Error::Route(format!("ip: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Route(said.trim().to_owned()));
        }
        self.0.push(line(unset));
        Ok(())
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        for line in self.0.iter().rev() {
            // Nothing more can be done about a route that stays: it is for one connection that is over.
            drop(Command::new("ip").args(line).output());
        }
    }
}
