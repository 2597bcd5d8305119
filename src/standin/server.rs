//! The stand-in's connections: a thread with a runtime of its own that accepts, speaks TLS when asked to, and hands each
//! request to `api`. It knows how bytes go out, also those that go wrong on purpose, and not what they say.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::system::tls::provider;

use super::answers::{Answer, Text};
use super::api::Api;
use super::certificates::Identity;

/// A listener out of descriptors must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What an endless answer repeats after [`ENDLESS_HEAD`].
const ENDLESS_OBJECT: &str =
    r#"{"id":"0d3ffb69-f83b-456e-ad8e-208d0998d71d","description":"once more"},"#;
const ENDLESS_HEAD: &str = r#"{"count":1,"next":null,"previous":null,"results":["#;
const ENDLESS_OBJECTS_A_CHUNK: usize = 200;

/// The running side of a stand-in; dropping it ends every connection.
#[derive(Debug)]
pub(super) struct Server {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(
        listener: StdListener,
        tls: Option<Arc<ServerConfig>>,
        api: Arc<Api>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let serve = move || run(&runtime, listener, tls.map(TlsAcceptor::from), api, stopped);
        let thread = thread::Builder::new()
            .name("stand-in".to_owned())
            .spawn(serve)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the stand-in's thread panicked");
        }
    }
}

/// The settings of a TLS server with the files of `identity`, HTTP/1.1 only.
pub(super) fn tls(identity: &Identity) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(&identity.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(io::Error::other)?;
    let versions =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let plain = versions.map_err(io::Error::other)?.with_no_client_auth();
    let mut config = plain
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn run(
    runtime: &Runtime,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    api: Arc<Api>,
    stopped: oneshot::Receiver<Infallible>,
) {
    runtime.block_on(async {
        tokio::select! {
            _ = stopped => {}
            () = accept(&listener, tls, api) => {}
        }
    });
}

async fn accept(listener: &TcpListener, tls: Option<TlsAcceptor>, api: Arc<Api>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(
                stream,
                tls.clone(),
                Arc::clone(&api),
            ))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, api: Arc<Api>) {
    let Some(tls) = tls else {
        return speak(stream, api).await;
    };
    match tls.accept(stream).await {
        Ok(stream) => speak(stream, api).await,
        Err(error) => tracing::debug!(%error, "the stand-in's client gave up in the TLS handshake"),
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(stream: S, api: Arc<Api>) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { api.answer(request).await.map(response) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = http.await {
        tracing::debug!(%error, "a connection to the stand-in ended early");
    }
}

fn response(answer: Answer) -> Response<Content> {
    let mut response = Response::builder()
        .status(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header(CONTENT_TYPE, answer.content_type);
    if let Some((name, value)) = answer.header {
        response = response.header(name, value);
    }
    if let Text::Cut(text) = &answer.text {
        response = response.header(CONTENT_LENGTH, text.len());
    }
    response
        .body(Content::from(answer.text))
        .unwrap_or_else(|_| Response::new(Content::Whole(Bytes::new())))
}

/// A body on its way out.
#[derive(Debug)]
enum Content {
    Whole(Bytes),
    /// The half that is still to be sent before the connection breaks.
    Cut(Bytes),
    /// The half is with hyper, which gets one turn to write it out.
    Breaking,
    Broken,
    Endless(Bytes, Bytes),
}

impl From<Text> for Content {
    fn from(text: Text) -> Self {
        match text {
            Text::Whole(text) => Self::Whole(text.into()),
            Text::Cut(text) => {
                Self::Cut(Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]))
            }
            Text::Endless => {
                let chunk = ENDLESS_OBJECT.repeat(ENDLESS_OBJECTS_A_CHUNK);
                Self::Endless(Bytes::from_static(ENDLESS_HEAD.as_bytes()), chunk.into())
            }
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (data, then) = match std::mem::replace(&mut *self, Self::Broken) {
            Self::Whole(data) if data.is_empty() => {
                *self = Self::Whole(data);
                return Poll::Ready(None);
            }
            Self::Whole(data) => (data, Self::Whole(Bytes::new())),
            Self::Cut(data) => (data, Self::Breaking),
            Self::Breaking => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Self::Broken => {
                return Poll::Ready(Some(Err(io::Error::other("broken off on purpose"))));
            }
            Self::Endless(data, chunk) => (data, Self::Endless(chunk.clone(), chunk)),
        };
        *self = then;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(data) => SizeHint::with_exact(data.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
