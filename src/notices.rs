//! What the intake has to say besides deliveries: what it refused and why, what it kept and how fast. It is handed over
//! without waiting, bounded, and written down elsewhere, so that neither a log nor a disk can hold up an answer.
//! Knows no HTTP, no SQL and no log.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::limits::{NOTICES_GATHER, NOTICES_MAX};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// So many waiting notices are taken at once; there is room for as many again meanwhile.
const NOTICES_MANY: usize = NOTICES_MAX / 2;

/// Why a request or connection was refused. The names are stable: they stand in `refusals.reason` and in counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The source is not allowed.
    Source,
    /// There were too many connections, and it had owed a whole request for longest.
    Crowded,
    /// A header that speaks for somebody else, from an address that is no trusted proxy. It counts for nothing: the request
    /// is judged as if it were not there.
    Forwarded,
    /// A line of the PROXY protocol from an address that is no trusted proxy.
    ProxyLine,
    /// A trusted proxy does not say whom it speaks for.
    Unclear,
    /// The source is not allowed, and the request carried our `Authorization` value.
    Drift,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// The head is malformed, too large or too slow.
    Head,
    /// Another path than the hook's.
    Path,
    /// Another method than GET, HEAD and POST.
    Method,
    /// `Authorization` is not ours, or missing.
    Authorization,
    /// The body is too large.
    TooLarge,
    /// The body came too slowly, or not at all.
    Slow,
    /// The body is no JSON object.
    UnreadableBody,
    /// The delivery could not be made durable in time.
    Unavailable,
    /// The handler panicked.
    Panic,
}

impl Reason {
    /// The word that is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Crowded => "crowded",
            Self::Forwarded => "forwarded",
            Self::ProxyLine => "proxy-line",
            Self::Unclear => "unclear",
            Self::Drift => "drift",
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Path => "path",
            Self::Method => "method",
            Self::Authorization => "authorization",
            Self::TooLarge => "too-large",
            Self::Slow => "slow",
            Self::UnreadableBody => "unreadable-body",
            Self::Unavailable => "unavailable",
            Self::Panic => "panic",
        }
    }
}

/// One thing the intake says.
#[derive(Debug)]
pub enum Notice {
    /// A delivery was journalled and answered 200.
    Kept {
        /// Its place in the journal.
        seq: Seq,
        /// Who sent it.
        peer: IpAddr,
        /// Bytes of its body.
        bytes: usize,
        /// From its first byte to the return of the commit.
        on_disk: Duration,
        /// From its first byte to its answer.
        answered: Duration,
    },
    /// A request or connection was refused.
    Refused(Refused),
    /// The process itself is in trouble, for example out of descriptors.
    Trouble {
        /// What it is.
        text: String,
        /// What to do.
        next_step: &'static str,
    },
    /// Something worth a line in the log.
    News(String),
    /// Something that may be meant so, and should be looked at.
    Warning(String),
}

/// A refusal as it is written down: without the body, but for a few bytes of one that could not be read.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When.
    pub at: UnixMs,
    /// Who was refused.
    pub peer: IpAddr,
    /// Why.
    pub reason: Reason,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// Whether the source is one of those that may speak; only such a refusal is worth a line in the log.
    pub from_allowed_source: bool,
    /// What can be said about it in one sentence.
    pub detail: Option<String>,
    /// The first bytes of a body that is no webhook.
    pub evidence: Option<Vec<u8>>,
}

/// What was said since the last look.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which it was said; the oldest are missing when there were too many.
    pub notices: Vec<Notice>,
    /// How many requests were refused, by reason; complete.
    pub refused: BTreeMap<Reason, u64>,
}

/// The hand-over. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    inner: Arc<Inner>,
    deliveries_too: bool,
}

#[derive(Debug, Default)]
struct Inner {
    said: Mutex<Said>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Said {
    notices: VecDeque<Notice>,
    refused: BTreeMap<Reason, u64>,
}

impl Notices {
    /// A hand-over. Notices of deliveries are for a log at its debug level; without it they are not worth a wake-up each.
    pub fn new(deliveries_too: bool) -> Self {
        Self {
            inner: Arc::default(),
            deliveries_too,
        }
    }

    /// Says something. Never waits; when too much is waiting already, the oldest notice is dropped.
    pub fn say(&self, notice: Notice) {
        if matches!(notice, Notice::Kept { .. }) && !self.deliveries_too {
            return;
        }
        let mut said = self.lock();
        if let Notice::Refused(refused) = &notice {
            *said.refused.entry(refused.reason).or_default() += 1;
        }
        if said.notices.len() >= NOTICES_MAX {
            said.notices.pop_front();
        }
        said.notices.push_back(notice);
        let is_worth_a_wake = [1, NOTICES_MANY].contains(&said.notices.len());
        drop(said);
        if is_worth_a_wake {
            self.inner.wake.notify_one();
        }
    }

    /// Waits until something was said that was not taken yet, and a moment longer for more, but not until it is too much.
    pub async fn wait(&self) {
        self.wait_for(1).await;
        // Either will do.
        drop(timeout(NOTICES_GATHER, self.wait_for(NOTICES_MANY)).await);
    }

    async fn wait_for(&self, count: usize) {
        while self.lock().notices.len() < count {
            self.inner.wake.notified().await;
        }
    }

    /// Takes everything that was said.
    pub fn take(&self) -> Batch {
        let said = std::mem::take(&mut *self.lock());
        Batch {
            notices: said.notices.into(),
            refused: said.refused,
        }
    }

    /// No code that holds this lock can panic halfway through a change, so a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.inner
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn refused(reason: Reason) -> Notice {
        Notice::Refused(Refused {
            at: UnixMs(0),
            peer: Ipv4Addr::LOCALHOST.into(),
            reason,
            status: None,
            from_allowed_source: false,
            detail: None,
            evidence: None,
        })
    }

    #[test]
    fn a_flood_is_counted_in_full_and_kept_in_part() {
        let notices = Notices::default();
        for _ in 0..NOTICES_MAX + 10 {
            notices.say(refused(Reason::Source));
        }
        let batch = notices.take();
        assert_eq!(batch.notices.len(), NOTICES_MAX);
        assert_eq!(batch.refused[&Reason::Source], NOTICES_MAX as u64 + 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_once_for_what_comes_in_a_moment_and_before_it_is_too_much() {
        let (notices, begun) = (Notices::default(), tokio::time::Instant::now());
        for _ in 0..3 {
            notices.say(refused(Reason::Source));
        }
        notices.wait().await;
        assert_eq!(begun.elapsed(), NOTICES_GATHER);
        assert_eq!(notices.take().notices.len(), 3);
        for _ in 0..NOTICES_MANY {
            notices.say(refused(Reason::Source));
        }
        notices.wait().await;
        assert_eq!(begun.elapsed(), NOTICES_GATHER);
    }

    #[tokio::test]
    async fn waiting_ends_when_something_was_said_before_or_after() {
        let notices = Notices::default();
        notices.say(refused(Reason::Source));
        notices.wait().await;
        notices.take();
        let other = notices.clone();
        tokio::join!(
            notices.wait(),
            async move { other.say(refused(Reason::Path)) }
        );
        assert_eq!(notices.take().notices.len(), 1);
    }
}
