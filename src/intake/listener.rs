//! The accept loop: a permit before `accept`, the source before anything else, deadlines on every connection, and a stop
//! that waits for what is being answered. Knows connections, not webhooks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::rules::Standing;
use super::source::Peer;
use super::{Intake, connection};
use crate::limits::{ACCEPT_PAUSE, BACKLOG, CONNECTIONS_MAX, SHUTDOWN_WAIT};
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

/// Accepts connections on all of `listeners` until `stop` says so, then waits for those that are being answered.
///
/// # Errors
/// When a listener is broken for good.
pub async fn run(
    listeners: Vec<TcpListener>,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    stop: Stop,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut loops = JoinSet::new();
    for listener in listeners {
        let door = Door {
            listener,
            tls: tls.clone(),
            intake: Arc::clone(&intake),
            permits: Arc::clone(&permits),
            stop: stop.clone(),
        };
        loops.spawn(door.run());
    }
    while let Some(ended) = loops.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

/// One listener and what its connections need.
struct Door {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    permits: Arc<Semaphore>,
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
                accepted = self.accept() => match accepted {
                    Ok((stream, address, permit)) => self.opened(&mut connections, stream, address, permit),
                    Err(error) => self.troubled(error).await?,
                },
            }
        }
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        // Whoever has not finished by now is cut off; nothing that was answered 200 is lost by that.
        drop(timeout(SHUTDOWN_WAIT, all).await);
        Ok(())
    }

    /// The permit comes first: a full house leaves connections in the kernel's queue instead of piling up tasks.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, address) = self.listener.accept().await?;
        Ok((stream, address, permit))
    }

    /// A stranger is turned away before a byte is read: before TLS, before a task of its own; but for the few who are
    /// looked at for the drift alarm.
    fn opened(
        &self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) {
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
                drop(permit);
            });
            return;
        }
        if standing == Standing::Stranger && !self.intake.looks_at(&rules, peer, accepted) {
            drop(stream);
            self.intake.turned_away(peer);
            return;
        }
        // Answers are small and wait for nothing; without this option the kernel may hold one back. Without it, it still arrives.
        drop(stream.set_nodelay(true));
        let serve = connection::serve(
            stream,
            (peer, standing),
            accepted,
            self.tls.clone(),
            Arc::clone(&self.intake),
            self.stop.clone(),
        );
        connections.spawn(async move {
            serve.await;
            drop(permit);
        });
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
                sleep(ACCEPT_PAUSE).await;
                Ok(())
            }
        }
    }
}
