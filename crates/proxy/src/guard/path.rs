//! Which of the operator's paths a request's path lies below. Pure.
//!
//! Servers differ in what they make of a path before they look at it: some
//! decode it twice, take a backslash for a slash, cut `;parameters` off, make
//! one slash of several, or take capitals for small letters; some resolve the
//! path as a reference, to which `//x/admin` is `/admin` at a host `x`
//! (RFC 3986, section 4.2), or look again for a query in what they have decoded. A
//! rule that refuses a path has to hold for all of them, so each reading is tried,
//! and it is enough that a path passes through the refused one on its way. That
//! refuses some odd paths too many, such as `/admin/../public`, which browsers do
//! not send, and `/Admin` where that is another page than `/admin`.
//!
//! Clients choose the path: it is decoded and read once for all rules, and what
//! a rule adds to each of its segments is a step of a binary search.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use percent_encoding::percent_decode;

/// How often a server may decode a path.
const DECODINGS: usize = 3;

/// The paths of all rules, made ready to be compared.
pub(super) struct Starts(Vec<Start>);

/// The path of one rule.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    /// Its names, decoded and in small letters.
    names: Vec<Vec<u8>>,
    /// The rule.
    rule: usize,
}

/// What a server may do with a path besides decoding it.
#[derive(Clone, Copy)]
struct PathReading {
    /// `\` is a `/`.
    backslashes: bool,
    /// `;` begins what is no part of the segment's name.
    parameters: bool,
    /// Several slashes are one.
    merged: bool,
}

/// Where a walk along a path has led to.
#[derive(Clone, Copy)]
struct PathPlace {
    /// The first of the starts that begin with its names, and have more.
    first: usize,
    /// Behind the last of them.
    end: usize,
    /// How many names it has.
    depth: usize,
}

impl Starts {
    /// Of these rules and their paths.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = (usize, &'a str)>) -> Self {
        let start = |(rule, path): (usize, &str)| {
            let path = decoded(path.as_bytes());
            let names = path.split(|c| *c == b'/').filter(|name| !name.is_empty());
            Start { names: names.map(<[u8]>::to_vec).collect(), rule }
        };
        let mut starts: Vec<Start> = paths.into_iter().map(start).collect();
        starts.sort();
        Self(starts)
    }

    /// The rules with whose names `path` begins, in any reading.
    pub(super) fn reached_by(&self, path: &str) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut path = path.as_bytes().to_ascii_lowercase();
        for _ in 0..=DECODINGS {
            for part in parts(&path) {
                for reading in readings(part) {
                    self.walk(part, reading, &mut reached);
                    if reached.len() == self.0.len() {
                        return reached;
                    }
                }
            }
            let decoded = decoded(&path);
            if decoded.len() == path.len() {
                break;
            }
            path = decoded;
        }
        reached
    }

    /// Walks along a path and notes every rule's path that it comes to.
    fn walk(&self, path: &[u8], reading: PathReading, reached: &mut BTreeSet<usize>) {
        // Where each segment that `..` can take back was entered from.
        let mut segments = Vec::new();
        let all = PathPlace { first: 0, end: self.0.len(), depth: 0 };
        let mut place = self.arrive(all, reached);
        for segment in path.split(|c| *c == b'/' || reading.backslashes && *c == b'\\') {
            let name = match reading.parameters {
                true => segment.split(|c| *c == b';').next().unwrap_or_default(),
                false => segment,
            };
            match name {
                b"." => {}
                b".." => place = segments.pop().unwrap_or(place),
                b"" if reading.merged => {}
                b"" => segments.push(place),
                name => {
                    segments.push(place);
                    place = self.arrive(self.enter(place, name), reached);
                }
            }
        }
    }

    /// The place of this name in another.
    fn enter(&self, place: PathPlace, name: &[u8]) -> PathPlace {
        let order = |start: &Start| {
            start.names.get(place.depth).map_or(Ordering::Less, |next| next.as_slice().cmp(name))
        };
        let within = &self.0[place.first..place.end];
        let before = within.partition_point(|start| order(start).is_lt());
        let here = within[before..].partition_point(|start| order(start).is_eq());
        let first = place.first + before;
        PathPlace { first, end: first + here, depth: place.depth + 1 }
    }

    /// Notes the paths that end in a place, which come first of those in it.
    fn arrive(&self, place: PathPlace, reached: &mut BTreeSet<usize>) -> PathPlace {
        let within = &self.0[place.first..place.end];
        let ended = within.iter().take_while(|start| start.names.len() == place.depth);
        let mut first = place.first;
        for start in ended {
            reached.insert(start.rule);
            first += 1;
        }
        PathPlace { first, ..place }
    }
}

/// What a path becomes when it is decoded, in small letters: those of ASCII, as
/// servers compare.
fn decoded(path: &[u8]) -> Vec<u8> {
    percent_decode(path).map(|byte| byte.to_ascii_lowercase()).collect()
}

/// What servers can take for the path in what stands in its place: all of it, it
/// without what would be a query, a fragment or the end of a string, and each of
/// these without what would be a host.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = path.iter().position(|byte| b"?#\0".contains(byte));
    let wholes = [Some(path), end.map(|end| &path[..end])];
    wholes.into_iter().flatten().flat_map(|whole| [Some(whole), behind_host(whole)]).flatten()
}

/// What follows the host in a reference that begins with one: after two slashes or
/// more, as browsers read it, of which any may be a backslash.
fn behind_host(path: &[u8]) -> Option<&[u8]> {
    let slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let start = path.iter().position(|byte| !slash(byte)).filter(|start| *start >= 2)?;
    let host = path[start..].iter().position(slash)?;
    Some(&path[start + host..])
}

/// The readings in which servers can differ about a path: of most, one.
fn readings(path: &[u8]) -> impl Iterator<Item = PathReading> {
    let backslash = path.contains(&b'\\');
    let parameter = path.contains(&b';');
    let nameless = backslash || parameter || path.windows(2).any(|pair| pair == b"//");
    (0..8)
        .map(|bits| PathReading {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn begins_with(path: &str, start: &str) -> bool {
        Starts::new([(0, start)]).reached_by(path).contains(&0)
    }

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
            "/ADMIN",
            "/Admin/users",
            "/%41dmin",
            "/%2541dmin",
            "/x/..;/aDMIN",
            "//x/admin",
            "///x:80/admin/users",
            "/\\x/admin",
            "/%2fx/admin",
            "/%5cx\\admin",
            "//x@y/./admin",
            "//x/y/../admin",
            "/admin%3fx",
            "/admin%23",
            "/admin%00.png",
            "/admin%253Fx",
            "//x/admin%3f/..",
        ] {
            assert!(begins_with(path, "/admin"), "{path}");
            assert!(begins_with(path, "/admin/"), "{path}");
            assert!(begins_with(path, "/%61dmin"), "{path}");
            assert!(begins_with(path, "/Admin"), "{path}");
            assert!(begins_with(path, "/%41DMIN"), "{path}");
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
            "/%2525252561dmin",
            "/x;/admin;y",
            "/xadmin",
            "/admin.php",
            "/.admin",
            "//x",
            "//x/y/admin",
            "/x/%3f/admin",
            "/%00admin",
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

    #[test]
    fn of_many_rules_those_on_the_way_are_found() {
        let paths = ["/b", "/a/b", "/", "/a", "/a/b/c", "/b", "/ab", "/c", "//"];
        let starts = Starts::new(paths.into_iter().enumerate());
        for (path, reached) in [
            ("", &[2, 8][..]),
            ("/x", &[2, 8]),
            ("/a", &[2, 3, 8]),
            ("/a/b", &[1, 2, 3, 8]),
            ("/a/x/../b/./c/d", &[1, 2, 3, 4, 8]),
            ("/b;x", &[0, 2, 5, 8]),
            ("/ab/../b/b", &[0, 2, 5, 6, 8]),
            ("/c/../a/../b", &[0, 2, 3, 5, 7, 8]),
        ] {
            assert!(starts.reached_by(path).iter().eq(reached), "{path}");
        }
        assert!(Starts::new([]).reached_by("/a").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn a_rule_is_reached_by_the_same_paths_whatever_the_others_are(
            paths in proptest::collection::vec("(/{1,2}[ab]{0,2}){0,3}", 1..8),
            path in "([/\\\\][ab.;]{0,3}|%2f|%252e){0,6}",
        ) {
            let starts = Starts::new(paths.iter().map(String::as_str).enumerate());
            let alone = (0..paths.len()).filter(|rule| begins_with(&path, &paths[*rule]));
            assert!(starts.reached_by(&path).into_iter().eq(alone), "{path}");
        }

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
