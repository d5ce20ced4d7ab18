use http::StatusCode;

/// The meaning of a handler's response for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The delivery was handled.
    Done,
    /// The attempt failed, and another one may succeed.
    Retry,
    /// The attempt failed, and any other would fail in the same way: the delivery is dead-lettered at once.
    Dead,
}

impl Outcome {
    /// Returns the meaning of a status unless [`Worker::outcome`](super::Worker::outcome) says otherwise: 2xx is done,
    /// 400 and 422 are dead, and everything else is retried.
    pub fn of(status: StatusCode) -> Self {
        match status {
            _ if status.is_success() => Self::Done,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Self::Dead,
            _ => Self::Retry,
        }
    }
}
