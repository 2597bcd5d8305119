//! Webhooks at fixed times, each on a connection of its own, timed from when it was due, so that one that has to wait delays
//! none after it and hides nothing. Knows HTTP, not who answers.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::program::PATH;
use super::report::quantile;

/// Belvo gives up then.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long the answers took. Not one is missing.
pub(crate) struct Answered(Vec<Duration>);

impl Answered {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that this part of them did not exceed.
    pub(crate) fn within(&self, part: f64) -> Duration {
        quantile(&self.0, part)
    }
}

/// One that leads to a fetch.
pub(crate) fn of_transactions(number: u32) -> String {
    format!(
        r#"{{"webhook_id":"{number:032x}","webhook_type":"TRANSACTIONS","process_type":"historical_update","webhook_code":"historical_update","link_id":"16f68516-bcbc-4cf7-b815-c500d4200000","request_id":"4363b08b-51eb-4350-9c74-5df5ac92a7f6","external_id":"your_external_id","data":{{"total_transactions":19}}}}"#
    )
}

/// One that is kept and leads to nothing.
pub(crate) fn of_payments(number: u32) -> String {
    format!(
        r#"{{"webhook_id":"{number:032x}","webhook_type":"PAYMENT_INTENTS","webhook_code":"STATUS_UPDATE","object_id":"d2e40773-19f6-48d1-93c3-3590ec0c74df","external_id":"c3c51aaf-aaa3-400c-926d-87ab62e195fd","data":{{"status":"FAILED","metadata":{{"internal_reference_id":"GGq12345w2"}},"failure_code":"consent_expired","failure_message":"The payment consent was not accepted in time.","end_to_end_id":"E432158152024081610416f2b595b056"}}}}"#
    )
}

/// Sends so many a second until it is over. One that is not answered 200 is an error.
pub(crate) fn send(
    to: SocketAddr,
    rate: u32,
    body: fn(u32) -> String,
    is_over: impl Fn(Duration) -> bool + Send,
) -> anyhow::Result<Answered> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (say, mut said) = mpsc::unbounded_channel();
    thread::scope(|scope| {
        // Runtimes wake up at whole milliseconds only.
        scope.spawn(move || keep_time(rate, is_over, &say));
        runtime.block_on(async {
            let mut under_way = JoinSet::new();
            while let Some((number, due)) = said.recv().await {
                under_way.spawn(async move {
                    timeout(ANSWER_WAIT, one(to, body(number)))
                        .await
                        .context("no answer")??;
                    anyhow::Ok(due.elapsed())
                });
            }
            let mut took = Vec::new();
            while let Some(one) = under_way.join_next().await {
                took.push(one.context("a sender panicked")??);
            }
            took.sort_unstable();
            Ok(Answered(took))
        })
    })
}

/// Says when each is due.
fn keep_time(
    rate: u32,
    is_over: impl Fn(Duration) -> bool,
    say: &mpsc::UnboundedSender<(u32, Instant)>,
) {
    let begun = Instant::now();
    if rate == 0 {
        return;
    }
    for number in 0.. {
        let after = Duration::from_secs(1) * number / rate;
        if is_over(after) {
            return;
        }
        let due = begun + after;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if say.send((number, due)).is_err() {
            return;
        }
    }
}

async fn one(to: SocketAddr, body: String) -> anyhow::Result<()> {
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}
