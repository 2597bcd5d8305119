//! Everything that no answer waits for, on a thread and a runtime of its own: planning and fetching, what is written down
//! about the intake, what is seen to while the gateway runs, and what an operator orders.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tokio::sync::{Mutex, Notify, oneshot, watch};
use tokio::time::sleep;

use super::certificate::Certificate;
use super::reload::Reload;
use super::renewal::Renewal;
use super::room::Disk;
use super::storage::Storage;
use super::upkeep::Upkeep;
use super::{GatewayError, Material, after_start, key_files, runtime};
use crate::bookkeeper;
use crate::config::{Api, Reconcile, Settings};
use crate::database::room::Room;
use crate::database::{WriteError, Writer};
use crate::drain::budget::Budget;
use crate::drain::retention::{Keeping, Retention};
use crate::drain::salvage::Salvager;
use crate::drain::{Drain, Parts};
use crate::fetch::{Access, Client, KeyFiles, Keys, Target};
use crate::journal::Journal;
use crate::limits::{START_SETTLED, THREAD_STACK_BYTES};
use crate::notices::{Notice, Notices};
use crate::operate::Operator;
use crate::operate::presence::Presence;
use crate::operate::socket::{self, Socket};
use crate::store::Store;
use crate::system::clock::Clock;
use crate::system::code;
use crate::system::stop::{self, Stop, Stopper};

/// The thread.
pub(super) struct Background {
    pub(super) stop: Stopper,
    /// Told how it ended.
    pub(super) end: oneshot::Receiver<Result<(), GatewayError>>,
}

/// What it needs for all that it does.
struct Duties {
    state_directory: PathBuf,
    api: Api,
    keeping: Keeping,
    access: (Target, Option<KeyFiles>, Option<Keys>),
    writer: Writer,
    appended: watch::Receiver<()>,
    notices: Notices,
    socket: Option<Socket>,
    reload: Reload,
    certificate: Option<Certificate>,
    renewal: Option<Renewal>,
    stopped: Stop,
}

impl Background {
    pub(super) fn start(
        settings: &Settings,
        material: Material,
        writer: &Writer,
        journal: &Journal,
        notices: &Notices,
        (reload, certificate, renewal): (Reload, Option<Certificate>, Option<Renewal>),
    ) -> Result<Self, GatewayError> {
        let (stop, stopped) = stop::pair();
        let (ended, end) = oneshot::channel();
        let target = Target {
            base_url: settings.api.base_url.clone(),
            roots: material.roots,
        };
        let duties = Duties {
            state_directory: settings.state_directory.clone(),
            api: settings.api.clone(),
            keeping: settings.storage.keeping,
            access: (target, key_files(settings), material.keys),
            writer: writer.clone(),
            appended: journal.watch(),
            notices: notices.clone(),
            socket: control(&settings.state_directory, notices),
            reload,
            certificate,
            renewal,
            stopped,
        };
        thread::Builder::new()
            .name("drain".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                let panicked = || GatewayError::Ended {
                    part: "drain",
                    why: "it panicked".to_owned(),
                };
                let run = std::panic::AssertUnwindSafe(|| duties.run());
                let outcome = std::panic::catch_unwind(run).unwrap_or_else(|_| Err(panicked()));
                drop(ended.send(outcome));
            })?;
        Ok(Self { stop, end })
    }
}

impl Duties {
    fn run(self) -> Result<(), GatewayError> {
        // Here and not before: reading the system's certificates takes a while, and nobody waits for it here.
        let (target, files, keys) = self.access;
        let access = Access::new(target, files, keys)?;
        let runtime = runtime()?;
        let budget = Budget::new(self.api.requests_per_second, self.api.burst);
        let common = Common {
            state_directory: self.state_directory,
            store: Store::new(self.writer.clone()),
            api: access.clients(),
            budget: Arc::new(budget),
            clock: Clock::of_machine(),
            ordered: Arc::new(Notify::new()),
        };
        let (disk, room) = (self.writer.watch_room(), self.writer.watch_room());
        let failing = self.writer.watch_failing();
        let operator = common.operator(self.writer);
        let drain = common.drain(self.appended);
        let salvager = common.salvager(room.clone());
        let retention = common.retention(self.keeping, room);
        let Common { store, budget, .. } = common;
        let renewed = self.renewal.as_ref();
        let renewed = renewed.map(|renewal| Arc::clone(&renewal.renewed));
        let seen = (self.certificate, Disk::new(disk), Storage::new(failing));
        let renewed = renewed.unwrap_or_default();
        let upkeep = Upkeep::new(self.reload, seen, renewed, access, budget, store.clone());
        let (notices, stopped) = (self.notices, self.stopped);
        let operating = operating(
            operator,
            self.socket,
            self.api.reconcile,
            notices.clone(),
            stopped.clone(),
        );
        // Each in a place of its own: together they would not fit on the thread's stack.
        let outcome = runtime.block_on(all(
            Box::pin(drain_with(salvager, drain, stopped.clone())),
            Box::pin(bookkeeper::run(notices, store.clone(), stopped.clone())),
            Box::pin(upkeep.run(stopped.clone())),
            Box::pin(renew(self.renewal, store, stopped.clone())),
            Box::pin(retention.run(stopped)),
            Box::pin(operating),
        ));
        // A name lookup that hangs must not hold up the end.
        runtime.shutdown_background();
        outcome
    }
}

/// What several of them use.
struct Common {
    state_directory: PathBuf,
    store: Store,
    api: watch::Receiver<Option<Arc<Client>>>,
    budget: Arc<Budget>,
    clock: Clock,
    ordered: Arc<Notify>,
}

impl Common {
    fn operator(&self, writer: Writer) -> Operator<Client> {
        Operator {
            state_directory: self.state_directory.clone(),
            store: self.store.clone(),
            writer,
            api: self.api.clone(),
            budget: Arc::clone(&self.budget),
            clock: self.clock.clone(),
            ordered: Arc::clone(&self.ordered),
            reconciling: Mutex::default(),
            erasing: Mutex::default(),
        }
    }

    fn drain(&self, appended: watch::Receiver<()>) -> Drain<Client> {
        Drain::new(Parts {
            state_directory: self.state_directory.clone(),
            store: self.store.clone(),
            appended,
            api: self.api.clone(),
            budget: Arc::clone(&self.budget),
            ordered: Arc::clone(&self.ordered),
            clock: self.clock.clone(),
        })
    }

    fn salvager(&self, room: watch::Receiver<Room>) -> Salvager {
        Salvager {
            state_directory: self.state_directory.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            room,
        }
    }

    fn retention(&self, keeping: Keeping, room: watch::Receiver<Room>) -> Retention {
        Retention::new(
            self.state_directory.clone(),
            self.store.clone(),
            self.clock.clone(),
            keeping,
            room,
        )
    }
}

/// Brings back what damaged files held, and plans and fetches as soon as is known what must not be.
async fn drain_with(
    salvager: Salvager,
    drain: Drain<Client>,
    stop: Stop,
) -> Result<(), WriteError> {
    let mut stopped = stop.clone();
    tokio::select! {
        () = stopped.told() => return Ok(()),
        done = Box::pin(salvager.state_first()) => done?,
    }
    let (directory, store) = (salvager.state_directory.clone(), salvager.store.clone());
    let drain = Box::pin(drain.run(stop));
    let salvaging = Box::pin(salvager.run());
    let looking = Box::pin(async {
        after_start::look(directory, store).await?;
        sleep(START_SETTLED).await;
        // Of what only a start runs. Where the kernel does not offer it, the program is a little larger, and that is all.
        code::let_go().ok();
        Ok::<_, WriteError>(())
    });
    tokio::select! {
        ended = drain => ended,
        Err(error) = salvaging => Err(error),
        Err(error) = looking => Err(error),
    }
}

async fn renew(renewal: Option<Renewal>, store: Store, stop: Stop) -> Result<(), WriteError> {
    match renewal {
        Some(renewal) => renewal.run(store, stop).await,
        None => Ok(()),
    }
}

/// Runs all of them to their end, or the first error.
async fn all(
    drain: impl Future<Output = Result<(), WriteError>>,
    bookkeeping: impl Future<Output = Result<(), WriteError>>,
    upkeeping: impl Future<Output = Result<(), WriteError>>,
    renewing: impl Future<Output = Result<(), WriteError>>,
    retaining: impl Future<Output = Result<(), WriteError>>,
    operating: impl Future<Output = Result<(), GatewayError>>,
) -> Result<(), GatewayError> {
    tokio::try_join!(
        async { drain.await.map_err(ended("drain")) },
        async { bookkeeping.await.map_err(ended("bookkeeper")) },
        async { upkeeping.await.map_err(ended("upkeep")) },
        async { renewing.await.map_err(ended("renewal")) },
        async { retaining.await.map_err(ended("retention")) },
        operating,
    )
    .map(drop)
}

fn ended(part: &'static str) -> impl FnOnce(WriteError) -> GatewayError {
    move |error| GatewayError::Ended {
        part,
        why: error.to_string(),
    }
}

/// The socket that orders come through. Without it the gateway does everything else.
fn control(directory: &Path, notices: &Notices) -> Option<Socket> {
    let path = directory.join(socket::NAME);
    let refused = |error| {
        notices.say(Notice::Warning(format!(
            "retry, reconcile and erase cannot reach the gateway while it runs: the socket {} cannot be made: {error}; a shorter state-directory helps when the path is too long",
            path.display()
        )));
    };
    Socket::bind(directory).map_err(refused).ok()
}

/// Notes that the gateway runs, sees to what it missed, and takes an operator's orders. What the run before noted is read
/// at once, before the drain notes anything.
fn operating(
    operator: Operator<Client>,
    socket: Option<Socket>,
    reconcile: Reconcile,
    notices: Notices,
    stopped: Stop,
) -> impl Future<Output = Result<(), GatewayError>> {
    let presence = Presence::new(operator.alive_at(), reconcile);
    let operator = Arc::new(operator);
    async move {
        let orders = async {
            if let Some(socket) = socket {
                socket.serve(Arc::clone(&operator), stopped.clone()).await?;
            }
            Ok(())
        };
        let presence = presence.run(&operator, notices, stopped.clone());
        let presence = async { presence.await.map_err(ended("operator")) };
        tokio::try_join!(presence, orders).map(drop)
    }
}
