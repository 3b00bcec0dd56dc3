//! What can go wrong with a request, and the one answer and counter for each.

use std::fmt;

use hyper::StatusCode;

/// Why a request was not answered by an origin, or by a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The request breaks HTTP, or can be understood in two ways.
    Malformed,
    /// The client and the port could not agree on TLS, or not in time; nobody sees
    /// the answer.
    TlsHandshake,
    /// The client took too long to send its request.
    SlowClient,
    /// The client went before its request was complete; nobody sees the answer.
    ClientGone,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The target of the request is longer than allowed.
    TargetTooLong,
    /// The head is longer, or has more fields, than allowed.
    HeadTooLarge,
    /// It came through a Tor2web gateway.
    Tor2web,
    /// A rule of the operator's refuses it, with this status (400 to 499).
    Blocked(u16),
    /// The client's circuit has made too many requests.
    TooMany,
    /// The process has as many requests under way as it may.
    Overloaded,
    /// The client was too slow with what others waited for.
    GivenUp,
    /// Checks find every origin ill.
    NoOrigin,
    /// The origins have no connection to spare, or none for this circuit.
    OriginsBusy,
    /// As many files are open as may be, or as this circuit may have.
    FilesBusy,
    /// Files can be read, by GET or HEAD, and no more.
    ReadOnly,
    /// A file cannot be opened, or not be read to its end.
    FileBroken,
    /// No connection to an origin, or none that could be trusted.
    OriginUnreachable,
    /// The origin broke the connection, or what it answers is no HTTP.
    OriginBroken,
    /// The origin took too long to accept a connection or to answer.
    OriginSlow,
}

impl Failure {
    /// What the client is answered.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::TlsHandshake | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::SlowClient | Self::GivenUp => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Tor2web => StatusCode::FORBIDDEN,
            Self::Blocked(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN),
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::ReadOnly => StatusCode::METHOD_NOT_ALLOWED,
            Self::FileBroken => StatusCode::INTERNAL_SERVER_ERROR,
            Self::OriginUnreachable | Self::OriginBroken => StatusCode::BAD_GATEWAY,
            Self::Overloaded | Self::NoOrigin | Self::OriginsBusy | Self::FilesBusy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::OriginSlow => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Its name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TlsHandshake => "tls_handshake",
            Self::SlowClient => "slow_client",
            Self::ClientGone => "client_gone",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::Tor2web => "tor2web",
            Self::Blocked(_) => "blocked",
            Self::TooMany => "too_many",
            Self::Overloaded => "overloaded",
            Self::GivenUp => "given_up",
            Self::NoOrigin => "no_origin",
            Self::OriginsBusy => "origins_busy",
            Self::FilesBusy => "files_busy",
            Self::ReadOnly => "read_only",
            Self::FileBroken => "file_broken",
            Self::OriginUnreachable => "origin_unreachable",
            Self::OriginBroken => "origin_broken",
            Self::OriginSlow => "origin_slow",
        }
    }
}

/// In plain words, for the page that the client sees.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed | Self::TlsHandshake => "The request could not be understood.",
            Self::SlowClient | Self::GivenUp => "The request took too long to arrive.",
            Self::ClientGone => "The request did not arrive in full.",
            Self::BodyTooLarge => "The request is too large.",
            Self::TargetTooLong => "The address in the request is too long.",
            Self::HeadTooLarge => "The head of the request is too large.",
            Self::Tor2web => "This site is not offered through gateways. Use Tor Browser.",
            Self::Blocked(_) | Self::ReadOnly => "This request is not allowed.",
            Self::TooMany => "Too many requests. Please wait a moment.",
            Self::Overloaded | Self::NoOrigin | Self::OriginsBusy | Self::FilesBusy => {
                "The site is busy. Please try again later."
            }
            Self::FileBroken => "Something went wrong. Please try again later.",
            Self::OriginUnreachable | Self::OriginBroken => {
                "The server behind this site does not answer properly."
            }
            Self::OriginSlow => "The server behind this site took too long to answer.",
        })
    }
}

impl std::error::Error for Failure {}
