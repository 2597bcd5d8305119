//! The bytes of a TCP connection, below TLS and HTTP: reads the PROXY line of a trusted proxy and hands on what follows it,
//! and breaks a connection off that begins with such a line where none is expected. Knows neither TLS nor HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, Join, ReadBuf, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::hops::Unclear;
use super::proxy_line::{self, FirstBytes, Whom};
use crate::limits::{PROXY_LINE_BYTES_MAX, PROXY_LINE_WAIT};

/// A connection whose first bytes are watched.
pub(super) type Wire = Join<Watched, OwnedWriteHalf>;

/// Whether a PROXY line came that nobody expected. TLS and HTTP would not pass it on as an error of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Foreign(Arc<AtomicBool>);

impl Foreign {
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection for TLS or HTTP; `before` are bytes of it that were read already.
pub(super) fn wire(stream: TcpStream, before: Vec<u8>) -> (Wire, Foreign) {
    let foreign = Foreign::default();
    let (read, write) = stream.into_split();
    let watched = Watched {
        before: io::Cursor::new(before),
        read,
        first: FirstBytes::default(),
        foreign: foreign.clone(),
    };
    (join(watched, write), foreign)
}

/// What stands in front of a trusted proxy's connection, and the bytes that came after it; nothing when the proxy says
/// nothing at all, as one that only looks whether the port is open.
pub(super) async fn proxy_line(stream: &mut TcpStream) -> Result<Option<(Whom, Vec<u8>)>, Unclear> {
    let mut bytes = Vec::with_capacity(PROXY_LINE_BYTES_MAX);
    let whole = async {
        loop {
            if let Some((whom, length)) = proxy_line::read(&bytes)? {
                return Ok(Some((whom, bytes.split_off(length))));
            }
            // It never grows beyond its bound: a line that does not end within it is refused above.
            let room = (PROXY_LINE_BYTES_MAX - bytes.len()) as u64;
            match stream.take(room).read_buf(&mut bytes).await {
                Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(Unclear::BadProxyLine),
                Ok(_) => {}
            }
        }
    };
    match timeout(PROXY_LINE_WAIT, whole).await {
        Ok(line) => line,
        Err(_) if bytes.is_empty() => Ok(None),
        Err(_) => Err(Unclear::BadProxyLine),
    }
}

/// The reading side.
pub(super) struct Watched {
    before: io::Cursor<Vec<u8>>,
    read: OwnedReadHalf,
    first: FirstBytes,
    foreign: Foreign,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let known = buffer.filled().len();
        let this = &mut *self;
        ready!(Pin::new(&mut this.before).poll_read(context, buffer))?;
        if buffer.filled().len() == known {
            ready!(Pin::new(&mut this.read).poll_read(context, buffer))?;
        }
        if this.first.show_proxy_line(&buffer.filled()[known..]) {
            this.foreign.0.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}
