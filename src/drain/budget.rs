//! The request budget: one token bucket for the whole process, and how many requests are under way at once, so that Belvo
//! is never hammered. Knows no requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::limits::FETCHES_AT_ONCE;

/// A token bucket that is waited on.
#[derive(Debug)]
pub struct Budget {
    bucket: Mutex<Bucket>,
    under_way: Semaphore,
    resumed: Notify,
    changed: Notify,
}

/// One request: it may go out, and is over when this is dropped.
#[derive(Debug)]
#[must_use = "the request is over when this is dropped"]
pub struct Turn<'a>(
    #[expect(dead_code, reason = "held for as long as the request")] Option<SemaphorePermit<'a>>,
);

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
    paused_until: Instant,
}

impl Budget {
    /// An empty bucket for `burst` requests that refills at `per_second`; both are taken as at least a little above
    /// nothing. It is empty so that a process that is started over and over asks no more than one that runs on.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let now = Instant::now();
        Self {
            bucket: Mutex::new(Bucket {
                per_second: per_second.max(0.01),
                burst: f64::from(burst.max(1)),
                tokens: 0.0,
                filled: now,
                paused_until: now,
            }),
            under_way: Semaphore::new(FETCHES_AT_ONCE),
            resumed: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// From now on it refills at this rate up to this burst, also for those who wait already; what is in it stays.
    pub fn change(&self, per_second: f64, burst: u32) {
        let mut bucket = self.lock();
        bucket.refill(Instant::now());
        bucket.per_second = per_second.max(0.01);
        bucket.burst = f64::from(burst.max(1));
        bucket.tokens = bucket.tokens.min(bucket.burst);
        self.changed.notify_waiters();
    }

    /// Waits until another request may be under way, for a token and for the end of a pause. Whoever waits has its token
    /// reserved, so waiters are served in order.
    pub async fn take(&self) -> Turn<'_> {
        // It is never closed.
        let turn = Turn(self.under_way.acquire().await.ok());
        loop {
            let changed = self.changed.notified();
            let wait = self.reserve(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(wait) => break,
                () = changed => self.lock().tokens += 1.0,
            }
        }
        loop {
            let resumed = self.resumed.notified();
            let until = self.paused_until();
            if until <= Instant::now() {
                return turn;
            }
            tokio::select! {
                () = resumed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Lets nobody through for this long, also those who wait already.
    pub fn pause(&self, wait: Duration) {
        let mut bucket = self.lock();
        bucket.paused_until = bucket.paused_until.max(Instant::now() + wait);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.lock().paused_until = Instant::now();
        self.resumed.notify_waiters();
    }

    /// When the last pause ends or has ended.
    pub fn paused_until(&self) -> Instant {
        self.lock().paused_until
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, now: Instant) -> Duration {
        let mut bucket = self.lock();
        bucket.refill(now);
        bucket.tokens -= 1.0;
        Duration::from_secs_f64((-bucket.tokens / bucket.per_second).max(0.0))
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let refilled = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + refilled).min(self.burst);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_out_at_once_and_the_rest_at_the_rate() {
        let budget = Budget::new(2.0, 20);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let began = Instant::now();
        for _ in 0..24 {
            drop(budget.take().await);
        }
        assert_eq!(began.elapsed().as_millis().div_ceil(100), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_bucket_fills_no_further_than_its_burst() {
        let budget = Budget::new(2.0, 3);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let began = Instant::now();
        for _ in 0..4 {
            drop(budget.take().await);
        }
        assert!(began.elapsed() >= Duration::from_millis(499));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_those_who_wait_and_ends_when_it_is_lifted() {
        let budget = Budget::new(1_000.0, 3);
        budget.pause(Duration::from_secs(900));
        let began = Instant::now();
        drop(budget.take().await);
        assert_eq!(began.elapsed(), Duration::from_secs(900));
        budget.pause(Duration::from_secs(900));
        budget.resume();
        drop(budget.take().await);
        assert!(began.elapsed() < Duration::from_secs(901));
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_holds_for_those_who_wait_already() {
        let budget = Budget::new(0.01, 1);
        let began = Instant::now();
        drop(tokio::join!(budget.take(), budget.take(), async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            budget.change(10.0, 1);
        }));
        assert_eq!(began.elapsed().as_millis().div_ceil(10), 1_019);
    }

    #[tokio::test(start_paused = true)]
    async fn a_third_request_waits_until_one_of_two_is_over() {
        let budget = Budget::new(100.0, 20);
        let (first, second) = (budget.take().await, budget.take().await);
        let third = tokio::time::timeout(Duration::from_secs(60), budget.take());
        assert!(third.await.is_err());
        drop(first);
        let third = tokio::time::timeout(Duration::from_secs(1), budget.take());
        assert!(third.await.is_ok());
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_holds_from_now_on_and_gives_nothing_away() {
        let budget = Budget::new(1.0, 2);
        tokio::time::sleep(Duration::from_secs(10)).await;
        budget.change(0.1, 50);
        let began = Instant::now();
        for _ in 0..3 {
            drop(budget.take().await);
        }
        assert_eq!(began.elapsed().as_secs(), 10);
        tokio::time::sleep(Duration::from_secs(600)).await;
        budget.change(0.1, 1);
        let began = Instant::now();
        for _ in 0..2 {
            drop(budget.take().await);
        }
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_in_any_thirty_seconds(gaps in proptest::collection::vec(0u64..2_000, 1..300)) {
            let budget = Budget::new(2.0, 20);
            let (mut now, mut sent) = (Instant::now(), Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                now += budget.reserve(now);
                sent.push(now);
            }
            for (index, first) in sent.iter().enumerate() {
                let window = sent[index..].iter().take_while(|at| **at < *first + Duration::from_secs(30)).count();
                prop_assert!(window <= 80, "{window} requests in thirty seconds");
            }
        }
    }
}
