//! Names of hosts and of header fields: what is a good one, and if not, why?

use onionbraid_proxy::token;

/// A host name in lower case, without a port.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn host(text: &str) -> Result<String, String> {
    if !text.is_ascii() {
        return Err(format!("`{text}` has to be written in ASCII, as xn--... (IDNA)"));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // What ends in a number is an IPv4 address, or was meant to be one.
    let number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let good = text.len() <= 253 && text.split('.').all(label);
    if good && text.rsplit('.').next().is_some_and(number) {
        return Err(format!("`{text}` is an address: a name is needed, such as example.com"));
    }
    if !good {
        return Err(format!(
            "`{text}` is no host name: it has letters, digits, `-` and `.`, such as example.com"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether a name is of an onion service, which no resolver may be asked for
/// (RFC 7686).
pub(crate) fn is_onion(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("onion")
}

/// What frames a message, or belongs to one connection and is never passed on
/// (RFC 9110, section 7.6.1): whoever changes these breaks HTTP.
const OF_THE_CONNECTION: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks the name of a header field that is set or taken out.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn field(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 100 || !text.bytes().all(token::is_token) {
        return Err("this must be the name of a header field, such as \"X-Circuit\": at most 100 \
                    letters, digits and `-`"
            .to_owned());
    }
    if OF_THE_CONNECTION.contains(&text.to_ascii_lowercase().as_str()) {
        return Err(format!(
            "`{text}` belongs to the connection or frames the message: HTTP itself decides about it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_no_address_and_no_url() {
        for good in ["example.com", "web", "a_b", "1.example", "xn--bcher-kva.example", "Web-1"] {
            assert_eq!(host(good), Ok(good.to_ascii_lowercase()));
        }
        let long = format!("{}.com", "a".repeat(64));
        let wrong = ["", ".", "a..b", "a.", "-a", "a-", "127.0.0.1", "1.2", "a/b", "a:80", "[::1]"];
        for wrong in wrong.into_iter().chain(["a b", "b\u{fc}cher.example", &long]) {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_field_of_the_connection_is_not_ours_to_change() {
        assert_eq!(field("X-Circuit"), Ok(()));
        for wrong in ["", "X Circuit", "X:", "Host", "CONNECTION", "Transfer-Encoding", "\u{e4}"] {
            assert!(field(wrong).is_err(), "{wrong}");
        }
    }
}
