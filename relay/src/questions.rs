//! Questions: what a relay asks the directory of another, on a stream of their link.
//!
//! Specification: docs/protocol.md, "Directory streams".

use trefoil_protocol::{
    directory::{Answer, DirectoryError, Refusal, Request},
    limits::DIRECTORY_REQUESTS,
};

use crate::{
    frames::{self, FrameError},
    link::{Link, LinkError},
    opened::RequestStream,
};

/// A stream on which this node asks.
pub struct Questions {
    stream: RequestStream,
    asked: usize,
}

/// Why there is no answer, or none of use.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The link is gone, or full.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The stream is gone, or the peer broke the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer refused.
    #[error("the peer refused: {0}")]
    Refused(Refusal),
    /// The peer answered something else.
    #[error("the answer is to another question")]
    Mismatch,
    /// A stream takes no more requests.
    #[error("too many questions on one stream")]
    TooMany,
}

/// An answer's frame.
pub struct Answered(Vec<u8>);

impl Questions {
    /// Opens a stream.
    ///
    /// # Errors
    /// [`QuestionError::Link`].
    pub async fn on(link: &Link) -> Result<Self, QuestionError> {
        Ok(Self { stream: link.open_directory().await?, asked: 0 })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`QuestionError`] without a frame for an answer.
    pub async fn ask(&mut self, request: &Request<'_>) -> Result<Answered, QuestionError> {
        self.count()?;
        let (mut reader, mut writer) = self.stream.halves();
        Ok(Answered(frames::ask(&mut reader, &mut writer, request).await?))
    }

    /// Asks, waits for the answer, and ends the stream in order. The peer hears of the end with the question, which
    /// spares two packets.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_last(mut self, request: &Request<'_>) -> Result<Answered, QuestionError> {
        self.count()?;
        let frame = {
            let (mut reader, mut writer) = self.stream.halves();
            frames::ask_last(&mut reader, &mut writer, request).await?
        };
        self.finish();
        Ok(Answered(frame))
    }

    fn count(&mut self) -> Result<(), QuestionError> {
        if self.asked == DIRECTORY_REQUESTS {
            return Err(QuestionError::TooMany);
        }
        self.asked += 1;
        Ok(())
    }

    /// Ends the stream in order.
    pub fn finish(self) {
        self.stream.finish();
    }
}

impl Answered {
    /// What it says, if `pick` finds it to be an answer to what was asked.
    ///
    /// # Errors
    /// [`QuestionError`] where it is refused, malformed, or an answer to something else.
    pub fn read<'a, R>(&'a self, pick: impl FnOnce(Answer<'a>) -> Option<R>) -> Result<R, QuestionError> {
        match Answer::decode(&self.0).map_err(FrameError::from)? {
            Answer::Refused(refusal) => Err(QuestionError::Refused(refusal)),
            answer => pick(answer).ok_or(QuestionError::Mismatch),
        }
    }
}

impl QuestionError {
    /// Whether the peer did what no honest one does.
    pub(crate) fn is_garbage(&self) -> bool {
        matches!(self, Self::Mismatch | Self::Frame(FrameError::Protocol(_)))
    }
}

impl From<DirectoryError> for QuestionError {
    fn from(error: DirectoryError) -> Self {
        Self::Frame(error.into())
    }
}
