//! The order of the fields of a head. Pure.
//!
//! Taking a field out of a [`HeaderMap`] puts the last one in its place, and who sees
//! that knows that something stands in between. Fields of one name stand together, as
//! the map keeps them.

use http::{HeaderMap, HeaderName};

/// Where each field of a head stood.
pub(super) struct FieldOrder(HeaderMap<usize>);

impl FieldOrder {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().cloned().zip(0..).collect())
    }

    /// Puts the fields there again; those that are new follow.
    pub(super) fn restore(&self, headers: &mut HeaderMap) {
        let place = |name: &HeaderName| self.0.get(name).copied().unwrap_or(usize::MAX);
        if headers.keys().is_sorted_by_key(place) {
            return;
        }
        let before = std::mem::take(headers);
        let mut names: Vec<_> = before.keys().collect();
        names.sort_by_key(|name| place(name));
        for name in names {
            for value in before.get_all(name) {
                headers.append(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(names: &str) -> HeaderMap {
        let field = |name: &str| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_static("x"))
        };
        names.split(' ').map(field).collect()
    }

    #[test]
    fn what_is_left_stands_in_its_order_and_what_is_new_at_the_end() {
        let mut headers = fields("a b c b d e");
        let order = FieldOrder::of(&headers);
        headers.remove("a");
        headers.insert("new", HeaderValue::from_static("y"));
        headers.remove("c");
        headers.insert("c", HeaderValue::from_static("y"));
        order.restore(&mut headers);
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["b", "c", "d", "e", "new"]);
        assert_eq!(headers.get_all("b").iter().count(), 2);
    }
}
