//! What is worth telling whoever has started the daemon at a terminal.

/// What is worth telling at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The services have started: their names and addresses.
    Started(Vec<(String, String)>),
    /// How far the Tor client is.
    Progress(String),
}
