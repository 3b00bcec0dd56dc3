//! Which requests are refused before anything else is done with them. Pure.

use http::request::Parts;

use super::failure::Failure;
use super::settings::GuardSettings;

/// Whether a request may go on.
pub fn check(settings: &GuardSettings, request: &Parts) -> Result<(), Failure> {
    if request.headers.len() > settings.max_headers {
        return Err(Failure::HeadTooLarge);
    }
    Ok(())
}
