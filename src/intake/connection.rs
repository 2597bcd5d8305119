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
use super::hops::Told;
use super::proxy_line::Whom;
use super::reply::Afterwards;
use super::requests::{Requests, State};
use super::rules::{Caller, Standing};
use super::seats::{Seated, Shared};
use super::source::Peer;
use super::wire;
use crate::limits::{
    HANDSHAKE_WAIT, HEAD_BYTES_MAX, HEAD_WAIT, HEADERS_MAX, LAST_REQUEST_WAIT, LINGER_BYTES_MAX,
    LINGER_WAIT, LOOK_WAIT,
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

/// Serves a connection until either side ends it; once `stop` says so, until the next answer, or until none is asked for.
pub(super) async fn serve(
    mut stream: TcpStream,
    (peer, standing): (Peer, Standing),
    guest: Guest,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    mut stop: Stop,
) {
    let (mut caller, mut before) = (Caller::at(peer), Vec::new());
    if standing == Standing::Proxy(Told::ProxyProtocol) {
        let line = tokio::select! {
            line = wire::proxy_line(&mut stream) => line,
            () = stop.told_for(LAST_REQUEST_WAIT) => return,
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
        return shake(stream, before, caller, guest, tls, intake, stop).await;
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
    if !caller.is_named || intake.looks_at(&rules, caller.peer, guest.accepted) {
        caller.is_refused = true;
        let look = shake(stream, before, caller, guest, tls, intake, stop);
        // Who has not said anything by now is not Belvo, and nothing was promised.
        drop(timeout(LOOK_WAIT, look).await);
    }
}

/// From the first byte after a PROXY line, if there was one.
async fn shake(
    stream: TcpStream,
    before: Vec<u8>,
    caller: Caller,
    guest: Guest,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    mut stop: Stop,
) {
    let (stream, foreign) = wire::wire(stream, before);
    let (ours, peer) = (Arc::clone(&intake), caller.peer);
    let failed = match tls {
        None => {
            // In a box of its own, as below: most of what a connection holds while it waits, and only one of the two.
            Box::pin(talk(stream, caller, guest, intake, stop)).await;
            None
        }
        Some(config) => {
            let handshake = timeout(HANDSHAKE_WAIT, TlsAcceptor::from(config).accept(stream));
            let shaken = tokio::select! {
                shaken = handshake => shaken,
                // Nothing was asked yet, so there is nothing to answer.
                () = stop.told_for(LAST_REQUEST_WAIT) => return,
            };
            match shaken {
                Ok(Ok(stream)) => {
                    Box::pin(talk(stream, caller, guest, intake, stop)).await;
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

/// Answers requests until there are no more.
pub(super) async fn talk<S>(
    stream: S,
    caller: Caller,
    guest: Guest,
    intake: Arc<Intake>,
    mut stop: Stop,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = Arc::new(State::new(guest, stop.clone()));
    let (in_service, of_service) = (Arc::clone(&state), Arc::clone(&intake));
    let service = service_fn(move |request| {
        let (state, intake) = (Arc::clone(&in_service), Arc::clone(&of_service));
        Box::pin(async move {
            let (response, afterwards) = intake.answer(request, caller, &state).await;
            state.answered(afterwards);
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // Answers are small: in one piece they take the shorter way through the kernel.
        .writev(false)
        .serve_connection(
            TokioIo::new(Requests::new(stream, Arc::clone(&state))),
            service,
        );
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
        () = stop.told_for(LAST_REQUEST_WAIT) => {
            // One that has begun is the last, and ends the connection by that.
            if !state.has_begun() {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    if let Err(error) = &ended
        && !caller.is_refused
    {
        report(&intake, caller.peer, error, state.is_between_requests());
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
        let mut bytes = vec![0; 4096];
        while rest.read(&mut bytes).await? > 0 {}
        io::Result::Ok(())
    };
    // However it ends, the connection is over.
    drop(timeout(LINGER_WAIT, linger).await);
}
