//! What is said of an error on one line, and whether its cause is this process rather
//! than somebody else.

use std::error::Error;

pub(crate) use onionbraid_proxy::causes::{chain, in_one_line};

/// A text of several lines on one, for the log.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut out = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        out.push_str(if out.ends_with([':', ';', ',']) { " " } else { "; " });
        out.push_str(line);
    }
    out
}

/// Whether the process, or the machine, has no file handle left (`EMFILE`,
/// `ENFILE`). Libraries wrap the system's error in ways that hide its type, but
/// all of them keep its text.
pub(crate) fn is_out_of_handles(error: &(dyn Error + 'static)) -> bool {
    let mut texts = chain(error).map(ToString::to_string);
    texts.any(|text| text.contains("(os error 24)") || text.contains("(os error 23)"))
}

/// Whether there is no space left where something was to be written (`ENOSPC`,
/// `EDQUOT`, SQLite's `SQLITE_FULL`).
pub(crate) fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let full = ["(os error 28)", "(os error 122)", "database or disk is full"];
    chain(error).map(ToString::to_string).any(|text| full.iter().any(|full| text.contains(full)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// An error of the system, with these texts around it.
    fn nested(texts: [&'static str; 3], innermost: i32) -> anyhow::Error {
        let innermost = anyhow::Error::from(io::Error::from_raw_os_error(innermost));
        texts.into_iter().rev().fold(innermost, anyhow::Error::context)
    }

    #[test]
    fn what_is_wrong_with_the_process_is_found_however_deep_it_lies() {
        let texts = ["no circuit", "no channel", "cannot connect"];
        assert!([23, 24].into_iter().all(|code| is_out_of_handles(&*nested(texts, code))));
        assert!(!is_out_of_handles(&*nested(texts, 28)) && is_disk_full(&*nested(texts, 28)));
        assert!(!is_disk_full(&*nested(texts, 24)));
    }

    #[test]
    fn a_text_of_several_lines_is_one() {
        let text = "it has 2 errors:\n\narti.toml:3: a\n    what is right: b\r\narti.toml:7: c\n";
        let one = "it has 2 errors: arti.toml:3: a; what is right: b; arti.toml:7: c";
        assert_eq!(on_one_line(text), one);
        assert_eq!(on_one_line(one), one);
        assert_eq!(on_one_line("\n"), "");
    }
}
