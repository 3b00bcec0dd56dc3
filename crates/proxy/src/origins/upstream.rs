//! Origins as the proxy asks them.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::{Request, Response};

use super::{Client, Origins};
use crate::body::Body;
use crate::failure::Failure;
use crate::headers::OwnNames;
use crate::status;
use crate::upstream::Upstream;
use crate::visitor::Visitor;

impl Upstream for Origins {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        visitor: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        self.send(request, Client { circuit: visitor.circuit, port: visitor.port }).boxed()
    }

    fn own(&self) -> OwnNames {
        self.own.clone()
    }

    fn origins(&self) -> Vec<status::OriginStatus> {
        let states = self.snapshot().into_iter().map(|origin| status::OriginStatus {
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
            ..status::OriginStatus::default()
        });
        states.collect()
    }
}
