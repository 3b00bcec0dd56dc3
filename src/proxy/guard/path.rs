//! Whether a path can be taken for one below another. Pure.
//!
//! Servers differ in what they make of a path before they look at it: some
//! decode it twice, take a backslash for a slash, cut `;parameters` off, or make
//! one slash of several. A rule that refuses a path has to hold for all of
//! them, so each reading is tried, and it is enough that a path passes through
//! the refused one on its way. That refuses some odd paths too many, such as
//! `/admin/../public`; browsers do not send those.

use percent_encoding::percent_decode;

/// How often a server may decode a path.
const DECODINGS: usize = 3;

/// What a server may do with a path besides decoding it.
#[derive(Clone, Copy)]
struct Reading {
    /// `\` is a `/`.
    backslashes: bool,
    /// `;` begins what is no part of the segment's name.
    parameters: bool,
    /// Several slashes are one.
    merged: bool,
}

/// Whether `path` begins with the segments of `start`, in any reading.
pub(super) fn begins_with(path: &str, start: &str) -> bool {
    let start: Vec<u8> = percent_decode(start.as_bytes()).collect();
    let start: Vec<&[u8]> = start.split(|c| *c == b'/').filter(|s| !s.is_empty()).collect();
    let mut path = path.as_bytes().to_vec();
    for _ in 0..=DECODINGS {
        if readings(&path).any(|reading| passes_through(&path, &start, reading)) {
            return true;
        }
        let decoded: Vec<u8> = percent_decode(&path).collect();
        if decoded == path {
            break;
        }
        path = decoded;
    }
    false
}

/// The readings in which servers can differ about a path: of most, one.
fn readings(path: &[u8]) -> impl Iterator<Item = Reading> {
    let backslash = path.contains(&b'\\');
    let parameter = path.contains(&b';');
    let nameless = backslash || parameter || path.windows(2).any(|pair| pair == b"//");
    (0..8)
        .map(|bits| Reading {
            backslashes: bits & 1 != 0,
            parameters: bits & 2 != 0,
            merged: bits & 4 != 0,
        })
        .filter(move |reading| {
            (backslash || !reading.backslashes)
                && (parameter || !reading.parameters)
                && (nameless || !reading.merged)
        })
}

/// Walks along a path; whether that leads below `start` at any moment.
fn passes_through(path: &[u8], start: &[&[u8]], reading: Reading) -> bool {
    // One entry for each segment that `..` can take back: whether it has a name.
    let mut segments = Vec::new();
    let mut names: Vec<&[u8]> = Vec::new();
    if start.is_empty() {
        return true;
    }
    for segment in path.split(|c| *c == b'/' || reading.backslashes && *c == b'\\') {
        let name = match reading.parameters {
            true => segment.split(|c| *c == b';').next().unwrap_or_default(),
            false => segment,
        };
        match name {
            b"." => {}
            b".." => {
                if segments.pop() == Some(true) {
                    names.pop();
                }
            }
            b"" => {
                if !reading.merged {
                    segments.push(false);
                }
            }
            name => {
                segments.push(true);
                names.push(name);
                if names.starts_with(start) {
                    return true;
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_disguise_leads_past_a_refused_path() {
        for path in [
            "/admin",
            "/admin/",
            "/admin/users",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x/%2E./admin",
            "/%61dmin",
            "/ad%6Din",
            "/ad%256Din",
            "/ad%25256Din",
            "/x%2f..%2fadmin",
            "/%2fadmin",
            "/x/..%5cadmin",
            "/x\\..\\admin",
            "/admin;jsessionid=1",
            "/admin;/users",
            "/x/..;/admin",
            "/x/..;a=b/admin/y",
            "/../admin",
            "/../../admin",
            "/admin/..",
            "/admin/%252e%252e/x",
            "/y/../admin/z\\..\\..",
            "/x//../../admin",
            "/x//../admin",
            "/x/%2f../admin",
            "/x\\y/../admin",
            "/;/admin",
            "/admin%2fusers",
            "admin",
        ] {
            assert!(begins_with(path, "/admin"), "{path}");
            assert!(begins_with(path, "/admin/"), "{path}");
            assert!(begins_with(path, "/%61dmin"), "{path}");
        }
    }

    #[test]
    fn other_paths_are_not_taken_for_a_refused_one() {
        for path in [
            "/",
            "",
            "/administrator",
            "/admi",
            "/x/admin",
            "/ADMIN",
            "/%2525252561dmin",
            "/x;/admin;y",
            "/xadmin",
            "/admin.php",
            "/.admin",
        ] {
            assert!(!begins_with(path, "/admin"), "{path}");
        }
    }

    #[test]
    fn several_segments_are_refused_as_a_whole() {
        for path in ["/a/b", "/a//b", "/a/x/../b/c", "/a/./b", "/a%2Fb", "/a//../b"] {
            assert!(begins_with(path, "/a/b"), "{path}");
        }
        for path in ["/a", "/a/bc", "/b/a", "/a/c/b", "/x/a/b"] {
            assert!(!begins_with(path, "/a/b"), "{path}");
        }
    }

    #[test]
    fn the_root_is_everything() {
        assert!(begins_with("/anything", "/"));
        assert!(begins_with("", ""));
    }

    proptest::proptest! {
        #[test]
        fn whatever_leads_to_a_refused_path_and_back_is_refused(
            before in proptest::collection::vec("[a-z]{1,3}", 0..4),
            slashes in "/{1,3}",
            after in "(/[a-z.;%\\\\]{0,4}){0,4}",
        ) {
            let mut path = String::new();
            for segment in &before {
                path.push('/');
                path.push_str(segment);
            }
            path.push_str(&"/..".repeat(before.len()));
            path.push_str(&slashes);
            path.push_str("admin");
            path.push_str(if after.is_empty() { "" } else { "/" });
            path.push_str(&after);
            assert!(begins_with(&path, "/admin"), "{path}");
        }

        #[test]
        fn no_path_is_too_odd_to_be_looked_at(path in ".{0,64}", start in ".{0,16}") {
            begins_with(&path, &start);
        }
    }
}
