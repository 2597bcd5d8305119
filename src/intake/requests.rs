//! A connection's bytes, as hyper gets to see them: one request at a time, each head looked at as it comes, and an end to
//! answers that nobody takes. What is known about the connection between two requests is here as well.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connection::Guest;
use super::head::{Body, Fault, Follower};
use super::reply::Afterwards;
use crate::limits::{REQUESTS_PER_CONNECTION_MAX, TAKE_WAIT};
use crate::system::stop::Stop;

/// What one connection remembers between its requests.
#[derive(Debug)]
pub(super) struct State {
    guest: Guest,
    stop: Stop,
    remembered: Mutex<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    /// When the first byte of the current request came; for the first request, when the connection was accepted, since
    /// Belvo's five seconds run from there.
    began: Option<Instant>,
    follower: Follower,
    /// hyper, which wants to read while nothing may be given to it.
    waiting: Option<Waker>,
    requests: u32,
    /// An answer was made and is not wholly sent.
    is_sending: bool,
    afterwards: Afterwards,
}

impl State {
    pub(super) fn new(guest: Guest, stop: Stop) -> Self {
        Self {
            remembered: Mutex::new(Remembered {
                began: Some(guest.accepted),
                follower: Follower::default(),
                waiting: None,
                requests: 0,
                is_sending: false,
                afterwards: Afterwards::Whole,
            }),
            guest,
            stop,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Remembered) -> T) -> T {
        act(&mut self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// When the current request began.
    pub(super) fn began(&self) -> Instant {
        self.with(|state| *state.began.get_or_insert_with(Instant::now))
    }

    pub(super) fn is_between_requests(&self) -> bool {
        self.with(|state| state.began.is_none())
    }

    /// What the head of the current request is worth.
    pub(super) fn head(&self) -> Result<Body, Fault> {
        self.with(|state| state.follower.verdict())
    }

    /// Whether the current request is the last one that its connection may bring.
    pub(super) fn is_last(&self) -> bool {
        self.stop.is_told() || self.with(|state| state.requests + 1 >= REQUESTS_PER_CONNECTION_MAX)
    }

    /// Whether something of the current request has come.
    pub(super) fn has_begun(&self) -> bool {
        self.with(|state| state.follower.has_begun())
    }

    /// The current request is a webhook, and whole.
    pub(super) fn has_brought(&self) {
        self.guest.seated.has_brought();
    }

    /// The answer to the current request is made.
    pub(super) fn answered(&self, afterwards: Afterwards) {
        let waiting = self.with(|state| {
            state.began = None;
            state.requests += 1;
            state.is_sending = true;
            state.afterwards = afterwards;
            // Where nothing may follow, hyper is never given another byte, and closes.
            state.follower.go_on();
            state.waiting.take()
        });
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn sent(&self) {
        if self.with(|state| std::mem::take(&mut state.is_sending)) {
            self.guest.seated.is_answered(Instant::now());
        }
    }

    pub(super) fn afterwards(&self) -> Afterwards {
        self.with(|state| state.afterwards)
    }
}

/// The stream that hyper is given.
pub(super) struct Requests<S> {
    stream: S,
    state: Arc<State>,
    /// What came of the next request before this one was answered.
    ahead: Vec<u8>,
    /// Runs while the peer does not take an answer.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Requests<S> {
    pub(super) fn new(stream: S, state: Arc<State>) -> Self {
        Self {
            stream,
            state,
            ahead: Vec::new(),
            stuck: None,
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// From the first write that has to wait to the last byte: a peer that takes its answer a byte at a time is no better
    /// than one that does not take it.
    fn or_stuck<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(TAKE_WAIT)));
        match stuck.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Requests<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waits = this.state.with(|state| {
            let waits = state.follower.is_whole();
            if waits {
                state.waiting = Some(context.waker().clone());
            }
            waits
        });
        if waits {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        } else {
            let count = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead[..count]);
            this.ahead.drain(..count);
        }
        let came = &buffer.filled()[before..];
        let taken = this.state.with(|state| {
            let taken = state.follower.follow(came);
            if state.follower.has_begun() {
                state.began.get_or_insert_with(Instant::now);
            }
            taken
        });
        if taken < came.len() {
            this.ahead.splice(..0, came[taken..].iter().copied());
            buffer.set_filled(before + taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Requests<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.or_stuck(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.or_stuck(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.or_stuck(context, flushed))?;
        self.stuck = None;
        self.state.sent();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
