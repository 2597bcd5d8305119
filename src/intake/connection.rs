//! One connection from its handshake to its end: TLS, requests one after the other, each with the moment of its first
//! byte, and an end that lets the peer see the last answer. Knows HTTP framing, not webhooks.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Intake;
use super::hops::Told;
use super::proxy_line::Whom;
use super::reply::Afterwards;
use super::rules::{Caller, Standing};
use super::source::Peer;
use super::wire;
use crate::limits::{
    HANDSHAKE_WAIT, HEAD_BYTES_MAX, HEAD_WAIT, HEADERS_MAX, LINGER_BYTES_MAX, LINGER_WAIT,
    LOOK_WAIT,
};
use crate::notices::Reason;
use crate::system::stop::Stop;

/// Serves a connection that was accepted at `accepted` until either side ends it or `stop` says so and nothing is being
/// answered.
pub(super) async fn serve(
    mut stream: TcpStream,
    (peer, standing): (Peer, Standing),
    accepted: Instant,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    mut stop: Stop,
) {
    let (mut caller, mut before) = (Caller::at(peer), Vec::new());
    if standing == Standing::Proxy(Told::ProxyProtocol) {
        let line = tokio::select! {
            line = wire::proxy_line(&mut stream) => line,
            () = stop.told() => return,
        };
        match line {
            Ok(Some((Whom::Client(client), rest))) if client != peer => {
                (caller, before) = (Caller::named(client), rest);
            }
            // The proxy looks whether the port is open: by version 2's command for that, by version 1 naming itself as
            // HAProxy does, or without a word. It is open, and that is all there is to say.
            Ok(_) => return,
            Err(unclear) => return intake.unclear(peer, unclear),
        }
    }
    let rules = intake.rules();
    let is_stranger = match caller.is_named {
        true => !rules.allow.allows(caller.peer),
        false => standing == Standing::Stranger,
    };
    if !is_stranger {
        return shake(stream, before, caller, accepted, tls, intake, stop).await;
    }
    if caller.is_named
        && let Some(turn) = intake.challenges.turn()
    {
        if !turn.serve(stream, before).await {
            intake.turned_away(caller.peer);
        }
        return;
    }
    intake.turned_away(caller.peer);
    // For others than the named, the listener has asked already.
    if !caller.is_named || intake.looks_at(&rules, caller.peer, accepted) {
        caller.is_refused = true;
        let look = shake(stream, before, caller, accepted, tls, intake, stop);
        // Who has not said anything by now is not Belvo, and nothing was promised.
        drop(timeout(LOOK_WAIT, look).await);
    }
}

/// From the first byte after a PROXY line, if there was one.
async fn shake(
    stream: TcpStream,
    before: Vec<u8>,
    caller: Caller,
    accepted: Instant,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    mut stop: Stop,
) {
    let (stream, foreign) = wire::wire(stream, before);
    let (ours, peer) = (Arc::clone(&intake), caller.peer);
    let failed = match tls {
        None => {
            talk(stream, caller, accepted, intake, stop).await;
            None
        }
        Some(config) => {
            let handshake = timeout(HANDSHAKE_WAIT, TlsAcceptor::from(config).accept(stream));
            let shaken = tokio::select! {
                shaken = handshake => shaken,
                // Nothing was asked yet, so there is nothing to answer.
                () = stop.told() => return,
            };
            match shaken {
                Ok(Ok(stream)) => {
                    talk(stream, caller, accepted, intake, stop).await;
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it took too long".to_owned()),
            }
        }
    };
    if foreign.came() {
        ours.proxy_line_came(caller);
    } else if failed.is_some() && !caller.is_refused {
        ours.refused(peer, Reason::Handshake, None, failed, None);
    }
}

async fn talk<S>(stream: S, caller: Caller, accepted: Instant, intake: Arc<Intake>, mut stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = Arc::new(State::new(accepted));
    let (in_service, of_service) = (Arc::clone(&state), Arc::clone(&intake));
    let service = service_fn(move |request| {
        let (state, intake) = (Arc::clone(&in_service), Arc::clone(&of_service));
        Box::pin(async move {
            let (response, afterwards) = intake.answer(request, caller, state.began()).await;
            state.answered(afterwards);
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(
            TokioIo::new(Stamped {
                stream,
                state: Arc::clone(&state),
            }),
            service,
        );
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            () = stop.told(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = &ended
        && !caller.is_refused
    {
        report(&intake, caller.peer, error, state.is_between_requests());
    }
    let unread = ended.is_err() || state.afterwards() == Afterwards::Unread;
    end(connection.into_parts().io.into_inner().stream, unread).await;
}

/// What hyper refused by itself. A peer that went away or fell silent between two requests is nobody's concern.
fn report(intake: &Intake, peer: Peer, error: &hyper::Error, between_requests: bool) {
    let status = match error {
        error if error.is_parse_too_large() => Some(431),
        error if error.is_parse() => Some(400),
        _ => None,
    };
    if status.is_some() || (error.is_timeout() && !between_requests) {
        intake.refused(peer, Reason::Head, status, Some(error.to_string()), None);
    }
}

/// Closes our side, and when the peer may still be sending something unwanted, reads that for a moment: closing with
/// unread bytes resets the connection, and the peer would lose the answer.
async fn end<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, unread: bool) {
    let linger = async {
        stream.shutdown().await?;
        let mut rest = stream.take(if unread { LINGER_BYTES_MAX as u64 } else { 0 });
        let mut bytes = [0; 4096];
        while rest.read(&mut bytes).await? > 0 {}
        io::Result::Ok(())
    };
    // However it ends, the connection is over.
    drop(timeout(LINGER_WAIT, linger).await);
}

/// What one connection remembers between its requests.
#[derive(Debug)]
struct State(Mutex<Remembered>);

#[derive(Debug)]
struct Remembered {
    /// When the first byte of the current request came; for the first request, when the connection was accepted, since
    /// Belvo's five seconds run from there.
    began: Option<Instant>,
    afterwards: Afterwards,
}

impl State {
    fn new(accepted: Instant) -> Self {
        Self(Mutex::new(Remembered {
            began: Some(accepted),
            afterwards: Afterwards::Whole,
        }))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Remembered) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn began(&self) -> Instant {
        self.with(|state| *state.began.get_or_insert_with(Instant::now))
    }

    fn bytes_came(&self) {
        self.with(|state| {
            state.began.get_or_insert_with(Instant::now);
        });
    }

    fn is_between_requests(&self) -> bool {
        self.with(|state| state.began.is_none())
    }

    fn answered(&self, afterwards: Afterwards) {
        self.with(|state| {
            *state = Remembered {
                began: None,
                afterwards,
            }
        });
    }

    fn afterwards(&self) -> Afterwards {
        self.with(|state| state.afterwards)
    }
}

/// A stream that notes when the first byte of a request comes.
struct Stamped<S> {
    stream: S,
    state: Arc<State>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Stamped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.state.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stamped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
