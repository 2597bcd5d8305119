//! What leaves the file, and when: finished webhooks by their age, by the size of the journal, or because the disk has too
//! little room; and the slim rows that are left of them, by their age. It runs once a day, and when the room becomes too
//! little; in short transactions, so that an append waits for one of them at most.
//!
//! The pages that become free stay in the file and are used again, so that it stops growing; they count as room. To hand
//! them back to the file system SQLite would have to keep track of every page (`auto_vacuum`), for some 10 % more bytes
//! with each webhook, or to write the whole file anew.
//!
//! Nothing leaves because of a wrong clock. By age, these have to hold:
//!
//! 1. The clock can be right (it is not 1970), and has kept pace with the monotonic clock for a while, in which the network
//!    would have set it ([`CLOCK_STEADY`]).
//! 2. It has not leapt: a clock that is more than a year ahead of the one that was believed last (2039) is believed only
//!    when it has held for a day of running ([`CLOCK_HELD`]).
//! 3. The row is old by a clock that could be right when it was received; one whose clock could not, when a later row is
//!    old. Rows are looked at in the order of their arrival, and no further than the first that is young.
//! 4. It was not received in this run, unless that has lasted as long: a clock that was set to the last shutdown at boot, and
//!    to the time of day a moment later, has called rows old that are not.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::database::room::{Level, Room};
use crate::database::{Reader, WriteError, open_reader};
use crate::journal;
use crate::limits::{
    CLOCK_HELD, CLOCK_LEAP_MAX, CLOCK_STEADY, CLOCK_STEP_MAX, JOURNAL_ROW_BYTES,
    JOURNAL_SPARE_PART, RETENTION_AGAIN, RETENTION_EVERY, RETENTION_FIRST, RETENTION_LOOK_ROWS,
    RETENTION_PAUSE, RETENTION_ROWS_MAX, ROOM_MADE_AGAIN, STORE_BYTES_MAX,
};
use crate::store::Store;
use crate::store::problems::{Change, Kind, Problem};
use crate::store::retention::{self, Row, Standing};
use crate::system::clock::{Clock, UnixMs};
use crate::system::stop::Stop;
use crate::webhook::Seq;

/// How long, and how much, is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Finished webhooks, as received.
    pub rows: Duration,
    /// What is known of them without their content, and those that no rule is known for.
    pub events: Duration,
    /// All webhooks, as received.
    pub journal_bytes: u64,
}

/// The part of the drain that lets go.
#[derive(Debug)]
pub struct Retention {
    state_directory: PathBuf,
    store: Store,
    clock: Clock,
    keeping: Keeping,
    room: watch::Receiver<Room>,
    pace: Pace,
    /// The newest row when this run began.
    newest_before: Option<Seq>,
}

/// Whether the wall clock keeps pace with the monotonic one.
#[derive(Debug)]
struct Pace {
    began: Instant,
    /// Since when.
    since: Instant,
    /// What the clock showed at the beginning, or would have.
    shows: i64,
}

impl Pace {
    fn new(clock: &Clock) -> Self {
        let now = Instant::now();
        Self {
            began: now,
            since: now,
            shows: clock.wall().0,
        }
    }

    /// What the clock would have shown at the beginning if it had not been set since.
    fn at_first(&self, clock: &Clock) -> i64 {
        clock.wall().minus(self.began.elapsed()).0
    }

    /// For how long the clock has not been set.
    fn steady(&mut self, clock: &Clock) -> Duration {
        let shows = self.at_first(clock);
        let step = Duration::from_millis(self.shows.abs_diff(shows));
        if step > CLOCK_STEP_MAX {
            (self.since, self.shows) = (Instant::now(), shows);
        }
        self.since.elapsed()
    }
}

/// Whether a clock that shows `now`, and was not set for so long, may say what is old; `before` is what was believed last.
fn is_believed(now: UnixMs, before: Option<UnixMs>, steady: Duration) -> bool {
    let leap = now.since(before.unwrap_or(UnixMs::EARLIEST_PLAUSIBLE));
    now.is_plausible() && steady >= CLOCK_STEADY && (leap <= CLOCK_LEAP_MAX || steady >= CLOCK_HELD)
}

/// What is old, of rows in the order of their arrival.
#[derive(Debug)]
struct Old {
    now: UnixMs,
    before: UnixMs,
    /// Those whose own clock says nothing, since the last that was old.
    unclear: Vec<Row>,
    is_over: bool,
}

impl Old {
    /// Those that are older than that.
    fn than(age: Duration, now: UnixMs) -> Self {
        Self {
            now,
            before: now.minus(age),
            unclear: Vec::new(),
            is_over: false,
        }
    }

    /// The rows that are known to be old now that this one has been looked at.
    fn look(&mut self, row: Row) -> Vec<Row> {
        let says = row.is_sure && row.received_at.is_plausible() && row.received_at <= self.now;
        self.is_over |= says && row.received_at > self.before;
        if self.is_over {
            return Vec::new();
        }
        self.unclear.push(row);
        match says {
            true => std::mem::take(&mut self.unclear),
            false => Vec::new(),
        }
    }
}

/// What became of a look at everything.
#[derive(Debug, Default)]
struct Gone {
    rows: usize,
    events: usize,
    /// The journal is larger than it may be, and nothing more of it may leave.
    too_large: Option<u64>,
}

impl Retention {
    /// Keeps so much, in the file of this state directory.
    pub fn new(
        state_directory: PathBuf,
        store: Store,
        clock: Clock,
        keeping: Keeping,
        room: watch::Receiver<Room>,
    ) -> Self {
        Self {
            state_directory,
            store,
            pace: Pace::new(&clock),
            clock,
            keeping,
            room,
            newest_before: None,
        }
    }

    /// Goes on until told to stop.
    ///
    /// # Errors
    /// When the writer has ended before the stop.
    pub async fn run(mut self, mut stop: Stop) -> Result<(), WriteError> {
        let reader = self.reader();
        self.newest_before = reader.and_then(|reader| Ok(journal::newest(&reader)?)).ok();
        tokio::select! {
            () = stop.told() => Ok(()),
            ended = self.let_go() => ended,
        }
    }

    async fn let_go(&mut self) -> Result<(), WriteError> {
        let mut room = self.room.clone();
        let mut look_at = Instant::now() + RETENTION_FIRST;
        // A disk that is short of room already.
        room.mark_changed();
        let mut room_at = None;
        loop {
            tokio::select! {
                () = sleep_until(look_at) => look_at = Instant::now() + self.look().await?,
                changed = room.changed() => {
                    changed.map_err(|_| WriteError::Ended)?;
                    let is_short = room.borrow_and_update().level != Level::Enough;
                    room_at = is_short.then(Instant::now);
                }
                () = sleep_until(room_at.unwrap_or(look_at)), if room_at.is_some() => {
                    // Until there is enough: what was freed may have been taken at once.
                    let may_be_taken = survive(self.make_room().await)?.unwrap_or(false);
                    let wait = if may_be_taken { ROOM_MADE_AGAIN } else { RETENTION_AGAIN };
                    room_at = Some(Instant::now() + wait);
                }
            }
        }
    }

    fn reader(&self) -> Result<Reader, WriteError> {
        Ok(open_reader(&self.state_directory)?)
    }

    /// Lets go of what is old, and of what is too much; says when to look again.
    async fn look(&mut self) -> Result<Duration, WriteError> {
        let now = self.clock.wall();
        let steady = self.pace.steady(&self.clock);
        let Some((believed, gone)) = survive(self.look_at(now, steady).await)? else {
            return Ok(RETENTION_AGAIN);
        };
        let Gone {
            rows,
            events,
            too_large,
        } = gone;
        if rows + events > 0 {
            info!(
                "retention: {rows} finished webhooks have left the journal, and {events} the list of events"
            );
        }
        let problem = self.problem(too_large);
        let noted = self.store.retained(believed.then_some(now), problem, now);
        survive(noted.await)?;
        Ok(match believed {
            true => RETENTION_EVERY,
            false => CLOCK_STEADY,
        })
    }

    async fn look_at(&self, now: UnixMs, steady: Duration) -> Result<(bool, Gone), WriteError> {
        let reader = self.reader()?;
        let believed = is_believed(now, retention::believed_at(&reader)?, steady);
        let mut gone = Gone::default();
        if believed {
            gone.rows += self.let_rows_go(&reader, now).await?;
            gone.events += self.let_events_go(&reader, now).await?;
            let long_ago = now.minus(self.keeping.events);
            while self
                .store
                .remove_problems(long_ago, RETENTION_ROWS_MAX)
                .await?
                > 0
            {
                self.pause().await;
            }
        }
        if let Some(too_much) = self.too_much(&reader).await? {
            let (rows, left) = self.let_oldest_go(&reader, too_much).await?;
            gone.rows += rows;
            // What was freed beyond the limit is to spare.
            gone.too_large =
                (left > self.spare()).then(|| self.keeping.journal_bytes + left - self.spare());
        }
        Ok((believed, gone))
    }

    /// Lets go of finished webhooks that are old.
    async fn let_rows_go(&self, reader: &Reader, now: UnixMs) -> Result<usize, WriteError> {
        let Keeping { rows, events, .. } = self.keeping;
        let is_long_run = self.pace.began.elapsed() >= rows;
        let last = match is_long_run {
            true => None,
            false => self.newest_before,
        };
        let (mut old, mut cursor, mut gone) = (Old::than(rows, now), Seq(0), 0);
        let long_ago = now.minus(events);
        while !old.is_over && last.is_none_or(|last| cursor < last) {
            let found = retention::rows_after(reader, cursor, RETENTION_LOOK_ROWS)?;
            let Some(newest) = found.last() else { break };
            cursor = newest.seq;
            let in_time = found
                .into_iter()
                .filter(|row| last.is_none_or(|last| row.seq <= last));
            let leaving: Vec<_> = in_time
                .flat_map(|row| old.look(row))
                .filter(|row| match row.standing {
                    Standing::Finished => true,
                    Standing::Unknown => row.received_at <= long_ago && row.is_sure,
                    Standing::Needed => false,
                })
                .collect();
            gone += self.remove(leaving).await?;
        }
        Ok(gone)
    }

    /// Lets go of events that are old and alone.
    async fn let_events_go(&self, reader: &Reader, now: UnixMs) -> Result<usize, WriteError> {
        let (mut old, mut cursor, mut gone) = (Old::than(self.keeping.events, now), Seq(0), 0);
        while !old.is_over {
            let found = retention::events_after(reader, cursor, RETENTION_LOOK_ROWS)?;
            let Some(newest) = found.last() else { break };
            cursor = newest.seq;
            let leaving: Vec<Seq> = found
                .into_iter()
                .flat_map(|row| old.look(row))
                .filter(|row| row.standing == Standing::Finished)
                .map(|row| row.seq)
                .collect();
            for seqs in leaving.chunks(RETENTION_ROWS_MAX) {
                gone += self.store.remove_events(seqs.to_vec()).await?;
                self.pause().await;
            }
        }
        Ok(gone)
    }

    /// By how much the journal is larger than it may be, with some more, so that it is not the same every day. A file that
    /// is not larger itself needs no counting.
    async fn too_much(&self, reader: &Reader) -> Result<Option<u64>, WriteError> {
        let max = self.keeping.journal_bytes;
        let (file, free) = retention::file_bytes(reader)?;
        if file - free <= max {
            return Ok(None);
        }
        let (mut bytes, mut cursor) = (0, Seq(0));
        while let Some((more, rows, last)) =
            retention::bytes_after(reader, cursor, RETENTION_LOOK_ROWS)?
        {
            bytes += more + rows * JOURNAL_ROW_BYTES;
            cursor = last;
            tokio::task::yield_now().await;
        }
        Ok((bytes > max).then(|| bytes - max + self.spare()))
    }

    fn spare(&self) -> u64 {
        self.keeping.journal_bytes / JOURNAL_SPARE_PART
    }

    /// Lets go of the oldest finished webhooks until so many bytes have gone; says how many those were, and how many bytes are
    /// left that should have gone.
    async fn let_oldest_go(&self, reader: &Reader, bytes: u64) -> Result<(usize, u64), WriteError> {
        let (mut cursor, mut left, mut gone) = (Seq(0), bytes, 0);
        while left > 0 {
            let found = retention::rows_after(reader, cursor, RETENTION_LOOK_ROWS)?;
            let Some(newest) = found.last() else { break };
            cursor = newest.seq;
            let mut leaving = Vec::new();
            for row in found {
                if left > 0 && row.standing == Standing::Finished {
                    left = left.saturating_sub(row.bytes + JOURNAL_ROW_BYTES);
                    leaving.push(row);
                }
            }
            gone += self.remove(leaving).await?;
        }
        Ok((gone, left))
    }

    /// Where the disk has too little room: frees as many pages of the file as make it enough, and half as many again, so that
    /// it is not the same in a moment; no more, however full it is with what others keep there. Says whether there were any
    /// to be freed or free already.
    async fn make_room(&self) -> Result<bool, WriteError> {
        let reader = self.reader()?;
        let needed = self.room.borrow().needed;
        let (_, free) = retention::file_bytes(&reader)?;
        let missing = (needed + needed / 2).saturating_sub(free);
        let (rows, _) = self.let_oldest_go(&reader, missing).await?;
        if rows > 0 {
            info!(
                "retention: {rows} finished webhooks have left the journal, because the disk has too little room"
            );
        }
        Ok(rows > 0 || missing == 0)
    }

    /// Removes them, a few at a time.
    async fn remove(&self, rows: Vec<Row>) -> Result<usize, WriteError> {
        let (mut gone, mut bytes, mut some) = (0, 0, Vec::new());
        for row in rows {
            bytes += row.bytes;
            some.push(row.seq);
            if some.len() >= RETENTION_ROWS_MAX || bytes >= STORE_BYTES_MAX as u64 {
                gone += self.store.remove_rows(std::mem::take(&mut some)).await?;
                bytes = 0;
                self.pause().await;
            }
        }
        if !some.is_empty() {
            gone += self.store.remove_rows(some).await?;
        }
        Ok(gone)
    }

    async fn pause(&self) {
        if self.room.borrow().level == Level::Enough {
            sleep(RETENTION_PAUSE).await;
        }
    }

    fn problem(&self, too_large: Option<u64>) -> Change {
        let (kind, subject) = (Kind::JournalLarge, String::new());
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let Some(bytes) = too_large else {
            return Change::Close(kind, subject);
        };
        Change::Open(Problem {
            kind,
            subject,
            text: format!(
                "the journal has {} MiB and may have {}: the rest is not fetched yet, of an unknown kind, or of links with open problems, and stays",
                mib(bytes),
                mib(self.keeping.journal_bytes)
            ),
            next_step: "see to what `belvo-gateway problems` and `belvo-gateway events list --in-state failed` show, or raise journal-max-mib under [storage] if the disk has room".to_owned(),
            evidence: None,
        })
    }
}

/// Only the writer's end ends this; what fails is tried again.
fn survive<T>(outcome: Result<T, WriteError>) -> Result<Option<T>, WriteError> {
    match outcome {
        Err(WriteError::Ended) => Err(WriteError::Ended),
        Err(error) => {
            warn!(%error, "retention could not be done; it is tried again");
            Ok(None)
        }
        Ok(value) => Ok(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{StateDirectory, Writer, open_writer};
    use crate::store::VIEWS;
    use rusqlite::Connection;
    use tempfile::TempDir;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const NOW: UnixMs = UnixMs(UnixMs::EARLIEST_PLAUSIBLE.0 + 1_000 * 24 * 3_600_000);

    /// A retention on a file of its own, and a hand that writes into it. What is in the file was there before.
    fn retention(at: UnixMs, keeping: Keeping) -> (TempDir, Connection, Retention) {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let connection = open_writer(&directory, VIEWS).expect("a file");
        let hand = Connection::open(directory.file()).expect("a file");
        let writer = Writer::without_thread(directory, connection, VIEWS);
        let mut retention = Retention::new(
            place.path().to_owned(),
            Store::new(writer.clone()),
            Clock::simulated(at),
            keeping,
            writer.watch_room(),
        );
        retention.newest_before = Some(Seq(i64::MAX));
        let yesterday = NOW.minus(DAY).0;
        hand.execute("INSERT INTO meta VALUES ('believed_at', ?1)", [yesterday])
            .expect("a time");
        (place, hand, retention)
    }

    const KEEPING: Keeping = Keeping {
        rows: Duration::from_secs(90 * 24 * 3600),
        events: Duration::from_secs(730 * 24 * 3600),
        journal_bytes: 1 << 40,
    };

    /// A webhook about `link`, received so many days ago.
    fn put(hand: &Connection, seq: i64, days: u32, link: &str, action: &str) {
        let at = NOW.minus(DAY * days);
        hand.execute(
            "INSERT INTO journal (seq, received_at, clock_trusted, boot, since_boot, peer, checksum, body)
             VALUES (?1, ?2, ?3, 1, 0, 'p', 0, ?4)",
            (seq, at.0, at.is_plausible(), "x".repeat(1_000)),
        )
        .expect("a row");
        hand.execute(
            "INSERT INTO events (seq, link_id, action, resource) VALUES (?1, ?2, ?3, 'accounts')",
            (seq, link, action),
        )
        .expect("an event");
        hand.execute("UPDATE meta SET value = ?1 WHERE key = 'planned_to'", [seq])
            .expect("a cursor");
    }

    fn seqs(hand: &Connection, table: &str) -> Vec<i64> {
        let mut rows = hand
            .prepare(&format!("SELECT seq FROM {table} ORDER BY seq"))
            .expect("a query");
        let seqs = rows.query_map([], |row| row.get(0)).expect("rows");
        seqs.collect::<Result<_, _>>().expect("numbers")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_finished_leaves_when_it_is_old_and_nothing_else_does() {
        let (_place, hand, retention) = retention(NOW, KEEPING);
        put(&hand, 1, 91, "fetched", "fetch");
        put(&hand, 2, 91, "waiting", "fetch");
        put(&hand, 3, 91, "in-trouble", "fetch");
        put(&hand, 4, 91, "new", "unknown");
        put(&hand, 5, 91, "fetched", "delete");
        put(&hand, 6, 89, "fetched", "fetch");
        put(&hand, 7, 91, "fetched", "fetch");
        hand.execute_batch(
            "INSERT INTO work (link_id, resource, wanted, fetched, asked, due_at) VALUES
                 ('fetched', 'accounts', 7, 7, 7, NULL), ('waiting', 'accounts', 2, 0, 2, 1);
             INSERT INTO problems (kind, subject, severity, since_at, last_at, text, next_step)
             VALUES ('fetch-failed', 'accounts of link in-trouble', 2, 0, 0, 'x', 'x')",
        )
        .expect("rows");
        let (believed, gone) = retention.look_at(NOW, CLOCK_STEADY).await.expect("a look");
        assert!(believed);
        assert_eq!((gone.rows, gone.events), (2, 0));
        assert_eq!(seqs(&hand, "journal"), [2, 3, 4, 6, 7]);
        assert_eq!(seqs(&hand, "inbox"), [1, 2, 3, 4, 5, 6, 7]);
        let kept: i64 = hand
            .query_row("SELECT received_at FROM events WHERE seq = 1", [], |row| {
                row.get(0)
            })
            .expect("a time");
        assert_eq!(kept, NOW.minus(DAY * 91).0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_planned_stays_and_so_does_the_newest_row() {
        let (_place, hand, retention) = retention(NOW, KEEPING);
        for seq in 1..=3 {
            put(&hand, seq, 100, "l", "delete");
        }
        hand.execute_batch("UPDATE meta SET value = 1 WHERE key = 'planned_to'")
            .expect("a cursor");
        retention.look_at(NOW, CLOCK_STEADY).await.expect("a look");
        assert_eq!(seqs(&hand, "journal"), [2, 3]);
        hand.execute_batch("UPDATE meta SET value = 3 WHERE key = 'planned_to'")
            .expect("a cursor");
        retention.look_at(NOW, CLOCK_STEADY).await.expect("a look");
        assert_eq!(seqs(&hand, "journal"), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn by_a_clock_that_is_wrong_nothing_leaves() {
        let in_2039 = UnixMs(2_190_000_000_000);
        for wrong in [UnixMs(0), UnixMs(1_000_000_000_000), in_2039] {
            let (_place, hand, retention) = retention(wrong, KEEPING);
            for seq in 1..=3 {
                put(&hand, seq, 0, "l", "delete");
            }
            let steady = CLOCK_HELD - Duration::from_secs(1);
            let (believed, gone) = retention.look_at(wrong, steady).await.expect("a look");
            assert!(!believed);
            assert_eq!((gone.rows, seqs(&hand, "journal").len()), (0, 3));
        }
    }

    #[test]
    fn a_clock_is_believed_when_it_was_not_set_for_a_while_and_after_a_leap_for_a_day() {
        let year = DAY * 366;
        let believed = |now: UnixMs, steady| is_believed(now, Some(NOW), steady);
        assert!(believed(NOW.plus(DAY), CLOCK_STEADY));
        assert!(!believed(NOW.plus(DAY), CLOCK_STEADY / 2));
        assert!(believed(NOW.plus(year), CLOCK_STEADY));
        assert!(!believed(NOW.plus(year + DAY), CLOCK_STEADY));
        assert!(believed(NOW.plus(year + DAY), CLOCK_HELD));
        assert!(believed(NOW.minus(DAY), CLOCK_STEADY));
        assert!(!believed(UnixMs(0), CLOCK_HELD));
        assert!(!is_believed(NOW, None, CLOCK_STEADY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_begins_anew() {
        let clock = Clock::simulated(NOW);
        let mut pace = Pace::new(&clock);
        sleep(CLOCK_STEADY).await;
        assert_eq!(pace.steady(&clock), CLOCK_STEADY);
        pace.shows += 100_000;
        assert_eq!(pace.steady(&clock), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_whose_own_clock_says_nothing_are_as_old_as_a_later_one() {
        let (_place, hand, retention) = retention(NOW, KEEPING);
        put(&hand, 1, 20_000, "l", "delete");
        put(&hand, 2, 100, "l", "delete");
        put(&hand, 3, 20_000, "l", "delete");
        put(&hand, 4, 10, "l", "delete");
        put(&hand, 5, 100, "l", "delete");
        put(&hand, 6, 0, "l", "delete");
        retention.look_at(NOW, CLOCK_STEADY).await.expect("a look");
        assert_eq!(seqs(&hand, "journal"), [3, 4, 5, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_of_a_clock_that_was_ahead_hold_up_nobody_and_stay() {
        let (_place, hand, retention) = retention(NOW.minus(DAY), KEEPING);
        put(&hand, 1, 0, "l", "delete");
        put(&hand, 2, 100, "l", "delete");
        put(&hand, 3, 0, "l", "delete");
        let earlier = NOW.minus(DAY);
        let (_, gone) = retention
            .look_at(earlier, CLOCK_STEADY)
            .await
            .expect("a look");
        // The first came before the second, whatever its clock said.
        assert_eq!((gone.rows, seqs(&hand, "journal")), (2, vec![3]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_received_in_this_run_is_not_old_before_the_run_is() {
        let (_place, hand, mut retention) = retention(NOW, KEEPING);
        for seq in 1..=4 {
            put(&hand, seq, 100, "l", "delete");
        }
        retention.newest_before = Some(Seq(2));
        retention.look_at(NOW, CLOCK_STEADY).await.expect("a look");
        assert_eq!(seqs(&hand, "journal"), [3, 4]);
        sleep(KEEPING.rows).await;
        retention.look_at(NOW, CLOCK_STEADY).await.expect("a look");
        assert_eq!(seqs(&hand, "journal"), [4]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_webhooks_leaves_much_later_but_not_the_newest_about_a_link() {
        let (_place, hand, retention) = retention(NOW, KEEPING);
        put(&hand, 1, 731, "a", "fetch");
        put(&hand, 2, 731, "b", "delete");
        put(&hand, 3, 731, "new", "unknown");
        put(&hand, 4, 729, "a", "fetch");
        put(&hand, 5, 0, "c", "fetch");
        let over = format!(
            "INSERT INTO problems (kind, subject, severity, since_at, last_at, text, next_step, closed_at)
             VALUES ('k', 'old', 3, 0, 0, 'x', 'x', {}), ('k', 'young', 3, 0, 0, 'x', 'x', {}), ('k', 'open', 3, 0, 0, 'x', 'x', NULL)",
            NOW.minus(DAY * 731).0,
            NOW.minus(DAY).0
        );
        hand.execute_batch(&over).expect("problems");
        let (_, gone) = retention.look_at(NOW, CLOCK_STEADY).await.expect("a look");
        assert_eq!((gone.rows, gone.events), (4, 1));
        assert_eq!(seqs(&hand, "journal"), [5]);
        assert_eq!(seqs(&hand, "events"), [2, 3, 4, 5]);
        let problems: i64 = hand
            .query_row("SELECT count(*) FROM problems", [], |row| row.get(0))
            .expect("a count");
        assert_eq!(problems, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_journal_that_is_too_large_loses_its_oldest_and_says_when_that_is_not_enough() {
        let keeping = Keeping {
            journal_bytes: 100 * 1_048,
            ..KEEPING
        };
        let (_place, hand, mut retention) = retention(UnixMs(0), keeping);
        for seq in 1..=200 {
            let action = if seq <= 50 { "fetch" } else { "delete" };
            put(
                &hand,
                seq,
                1,
                if seq <= 50 { "waiting" } else { "l" },
                action,
            );
        }
        hand.execute_batch(
            "INSERT INTO work (link_id, resource, wanted, fetched, asked, due_at)
             VALUES ('waiting', 'accounts', 50, 0, 1, 1)",
        )
        .expect("work");
        retention.look().await.expect("a look");
        let kept = seqs(&hand, "journal");
        let expected: Vec<i64> = (1..=50).chain(156..=200).collect();
        assert_eq!(kept, expected, "95 fit, with a twentieth to spare");
        let open = "SELECT count(*) FROM attention WHERE kind = 'journal-large'";
        let open = || hand.query_row(open, [], |row| row.get::<_, i64>(0));
        assert_eq!(open().expect("a count"), 0);
        retention.keeping.journal_bytes = 40 * 1_048;
        retention.look().await.expect("a look");
        // The newest stays as well.
        let expected: Vec<i64> = (1..=50).chain([200]).collect();
        assert_eq!(seqs(&hand, "journal"), expected);
        assert_eq!(open().expect("a count"), 1);
        hand.execute_batch("UPDATE work SET fetched = 50, asked = 50, due_at = NULL")
            .expect("work");
        retention.look().await.expect("a look");
        assert_eq!(open().expect("a count"), 0);
        assert_eq!(seqs(&hand, "journal").len(), 38);
    }
}
