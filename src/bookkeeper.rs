//! Writes down what the intake says: log lines, the ring of refusals, counters and problems. It runs beside the drain, so
//! that neither a stuck log nor a slow disk holds up an answer, and it writes at most once in a few seconds, so that a
//! flood of refusals wears no flash card and fills no log: a few lines a minute about single requests, none of them about a
//! stranger's, and one that sums up the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::database::WriteError;
use crate::limits::{
    NOTICES_FAILED_WAIT, NOTICES_WAIT, REFUSAL_LINES_MAX, REFUSALS_PER_WRITE_MAX,
    REFUSALS_SUMMED_EVERY, STRANGERS_WAIT,
};
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
    /// Something was refused that a log may have a line for.
    is_worth_a_line: bool,
}

/// Log lines about refusals.
#[derive(Debug, Default)]
struct Lines {
    /// When the next sum is due, once there is something to sum up.
    sum_at: Option<Instant>,
    /// Single requests that got a line since the last sum.
    logged: usize,
    /// All others.
    summed: BTreeMap<Reason, u64>,
}

/// Writes notices down until told to stop, and what is left then.
///
/// # Errors
/// When the writer has ended before the stop.
pub async fn run(notices: Notices, store: Store, mut stop: Stop) -> Result<(), WriteError> {
    let (mut unwritten, mut lines) = (Unwritten::default(), Lines::default());
    let mut not_before = Instant::now();
    loop {
        let stopping = tokio::select! {
            () = stop.told() => true,
            () = notices.wait() => false,
            () = sleep_until(not_before), if unwritten.is_worth_a_write() => false,
            () = sleep_until(lines.sum_at.unwrap_or(not_before)), if lines.sum_at.is_some() => false,
        };
        unwritten.take(notices.take(), &mut lines);
        if stopping || lines.sum_at.is_some_and(|at| at <= Instant::now()) {
            lines.sum_up();
        }
        if unwritten.is_worth_a_write() && (stopping || not_before <= Instant::now()) {
            not_before = Instant::now() + unwritten.write(&store).await?;
        }
        if stopping {
            return Ok(());
        }
    }
}

impl Unwritten {
    /// Writes everything down and forgets it; says how long not to write again. What could not be written is kept.
    async fn write(&mut self, store: &Store) -> Result<Duration, WriteError> {
        let counters = self
            .counters
            .iter()
            .map(|(reason, count)| (format!("refused.{}", reason.name()), *count));
        let refusals = self.refusals.values().cloned().collect();
        let problems = self.problems.values().cloned().collect();
        match store
            .note(refusals, problems, counters.collect(), UnixMs::now())
            .await
        {
            Err(WriteError::Ended) => Err(WriteError::Ended),
            Err(error) => {
                warn!(%error, "refused requests could not be written down; it is tried again");
                Ok(NOTICES_FAILED_WAIT)
            }
            Ok(()) => {
                // A proxy that nobody has told us of adds its header to every request, and nothing is lost by that.
                let is_idle = |problem: &Problem| problem.kind == Kind::ProxyInFront;
                let strangers_only = !self.is_worth_a_line && self.problems.values().all(is_idle);
                *self = Self::default();
                Ok(if strangers_only {
                    STRANGERS_WAIT
                } else {
                    NOTICES_WAIT
                })
            }
        }
    }

    fn is_worth_a_write(&self) -> bool {
        !(self.refusals.is_empty() && self.problems.is_empty() && self.counters.is_empty())
    }

    fn take(&mut self, batch: Batch, lines: &mut Lines) {
        lines.count(&batch.refused);
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
                Notice::Refused(refused) => {
                    lines.log(&refused);
                    self.refused(refused);
                }
                Notice::Trouble { text, next_step } => {
                    let problem = trouble_problem(text, next_step);
                    if !self.problems.contains_key(&key(&problem)) {
                        warn!(
                            problem = problem.kind.name(),
                            next_step,
                            "the gateway is in trouble and goes on trying: {}",
                            problem.text
                        );
                    }
                    self.problem(problem);
                }
                Notice::News(text) => info!("{text}"),
                Notice::Warning(text) => warn!("{text}"),
            }
        }
    }

    fn refused(&mut self, refused: Refused) {
        self.is_worth_a_line |= is_worth_a_line(&refused);
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
            self.problems.insert(key(&problem), problem);
        }
    }
}

impl Lines {
    /// All that was refused, whether or not there is a notice of it.
    fn count(&mut self, refused: &BTreeMap<Reason, u64>) {
        for (reason, count) in refused {
            *self.summed.entry(*reason).or_default() += count;
            self.sum_at
                .get_or_insert_with(|| Instant::now() + REFUSALS_SUMMED_EVERY);
        }
    }

    fn log(&mut self, refused: &Refused) {
        if is_worth_a_line(refused) && self.logged < REFUSAL_LINES_MAX {
            self.logged += 1;
            if let Some(count) = self.summed.get_mut(&refused.reason) {
                *count -= 1;
            }
            log_refused(refused);
        }
    }

    /// One line about everything that got none.
    fn sum_up(&mut self) {
        let Self { summed, .. } = std::mem::take(self);
        let summed: Vec<_> = summed.into_iter().filter(|(_, count)| *count > 0).collect();
        let counts: Vec<_> = summed
            .iter()
            .map(|(reason, count)| format!("{} {count}", reason.name()))
            .collect();
        let counts = counts.join(", ");
        let costs_nothing = |reason| {
            matches!(
                reason,
                Reason::Source | Reason::Forwarded | Reason::ProxyLine
            )
        };
        match summed.as_slice() {
            [] => {}
            all if all.iter().all(|(reason, _)| costs_nothing(*reason)) => {
                info!("refused since the last such line: {counts}")
            }
            _ => warn!(
                "refused since the last such line, besides what has a line of its own: {counts}; `status` and the table refusals show more"
            ),
        }
    }
}

/// Says that a problem has come: as an error where the gateway's work stands still until somebody sees to it.
pub fn log_opened(problem: &Problem) {
    let Problem {
        kind,
        text,
        next_step,
        ..
    } = problem;
    let problem = kind.name();
    match kind.stops_the_work() {
        true => error!(problem, next_step, "{text}"),
        false => warn!(problem, next_step, "{text}"),
    }
}

/// What the file has at most one open problem for.
fn key(problem: &Problem) -> (&'static str, String) {
    (problem.kind.name(), problem.subject.clone())
}

/// A stranger is never worth one, but for who has our `Authorization` value; a panic always is. A header that was not
/// believed has kept nobody from being served.
fn is_worth_a_line(refused: &Refused) -> bool {
    match refused.reason {
        Reason::Drift | Reason::Panic => true,
        Reason::Forwarded => false,
        _ => refused.from_allowed_source,
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
    let reason = reason.name();
    warn!(%peer, reason, status, detail, "a request was refused: {reason}, from {peer}");
}

fn refused_problem(refused: Refused) -> Option<Problem> {
    let (kind, text, next_step) = match refused.reason {
        Reason::Drift => return Some(drift_problem(refused)),
        Reason::Unclear => (
            Kind::ProxyUnclear,
            "a trusted proxy does not say whom it speaks for, so what comes through it is refused",
            "make the proxy tell the address of its client as listen.proxy says; `belvo-gateway check --explain` shows what a header or a PROXY line would be taken for. If a stranger sent it a malformed header, have the proxy replace that header; if it is no proxy of yours, take its address out of trusted-proxies",
        ),
        Reason::Forwarded if !refused.from_allowed_source => (
            Kind::ProxyInFront,
            "a request with the configured Authorization value was refused, and it looks as if it came through a proxy",
            "if a proxy or tunnel of yours stands there, write its address as trusted-proxies and the way it tells its client's address as proxy, both under [listen]; do not add it to allow, which would let everybody in who reaches it. If none does, somebody else knows the value: change it in Belvo's dashboard and in the authorization file",
        ),
        _ if !refused.from_allowed_source => return None,
        Reason::Forwarded | Reason::ProxyLine => (
            Kind::ProxyInFront,
            "an allowed address claims to speak for another one, as a proxy does; the claim counts for nothing",
            "if the address is a proxy of yours, everybody gets in who reaches it: take it out of allow and write it as trusted-proxies, with proxy beside it. If it is Belvo's, this can be ignored",
        ),
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

fn drift_problem(refused: Refused) -> Problem {
    let address = refused.peer;
    let line = refused.detail.unwrap_or_default();
    Problem {
        kind: Kind::SourceDrift,
        subject: address.to_string(),
        text: format!(
            "Belvo now seems to send from {address}: a request from there carried the configured Authorization value, and was refused because the address is not allowed"
        ),
        next_step: format!(
            "ask Belvo whether the address is theirs; if it is, write under [listen]: {line}. If it is not, somebody else knows the value: change it in Belvo's dashboard and in the authorization file"
        ),
        evidence: None,
    }
}

fn trouble_problem(text: String, next_step: &str) -> Problem {
    let (kind, next_step) = (Kind::Trouble, next_step.to_owned());
    Problem {
        kind,
        subject: String::new(),
        text,
        next_step,
        evidence: None,
    }
}
