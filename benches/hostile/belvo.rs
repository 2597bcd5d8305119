//! Belvo: webhooks at fixed times, each on a connection of its own, timed from when it was due, so that one that has to wait
//! delays none after it and hides nothing.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// The hook's path.
pub(crate) const PATH: &str = "/belvo/webhooks";
/// Webhooks a second.
pub(crate) const RATE: u32 = 50;
/// Belvo gives up then.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long the answers took. Not one is missing.
pub(crate) struct Answered(Vec<Duration>);

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" | | |");
        }
        let at =
            |part: f64| self.0[((self.0.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        write!(
            f,
            "{} | {:.1} | {:.1} | {:.1}",
            self.0.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

/// Sends so many a second for so long. One that is not answered 200 is an error.
pub(crate) fn send(to: SocketAddr, rate: u32, time: Duration) -> anyhow::Result<Answered> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let mut under_way = JoinSet::new();
        for number in 0..rate * time.as_secs() as u32 {
            let due = begun + Duration::from_secs(1) * number / rate;
            under_way.spawn(async move {
                sleep_until(due).await;
                timeout(ANSWER_WAIT, one(to, number))
                    .await
                    .context("no answer")??;
                anyhow::Ok(due.elapsed())
            });
        }
        sleep_until(begun + time).await;
        let mut took = Vec::new();
        while let Some(one) = under_way.join_next().await {
            took.push(one.context("a sender panicked")??);
        }
        took.sort_unstable();
        Ok(Answered(took))
    })
}

async fn one(to: SocketAddr, number: u32) -> anyhow::Result<()> {
    let body = format!(
        r#"{{"webhook_id":"{number:032x}","webhook_type":"TRANSACTIONS","process_type":"historical_update","webhook_code":"historical_update","link_id":"16f68516-bcbc-4cf7-b815-c500d4200000","request_id":"4363b08b-51eb-4350-9c74-5df5ac92a7f6","external_id":"your_external_id","data":{{"total_transactions":19}}}}"#
    );
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
