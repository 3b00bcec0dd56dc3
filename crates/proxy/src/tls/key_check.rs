//! Is the key of a certificate private enough? Whoever serves the port says.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

type Rule = dyn Fn(&File, &Path) -> Result<(), String> + Send + Sync;

/// Says whether the file that was opened at a path, and holds a secret key, is private
/// enough to be used, and if not, what to do about it.
#[derive(Clone)]
pub struct KeyCheck(Arc<Rule>);

impl KeyCheck {
    /// By this rule.
    pub fn new(rule: impl Fn(&File, &Path) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    pub(crate) fn check(&self, opened: &File, path: &Path) -> Result<(), String> {
        (self.0)(opened, path)
    }
}

impl fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyCheck")
    }
}
