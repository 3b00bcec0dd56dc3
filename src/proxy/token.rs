//! What are the names of fields and methods made of? Pure.

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2): the name of a
/// field or a method.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
