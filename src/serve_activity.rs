//! What is going on at a connection: requests, the bodies of their answers, writes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// Largest part of a body that is handed to the HTTP implementation at once, in bytes: what it has
/// taken is not seen any more.
const PART_BYTES_MAX: usize = 64 * 1024;

/// What is going on at a connection.
#[derive(Debug)]
pub(crate) struct Activity {
    begin: Instant,
    has_asked: AtomicBool,
    /// Requests that have no answer yet.
    unanswered: AtomicUsize,
    /// Requests whose answer has not been sent to its end.
    open: AtomicUsize,
    /// When something moved last, in milliseconds from the beginning.
    moved_ms: AtomicU64,
    is_writing: AtomicBool,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            has_asked: AtomicBool::new(false),
            unanswered: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            is_writing: AtomicBool::new(false),
        }
    }

    /// Whether there ever was a request.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Whether an answer is being made or sent.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0 || self.is_writing.load(Ordering::Relaxed)
    }

    /// Notes that something moves now.
    pub(crate) fn touch(&self) {
        let moved_ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(moved_ms, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for a time: no request came, none waits for its answer, and of
    /// no answer anything was taken.
    pub(crate) async fn quiet(&self, time: Duration) {
        loop {
            if self.unanswered.load(Ordering::Acquire) > 0 {
                sleep(time).await;
                continue;
            }
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let over = self.begin + moved + time;
            if over <= Instant::now() {
                return;
            }
            sleep_until(over).await;
        }
    }
}

/// A request that is being answered, however that ends.
pub(crate) struct OpenRequest {
    activity: Arc<Activity>,
    is_answered: bool,
}

impl OpenRequest {
    pub(crate) fn new(activity: Arc<Activity>) -> Self {
        activity.has_asked.store(true, Ordering::Relaxed);
        activity.unanswered.fetch_add(1, Ordering::Relaxed);
        activity.open.fetch_add(1, Ordering::Relaxed);
        activity.touch();
        Self { activity, is_answered: false }
    }

    /// The body of the answer, until whose end the request is open.
    pub(crate) fn answered(mut self, body: Body) -> AnswerBody {
        self.end_wait();
        AnswerBody { body, rest: Bytes::new(), request: self }
    }

    fn end_wait(&mut self) {
        self.activity.touch();
        if !std::mem::replace(&mut self.is_answered, true) {
            self.activity.unanswered.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.end_wait();
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, which is given away in parts.
pub(crate) struct AnswerBody {
    body: Body,
    /// What was read from the body and not given away yet.
    rest: Bytes,
    request: OpenRequest,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        this.request.activity.touch();
        let part = this.rest.split_to(this.rest.len().min(PART_BYTES_MAX));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = hyper::body::Body::size_hint(&self.body);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(inner.lower().saturating_add(rest));
        hint
    }
}

/// A socket whose peer must take something of what is written within a time.
pub(crate) struct TimedWrites<T> {
    transport: T,
    time: Duration,
    over: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl<T> TimedWrites<T> {
    pub(crate) fn new(transport: T, time: Duration, activity: Arc<Activity>) -> Self {
        Self { transport, time, over: None, activity }
    }

    /// Bounds the time in which nothing could be written.
    fn bound(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            // Most writes succeed at once: no timer for those.
            if self.over.take().is_some() {
                self.activity.is_writing.store(false, Ordering::Relaxed);
            }
            return written;
        }
        self.activity.is_writing.store(true, Ordering::Relaxed);
        let time = self.time;
        let over = self.over.get_or_insert_with(|| Box::pin(sleep(time)));
        over.as_mut().poll(context).map(|()| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was read at the other end"))
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedWrites<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.bound(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.bound(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_never_reads_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let activity = Arc::new(Activity::new());
        let time = Duration::from_secs(1);
        let mut ours = TimedWrites::new(ours, time, Arc::clone(&activity));
        let reading = tokio::spawn(async move {
            let mut bytes = [0; 8];
            for _ in 0..4 {
                sleep(time / 2).await;
                theirs.read_exact(&mut bytes).await.unwrap();
            }
            theirs
        });
        // A slow reader is waited for, longer than the time in all.
        ours.write_all(&[0; 40]).await.unwrap();
        let _theirs = reading.await.unwrap();
        assert!(!activity.is_busy());
        let error = ours.write_all(&[0; 40]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(activity.is_busy());
    }

    #[tokio::test]
    async fn a_request_is_open_until_the_end_of_its_body() {
        let activity = Arc::new(Activity::new());
        let request = OpenRequest::new(Arc::clone(&activity));
        let bytes = Bytes::from(vec![7; PART_BYTES_MAX + 1]);
        let mut body = request.answered(Body::from(bytes.clone()));
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(bytes.len() as u64));
        let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(part.len(), PART_BYTES_MAX);
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(1));
        assert!(activity.is_busy() && !hyper::body::Body::is_end_stream(&body));
        assert_eq!(body.collect().await.unwrap().to_bytes(), bytes.slice(PART_BYTES_MAX..));
        assert!(!activity.is_busy());
    }
}
