//! What the gateway does in its operator's place: it notes that it runs, finds out how long it did not, and sees to what
//! was missed meanwhile, by a problem that names the command or by itself; and it finishes what was interrupted.
//!
//! The box has no battery clock, and one that is set at boot to the time of the last shutdown looks right until the
//! network corrects it. So the question how long the gateway was away is asked again at each note until the answer is
//! that it was: with the note of the last run, and with the time since this start by a clock that never jumps.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Operator, erase, reconcile};
use crate::config::Reconcile;
use crate::database::WriteError;
use crate::fetch::Api;
use crate::limits::{ALIVE_EVERY, AWAY_MAX, CLOCK_LOOK, RECONCILE_MARGIN};
use crate::notices::{Notice, Notices};
use crate::store::problems::{Kind, Problem};
use crate::system::clock::UnixMs;
use crate::system::stop::Stop;

/// A time in which the gateway did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The last note of the run before.
    pub from: UnixMs,
    /// The start of this one.
    pub until: UnixMs,
}

/// Whether the gateway was away for longer than Belvo repeats a delivery: `alive_at` is the last note of the run before,
/// `now` the wall clock, and `running` the time since the start. Nothing while the clock cannot be right.
pub fn absence(alive_at: Option<UnixMs>, now: UnixMs, running: Duration) -> Option<Absence> {
    let from = alive_at.filter(|_| now.is_plausible())?;
    let until = now.minus(running);
    (until.since(from) > AWAY_MAX).then_some(Absence { from, until })
}

/// What was found out so far.
#[derive(Debug)]
pub struct Presence {
    alive_at: Option<UnixMs>,
    started: Instant,
    reconcile: Reconcile,
    /// What the gateway still has to compare by itself.
    since: Option<UnixMs>,
}

impl Presence {
    /// A run that begins now, after one whose last note was `alive_at`.
    pub fn new(alive_at: Option<UnixMs>, reconcile: Reconcile) -> Self {
        Self {
            alive_at,
            started: Instant::now(),
            reconcile,
            since: None,
        }
    }

    /// Goes on until told to stop, and notes that the gateway runs once more then.
    ///
    /// # Errors
    /// When the writer has ended before the stop.
    pub async fn run<A: Api>(
        self,
        operator: &Operator<A>,
        notices: Notices,
        stop: Stop,
    ) -> Result<(), WriteError> {
        tokio::select! {
            ended = self.notes(operator, &notices, stop) => ended,
            () = erase::finish(operator, &notices) => Ok(()),
        }
    }

    async fn notes<A: Api>(
        mut self,
        operator: &Operator<A>,
        notices: &Notices,
        mut stop: Stop,
    ) -> Result<(), WriteError> {
        loop {
            self.look(operator).await?;
            let wait = match operator.clock.wall().is_plausible() {
                true => ALIVE_EVERY,
                false => CLOCK_LOOK,
            };
            tokio::select! {
                () = stop.told() => break,
                () = async {
                    self.make_up(operator, notices).await;
                    sleep(wait).await;
                } => {}
            }
        }
        survive(operator.store.note_alive(operator.clock.wall()).await)
    }

    /// Finds out whether the gateway was away, as long as it has not found that it was, and notes that it runs.
    async fn look<A: Api>(&mut self, operator: &Operator<A>) -> Result<(), WriteError> {
        let now = operator.clock.wall();
        if let Some(absence) = absence(self.alive_at, now, self.started.elapsed()) {
            let auto = self.reconcile == Reconcile::Auto;
            let problem = move |from| problem(Absence { from, ..absence }, auto);
            match operator.store.note_away(absence.from, now, problem).await {
                Ok(()) => {
                    self.alive_at = None;
                    self.since = auto.then(|| compared_from(absence.from));
                }
                // Not noted that it runs, either: the absence is found again, also after a restart.
                failed => return survive(failed),
            }
        }
        survive(operator.store.note_alive(now).await)
    }

    /// Compares with Belvo, when that is the gateway's own business; what fails is tried again with the next note.
    async fn make_up<A: Api>(&mut self, operator: &Operator<A>, notices: &Notices) {
        let Some(since) = self.since else { return };
        let order = reconcile::Order {
            since_ms: Some(since.0),
            ..reconcile::Order::default()
        };
        match reconcile::act(operator, &order).await {
            Ok(report) => {
                self.since = None;
                notices.say(Notice::News(format!(
                    "compared with Belvo after an absence: {} links, {} lists are fetched again",
                    report.links,
                    report.marked.len() as u64 + report.marked_more
                )));
            }
            Err(failed) => notices.say(Notice::Warning(format!(
                "the comparison with Belvo after an absence failed and is tried again: {failed}"
            ))),
        }
    }
}

/// A full disk is the writer's business; only its end is the end.
fn survive(outcome: Result<(), WriteError>) -> Result<(), WriteError> {
    match outcome {
        Err(WriteError::Ended) => Err(WriteError::Ended),
        _ => Ok(()),
    }
}

/// From when on links are compared after an absence.
fn compared_from(from: UnixMs) -> UnixMs {
    let from = from.minus(RECONCILE_MARGIN);
    UnixMs(from.0 - from.0.rem_euclid(1_000))
}

fn problem(absence: Absence, auto: bool) -> Problem {
    let Absence { from, until } = absence;
    let since = compared_from(from).to_string().replace(".000Z", "Z");
    let command = format!("belvo-gateway reconcile --since {since}");
    let next_step = match auto {
        true => format!(
            "nothing: the gateway compares with Belvo by itself and fetches what moved; if this stays, run: {command}"
        ),
        false => format!("compare with Belvo and fetch what moved: {command}"),
    };
    Problem {
        kind: Kind::Away,
        subject: String::new(),
        text: format!(
            "the gateway did not run from {from} to {until}; Belvo repeats a webhook for minutes only, so some may be missing"
        ),
        next_step,
        evidence: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_quick_restart_is_no_absence_even_when_the_last_note_is_as_old_as_it_gets() {
        let crashed = NOW.minus(ALIVE_EVERY + MINUTE);
        assert_eq!(absence(Some(crashed), NOW, Duration::ZERO), None);
        assert_eq!(absence(None, NOW, Duration::ZERO), None);
    }

    #[test]
    fn an_absence_reaches_from_the_last_note_to_the_start() {
        let from = NOW.minus(60 * MINUTE);
        let found = absence(Some(from), NOW, 20 * MINUTE);
        let until = NOW.minus(20 * MINUTE);
        assert_eq!(found, Some(Absence { from, until }));
        assert_eq!(absence(Some(from), NOW, 55 * MINUTE), None);
    }

    #[test]
    fn a_clock_that_cannot_be_right_says_nothing_until_it_is_set() {
        let from = NOW.minus(60 * MINUTE);
        assert_eq!(absence(Some(from), UnixMs(5), MINUTE), None);
        assert!(absence(Some(from), NOW, MINUTE).is_some());
    }

    #[test]
    fn a_note_from_the_future_is_no_absence() {
        assert_eq!(absence(Some(NOW.plus(60 * MINUTE)), NOW, MINUTE), None);
    }

    #[test]
    fn the_problem_names_the_command_with_a_margin() {
        let absence = Absence {
            from: NOW,
            until: NOW.plus(60 * MINUTE),
        };
        let said = problem(absence, false);
        let since = NOW.minus(RECONCILE_MARGIN).to_string().replace(".000", "");
        assert!(
            said.next_step
                .ends_with(&format!("reconcile --since {since}")),
            "{}",
            said.next_step
        );
        assert!(problem(absence, true).next_step.starts_with("nothing"));
    }
}
