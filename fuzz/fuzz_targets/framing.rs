//! However a client's bytes are cut, the same of them pass, heads begin at the
//! same places, and the same is refused: who sees them in other pieces, as the
//! server behind us does, sees the same requests.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbraid::proxy::failure::Failure;
use onionbraid::proxy::http::framing::{Framing, Limits, Step};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = follow(bytes, bytes.len().max(1));
    assert_eq!(follow(bytes, usize::from(piece).max(1)), whole);
    // What has passed is not refused the second time.
    let (passed, heads, _) = whole;
    let (again, same, refused) = follow(&passed, passed.len().max(1));
    assert_eq!((again, same, refused), (passed, heads, None));
});

/// All that passes, where heads begin in it, and what refuses the rest.
fn follow(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<usize>, Option<Failure>) {
    let mut framing = Framing::new(Limits { head_bytes: 1024, fields: 16 });
    let (mut passed, mut heads, mut at_hand) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        at_hand.extend_from_slice(piece);
        loop {
            match framing.step(&at_hand) {
                Ok(Step::Head(length)) => {
                    heads.push(passed.len());
                    passed.extend(at_hand.drain(..length));
                }
                Ok(Step::Body(length)) => passed.extend(at_hand.drain(..length)),
                Ok(Step::Skip(length)) => drop(at_hand.drain(..length)),
                Ok(Step::Hold) => framing.stays(),
                Ok(Step::More) => break,
                Err(failure) => return (passed, heads, Some(failure)),
            }
        }
    }
    (passed, heads, None)
}
