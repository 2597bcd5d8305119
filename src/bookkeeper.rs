//! Writes down what the intake says: log lines, the ring of refusals, counters and problems. It runs beside the drain, so
//! that neither a stuck log nor a slow disk holds up an answer, and it writes at most once in a few seconds, so that a
//! flood of refusals wears no flash card and fills no log. A stranger never causes a log line of its own.

use std::collections::BTreeMap;

use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::database::WriteError;
use crate::limits::{NOTICES_WAIT, REFUSAL_LINES_MAX, REFUSALS_PER_WRITE_MAX, STRANGERS_WAIT};
use crate::notices::{Batch, Notice, Notices, Reason, Refused};
use crate::store::Store;
use crate::store::problems::{Kind, Problem};
use crate::store::refusals::Refusal;
use crate::system::clock::UnixMs;
use crate::system::stop::Stop;

/// What was said and is not written yet.
#[derive(Debug, Default)]
struct Unwritten {
    refusals: BTreeMap<(String, Reason, Option<u16>), Refusal>,
    problems: BTreeMap<(&'static str, String), Problem>,
    counters: BTreeMap<Reason, u64>,
    /// Log lines about refusals since the last write.
    lines: usize,
}

/// Writes notices down until told to stop, and what is left then.
///
/// # Errors
/// When the writer has ended before the stop.
pub async fn run(notices: Notices, store: Store, mut stop: Stop) -> Result<(), WriteError> {
    let mut unwritten = Unwritten::default();
    let mut written = None;
    loop {
        let stopping = tokio::select! {
            () = stop.told() => true,
            () = notices.wait() => false,
            () = sleep_until(unwritten.write_at(written)), if unwritten.is_worth_a_write() => false,
        };
        unwritten.take(notices.take());
        if stopping
            || (unwritten.is_worth_a_write() && unwritten.write_at(written) <= Instant::now())
        {
            write(&store, std::mem::take(&mut unwritten)).await?;
            written = Some(Instant::now());
        }
        if stopping {
            return Ok(());
        }
    }
}

async fn write(store: &Store, unwritten: Unwritten) -> Result<(), WriteError> {
    if unwritten.lines > REFUSAL_LINES_MAX {
        let more = unwritten.lines - REFUSAL_LINES_MAX;
        warn!(
            more,
            "more requests were refused; `status` and the table refusals show them"
        );
    }
    if !unwritten.is_worth_a_write() {
        return Ok(());
    }
    let Unwritten {
        refusals,
        problems,
        counters,
        ..
    } = unwritten;
    let counters = counters
        .into_iter()
        .map(|(reason, count)| (format!("refused.{}", reason.name()), count))
        .collect();
    match store
        .note(
            refusals.into_values().collect(),
            problems.into_values().collect(),
            counters,
            UnixMs::now(),
        )
        .await
    {
        Err(WriteError::Ended) => return Err(WriteError::Ended),
        Err(error) => warn!(%error, "refused requests could not be written down"),
        Ok(()) => {}
    }
    Ok(())
}

impl Unwritten {
    /// When to write, after the last time it was done: soon, but about strangers alone only now and then.
    fn write_at(&self, written: Option<Instant>) -> Instant {
        let wait = if self.lines > 0 || !self.problems.is_empty() {
            NOTICES_WAIT
        } else {
            STRANGERS_WAIT
        };
        written.map_or_else(Instant::now, |written| written + wait)
    }

    fn is_worth_a_write(&self) -> bool {
        !(self.refusals.is_empty() && self.problems.is_empty() && self.counters.is_empty())
    }

    fn take(&mut self, batch: Batch) {
        for (reason, count) in batch.refused {
            *self.counters.entry(reason).or_default() += count;
        }
        for notice in batch.notices {
            match notice {
                Notice::Kept {
                    seq,
                    peer,
                    bytes,
                    on_disk,
                    answered,
                } => debug!(
                    seq = seq.0,
                    %peer,
                    bytes,
                    on_disk_us = on_disk.as_micros() as u64,
                    answered_us = answered.as_micros() as u64,
                    "webhook kept"
                ),
                Notice::Refused(refused) => self.refused(refused),
                Notice::Trouble(trouble) => {
                    warn!(trouble, "the gateway is in trouble; it goes on trying");
                    self.problem(trouble_problem(&trouble));
                }
            }
        }
    }

    fn refused(&mut self, refused: Refused) {
        if refused.from_allowed_source {
            self.lines += 1;
            if self.lines <= REFUSAL_LINES_MAX {
                log_refused(&refused);
            }
        }
        let Refused {
            at,
            peer,
            reason,
            status,
            ..
        } = &refused;
        let refusal = Refusal {
            at: *at,
            peer: peer.to_string(),
            reason: *reason,
            status: *status,
            count: 0,
        };
        let key = (peer.to_string(), *reason, *status);
        if self.refusals.len() < REFUSALS_PER_WRITE_MAX || self.refusals.contains_key(&key) {
            let alike = self.refusals.entry(key).or_insert(refusal);
            alike.count += 1;
            alike.at = *at;
        }
        if let Some(problem) = refused_problem(refused) {
            self.problem(problem);
        }
    }

    fn problem(&mut self, problem: Problem) {
        if self.problems.len() < REFUSALS_PER_WRITE_MAX {
            self.problems
                .insert((problem.kind.name(), problem.subject.clone()), problem);
        }
    }
}

fn log_refused(refused: &Refused) {
    let Refused {
        peer,
        reason,
        status,
        detail,
        ..
    } = refused;
    warn!(%peer, reason = reason.name(), status, detail, "a request was refused");
}

fn refused_problem(refused: Refused) -> Option<Problem> {
    let (kind, text, next_step) = match refused.reason {
        _ if !refused.from_allowed_source => return None,
        Reason::Authorization => (
            Kind::AuthorizationMismatch,
            "an allowed source sends another Authorization value than the configured one, or none; its webhooks are answered 401 and are lost when Belvo gives up",
            "make the value in Belvo's dashboard and the one in the authorization file the same; the file may hold two while the value is being changed",
        ),
        Reason::UnreadableBody => (
            Kind::UnreadableBody,
            "an allowed source sent a body that is not a JSON object; it was answered 400, its first bytes are kept in problems.evidence",
            "if it is Belvo's, send the time and the evidence to their support; else find out who sends it",
        ),
        _ => return None,
    };
    let text = match refused.detail {
        Some(detail) => format!("{text} ({detail})"),
        None => text.to_owned(),
    };
    Some(Problem {
        kind,
        subject: refused.peer.to_string(),
        text,
        next_step: next_step.to_owned(),
        evidence: refused.evidence,
    })
}

fn trouble_problem(trouble: &str) -> Problem {
    Problem {
        kind: Kind::Trouble,
        subject: String::new(),
        text: trouble.to_owned(),
        next_step: "if it goes on, raise LimitNOFILE= or MemoryMax= of the unit, or look for what else fills the box"
            .to_owned(),
        evidence: None,
    }
}
