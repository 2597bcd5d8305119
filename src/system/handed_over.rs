//! Sockets that the service manager has opened and hands over when it starts the gateway (sd_listen_fds(3)): they stay
//! open while no gateway runs. Knows nothing of what is said over them. One place with unsafe code: there a number from
//! the environment becomes a descriptor that somebody owns.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};
use thiserror::Error;

/// What the sockets are called (`FileDescriptorName=`).
pub const NAME: &str = "belvo";

/// Sockets that cannot be served.
#[derive(Debug, Error)]
pub enum HandedOverError {
    /// The environment and the descriptors do not agree.
    #[error(
        "what the service manager hands over cannot be taken: {0}; start the gateway by its units, or without LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES"
    )]
    Environment(io::Error),
    /// Something that is not for us.
    #[error(
        "the service manager hands over {0:?}, which the gateway does not know; it takes listening TCP sockets named {NAME:?}: see FileDescriptorName= of the socket unit"
    )]
    Name(String),
    /// Something else than a listening TCP socket.
    #[error(
        "the service manager hands over {NAME:?}, which {0}; the gateway takes listening TCP sockets: see that the socket unit has ListenStream= with a port, and not Accept=yes"
    )]
    Kind(&'static str),
    /// The system refuses to say or change something about it.
    #[error("a socket that the service manager hands over cannot be used: {0}")]
    System(#[from] io::Error),
}

/// Takes the sockets that are handed over, of which there may be none; a second time there are none. To be called before
/// anything is opened: a descriptor that is open then was passed on to this process. No other program finds them: they
/// are closed for what this process may start, and the variables name its own id.
///
/// # Errors
/// When one of them is not a listening TCP socket named [`NAME`].
pub fn take() -> Result<Vec<TcpListener>, HandedOverError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    // It has looked at each of them: they are open.
    let named = sd_notify::listen_fds_with_names().map_err(HandedOverError::Environment)?;
    named
        .map(|(number, name)| {
            let descriptor = own(number);
            match name.as_str() {
                NAME => listening(descriptor),
                _ => Err(HandedOverError::Name(name)),
            }
        })
        .collect()
}

#[expect(
    unsafe_code,
    reason = "std has no other way from a number to a descriptor"
)]
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the descriptor is open, the service manager gave it to this process alone, and nothing in it has opened or
    // taken it: `take` comes first, and goes through the numbers once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn listening(descriptor: OwnedFd) -> Result<TcpListener, HandedOverError> {
    let not = HandedOverError::Kind;
    let kind = sockopt::socket_type(&descriptor).map_err(|_| not("is no socket"))?;
    let family = sockopt::socket_domain(&descriptor).map_err(io::Error::from)?;
    let listens = sockopt::socket_acceptconn(&descriptor).map_err(io::Error::from)?;
    match (family, kind) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) if listens => {}
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => {
            return Err(not("does not listen"));
        }
        _ => return Err(not("is no TCP socket")),
    }
    let listener = TcpListener::from(descriptor);
    // Ours or not is the service manager's choice (`NonBlocking=`), and one that blocks would stop the whole intake.
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where they listen.
///
/// # Errors
/// When the system does not say.
pub fn addresses(sockets: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    sockets.iter().map(TcpListener::local_addr).collect()
}
