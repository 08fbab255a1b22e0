//! The body of a large answer, handed to the connection in pieces.
//!
//! Always: the connection copies what it is given into its write buffer, so one piece at a time is copied and not the
//! whole answer. Not here: event streams (`body`), and answers that are small: those go out whole.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

/// Answers above this are handed over in pieces of it, in bytes; about what the connection buffers at most.
pub(super) const PIECE: usize = 32 * 1024;

/// A text of known length in pieces. They share its memory, which is free again when the last is written.
pub(super) struct LargeBody {
    left: Bytes,
}

impl LargeBody {
    pub(super) fn of(text: Bytes) -> LargeBody {
        LargeBody { left: text }
    }
}

impl MessageBody for LargeBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let piece = self.left.len().min(PIECE);
        Poll::Ready((piece > 0).then(|| Ok(self.left.split_to(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_in_its_order() {
        for length in [0, 1, PIECE, PIECE + 1, 5 * PIECE - 1] {
            let text: Bytes = (0..length).map(|index| (index % 251) as u8).collect();
            let mut body = LargeBody::of(text.clone());
            assert_eq!(body.size(), BodySize::Sized(length as u64));
            let mut context = Context::from_waker(std::task::Waker::noop());
            let mut joined = Vec::new();
            while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut body).poll_next(&mut context) {
                assert!(piece.len() <= PIECE);
                joined.extend_from_slice(&piece);
            }
            assert_eq!(joined, text);
        }
    }
}
