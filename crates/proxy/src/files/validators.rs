//! The validators by which a client recognises the state of a file that it has
//! (RFC 9110, section 8.8). Pure.
//!
//! The library's tag shows the length and the time of modification, which with
//! its nanoseconds tells one machine from another. Clients get a digest of it:
//! with the onion address, so that two sites with the same files have different
//! tags, while all who answer for one address agree without a secret. Since a
//! digest can be searched for what was put in, [`blurred`] leaves no more of the
//! nanoseconds than it takes to tell two states of one second apart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_LENGTH, ETAG, HeaderName, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

/// A file as a request has found it.
pub(super) struct FileSeen {
    /// The library's tag.
    pub(super) tag: Option<HeaderValue>,
    /// What clients know it by.
    opaque: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    /// In bytes.
    pub(super) length: Option<u64>,
}

impl FileSeen {
    /// By the head of an answer of the library.
    pub(super) fn of(salt: &str, head: &HeaderMap) -> Self {
        let tag = head.get(ETAG).cloned();
        let length = head.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self {
            opaque: tag.as_ref().map(|tag| opaque(salt, tag)),
            modified: head.get(LAST_MODIFIED).cloned(),
            tag,
            length,
        }
    }

    /// Whether `If-Range` is about this state.
    pub(super) fn is_meant_by(&self, condition: &HeaderValue) -> bool {
        [&self.opaque, &self.modified].into_iter().flatten().any(|known| known == condition)
    }

    /// Puts the library's tag into a list of clients' tags.
    pub(super) fn translate(&self, headers: &mut HeaderMap, name: &HeaderName) {
        let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
        let list = lists.collect::<Vec<_>>().join(", ");
        let text = |tag: &Option<HeaderValue>| {
            tag.as_ref().and_then(|tag| tag.to_str().ok()).map(str::to_owned)
        };
        let (Some(tag), Some(opaque)) = (text(&self.tag), text(&self.opaque)) else { return };
        // A client cannot know the library's own.
        let list = list.replace(&tag, "\"\"").replace(&opaque, &tag);
        if let Some(list) = HeaderValue::try_from(list).ok().filter(|_| headers.contains_key(name))
        {
            headers.insert(name, list);
        }
    }
}

/// What clients know a state of a file by.
pub(super) fn opaque(salt: &str, tag: &HeaderValue) -> HeaderValue {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(tag).finalize();
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Digits are valid.
    HeaderValue::try_from(format!("\"{digits}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// A time of modification with its second, and sixteen bits of what else there
/// is: two states of one second differ, and which moment it was cannot be found.
pub(super) fn blurred(modified: SystemTime) -> SystemTime {
    let Ok(since) = modified.duration_since(UNIX_EPOCH) else { return modified };
    let digest = Sha256::digest(since.as_nanos().to_be_bytes());
    let bits = digest.iter().take(2).fold(0, |bits, byte| bits << 8 | u32::from(*byte));
    UNIX_EPOCH + Duration::new(since.as_secs(), bits)
}
