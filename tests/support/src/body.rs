//! Bodies that trickle, fail, give no hint and never end.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// What a [`Script`] does at one poll.
#[derive(Debug, Clone)]
pub enum Step {
    Data(Bytes),
    Trailers,
    Fail,
    /// Comes after this time.
    Wait(Duration),
    /// Pending once, and ready at the next poll.
    Yield,
    /// Pending, and never woken.
    Hang,
    /// Does this on the way to the next step.
    Do(Deed),
}

#[derive(Clone)]
pub struct Deed(Arc<dyn Fn() + Send + Sync>);

impl Step {
    pub fn deed(deed: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Do(Deed(Arc::new(deed)))
    }
}

impl fmt::Debug for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deed")
    }
}

/// A body that follows its steps and then ends. It hints at nothing: neither its size nor its end.
#[derive(Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    /// After the last step, begin again.
    endless: Option<Vec<Step>>,
    wait: Option<Pin<Box<Sleep>>>,
    polls: Polls,
    hint: SizeHint,
    hasty: bool,
}

/// How often a body was polled, seen from outside.
#[derive(Debug, Clone, Default)]
pub struct Polls(Arc<AtomicUsize>);

impl Polls {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Script {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    /// These frames, one after another.
    pub fn frames(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self::new(frames.into_iter().map(Step::Data))
    }

    /// The bytes in frames of `size`.
    pub fn chunked(bytes: &Bytes, size: usize) -> Self {
        Self::frames(chunks(bytes, size))
    }

    /// The bytes in frames of `size`, each after a wait.
    pub fn trickle(bytes: &Bytes, size: usize, wait: Duration) -> Self {
        Self::new(chunks(bytes, size).flat_map(|chunk| [Step::Wait(wait), Step::Data(chunk)]))
    }

    /// These steps over and over.
    pub fn endless(steps: Vec<Step>) -> Self {
        Self { endless: Some(steps), ..Self::default() }
    }

    /// Keeps its first steps only.
    pub fn first(mut self, steps: usize) -> Self {
        self.steps.truncate(steps);
        self
    }

    pub fn followed_by(mut self, other: Self) -> Self {
        self.steps.extend(other.steps);
        self
    }

    pub fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// Claims an exact size, true or not.
    pub fn claiming(mut self, size: u64) -> Self {
        self.hint = SizeHint::with_exact(size);
        self
    }

    /// Says that it has ended as soon as there is no data left, whatever comes then.
    pub fn hasty(mut self) -> Self {
        self.hasty = true;
        self
    }

    pub fn polls(&self) -> Polls {
        self.polls.clone()
    }
}

fn chunks(bytes: &Bytes, size: usize) -> impl Iterator<Item = Bytes> {
    (0..bytes.len()).step_by(size).map(move |start| bytes.slice(start..bytes.len().min(start + size)))
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.polls.0.fetch_add(1, Ordering::SeqCst);
        loop {
            if let Some(wait) = &mut self.wait {
                std::task::ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            if self.steps.is_empty()
                && let Some(steps) = self.endless.clone()
            {
                self.steps.extend(steps);
            }
            return match self.steps.pop_front() {
                None => Poll::Ready(None),
                Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Step::Trailers) => {
                    let trailers = HeaderMap::from_iter([(
                        HeaderName::from_static("x-klikit-event-id"),
                        HeaderValue::from_static("forged"),
                    )]);
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                Some(Step::Fail) => Poll::Ready(Some(Err(io::Error::other("the connection broke")))),
                Some(Step::Wait(time)) => {
                    self.wait = Some(Box::pin(sleep(time)));
                    continue;
                }
                Some(Step::Do(deed)) => {
                    (deed.0)();
                    continue;
                }
                Some(Step::Yield) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    Poll::Pending
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.hasty && !self.steps.iter().any(|step| matches!(step, Step::Data(_)))
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
