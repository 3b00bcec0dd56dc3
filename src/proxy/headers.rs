//! What is changed in the heads of requests and responses on their way. Pure.

pub mod hop;

use http::{request, response};

use super::settings::HeaderSettings;
use super::visitor::Visitor;

/// Makes of a client's request the one that the origin gets.
pub fn request(_settings: &HeaderSettings, _visitor: &Visitor, request: &mut request::Parts) {
    hop::clean_request(request);
}

/// Makes of an origin's response the one that the client gets.
pub fn response(settings: &HeaderSettings, _visitor: &Visitor, response: &mut response::Parts) {
    hop::clean_response(response);
    for name in &settings.strip {
        response.headers.remove(name);
    }
}
