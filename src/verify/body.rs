use std::{
    convert::Infallible,
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// The body of a verified request: all the bytes that klikit signed, in memory.
///
/// As a [`Body`], it never fails, has an exact size hint, and yields all its bytes in one frame.
#[derive(Clone)]
pub struct VerifiedBody(Bytes);

impl VerifiedBody {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns the bytes without copying them.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// Shows only the length, because a body holds customers' data.
impl fmt::Debug for VerifiedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedBody({} bytes)", self.0.len())
    }
}

impl AsRef<[u8]> for VerifiedBody {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<VerifiedBody> for Bytes {
    fn from(body: VerifiedBody) -> Self {
        body.0
    }
}

impl Body for VerifiedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(take_frame(&mut self.0).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

pin_project! {
    /// The body of a response: the inner service's body, or a text of this crate.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProj]
    #[derive(Debug)]
    enum Source<B> {
        Inner { #[pin] body: B },
        Text { text: Bytes },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { source: Source::Inner { body } }
    }

    pub(crate) fn text(text: Bytes) -> Self {
        Self { source: Source::Text { text } }
    }
}

/// Returns an empty body, which timeout layers need for their responses.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::text(Bytes::new())
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            SourceProj::Inner { body } => body.poll_frame(cx),
            SourceProj::Text { text } => Poll::Ready(take_frame(text).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { body } => body.is_end_stream(),
            Source::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { body } => body.size_hint(),
            Source::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}

fn take_frame(bytes: &mut Bytes) -> Option<Frame<Bytes>> {
    if bytes.is_empty() { None } else { Some(Frame::data(mem::take(bytes))) }
}
