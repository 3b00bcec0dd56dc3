//! Whatever a client puts into an introduction: nothing panics, no work counts that nobody
//! did, and none counts twice.
//!
//! The first byte chooses what an honest client sends, with work or without, or nothing;
//! each three bytes that follow change one byte of that. What is left over comes last.

#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use onionbraid::instance::Examiner;

/// An introduction, and which part of it is its proof: nonce, effort, head of the seed and
/// solution.
struct Honest {
    plaintext: Vec<u8>,
    effort: u32,
    proof: Vec<u8>,
}

/// The proof's length (torspec hspow-spec, section "The PoW extension").
const PROOF: usize = 16 + 4 + 4 + 16;

static EXAMINER: LazyLock<(Mutex<Examiner>, Vec<Honest>)> = LazyLock::new(|| {
    let examiner = Examiner::of([7; 32]);
    let honest = [0, 1, 1, 2].map(|effort| {
        // Given up after seconds, it is begun again: the machine may be busy.
        let mut attempts = std::iter::repeat_with(|| examiner.introduction(effort));
        let plaintext = attempts.find_map(|done| done).unwrap_or_default();
        let proof = proof(&plaintext, effort);
        Honest { plaintext, effort, proof }
    });
    (Mutex::new(examiner), honest.into())
});

/// The proof begins behind cookie (20 bytes), number of extensions, and this one's kind,
/// length and version.
fn proof(plaintext: &[u8], effort: u32) -> Vec<u8> {
    let begin = 20 + 1 + 3;
    if effort == 0 { Vec::new() } else { plaintext[begin..begin + PROOF].to_vec() }
}

fuzz_target!(|bytes: &[u8]| {
    let (examiner, all) = &*EXAMINER;
    let mut examiner = examiner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    examiner.forget();
    let Some((choice, rest)) = bytes.split_first() else { return };
    let honest = all.get(usize::from(*choice % 5));
    let mut introduction = honest.map(|it| it.plaintext.clone()).unwrap_or_default();
    let rest = if introduction.is_empty() {
        rest
    } else {
        let mut changes = rest.chunks_exact(3);
        for change in changes.by_ref().take(usize::from(*choice / 5)) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
            let length = introduction.len();
            introduction[at % length] ^= change[2];
        }
        changes.remainder()
    };
    introduction.extend_from_slice(rest);

    let (first, second) = (examiner.effort(&introduction), examiner.effort(&introduction));
    let effort = first.unwrap_or(0);
    if effort > 0 {
        let done = |it: &Honest| {
            it.effort == effort && introduction.windows(PROOF).any(|part| part == it.proof)
        };
        assert!(all.iter().any(done), "effort {effort} that nobody did");
        assert_eq!(second, None, "effort {effort} counts twice");
    } else if first.is_none() {
        assert_eq!(second, None);
    }
    if let Some(honest) = honest
        && introduction.starts_with(&honest.plaintext)
    {
        assert_eq!(first, Some(honest.effort));
    }
});
