//! Who answers requests in the end: origins, files, or a redirect.

use futures::future::BoxFuture;
use hyper::{Request, Response};

use crate::body::Body;
use crate::failure::Failure;
use crate::headers::OwnNames;
use crate::status;
use crate::visitor::Visitor;

/// Whoever answers requests in the end.
pub trait Upstream: Send + Sync + 'static {
    /// Answers one request of a client. Dropping the future, or the body of the
    /// response, aborts the request.
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        visitor: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>>;

    /// What the origins call themselves.
    fn own(&self) -> OwnNames {
        OwnNames::default()
    }

    /// What is known of the origins, for the status.
    fn origins(&self) -> Vec<status::OriginStatus> {
        Vec::new()
    }
}

/// An extension of a response: which origin has answered, by its place in the
/// operator's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromOrigin(pub usize);
