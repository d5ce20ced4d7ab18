use http::StatusCode;

/// The effect of a handler's response on its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The delivery was handled.
    Done,
    /// The attempt failed, and another one may succeed.
    Retry,
    /// The attempt failed, and a retry would fail in the same way: the delivery is dead-lettered at once.
    Dead,
}

impl Outcome {
    /// Returns the default outcome for a status, which [`Worker::outcome`](super::Worker::outcome) replaces: 2xx is
    /// done, 400 and 422 are dead, and every other status is retried.
    pub fn of(status: StatusCode) -> Self {
        match status {
            _ if status.is_success() => Self::Done,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Self::Dead,
            _ => Self::Retry,
        }
    }
}
