//! How hosts are written, and whether one name lies below another. Pure.

/// The longest name of a host, in characters (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 255;

/// A host as a client or an origin names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// A name without the dot at its end, or an address; IPv6 in brackets.
    pub name: &'a str,
    /// The port, if one is named.
    pub port: Option<u16>,
}

impl<'a> Host<'a> {
    /// Reads `name`, `name:port` or `[address]:port`; `None` for anything else:
    /// for user information too.
    pub fn parse(text: &'a str) -> Option<Self> {
        let bracket = text.starts_with('[').then(|| text.find(']')).flatten();
        let (name, rest) = match bracket {
            Some(end) => text.split_at(end + 1),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            // A colon alone is the port of the scheme (RFC 3986, section 3.2.3).
            Some("") => None,
            Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            None if rest.is_empty() => None,
            _ => return None,
        };
        let name = if bracket.is_some() { name } else { name.strip_suffix('.').unwrap_or(name) };
        let valid = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let in_label = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
                name.len() <= LONGEST_NAME
                    && name.split('.').all(|label| !label.is_empty() && label.bytes().all(in_label))
            }
        };
        valid.then_some(Self { name, port })
    }
}

/// What stands before `domain` in a name that is this domain or below it: the
/// empty string, or labels with a dot at the end. `None` for any other name.
pub fn below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let (labels, rest) = name.split_at_checked(name.len().checked_sub(domain.len())?)?;
    let whole = labels.is_empty() || labels.ends_with('.');
    (whole && !domain.is_empty() && rest.eq_ignore_ascii_case(domain)).then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_is_not_taken_for_one() {
        for text in [
            "",
            ":80",
            ".",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a\\b",
            "a,b",
            "a\"b",
            "user@a",
            "a@b:80",
            "a:b",
            "a:+80",
            "a:65536",
            "a:80:80",
            "a:80 ",
            "[::1",
            "[::1]80",
            "[a]",
            "::1",
            "a%2eb",
            "ä",
            &"a".repeat(256),
        ] {
            assert_eq!(Host::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for (text, name, port) in [
            ("abc.onion", "abc.onion", None),
            ("ABC.onion:8080", "ABC.onion", Some(8080)),
            ("abc.onion.", "abc.onion", None),
            ("abc.onion.:80", "abc.onion", Some(80)),
            ("abc.onion:", "abc.onion", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]:80", "[::1]", Some(80)),
            ("[2001:db8::1]", "[2001:db8::1]", None),
            ("a_b", "a_b", None),
        ] {
            assert_eq!(Host::parse(text), Some(Host { name, port }), "{text:?}");
        }
    }

    #[test]
    fn only_whole_labels_make_a_subdomain() {
        assert_eq!(below("example.com", "example.com"), Some(""));
        assert_eq!(below("EXAMPLE.com", "example.COM"), Some(""));
        assert_eq!(below("www.example.com", "example.com"), Some("www."));
        assert_eq!(below("a.b.example.com", "example.com."), Some("a.b."));
        for other in ["notexample.com", "example.com.evil", "com", "", "example.co", "xexample.com"]
        {
            assert_eq!(below(other, "example.com"), None, "{other}");
        }
        assert_eq!(below("ä.com", "xcom"), None, "not within a character");
        assert_eq!(below("example.com", ""), None);
    }
}
