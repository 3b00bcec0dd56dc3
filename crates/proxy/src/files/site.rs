//! Files as the proxy asks for them.

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use hyper::{Request, Response};

use super::Files;
use crate::body::Body;
use crate::failure::Failure;
use crate::pages::Pages;
use crate::upstream::Upstream;
use crate::visitor::Visitor;

/// Files, with pages in place of those that are not there.
pub struct FileSite {
    /// The files.
    pub files: Files,
    /// The pages.
    pub pages: Pages,
}

impl Upstream for FileSite {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        visitor: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        let answer = self.files.answer(request, visitor.circuit, &visitor.onion);
        answer.map_ok(|response| self.pages.complete(response)).boxed()
    }
}
