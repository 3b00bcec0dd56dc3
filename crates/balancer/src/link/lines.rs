//! Messages as lines of JSON, from bytes that arrive in any pieces.
//!
//! Pure. The sender may be hostile: a line has [`MAX_LINE`] bytes at most, no
//! more than one unfinished line is kept, and what is no message is an error,
//! after which nothing more is read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line, in bytes, with its end. A report of 20 introduction points
/// with the longest link specifiers that may be listed has a quarter of it.
pub const MAX_LINE: usize = 64 * 1024;

/// What came is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A line without end.
    #[error("a line of more than {MAX_LINE} bytes")]
    TooLong,
    /// Not JSON, or not what the message should say. What exactly is not told: the
    /// sender would choose the words.
    #[error("a line that is no message")]
    NoMessage,
}

/// Takes bytes in, gives messages out.
#[derive(Debug, Default)]
pub struct Lines {
    /// What has come and was not given out.
    kept: Vec<u8>,
    /// How many bytes of it hold no end of a line: who sends byte by byte does not
    /// have us look through the whole line each time.
    searched: usize,
}

impl Lines {
    /// More bytes have come. To be called when [`message`](Self::message) has nothing
    /// left to give.
    ///
    /// # Errors
    ///
    /// If they make no message, however they go on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let rest = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        if self.kept.len() + rest >= MAX_LINE {
            return Err(Malformed::TooLong);
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    ///
    /// If the line is no such message.
    pub fn message<T: DeserializeOwned>(&mut self) -> Option<Result<T, Malformed>> {
        let new = self.kept.get(self.searched..).unwrap_or_default();
        let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.kept.len();
            return None;
        };
        let line: Vec<u8> = self.kept.drain(..=self.searched + end).collect();
        self.searched = 0;
        if line.len() > MAX_LINE {
            return Some(Err(Malformed::TooLong));
        }
        Some(serde_json::from_slice(&line).map_err(|_| Malformed::NoMessage))
    }
}

/// A message as it is sent.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // Our messages have no maps with other keys than text, the only thing that
    // cannot be written; an empty line would be no message.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::link::{LinkOrders, Report};

    #[test]
    fn messages_come_out_however_the_bytes_come_in() {
        let orders = |number| LinkOrders { number, ..LinkOrders::default() };
        let bytes: Vec<u8> = (1..=3).flat_map(|number| line(&orders(number))).collect();
        for piece in [1, 2, 7, 64, bytes.len()] {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(piece) {
                lines.push(piece).unwrap();
                while let Some(message) = lines.message::<LinkOrders>() {
                    found.push(message.unwrap().number);
                }
            }
            assert_eq!(found, [1, 2, 3]);
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_is_kept() {
        let mut lines = Lines::default();
        let piece = [b' '; 1024];
        let taken = (0..1000).take_while(|_| lines.push(&piece).is_ok()).count();
        assert!(taken * piece.len() < MAX_LINE && lines.kept.len() < MAX_LINE);
        let long = [&[b'1'; MAX_LINE][..], b"\n"].concat();
        assert_eq!(Lines::default().push(&long), Err(Malformed::TooLong));
    }

    #[test]
    fn nesting_and_numbers_without_end_are_errors() {
        for text in ["[".repeat(60_000), "9".repeat(60_000), "\"\\u0000\"".into(), "{}".into()] {
            let mut lines = Lines::default();
            lines.push(format!("{text}\n").as_bytes()).unwrap();
            assert_eq!(lines.message::<Report>(), Some(Err(Malformed::NoMessage)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_two_pieces(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..60)
        ) {
            let mut lines = Lines::default();
            for piece in pieces {
                if lines.push(&piece).is_err() {
                    break;
                }
                while let Some(message) = lines.message::<Report>() {
                    if message.is_err() {
                        break;
                    }
                }
            }
        }
    }
}
