//! Who is on the other end of a stream, as far as anybody can know. Pure.

/// The client of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The number of its circuit: a count of ours that tells circuits apart and
    /// nothing else. Streams of one circuit are of one client.
    pub circuit: u64,
    /// The virtual port that it has connected to.
    pub port: u16,
    /// The onion address that it has connected to, `….onion`.
    pub onion: String,
    /// Whether it has come by HTTPS.
    pub tls: bool,
}

impl Visitor {
    /// The scheme of what it asks for.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}
