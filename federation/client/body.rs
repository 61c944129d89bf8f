//! The body of an answer, within bounds.

use std::{pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::Semaphore;

/// What is read of an answer without a permit, in bytes.
const FREE_BYTES: usize = 4 * 1024 * 1024;

/// How much one permit allows, in bytes.
pub(crate) const PERMIT_BYTES: usize = 1024 * 1024;

/// Longest that a server may send nothing in the middle of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("it stopped in the middle of its answer")]
    Silent,
    #[error("its answer was cut off: {0}")]
    CutOff(String),
}

/// Reads a body of at most `bytes_max`. A large one takes permits of `memory` as it grows, so that
/// many large answers at a time don't fill the memory, and nobody reserves what it does not send.
pub(crate) async fn read<B>(
    body: B,
    bytes_max: usize,
    memory: &Semaphore,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: std::error::Error + 'static,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyError::TooLarge(bytes_max));
    }
    let mut body = pin!(body);
    let mut read = BytesMut::new();
    let mut permits = Vec::new();
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame());
        let frame = match frame.await {
            Err(_) => return Err(BodyError::Silent),
            Ok(None) => return Ok(read.freeze()),
            Ok(Some(Err(error))) => return Err(BodyError::CutOff(super::why(&error))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if read.len().saturating_add(data.len()) > bytes_max {
            return Err(BodyError::TooLarge(bytes_max));
        }
        read.extend_from_slice(&data);
        while read.len() > FREE_BYTES.saturating_add(permits.len().saturating_mul(PERMIT_BYTES)) {
            // The semaphore is never closed.
            permits.push(memory.acquire().await.ok());
        }
    }
}
