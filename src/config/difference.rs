//! One key whose value differs between two configurations.

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The whole key, with dots.
    pub key: String,
    /// What was there before and is there after.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

impl Difference {
    /// Whether it is about this key, or one in this table (as a file heads it: `[name]`).
    pub fn is_in(&self, place: &str) -> bool {
        let place = place.trim_start_matches('[').trim_end_matches(']');
        let rest = self.key.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_lies_in_its_own_table_and_in_no_other() {
        let at = |key: &str| Difference { key: key.to_owned(), what: String::new() };
        assert!(at("metrics.prometheus.listen").is_in("[metrics]"));
        assert!(at("tor_network").is_in("[tor_network]"));
        assert!(at("logging.format").is_in("logging.format"));
        assert!(!at("logging.console").is_in("logging.format"));
        assert!(!at("metrics_more.x").is_in("[metrics]"));
    }
}
