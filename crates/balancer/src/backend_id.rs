//! Which backend of a service?

/// A backend of one service. The shell gives the numbers; one that a reload
/// takes out is not given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);
