//! The bodies of requests and responses as they pass through: never held
//! whole, frame by frame, trailers among them.

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;

/// A body on its way, in either direction.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off in the middle.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
