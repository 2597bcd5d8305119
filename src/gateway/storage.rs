//! Says in the list of problems that nothing can be written to the card, and that it is over. It stands there only
//! afterwards, when it can be written: while it lasts the log says it, and every webhook is answered 503.

use tokio::sync::watch;
use tokio::time::Instant;

use super::room::settled;
use crate::database::Failing;
use crate::limits::STORAGE_SETTLED;
use crate::store::problems::{Change, Kind, Problem};

/// What is known of the storage.
#[derive(Debug)]
pub(super) struct Storage {
    told: watch::Receiver<Option<Failing>>,
    /// How it fails, or failed a moment ago.
    failing: Option<Failing>,
    /// When it will have been well for long.
    settled_at: Option<Instant>,
}

impl Storage {
    pub(super) fn new(told: watch::Receiver<Option<Failing>>) -> Self {
        Self {
            told,
            failing: None,
            settled_at: None,
        }
    }

    /// Waits until the problem comes, can be written down, or goes.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            told = self.told.changed() => {
                if told.is_err() {
                    // The writer has ended, and the process with it.
                    std::future::pending().await
                }
                self.failing = self.told.borrow_and_update().clone();
                let is_over = self.failing.as_ref().is_some_and(|failing| failing.is_over);
                self.settled_at = is_over.then(|| Instant::now() + STORAGE_SETTLED);
            }
            () = settled(self.settled_at) => (self.failing, self.settled_at) = (None, None),
        }
    }

    /// The problem, come or gone.
    pub(super) fn problem(&self) -> Change {
        let (kind, subject) = (Kind::StorageFailing, String::new());
        let Some(Failing { since, why, .. }) = &self.failing else {
            return Change::Close(kind, subject);
        };
        Change::Open(Problem {
            kind,
            subject,
            text: format!(
                "from {since} on nothing could be written to the file, and webhooks were answered 503: {why}"
            ),
            next_step: "have another card at hand: a card that fails once may fail for good (dmesg). Webhooks are taken again as soon as something can be written, and this goes by itself then".to_owned(),
            evidence: None,
        })
    }
}
