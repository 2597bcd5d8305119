//! The accept loop: the source before anything else, a seat for everybody who may speak, and a stop that waits for what is
//! being answered. Knows connections, not webhooks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::Intake;
use super::connection::{self, Guest, Seats};
use super::rules::{Caller, Standing};
use super::seats::Gone;
use super::source::Peer;
use crate::limits::{ACCEPT_PAUSE, BACKLOG, LOOKED_AT_MAX, SHUTDOWN_WAIT, SOURCE_PART};
use crate::notices::{Notice, Reason};
use crate::system::stop::Stop;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {address}: {source}; is another program using it, is it an address of this machine, and may this user bind its port? ([::] listens on IPv4 as well)"
)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Binds an address.
///
/// # Errors
/// When the system refuses.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = if address.is_ipv6() {
            TcpSocket::new_v6()
        } else {
            TcpSocket::new_v4()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| BindError { address, source })
}

/// Serves a socket that listens already: its backlog and its address are whoever's who opened it.
///
/// # Errors
/// When the runtime refuses it.
pub fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Accepts connections on all of `listeners`, so many at once, until `stop` says so, then waits for those that are being
/// answered.
///
/// # Errors
/// When a listener is broken for good.
pub async fn run(
    listeners: Vec<TcpListener>,
    connections_max: usize,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    stop: Stop,
) -> io::Result<()> {
    let (seats, strangers) = (Seats::new(connections_max), Seats::new(LOOKED_AT_MAX));
    let mut loops = JoinSet::new();
    for listener in listeners {
        let door = Door {
            listener,
            tls: tls.clone(),
            intake: Arc::clone(&intake),
            seats: seats.clone(),
            strangers: strangers.clone(),
            source_max: connections_max.div_ceil(SOURCE_PART),
            connections_max,
            stop: stop.clone(),
        };
        loops.spawn(door.run());
    }
    while let Some(ended) = loops.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

/// Serves one connection over any stream, without TLS, as a listener serves its own: for fuzzing, which needs no sockets.
#[doc(hidden)]
pub async fn serve_over<S>(stream: S, peer: Peer, intake: Arc<Intake>, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (held, _sent_away) = oneshot::channel();
    let (seats, accepted) = (Seats::new(1), Instant::now());
    if let Some((seated, _)) = seats.take(peer.address(), 1, accepted, held) {
        let guest = Guest { accepted, seated };
        connection::talk(stream, Caller::at(peer), guest, intake, stop).await;
    }
}

/// One listener and what its connections need.
struct Door {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    seats: Seats,
    /// Those of strangers who are looked at: they take none from those who are served.
    strangers: Seats,
    connections_max: usize,
    source_max: usize,
    stop: Stop,
}

impl Door {
    async fn run(mut self) -> io::Result<()> {
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.told() => break,
                Some(ended) = connections.join_next() => self.ended(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => if self.opened(&mut connections, stream, address) {
                        // It gets its turn before the next one comes, who may be the one it has to go for.
                        yield_now().await;
                    },
                    Err(error) => self.troubled(error).await?,
                },
            }
        }
        // What waits in the queue of a socket that was handed over is for whoever is started next.
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        // Whoever has not finished by now is cut off; nothing that was answered 200 is lost by that.
        drop(timeout(SHUTDOWN_WAIT, all).await);
        Ok(())
    }

    /// A stranger is turned away before a byte is read: before TLS, before a task of its own; but for the few who are
    /// looked at for the drift alarm. Says whether the connection is served.
    fn opened(
        &self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        address: SocketAddr,
    ) -> bool {
        let (accepted, peer) = (Instant::now(), Peer::of(address));
        let rules = self.intake.rules();
        let standing = rules.standing(peer);
        if standing == Standing::Stranger
            && let Some(turn) = self.intake.challenges.turn()
        {
            let intake = Arc::clone(&self.intake);
            connections.spawn(async move {
                if !turn.serve(stream, Vec::new()).await {
                    intake.turned_away(peer);
                }
            });
            return true;
        }
        if standing == Standing::Stranger && !self.intake.looks_at(&rules, peer, accepted) {
            drop(stream);
            self.intake.turned_away(peer);
            return false;
        }
        let (held, sent_away) = oneshot::channel();
        let (seats, share) = match standing {
            // It stands for many sources, and may be the only one there is.
            Standing::Proxy(_) => (&self.seats, self.connections_max),
            Standing::Allowed => (&self.seats, self.source_max),
            Standing::Stranger => (&self.strangers, LOOKED_AT_MAX),
        };
        let Some((seated, gone)) = seats.take(peer.address(), share, accepted, held) else {
            drop(stream);
            self.crowded(peer, "all who could make room are being answered");
            return false;
        };
        if let Some(gone) = gone {
            self.sent_away(gone);
        }
        // Answers are small and wait for nothing; without this option the kernel may hold one back. Without it, it still arrives.
        drop(stream.set_nodelay(true));
        let serve = connection::serve(
            stream,
            (peer, standing),
            Guest { accepted, seated },
            self.tls.clone(),
            Arc::clone(&self.intake),
            self.stop.clone(),
        );
        connections.spawn(async move {
            tokio::select! {
                () = serve => {}
                // Nothing is ever sent: this is the end of the seat.
                _ = sent_away => {}
            }
        });
        true
    }

    /// Its connection ends when this is dropped.
    fn sent_away(&self, gone: Gone<connection::Held>) {
        self.crowded(
            Peer::from(gone.source),
            "it was closed for a newcomer: it owed a whole request for longest",
        );
    }

    fn crowded(&self, peer: Peer, why: &str) {
        self.intake
            .refused(peer, Reason::Crowded, None, Some(why.to_owned()), None);
    }

    fn ended(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(panicked) = ended {
            let unknown = Peer::of(SocketAddr::from(([0, 0, 0, 0], 0)));
            self.intake.refused(
                unknown,
                Reason::Panic,
                None,
                Some(format!("a connection's task ended: {panicked}")),
                None,
            );
        }
    }

    /// A peer that went away while it waited: go on. A listener that is none any more: end. Anything else, such as too few
    /// descriptors or memory, or a network that is down (accept(2) passes those on): wait, go on.
    async fn troubled(&mut self, error: io::Error) -> io::Result<()> {
        const EBADF: i32 = 9;
        const EINVAL: i32 = 22;
        const ENOTSOCK: i32 = 88;
        match (error.kind(), error.raw_os_error()) {
            (
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted,
                _,
            ) => Ok(()),
            (_, Some(EBADF | EINVAL | ENOTSOCK)) => Err(error),
            _ => {
                self.intake.notices.say(Notice::Trouble {
                    text: format!("connections cannot be accepted: {error}"),
                    next_step: "if it goes on, raise LimitNOFILE= or MemoryMax= of the unit, or look for what else fills the box",
                });
                if let Some(gone) = self.seats.make_room() {
                    self.sent_away(gone);
                }
                sleep(ACCEPT_PAUSE).await;
                Ok(())
            }
        }
    }
}
