//! What the gateway does in its operator's place: it notes that it runs, finds out how long it did not, and sees to what
//! was missed meanwhile, by a problem that names the command or by itself; and it finishes what was interrupted.
//!
//! The box has no battery clock, and one that is set at boot to the time of the last shutdown looks right until the
//! network corrects it. So the question how long the gateway was away is asked again at each note until the answer is
//! that it was: with the note of the last run, and with the time since this start by a clock that never jumps.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::steps::{self, Steps};
use super::{Operator, erase, reconcile};
use crate::bookkeeper::log_opened;
use crate::config::Reconcile;
use crate::database::WriteError;
use crate::fetch::Api;
use crate::limits::{ALIVE_EVERY, AWAY_MAX, CLOCK_LOOK, CLOCK_UNSET_MAX, RECONCILE_MARGIN};
use crate::notices::{Notice, Notices};
use crate::store::problems::{Change, Kind, Problem};
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
    steps: Steps,
    is_unset_said: bool,
    reconcile: Reconcile,
    /// From when on the gateway still has to compare by itself.
    owed: watch::Sender<Option<UnixMs>>,
}

impl Presence {
    /// A run that begins now, after one whose last note was `alive_at`.
    pub fn new(alive_at: Option<UnixMs>, reconcile: Reconcile) -> Self {
        Self {
            alive_at,
            started: Instant::now(),
            steps: Steps::since(alive_at),
            is_unset_said: false,
            reconcile,
            owed: watch::Sender::new(None),
        }
    }

    /// Goes on until told to stop, and notes that the gateway runs once more then. A comparison waits for the budget, and
    /// for the network of a box that has just been switched on, so the notes do not wait for it.
    ///
    /// # Errors
    /// When the writer has ended before the stop.
    pub async fn run<A: Api>(
        mut self,
        operator: &Operator<A>,
        notices: Notices,
        mut stop: Stop,
    ) -> Result<(), WriteError> {
        // What a run before did not come to.
        if let Some(from) = operator.away_from() {
            self.owe(from);
        }
        let owed = self.owed.clone();
        tokio::select! {
            () = stop.told() => {}
            ended = self.note(operator) => return ended,
            () = make_up(operator, &owed, &notices) => {}
            () = erase::finish(operator, &notices) => {}
        }
        self.note_alive(operator).await
    }

    /// Notes that the gateway runs, for ever.
    async fn note<A: Api>(&mut self, operator: &Operator<A>) -> Result<(), WriteError> {
        loop {
            self.look(operator).await?;
            sleep(match operator.clock.stamp().is_trusted {
                true => ALIVE_EVERY,
                false => CLOCK_LOOK,
            })
            .await;
        }
    }

    /// Finds out whether the gateway was away, as long as it has not found that it was, and notes that it runs.
    async fn look<A: Api>(&mut self, operator: &Operator<A>) -> Result<(), WriteError> {
        let now = operator.clock.wall();
        if let Some(absence) = absence(self.alive_at, now, self.started.elapsed()) {
            let auto = self.reconcile == Reconcile::Auto;
            let problem = move |from| problem(absence, from, auto);
            match operator.store.note_away(absence.from, now, problem).await {
                Ok(from) => {
                    log_opened(&problem(from));
                    self.alive_at = None;
                    self.owe(from);
                }
                // Not noted that it runs, either: the absence is found again, also after a restart.
                Err(error) => return survive(Err(error)),
            }
        }
        self.note_alive(operator).await
    }

    async fn note_alive<A: Api>(&mut self, operator: &Operator<A>) -> Result<(), WriteError> {
        let now = operator.clock.stamp();
        if !now.is_trusted {
            return self.say_it_is_not_set(operator, now.wall).await;
        }
        let step = self.steps.look(&operator.clock);
        let noted = operator.store.note_alive(now, step).await;
        if noted.is_ok() {
            self.steps.made();
            self.is_unset_said = false;
        }
        survive(noted)
    }

    /// Opens a problem when the network has had the time to set the clock, and has not.
    async fn say_it_is_not_set<A: Api>(
        &mut self,
        operator: &Operator<A>,
        now: UnixMs,
    ) -> Result<(), WriteError> {
        if self.is_unset_said || self.started.elapsed() < CLOCK_UNSET_MAX {
            return Ok(());
        }
        let unset = steps::problem(now);
        let opened = vec![Change::Open(unset.clone())];
        let said = operator.store.problems(opened, now).await;
        if said.is_ok() {
            self.is_unset_said = true;
            log_opened(&unset);
        }
        survive(said)
    }

    fn owe(&self, from: UnixMs) {
        if self.reconcile == Reconcile::Auto {
            self.owed.send_replace(Some(compared_from(from)));
        }
    }
}

/// Compares with Belvo whenever that is owed; what fails is tried again after a while. Goes on for ever.
async fn make_up<A: Api>(
    operator: &Operator<A>,
    owed: &watch::Sender<Option<UnixMs>>,
    notices: &Notices,
) {
    let mut owing = owed.subscribe();
    // Its sender is here.
    while let Ok(since) = owing.wait_for(Option::is_some).await.map(|since| *since) {
        let order = reconcile::Order {
            since_ms: since.map(|since| since.0),
            ..reconcile::Order::default()
        };
        let api = operator.api.borrow().clone();
        if let Some(api) = api {
            api.ready().await;
        }
        match reconcile::act(operator, &order).await {
            Ok(report) => {
                owed.send_replace(None);
                notices.say(Notice::News(format!(
                    "compared with Belvo after an absence: {} links, {} lists are fetched again",
                    report.links,
                    report.marked.len() as u64 + report.marked_more
                )));
            }
            Err(failed) => {
                notices.say(Notice::Warning(format!(
                    "the comparison with Belvo after an absence failed and is tried again: {failed}"
                )));
                sleep(ALIVE_EVERY).await;
            }
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

/// The problem that an absence is, when webhooks may be missing since `missing`, by it or by one before.
fn problem(absence: Absence, missing: UnixMs, auto: bool) -> Problem {
    let Absence { from, until } = absence;
    let since = compared_from(missing).to_string().replace(".000Z", "Z");
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
    use crate::fetch::{Error, Request};
    use crate::operate::tests::operator;
    use crate::system::stop;

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
        let said = problem(absence, absence.from, false);
        let since = NOW.minus(RECONCILE_MARGIN).to_string().replace(".000", "");
        assert!(
            said.next_step
                .ends_with(&format!("reconcile --since {since}")),
            "{}",
            said.next_step
        );
        let earlier = NOW.minus(60 * MINUTE);
        let said = problem(absence, earlier, true);
        assert!(said.next_step.starts_with("nothing"));
        let since = compared_from(earlier).to_string().replace(".000", "");
        assert!(said.next_step.ends_with(&since), "{}", said.next_step);
        assert!(said.text.contains(&format!("did not run from {NOW}")));
    }

    /// A Belvo that never answers.
    struct Silent;

    impl Api for Silent {
        async fn get(&self, _: &Request) -> Result<Vec<u8>, Error> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_not_set_within_a_minute_is_a_problem_until_it_is() {
        let (place, operator) = operator(Silent, UnixMs::EARLIEST_PLAUSIBLE.minus(2 * MINUTE));
        let (stopper, stop) = stop::pair();
        let running =
            Presence::new(None, Reconcile::Manual).run(&operator, Notices::default(), stop);
        let problems = || {
            let reader = crate::database::open_reader(place.path()).expect("the file");
            let listed = crate::store::problems::list(&reader, true).expect("problems");
            let closed = listed
                .into_iter()
                .map(|listed| (listed.kind, listed.closed.is_some()));
            closed.collect::<Vec<_>>()
        };
        let watched = async {
            sleep(MINUTE / 2).await;
            assert_eq!(problems(), []);
            sleep(MINUTE).await;
            assert_eq!(problems(), [("clock-not-set".to_owned(), false)]);
            sleep(MINUTE).await;
            assert_eq!(problems(), [("clock-not-set".to_owned(), true)]);
            stopper.stop();
        };
        let (ended, ()) = tokio::join!(running, watched);
        assert!(ended.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_noted_that_the_gateway_runs_while_it_compares() {
        let (_place, operator) = operator(Silent, NOW);
        let (stopper, stop) = stop::pair();
        let presence = Presence::new(Some(NOW.minus(60 * MINUTE)), Reconcile::Auto);
        let running = presence.run(&operator, Notices::default(), stop);
        let later = async {
            sleep(ALIVE_EVERY * 3 + MINUTE).await;
            let noted = operator.alive_at();
            stopper.stop();
            noted
        };
        let (ended, noted) = tokio::join!(running, later);
        assert!(ended.is_ok());
        assert_eq!(noted, Some(NOW.plus(ALIVE_EVERY * 3)));
    }
}
