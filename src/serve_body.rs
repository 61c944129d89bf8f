//! The body of a request that must arrive in time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

/// A body whose parts must all have come when its time is over.
pub(crate) struct TimedBody {
    body: Incoming,
    time: Duration,
    over: Option<Pin<Box<Sleep>>>,
}

/// Why a body can't be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It took too long.
    #[error("the body did not come in time")]
    Slow,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl TimedBody {
    /// Gives a body some time, from its first reading on.
    pub(crate) fn new(body: Incoming, time: Duration) -> Self {
        Self { body, time, over: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body.frame()).poll(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        // Most bodies are there at once: no timer for those.
        let time = this.time;
        let over = this.over.get_or_insert_with(|| Box::pin(sleep(time)));
        over.as_mut().poll(context).map(|()| Some(Err(BodyError::Slow)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
