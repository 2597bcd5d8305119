//! Plans what is new in the journal: at once when it is quiet, at most once a second while webhooks stream in, and a part
//! of the time then, so that they are answered first. Knows the journal and the store; what a row leads to is decided in
//! `plan`.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use super::plan::{self, Planned};
use super::repeats::Repeats;
use crate::catalog;
use crate::database::{Reader, WriteError};
use crate::journal;
use crate::limits::{
    BURY_MAX, DELIVERIES_REMEMBERED, PLAN_BYTES_MAX, PLAN_LINES_MAX, PLAN_QUIET, PLAN_REST,
    PLAN_ROWS_MAX, PLAN_WAIT,
};
use crate::store::{self, Store, Times, planning};
use crate::system::clock::Clock;
use crate::webhook::Seq;

/// The planning side of the drain.
#[derive(Debug)]
pub struct Planner {
    appended: watch::Receiver<()>,
    store: Store,
    clock: Clock,
    repeats: Repeats,
    /// The newest row that was planned; unknown until the file was read once.
    cursor: Option<Seq>,
    /// Where a backlog that is being planned ends.
    until: Option<Seq>,
    pace: Pace,
}

/// When to plan.
#[derive(Debug)]
struct Pace {
    news: bool,
    last_news: Instant,
    last_planned: Option<Instant>,
    /// Not before this: after a failure, or so that others have their turn.
    rest_until: Instant,
    /// Something came while a backlog was planned.
    came_meanwhile: bool,
}

impl Pace {
    fn plan_at(&self) -> Option<Instant> {
        let earliest = self
            .last_planned
            .map_or(self.last_news, |planned| planned + PLAN_WAIT);
        let wanted = earliest.min(self.last_news + PLAN_QUIET);
        self.news.then(|| wanted.max(self.rest_until))
    }
}

impl Planner {
    /// A planner that takes what was journalled before its start for news.
    pub fn new(appended: watch::Receiver<()>, store: Store, clock: Clock) -> Self {
        let now = Instant::now();
        let pace = Pace {
            news: true,
            last_news: now,
            last_planned: None,
            rest_until: now,
            came_meanwhile: false,
        };
        Self {
            appended,
            store,
            clock,
            repeats: Repeats::default(),
            cursor: None,
            until: None,
            pace,
        }
    }

    /// Waits until there is something to do for the planner: news, or the time to plan them. While news wait they are not
    /// listened to one by one; a look every now and then tells whether it has become quiet.
    pub async fn ready(&mut self) {
        match self.plan_at() {
            // The writer, which tells, ends with the process.
            None => drop(self.appended.changed().await),
            Some(at) if at > self.pace.rest_until => {
                tokio::time::sleep_until(at.min(Instant::now() + PLAN_QUIET)).await;
            }
            Some(at) => tokio::time::sleep_until(at).await,
        }
    }

    fn plan_at(&self) -> Option<Instant> {
        match self.until {
            Some(_) => Some(self.pace.rest_until),
            None => self.pace.plan_at(),
        }
    }

    /// Takes in whether something was appended since the last look. Not while a backlog is being planned: what comes then
    /// may lie behind its end, and is news afterwards.
    pub fn look(&mut self) {
        let news = !self.pace.news || self.appended.has_changed().unwrap_or_default();
        if news && self.until.is_none() {
            self.appended.mark_unchanged();
            self.pace.news = true;
            self.pace.last_news = Instant::now();
        }
    }

    /// Plans nothing for a while.
    pub fn rest(&mut self, wait: Duration) {
        self.pace.rest_until = Instant::now() + wait;
    }

    /// Whether it is time to plan.
    pub fn is_due(&self) -> bool {
        self.plan_at().is_some_and(|at| at <= Instant::now())
    }

    /// Plans one batch of what was journalled until now. While there is more the planner is due again at once, or soon where
    /// webhooks still stream in, so that a long backlog holds up neither a fetch nor the end; what streams in meanwhile is
    /// for the next time.
    ///
    /// # Errors
    /// When the file could not be read or written; the batch is planned again the next time.
    pub async fn plan(&mut self, reader: &Reader) -> Result<(), WriteError> {
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => {
                self.catch_up(reader).await?;
                self.remember(reader)?
            }
        };
        let until = match self.until {
            Some(until) => until,
            None => journal::newest(reader)?,
        };
        let began = Instant::now();
        let rows = journal::after(reader, cursor, PLAN_ROWS_MAX, PLAN_BYTES_MAX)?;
        let reached = rows.last().map_or(until, |row| row.seq);
        if !rows.is_empty() {
            let planned: Vec<_> = rows.iter().map(|row| self.planned(row)).collect();
            self.keep(planned).await?;
            self.cursor = Some(reached);
        }
        self.until = Some(until).filter(|until| reached < *until);
        let now = Instant::now();
        if self.until.is_none() {
            self.pace.last_planned = Some(now);
            self.pace.last_news = now;
            self.pace.news = mem::take(&mut self.pace.came_meanwhile);
        } else if self.appended.has_changed().unwrap_or_default() {
            self.appended.mark_unchanged();
            self.pace.came_meanwhile = true;
            self.rest(((now - began) * PLAN_REST).min(PLAN_WAIT));
        }
        Ok(())
    }

    /// Keeps a batch of plans. Long deletions go first, in transactions of their own: doing them twice changes nothing, and
    /// the plan's transaction finds them done.
    async fn keep(&self, planned: Vec<Planned>) -> Result<(), WriteError> {
        let now = Times::of(&self.clock);
        for event in planned.iter().filter(|event| event.gone.len() > BURY_MAX) {
            if let (Some(resource), Some(link_id)) = (event.resource, &event.envelope.link_id) {
                let ids = Vec::from_iter(event.gone.iter().cloned());
                for ids in ids.chunks(BURY_MAX) {
                    self.store
                        .bury(resource, link_id.clone(), ids.to_vec(), event.seq, now.wall)
                        .await?;
                }
            }
        }
        let planned: Arc<[Planned]> = planned.into();
        self.store.plan(Arc::clone(&planned), now).await?;
        log(&planned);
        Ok(())
    }

    /// After an upgrade that knows more kinds of webhooks: plans again what was unknown.
    async fn catch_up(&mut self, reader: &Reader) -> Result<(), WriteError> {
        let catalog = catalog::fingerprint();
        if planning::catalog(reader)?.as_ref() == Some(&catalog) {
            return Ok(());
        }
        let mut from = Seq(0);
        loop {
            let unknown = planning::unknown_after(reader, from, PLAN_ROWS_MAX)?;
            let Some(last) = unknown.last() else { break };
            from = *last;
            let mut planned = Vec::new();
            for seq in unknown {
                planned.extend(journal::at(reader, seq)?.map(|row| self.planned(&row)));
            }
            planned.retain(|planned| planned.action != plan::Action::Unknown);
            if planned.is_empty() {
                continue;
            }
            // That its sender passed long ago says nothing about now.
            planned
                .iter_mut()
                .for_each(|planned| planned.authorized = None);
            self.keep(planned).await?;
        }
        self.store.planned_by(catalog).await
    }

    /// After a start: where planning goes on, and the deliveries that a repeated one may repeat.
    fn remember(&mut self, reader: &Reader) -> Result<Seq, WriteError> {
        let cursor = store::planned_to(reader)?;
        for seq in (cursor.0 - DELIVERIES_REMEMBERED as i64).max(0) + 1..=cursor.0 {
            if let Some(row) = journal::at(reader, Seq(seq))? {
                self.planned(&row);
            }
        }
        self.cursor = Some(cursor);
        Ok(cursor)
    }

    fn planned(&mut self, row: &journal::Entry) -> Planned {
        let planned = plan::plan(row.seq, &row.peer, &row.body);
        let webhook_id = planned.envelope.webhook_id.as_deref();
        let duplicate_of = self.repeats.remember(row.seq, webhook_id, &row.body);
        Planned {
            duplicate_of,
            ..planned
        }
    }
}

fn log(planned: &[Planned]) {
    match planned {
        [first, .., last] if planned.len() > PLAN_LINES_MAX => {
            log_many(planned, first.seq, last.seq);
        }
        few => few.iter().for_each(log_one),
    }
}

fn log_many(planned: &[Planned], first: Seq, last: Seq) {
    let mut counts = BTreeMap::<_, usize>::new();
    for one in planned {
        *counts.entry(one.action.name()).or_default() += 1;
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(action, count)| format!("{action} {count}"))
        .collect();
    info!(
        webhooks = planned.len(),
        first_seq = first.0,
        last_seq = last.0,
        "{} webhooks planned: {}",
        planned.len(),
        counts.join(", ")
    );
}

fn log_one(planned: &Planned) {
    let envelope = &planned.envelope;
    info!(
        seq = planned.seq.0,
        webhook_type = envelope.kind,
        webhook_code = envelope.code,
        link_id = envelope.link_id,
        request_id = envelope.request_id,
        action = planned.action.name(),
        "webhook planned: {} {}, {}",
        or_dash(&envelope.kind),
        or_dash(&envelope.code),
        planned.action.name()
    );
}

fn or_dash(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{StateDirectory, Writer, open_reader, open_writer};
    use crate::journal::Journal;
    use crate::system::clock::Stamp;
    use crate::webhook::{Body, Delivery};

    fn pace(last_planned: Option<Instant>, last_news: Instant) -> Pace {
        Pace {
            news: true,
            last_news,
            last_planned,
            rest_until: last_news - PLAN_WAIT,
            came_meanwhile: false,
        }
    }

    async fn append(journal: &Journal, count: u32) {
        for _ in 0..count {
            let delivery = Delivery {
                received: Stamp::now(),
                peer: std::net::Ipv4Addr::LOCALHOST.into(),
                body: Body::parse(b"{}".to_vec()).expect("a body"),
            };
            journal.append(delivery, ()).await.expect("a row");
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_backlog_is_planned_is_planned_afterwards() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let connection = open_writer(&directory, store::VIEWS).expect("a file");
        let (writer, _end) = Writer::start(directory, connection, store::VIEWS).expect("a thread");
        let journal = Journal::new(writer.clone());
        append(&journal, PLAN_ROWS_MAX + 1).await;
        let mut planner = Planner::new(
            journal.watch(),
            Store::new(writer.clone()),
            Clock::of_machine(),
        );
        let reader = open_reader(place.path()).expect("a file");
        planner.plan(&reader).await.expect("a first batch");
        append(&journal, PLAN_ROWS_MAX).await;
        // Who appends is answered first, and whoever watches is told then, before the writer takes anything else.
        writer.pulse().await.expect("a writer");
        planner.look();
        while planner.is_due() {
            planner
                .plan(&reader)
                .await
                .expect("the rest of the backlog");
        }
        while planner.cursor != Some(Seq(i64::from(2 * PLAN_ROWS_MAX) + 1)) {
            let ready = tokio::time::timeout(Duration::from_secs(10), planner.ready());
            ready.await.expect("news");
            planner.look();
            if planner.is_due() {
                planner.plan(&reader).await.expect("a plan");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_webhook_after_a_pause_is_planned_at_once() {
        let now = Instant::now() + Duration::from_secs(60);
        assert_eq!(pace(Some(now - PLAN_WAIT), now).plan_at(), Some(now));
    }

    #[tokio::test(start_paused = true)]
    async fn webhooks_that_stream_in_are_planned_once_a_second() {
        let planned = Instant::now();
        let last_news = planned + Duration::from_millis(990);
        assert_eq!(
            pace(Some(planned), last_news).plan_at(),
            Some(planned + PLAN_WAIT)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_silence_is_used_for_planning() {
        let planned = Instant::now();
        let last_news = planned + Duration::from_millis(100);
        assert_eq!(
            pace(Some(planned), last_news).plan_at(),
            Some(last_news + PLAN_QUIET)
        );
    }
}
