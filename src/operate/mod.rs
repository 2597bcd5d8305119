//! What an operator may do to the file: take up work again, compare with Belvo, erase a link. The running gateway holds the
//! lock on the state directory and owns the only write connection, so a command sends its order through a socket
//! (`socket`); where no gateway runs, the command takes the lock and does the same with the same code. Orders and reports
//! are plain values; how they are shown is not known here, and neither is the intake.

pub mod erase;
pub mod presence;
pub mod reconcile;
pub mod retry;
pub mod socket;
mod steps;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, watch};

use crate::database::{Reader, Writer, open_reader};
use crate::drain::budget::Budget;
use crate::drain::work::{Key, Work};
use crate::fetch::Api;
use crate::store::{Store, alive};
use crate::system::clock::{Clock, UnixMs};

/// What is to be done. A field that is not known is refused: whoever narrowed an order by it must not have all of it done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Take up work again.
    Retry(retry::Order),
    /// Compare with Belvo.
    Reconcile(reconcile::Order),
    /// Erase a link.
    Erase(erase::Order),
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// Work was taken up again.
    Retry(retry::Report),
    /// It was compared with Belvo.
    Reconcile(reconcile::Report),
    /// The link was erased.
    Erase(erase::Report),
}

/// Why it could not be done, as a sentence that names the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{0}")]
pub struct Failed(pub String);

impl Failed {
    fn file(error: impl std::fmt::Display) -> Self {
        Self(format!("the file could not be read or written: {error}"))
    }
}

/// What the acts are done with.
#[derive(Debug)]
pub struct Operator<A> {
    /// The state directory; the file in it is opened to read.
    pub state_directory: PathBuf,
    /// Where they write.
    pub store: Store,
    /// Whose WAL is emptied after an erasure.
    pub writer: Writer,
    /// Belvo's API, when there are keys for it.
    pub api: watch::Receiver<Option<Arc<A>>>,
    /// The request budget, the drain's own.
    pub budget: Arc<Budget>,
    /// The time.
    pub clock: Clock,
    /// Tells the drain that something is due that it did not plan itself.
    pub ordered: Arc<Notify>,
    /// One reconcile at a time: two would ask Belvo for the same.
    pub reconciling: Mutex<()>,
    /// One erasure at a time: what one does to free pages is in the way of the other.
    pub erasing: Mutex<()>,
}

impl<A: Api> Operator<A> {
    /// Does it.
    ///
    /// # Errors
    /// When it could not be done, or not all of it.
    pub async fn act(&self, order: Order) -> Result<Report, Failed> {
        match order {
            Order::Retry(order) => retry::act(self, &order).await.map(Report::Retry),
            Order::Reconcile(order) => reconcile::act(self, &order).await.map(Report::Reconcile),
            Order::Erase(order) => erase::act(self, &order).await.map(Report::Erase),
        }
    }

    /// When the gateway last noted that it ran; none when it never did, or the file cannot be read now.
    pub fn alive_at(&self) -> Option<UnixMs> {
        let reader = self.reader().ok()?;
        alive::alive_at(&reader).ok().flatten()
    }

    /// Since when webhooks may be missing that nobody has made up for.
    fn away_from(&self) -> Option<UnixMs> {
        let reader = self.reader().ok()?;
        alive::away_from(&reader).ok().flatten()
    }

    fn reader(&self) -> Result<Reader, Failed> {
        open_reader(&self.state_directory).map_err(Failed::file)
    }
}

/// A piece of work, as it is named in reports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// The link.
    pub link_id: String,
    /// A name in the catalog.
    pub resource: String,
    /// Empty for the list of the link.
    pub object_id: String,
}

impl From<Key> for Name {
    fn from(key: Key) -> Self {
        Self {
            link_id: key.link_id,
            resource: key.resource,
            object_id: key.object_id,
        }
    }
}

impl From<Name> for Key {
    fn from(name: Name) -> Self {
        Self {
            link_id: name.link_id,
            resource: name.resource,
            object_id: name.object_id,
        }
    }
}

/// How a piece of work stands, in the words of the view `freshness` as far as the work itself says.
fn state(work: &Work) -> &'static str {
    match (work.is_pending(), work.blocked_by, work.attempts) {
        (false, ..) => "fresh",
        (true, Some(block), _) => block.name(),
        (true, None, 0) => "waiting",
        (true, None, _) => "retrying",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{StateDirectory, open_writer};
    use crate::store::VIEWS;
    use tempfile::TempDir;

    /// An operator on a file of its own, with this API, at a simulated time.
    pub(super) fn operator<A: Api>(api: A, at: UnixMs) -> (TempDir, Operator<A>) {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let connection = open_writer(&directory, VIEWS).expect("a file");
        let writer = Writer::without_thread(directory, connection, VIEWS);
        let (_clients, api) = watch::channel(Some(Arc::new(api)));
        let operator = Operator {
            state_directory: place.path().to_owned(),
            store: Store::new(writer.clone()),
            writer,
            api,
            budget: Arc::new(Budget::new(1_000.0, 1_000)),
            clock: Clock::simulated(at),
            ordered: Arc::new(Notify::new()),
            reconciling: Mutex::default(),
            erasing: Mutex::default(),
        };
        (place, operator)
    }
}
