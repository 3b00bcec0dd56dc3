//! Decides whether the head of an origin's answer can be passed on. Pure.
//!
//! Every answer is judged before it is written to a client, whatever its method,
//! status and version: what hyper does not check (the length of an answer without
//! a body), or repairs in its own way, must not reach a client that could read it
//! differently. Origins judge what they send for their own health; the exchange has
//! judged what comes from any other upstream, since it trusts none.

use http::header::{
    CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING,
};
use http::{Method, Response, StatusCode, Version, response};

use crate::token::is_token;

/// Why an answer cannot be passed on. What the origin wrote is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFlaw {
    /// More fields than the settings allow.
    #[error("an answer with more than {0} header fields")]
    TooManyFields(usize),
    /// The name of a field is no token (RFC 9110, section 5.1).
    #[error("an answer with a malformed field name")]
    FieldName,
    /// Its length is no number, or two different ones (RFC 9110, section 8.6).
    #[error("an answer with a malformed or ambiguous Content-Length")]
    Length,
    /// It has a transfer coding other than `chunked`, which no request asks for,
    /// or two framings (RFC 9112, section 6.1).
    #[error("an answer with a Transfer-Encoding other than `chunked` alone")]
    Coding,
    /// It leads to several places.
    #[error("an answer with several different Locations")]
    Locations,
}

/// An extension of a head that was accepted.
#[derive(Clone, Copy)]
struct Judged;

/// Accepts or refuses a head, and merges equal values of `Content-Length` and
/// `Location` into one field. What was accepted once stays so.
///
/// # Errors
///
/// The answer can be read in two ways, or in none.
pub fn judge(max_fields: usize, answer: &mut response::Parts) -> Result<(), AnswerFlaw> {
    if answer.extensions.get::<Judged>().is_some() {
        return Ok(());
    }
    let headers = &mut answer.headers;
    if headers.len() > max_fields {
        return Err(AnswerFlaw::TooManyFields(max_fields));
    }
    if !headers.keys().all(|name| name.as_str().bytes().all(is_token)) {
        return Err(AnswerFlaw::FieldName);
    }
    trim(headers);
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        let alone = codings.next().is_none() && !headers.contains_key(CONTENT_LENGTH);
        // HTTP/1.0 has no chunks.
        if !chunked || !alone || answer.version == Version::HTTP_10 {
            return Err(AnswerFlaw::Coding);
        }
    }
    if let Some(length) = length(headers)? {
        if answer.status.is_informational() || answer.status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_LENGTH);
        } else {
            headers.insert(CONTENT_LENGTH, length.into());
        }
    }
    once(headers, &LOCATION)?;
    answer.extensions.insert(Judged);
    Ok(())
}

/// Whether an origin may send content after an answer that has none (RFC 9110, section
/// 6.4.1), where it would be taken for the next answer: because it announces some, or
/// because it may have overlooked that the request was a `HEAD`. For an answer that was
/// not judged yet.
///
/// A 304 may say how long the answer to a `GET` would be; servers hardly ever do, so
/// that it costs nothing to trust none that does.
pub fn may_go_on<B>(method: &Method, answer: &Response<B>) -> bool {
    let headers = answer.headers();
    let announces = headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    let without = matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    *method == Method::HEAD || (without && announces)
}

/// The one length that all fields and members of lists say (RFC 9112, section
/// 6.3): `010` is ten, and `+3` nothing at all.
fn length(headers: &HeaderMap) -> Result<Option<u64>, AnswerFlaw> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for member in value.as_bytes().split(|byte| *byte == b',') {
            let digits =
                std::str::from_utf8(member.trim_ascii()).map_err(|_| AnswerFlaw::Length)?;
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(AnswerFlaw::Length);
            }
            let number: u64 = digits.parse().map_err(|_| AnswerFlaw::Length)?;
            if *length.get_or_insert(number) != number {
                return Err(AnswerFlaw::Length);
            }
        }
    }
    Ok(length)
}

/// Makes one field of several that are equal.
fn once(headers: &mut HeaderMap, name: &HeaderName) -> Result<(), AnswerFlaw> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(()) };
    match values.next() {
        None => return Ok(()),
        Some(_) if headers.get_all(name).iter().any(|value| value != first) => {
            return Err(AnswerFlaw::Locations);
        }
        Some(_) => {}
    }
    let first = first.clone();
    headers.insert(name, first);
    Ok(())
}

/// Takes blanks from around values: HTTP/1 has none there, and in HTTP/2 they
/// would break the answer (RFC 9113, section 8.2.1).
fn trim(headers: &mut HeaderMap) {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    for value in headers.values_mut() {
        let bytes = value.as_bytes();
        if (blank(bytes.first()) || blank(bytes.last()))
            && let Ok(trimmed) = HeaderValue::from_bytes(bytes.trim_ascii())
        {
            *value = trimmed;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    /// What becomes of an answer with these fields.
    fn judged(status: u16, fields: &[(&str, &str)]) -> Result<Vec<(String, String)>, AnswerFlaw> {
        let mut answer = Response::new(()).into_parts().0;
        answer.status = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            let name = HeaderName::from_lowercase(name.as_bytes()).unwrap();
            answer.headers.append(name, value.parse().unwrap());
        }
        judge(10, &mut answer)?;
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        Ok(answer.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    #[test]
    fn lengths_that_are_equal_become_one_and_others_are_none() {
        let lengths = |status, values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            judged(status, &fields).map(|fields| {
                fields.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("|")
            })
        };
        for status in [200, 206, 302, 304, 404, 500] {
            for (values, one) in [
                (&["3"][..], "3"),
                (&["3", "3"], "3"),
                (&["3, 3"], "3"),
                (&["3,3", " 3 ", "03"], "3"),
                (&["010"], "10"),
                (&["0"], "0"),
                (&["18446744073709551615"], "18446744073709551615"),
            ] {
                assert_eq!(lengths(status, values).as_deref(), Ok(one), "{values:?}");
            }
        }
        for status in [101, 200, 204, 304] {
            for values in [
                &["abc"][..],
                &[""],
                &["-1"],
                &["+3"],
                &["3", "4"],
                &["3, 4"],
                &["3,"],
                &[",3"],
                &["3", ""],
                &["3 3"],
                &["3;3"],
                &["0x3"],
                &["3.0"],
                &["\"3\""],
                &["18446744073709551616"],
            ] {
                assert_eq!(lengths(status, values), Err(AnswerFlaw::Length), "{values:?}");
            }
        }
        for status in [101, 204] {
            assert_eq!(lengths(status, &["3", "3"]).as_deref(), Ok(""), "a body that cannot be");
        }
    }

    #[test]
    fn only_chunks_alone_are_a_coding() {
        let te = "transfer-encoding";
        assert!(judged(200, &[(te, " Chunked ")]).is_ok());
        for fields in [
            &[(te, "gzip, chunked")][..],
            &[(te, "chunked"), (te, "chunked")],
            &[(te, "chunked"), ("content-length", "3")],
            &[(te, "")],
            &[(te, "identity")],
        ] {
            for status in [200, 204, 304] {
                assert_eq!(judged(status, fields), Err(AnswerFlaw::Coding), "{fields:?}");
            }
        }
        let mut old = Response::new(()).into_parts().0;
        old.version = Version::HTTP_10;
        old.headers.insert(te, HeaderValue::from_static("chunked"));
        assert_eq!(judge(10, &mut old), Err(AnswerFlaw::Coding));
    }

    #[test]
    fn an_answer_leads_to_one_place() {
        let one = Ok(vec![("location".to_owned(), "/a".to_owned())]);
        assert_eq!(judged(302, &[("location", "/a"), ("location", "/a")]), one);
        assert_eq!(
            judged(302, &[("location", "/a"), ("location", "/b")]),
            Err(AnswerFlaw::Locations)
        );
    }

    #[test]
    fn names_are_tokens_and_values_have_no_blanks_around_them() {
        assert_eq!(judged(200, &[("x\"", "1")]), Err(AnswerFlaw::FieldName));
        assert_eq!(judged(200, &[("x", " y\t")]), Ok(vec![("x".to_owned(), "y".to_owned())]));
    }

    #[test]
    fn an_answer_without_content_that_announces_some_may_go_on() {
        let goes_on = |method: &str, status: u16, name: &str, value: &str| {
            let answer = Response::builder().status(status).header(name, value).body(()).unwrap();
            may_go_on(&Method::from_bytes(method.as_bytes()).unwrap(), &answer)
        };
        for status in [204, 304] {
            for value in ["1", "00", "", "0, 0", "x"] {
                assert!(goes_on("GET", status, "content-length", value), "{status} {value}");
            }
            assert!(goes_on("GET", status, "transfer-encoding", "chunked"), "{status}");
            assert!(!goes_on("GET", status, "content-length", "0"), "{status}");
            assert!(!goes_on("POST", status, "x", "y"), "{status}");
        }
        assert!(goes_on("HEAD", 200, "content-length", "0") && goes_on("HEAD", 200, "x", "y"));
        for status in [200, 205, 404] {
            assert!(!goes_on("GET", status, "content-length", "4"), "it is read: {status}");
        }
    }

    #[test]
    fn fields_are_counted() {
        assert!(judged(200, &[("x", "y"); 10]).is_ok());
        assert_eq!(judged(200, &[("x", "y"); 11]), Err(AnswerFlaw::TooManyFields(10)));
    }
}
