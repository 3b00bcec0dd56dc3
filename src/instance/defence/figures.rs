//! What is asked of clients, and what came of it?

use onionbraid_balancer::pow::Effort;

/// What is asked of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefenceSettings {
    /// Introductions taken from the queue in a second, and at once.
    pub rate: (u32, u32),
    /// How many may wait.
    pub depth: usize,
    /// The most effort to ask for.
    pub max_effort: Effort,
    /// Whether clients of the service's own address can be asked for work. If not, only
    /// seeds that publishers of other addresses give have introductions ordered.
    pub asks: bool,
    /// Whether introductions for addresses of other publishers come as well,
    /// whose seeds are not known here.
    pub has_frontends: bool,
}

/// What comes of proof of work, up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefenceStatus {
    /// How much work the queue suggests to ask clients for.
    pub effort: Effort,
    /// How much clients are asked for by the publishers of other addresses.
    pub asked_elsewhere: Effort,
    /// Introductions that are acted upon in a second, in the long run.
    pub rate: u32,
    /// Introductions that wait.
    pub queue: usize,
    /// So many may.
    pub queue_limit: usize,
    /// The greatest effort that was dropped in the last minute.
    pub trimmed_effort: Effort,
    /// Introductions dropped for better ones.
    pub trimmed: u64,
    /// Introductions dropped because they had waited too long.
    pub expired: u64,
    /// Solutions that were right and counted.
    pub verified: u64,
    /// Solutions for a seed that is not accepted, any more or at all.
    pub refused_unknown_seed: u64,
    /// Solutions that are none.
    pub refused_wrong: u64,
    /// Solutions that were used before.
    pub refused_used: u64,
    /// Solutions too cheap to be remembered: they count as no work.
    pub refused_cheap: u64,
}
