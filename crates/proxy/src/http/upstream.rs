//! Who answers requests in the end: origins, or files.

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use hyper::{Request, Response};

use crate::body::Body;
use crate::failure::Failure;
use crate::files::Files;
use crate::headers::Own;
use crate::origins::{Client, Origins};
use crate::pages::Pages;
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
    fn own(&self) -> Own {
        Own::default()
    }

    /// What is known of the origins, for the status.
    fn origins(&self) -> Vec<status::Origin> {
        Vec::new()
    }
}

/// An extension of a response: which origin has answered, by its place in the
/// operator's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromOrigin(pub usize);

impl Upstream for Origins {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        visitor: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        self.send(request, Client { circuit: visitor.circuit, port: visitor.port }).boxed()
    }

    fn own(&self) -> Own {
        self.own().clone()
    }

    fn origins(&self) -> Vec<status::Origin> {
        let states = self.snapshot().into_iter().map(|origin| status::Origin {
            name: origin.name,
            state: match (&origin.out, &origin.trouble) {
                (Some(_), _) => status::OriginState::Down,
                (None, Some(_)) => status::OriginState::Failing,
                (None, None) => status::OriginState::Up,
            },
            reason: origin.out.or(origin.trouble),
            requests: origin.requests,
            failures: origin.failures,
            in_flight: u64::try_from(origin.in_flight).unwrap_or(u64::MAX),
            ..status::Origin::default()
        });
        states.collect()
    }
}

/// Files, with pages in place of those that are not there.
pub struct Site {
    /// The files.
    pub files: Files,
    /// The pages.
    pub pages: Pages,
}

impl Upstream for Site {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        visitor: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        let answer = self.files.answer(request, visitor.circuit, &visitor.onion);
        answer.map_ok(|response| self.pages.complete(response)).boxed()
    }
}
