//! One connection from its handshake to its end: TLS, requests one after the other, and an end that lets the peer see the
//! last answer. Knows HTTP framing, not webhooks.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Intake;
use super::reply::Afterwards;
use super::requests::{Requests, State};
use super::seats::{Seated, Shared};
use super::source::Peer;
use crate::limits::{
    HANDSHAKE_WAIT, HEAD_BYTES_MAX, HEAD_WAIT, HEADERS_MAX, LINGER_BYTES_MAX, LINGER_WAIT,
};
use crate::notices::Reason;
use crate::system::stop::Stop;

/// What stands for a connection among the seats: nothing is ever sent, and when it is dropped the connection ends.
pub(super) type Held = oneshot::Sender<Infallible>;

/// The seats of this listener.
pub(super) type Seats = Shared<Held>;

/// A connection's seat, and when it was accepted.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) accepted: Instant,
    pub(super) seated: Seated<Held>,
}

/// Serves a connection until either side ends it or `stop` says so and nothing is being
/// answered.
pub(super) async fn serve(
    stream: TcpStream,
    peer: Peer,
    guest: Guest,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    mut stop: Stop,
) {
    let Some(config) = tls else {
        return talk(stream, peer, guest, intake, stop).await;
    };
    let handshake = timeout(HANDSHAKE_WAIT, TlsAcceptor::from(config).accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        // Nothing was asked yet, so there is nothing to answer.
        () = stop.told() => return,
    };
    match shaken {
        Ok(Ok(stream)) => talk(stream, peer, guest, intake, stop).await,
        Ok(Err(error)) => {
            intake.refused(peer, Reason::Handshake, None, Some(error.to_string()), None)
        }
        Err(_) => intake.refused(
            peer,
            Reason::Handshake,
            None,
            Some("it took too long".to_owned()),
            None,
        ),
    }
}

/// Answers requests until there are no more.
pub(super) async fn talk<S>(
    stream: S,
    peer: Peer,
    guest: Guest,
    intake: Arc<Intake>,
    mut stop: Stop,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = Arc::new(State::new(guest));
    let (in_service, of_service) = (Arc::clone(&state), Arc::clone(&intake));
    let service = service_fn(move |request| {
        let (state, intake) = (Arc::clone(&in_service), Arc::clone(&of_service));
        Box::pin(async move {
            let (response, afterwards) = intake.answer(request, peer, &state).await;
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
            TokioIo::new(Requests::new(stream, Arc::clone(&state))),
            service,
        );
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            () = stop.told(), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = &ended {
        report(&intake, peer, error, state.is_between_requests());
    }
    let unread = ended.is_err() || state.afterwards() == Afterwards::Unread;
    let stream = connection.into_parts().io.into_inner().into_inner();
    end(stream, unread).await;
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
