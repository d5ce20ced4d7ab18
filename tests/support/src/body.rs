//! Bodies that follow a script: they can be slow, fail, hide their size, or never end.

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

/// A step of a [`Script`].
#[derive(Debug, Clone)]
pub enum Step {
    /// A frame with this data.
    Data(Bytes),
    /// A frame with trailers, which contain an event id.
    Trailers,
    /// An error.
    Fail,
    /// A wait before the next step.
    Wait(Duration),
    /// `Pending` once. The task is woken at once.
    Yield,
    /// `Pending` from now on. The task is never woken.
    Hang,
    /// A call of this function before the next step.
    Call(Callback),
}

/// A function that a [`Script`] calls.
#[derive(Clone)]
pub struct Callback(Arc<dyn Fn() + Send + Sync>);

impl Step {
    pub fn call(callback: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Call(Callback(Arc::new(callback)))
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

/// A body that runs its steps and then ends. By default it announces neither its size nor its end.
#[derive(Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    /// The steps to repeat after the last one.
    endless: Option<Vec<Step>>,
    wait: Option<Pin<Box<Sleep>>>,
    polls: Polls,
    hint: SizeHint,
    /// Whether `is_end_stream` returns `true` before the last step.
    ends_early: bool,
}

/// The number of times that a body was polled. Clones share the count.
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

    /// Makes a body of these frames.
    pub fn frames(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self::new(frames.into_iter().map(Step::Data))
    }

    /// Makes a body that splits the bytes into frames of `size`.
    pub fn chunked(bytes: &Bytes, size: usize) -> Self {
        Self::frames(chunks(bytes, size))
    }

    /// Makes a body that splits the bytes into frames of `size` and waits before each.
    pub fn trickle(bytes: &Bytes, size: usize, wait: Duration) -> Self {
        Self::new(chunks(bytes, size).flat_map(|chunk| [Step::Wait(wait), Step::Data(chunk)]))
    }

    /// Makes a body that repeats these steps and never ends.
    pub fn endless(steps: Vec<Step>) -> Self {
        Self { endless: Some(steps), ..Self::default() }
    }

    /// Keeps only the first steps.
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

    /// Announces this exact size, whether it is right or wrong.
    pub fn announcing(mut self, size: u64) -> Self {
        self.hint = SizeHint::with_exact(size);
        self
    }

    /// Makes `is_end_stream` return `true` as soon as no data is left, even if trailers or an error follow.
    pub fn ending_early(mut self) -> Self {
        self.ends_early = true;
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
                Some(Step::Call(callback)) => {
                    (callback.0)();
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
        self.ends_early && !self.steps.iter().any(|step| matches!(step, Step::Data(_)))
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
