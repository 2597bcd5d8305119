//! The way to a running gateway: a Unix socket in the state directory, one order in and one report out, a JSON line each.
//! Everything is bounded: connections, the bytes and the time of an order. It knows neither what an order does nor who
//! prints a report. Whoever may connect may erase, so only the gateway's own user and root may.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Failed, Operator, Order, Report};
use crate::fetch::Api;
use crate::limits::{
    ACCEPT_PAUSE, ACT_WAIT, CONTROL_CONNECTIONS_MAX, CONTROL_ORDER_BYTES_MAX,
    CONTROL_REPORT_BYTES_MAX, CONTROL_WAIT,
};
use crate::system::stop::Stop;

/// The name of the socket in the state directory.
pub const NAME: &str = "control";

/// An answer on the wire.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Done(Report),
    Failed(Failed),
}

/// A socket that orders may come through; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: net::UnixListener,
    path: PathBuf,
    owner: u32,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A command finds nobody behind what is left, and the next start replaces it.
        drop(fs::remove_file(&self.path));
    }
}

impl Socket {
    /// Makes it, in the place of one that was left behind. Whoever calls holds the lock on the directory.
    ///
    /// # Errors
    /// When the path is too long for a socket, or the system refuses.
    pub fn bind(state_directory: &Path) -> io::Result<Self> {
        let path = state_directory.join(NAME);
        match fs::symlink_metadata(&path) {
            Ok(left) if left.file_type().is_socket() => fs::remove_file(&path)?,
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file of that name which is no socket",
                ));
            }
            Err(_) => {}
        }
        let listener = net::UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let owner = fs::symlink_metadata(&path)?.uid();
        Ok(Self {
            listener,
            path,
            owner,
        })
    }

    /// Takes orders until told to stop; what is under way then is given up.
    ///
    /// # Errors
    /// When the system does not let us wait for them.
    pub async fn serve<A: Api>(self, operator: Arc<Operator<A>>, mut stop: Stop) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let room = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.told() => return Ok(()),
                Some(_) = running.join_next() => {}
                accepted = self.accept(&listener, &room) => match accepted {
                    Ok((stream, permit)) => {
                        let operator = Arc::clone(&operator);
                        running.spawn(async move {
                            let _permit = permit;
                            // Whoever asked sees that the connection ended.
                            drop(answer(stream, &operator).await);
                        });
                    }
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }

    async fn accept(
        &self,
        listener: &UnixListener,
        room: &Arc<Semaphore>,
    ) -> io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(room)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if peer == self.owner || peer == 0 {
                return Ok((stream, permit));
            }
        }
    }
}

async fn answer<A: Api>(stream: UnixStream, operator: &Operator<A>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(CONTROL_ORDER_BYTES_MAX));
    within(CONTROL_WAIT, read.read_line(&mut line)).await?;
    if line.is_empty() {
        return Ok(());
    }
    let outcome = match serde_json::from_str::<Order>(&line) {
        Ok(order) => timeout(ACT_WAIT, operator.act(order))
            .await
            .unwrap_or_else(|_| {
                Err(Failed(
                    "it took too long and was given up; do it again".to_owned(),
                ))
            }),
        Err(_) => Err(Failed(AskError::OtherVersion.to_string())),
    };
    let answer = outcome.map_or_else(Answer::Failed, Answer::Done);
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    within(CONTROL_WAIT, write.write_all(&bytes)).await
}

async fn within<T>(wait: Duration, done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(wait, done)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Why a running gateway did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("no gateway runs there")]
    Nobody,
    /// We may not.
    #[error(
        "only root and the gateway's user may give orders to the running gateway: run this as one of them, for example with sudo"
    )]
    Denied,
    /// The connection broke.
    #[error(
        "the gateway did not answer: {0}; look at its log (journalctl -u belvo-gateway) and do it again"
    )]
    Broken(io::Error),
    /// The order or the answer is not understood.
    #[error(
        "the running gateway is of another version than this command: restart it and do this again"
    )]
    OtherVersion,
    /// It could not be done.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// Whether a gateway still runs on this state directory.
pub fn is_there(state_directory: &Path) -> bool {
    net::UnixStream::connect(state_directory.join(NAME)).is_ok()
}

/// Sends an order to the gateway that runs on this state directory and waits for its report.
///
/// # Errors
/// When there is none, or it could not do it.
pub async fn ask(state_directory: &Path, order: &Order) -> Result<Report, AskError> {
    let stream = UnixStream::connect(state_directory.join(NAME))
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            // A path too long for a socket.
            | io::ErrorKind::InvalidInput => AskError::Nobody,
            io::ErrorKind::PermissionDenied => AskError::Denied,
            _ => AskError::Broken(error),
        })?;
    let line = exchange(stream, order).await.map_err(AskError::Broken)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Done(report)) => Ok(report),
        Ok(Answer::Failed(failed)) => Err(failed.into()),
        Err(_) if line.ends_with('\n') => Err(AskError::OtherVersion),
        // It broke off in the middle.
        Err(error) => Err(AskError::Broken(error.into())),
    }
}

async fn exchange(stream: UnixStream, order: &Order) -> io::Result<String> {
    let (read, mut write) = stream.into_split();
    let mut bytes = serde_json::to_vec(order)?;
    bytes.push(b'\n');
    within(CONTROL_WAIT, write.write_all(&bytes)).await?;
    let mut line = String::new();
    let mut read = BufReader::new(read.take(CONTROL_REPORT_BYTES_MAX));
    within(ACT_WAIT + CONTROL_WAIT, read.read_line(&mut line)).await?;
    match line.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(line),
    }
}
