//! Those who do their worst: strangers who connect thousands of times a second, and connections from an allowed address
//! that are silent, slow or idle. Each in a thread of its own, beside Belvo's.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::shared::program::PATH;

/// An offender that is left alone for longer is an error.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// Until one that was closed comes again at most, not all at once: 2,800 newcomers a second at worst.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two bytes of a slow one.
const SLOWLY: Duration = Duration::from_millis(500);

fn in_thread<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> JoinHandle<anyhow::Result<T>> {
    thread::spawn(|| {
        Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(work)
    })
}

/// Connects so many times a second from so many addresses; says how many connections were made and ended.
pub(crate) fn flood(
    to: SocketAddr,
    strangers: u32,
    rate: u32,
    time: Duration,
) -> JoinHandle<anyhow::Result<u64>> {
    in_thread(async move {
        let (begun, mut under_way, mut ended) = (Instant::now(), JoinSet::new(), 0);
        for number in 0..rate * time.as_secs() as u32 {
            sleep_until(begun + Duration::from_secs(1) * number / rate).await;
            under_way.spawn(stranger(
                to,
                Ipv4Addr::from(0x7f00_0101 + number % strangers),
            ));
            while let Some(one) = under_way.try_join_next() {
                ended += u64::from(one.context("a stranger panicked")?);
            }
        }
        while let Some(one) = under_way.join_next().await {
            ended += u64::from(one.context("a stranger panicked")?);
        }
        Ok(ended)
    })
}

/// Whether a connection was made and ended without a byte.
async fn stranger(to: SocketAddr, from: Ipv4Addr) -> bool {
    let connected = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.into(), 0))?;
        let mut stream = socket.connect(to).await?;
        Ok::<_, std::io::Error>(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)))
    };
    timeout(LEFT_ALONE, connected)
        .await
        .is_ok_and(|made| made.unwrap_or(false))
}

#[derive(Clone, Copy)]
enum Kind {
    Silent,
    Slow,
    Idle,
}

/// 200 slow, 200 silent and 1,000 idle connections; those that are closed come again until `time` is over when they are
/// to. Says how long the longest of them was left alone.
pub(crate) fn all(
    to: SocketAddr,
    again: bool,
    time: Duration,
) -> JoinHandle<anyhow::Result<Duration>> {
    in_thread(async move {
        let until = Instant::now() + time;
        let mut offenders = JoinSet::new();
        for number in 0..1_400 {
            let kind = match number % 7 {
                0 => Kind::Silent,
                1 => Kind::Slow,
                _ => Kind::Idle,
            };
            offenders.spawn(async move {
                let mut longest = Duration::ZERO;
                loop {
                    longest = longest.max(offend(to, kind).await?);
                    if !again || Instant::now() > until {
                        return anyhow::Ok(longest);
                    }
                    sleep(AGAIN.mul_f64(fastrand::f64())).await;
                }
            });
        }
        let mut longest = Duration::ZERO;
        while let Some(one) = offenders.join_next().await {
            longest = longest.max(one.context("an offender panicked")??);
        }
        Ok(longest)
    })
}

/// How long it took until it was closed.
async fn offend(to: SocketAddr, kind: Kind) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let over = async {
        let mut stream = TcpStream::connect(to).await?;
        match kind {
            Kind::Silent => {}
            Kind::Slow => {
                let head = format!(
                    "POST {PATH} HTTP/1.1\r\nHost: x\r\nX: {}",
                    "a".repeat(1_000)
                );
                for byte in head.as_bytes().chunks(1) {
                    stream.write_all(byte).await?;
                    sleep(SLOWLY).await;
                }
            }
            Kind::Idle => {
                let look = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n");
                stream.write_all(look.as_bytes()).await?;
            }
        }
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await
    };
    // However it is closed, it is closed.
    let closed = timeout(LEFT_ALONE, over).await;
    ensure!(
        closed.is_ok(),
        "an offender was left alone for {LEFT_ALONE:?}"
    );
    Ok(begun.elapsed())
}
