//! What the program is compared to, on the same crates: a receiver as one would write it first, one that keeps nothing,
//! and the disk alone. Each runs in a process of its own. Knows nothing of the program.

use std::convert::Infallible;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::iter;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use belvo_gateway::intake::tls::{Files, server};
use clap::ValueEnum;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;

/// What a process of the bench is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Each request is one transaction, synced before the answer.
    OneCommit,
    /// What requests come at once are appended to a file, and share a sync before the answers.
    Grouped,
    /// Every request is answered, none is kept.
    NoOp,
    /// No requests: one thread appends and syncs.
    RawSync,
}

/// What one append of `RawSync` writes: as much as a page of the database.
pub(crate) const RAW_BYTES: usize = 4096;
/// The file of `Grouped`: as large as the program's WAL is beforehand.
const GROUPED_PAGES: usize = 1024;

/// Where it listens, and how.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// TLS with this certificate and key, set up as the program does it.
pub(crate) fn tls((certificate, key): (PathBuf, PathBuf)) -> anyhow::Result<TlsAcceptor> {
    let pair = Files { certificate, key }.read()?;
    let (config, _) = server(Some(pair))?;
    Ok(TlsAcceptor::from(config))
}

/// Is that, until it is killed or, for the disk alone, for `window`.
pub(crate) fn run(
    role: Role,
    listening: Listening,
    directory: &Path,
    window: Duration,
) -> anyhow::Result<()> {
    match role {
        Role::OneCommit => {
            let database = Arc::new(Mutex::new(open(directory)?));
            serve(listening, move |request| {
                one_commit(Arc::clone(&database), request)
            })
        }
        Role::Grouped => {
            let appends = append_grouped(directory)?;
            serve(listening, move |request| grouped(appends.clone(), request))
        }
        Role::NoOp => serve(listening, no_op),
        Role::RawSync => raw_sync(directory, window),
    }
}

/// Answers with what `answer` makes of each request: the status, or an error that is answered 500.
fn serve<A, F>(listening: Listening, answer: A) -> anyhow::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listening.address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move {
                    let mut response = Response::new(Empty::<Bytes>::new());
                    if let Err(error) = answered.await {
                        eprintln!("{error:#}");
                        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let http = http1::Builder::new();
            // A connection that ends early is the sender's business, who says so.
            match listening.tls.clone() {
                None => drop(tokio::spawn(
                    http.serve_connection(TokioIo::new(stream), service),
                )),
                Some(tls) => drop(tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                })),
            }
        }
    })
}

async fn no_op(request: Request<Incoming>) -> anyhow::Result<()> {
    request.into_body().collect().await?;
    Ok(())
}

fn open(directory: &Path) -> anyhow::Result<Connection> {
    let database = Connection::open(directory.join("webhooks.db"))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS webhooks (id INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, body TEXT NOT NULL)",
    )?;
    Ok(database)
}

async fn one_commit(
    database: Arc<Mutex<Connection>>,
    request: Request<Incoming>,
) -> anyhow::Result<()> {
    let body = request.into_body().collect().await?.to_bytes();
    spawn_blocking(move || {
        let body = std::str::from_utf8(&body)?;
        let received_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let mut database = database.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction
            .prepare_cached("INSERT INTO webhooks (received_at, body) VALUES (?1, ?2)")?
            .execute(params![received_at, body])?;
        transaction.commit()?;
        Ok(())
    })
    .await?
}

/// A body, and who is told that it is on the disk.
type Append = (Bytes, oneshot::Sender<()>);

async fn grouped(appends: mpsc::Sender<Append>, request: Request<Incoming>) -> anyhow::Result<()> {
    let body = request.into_body().collect().await?.to_bytes();
    let (told, on_disk) = oneshot::channel();
    appends.send((body, told))?;
    Ok(on_disk.await?)
}

/// Starts the thread that appends: all that wait with one write and one sync, over and over the same bytes of a file that
/// has its size from the beginning.
fn append_grouped(directory: &Path) -> anyhow::Result<mpsc::Sender<Append>> {
    let file = File::create_new(directory.join("webhooks"))?;
    // Page by page: what is written at once the kernel may keep as one large page, and write as one ever after.
    for page in 0..GROUPED_PAGES {
        file.write_all_at(&[0; RAW_BYTES], (page * RAW_BYTES) as u64)?;
    }
    file.sync_data()?;
    let (appends, waiting) = mpsc::channel::<Append>();
    thread::spawn(move || {
        let (mut bytes, mut end) = (Vec::new(), 0);
        // What fails is told to all who wait, by what is dropped.
        while let Ok(first) = waiting.recv() {
            let (bodies, told): (Vec<_>, Vec<_>) =
                iter::once(first).chain(waiting.try_iter()).unzip();
            bytes.clear();
            bodies.iter().for_each(|body| bytes.extend_from_slice(body));
            if end + bytes.len() > GROUPED_PAGES * RAW_BYTES {
                end = 0;
            }
            if let Err(error) = file
                .write_all_at(&bytes, end as u64)
                .and_then(|()| file.sync_data())
            {
                eprintln!("{error}");
                return;
            }
            end += bytes.len();
            // Nobody waits any more where the connection is gone.
            for told in told {
                let _ = told.send(());
            }
        }
    });
    Ok(appends)
}

/// Appends and syncs for `window`, and prints each time it took in nanoseconds, one a line.
fn raw_sync(directory: &Path, window: Duration) -> anyhow::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(directory.join("raw"))?;
    let bytes = [0x5a; RAW_BYTES];
    let (begun, mut end, mut took) = (Instant::now(), 0, String::new());
    while begun.elapsed() < window {
        let one = Instant::now();
        file.write_all_at(&bytes, end)?;
        file.sync_data()?;
        end += RAW_BYTES as u64;
        fmt::Write::write_fmt(&mut took, format_args!("{}\n", one.elapsed().as_nanos()))?;
    }
    print!("{took}");
    Ok(())
}
