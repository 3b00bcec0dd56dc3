//! An error and its causes as one sentence.
//!
//! Libraries differ in whether an error's text holds that of its cause, so a
//! plain list says the same up to three times.

use std::error::Error;

/// The error and its causes on one line; a cause that was said already is left
/// out.
pub fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut told = text.to_ascii_lowercase();
    for cause in chain(error).skip(1) {
        let cause = cause.to_string();
        let new = cause.to_ascii_lowercase();
        if told.contains(&new) {
            continue;
        }
        // A cause that begins with what was said last says it once more.
        let last = text.rsplit(": ").next().unwrap_or_default().to_ascii_lowercase();
        text = match new.starts_with(&last) {
            true => format!("{}{cause}", &text[..text.len() - last.len()]),
            false => format!("{}: {cause}", text.trim_end_matches(['.', ':', ' '])),
        };
        told = text.to_ascii_lowercase();
    }
    text
}

/// The error, its cause, and so on.
pub fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        source: Arc<dyn Error + Send + Sync>,
    }

    fn nested(texts: [&'static str; 3], innermost: i32) -> Outer {
        let [first, second, third] = texts;
        let source: Arc<dyn Error + Send + Sync> =
            Arc::new(io::Error::from_raw_os_error(innermost));
        let source = Arc::new(Outer { text: third, source });
        Outer { text: first, source: Arc::new(Outer { text: second, source }) }
    }

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let error = nested(
            ["cannot store the directory: IO error", "IO error", "No space left on device"],
            28,
        );
        assert_eq!(
            in_one_line(&error),
            "cannot store the directory: IO error: No space left on device (os error 28)"
        );
    }
}
