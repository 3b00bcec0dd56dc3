//! Whether clients are asked for work while many come, and how much:
//! `enable_pow`, `pow_rend_queue_depth`, `pow_rate` and `pow_max_effort`.

use super::error::{ConfigError, ConfigReport};
use super::reader::{TableItem, TableReader};
use onionbraid_balancer::pow::CLIENT_MAX_EFFORT;

/// The most introductions that may wait: what each takes, a kilobyte or so, adds
/// up to a gigabyte.
const MOST_WAITING: u32 = 1_000_000;

/// Proof of work of one service (torspec hspow-spec).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofOfWork {
    /// Whether clients can be asked for work (`enable_pow`).
    pub enabled: bool,
    /// Introductions that may wait, 2 to 1,000,000 (`pow_rend_queue_depth`).
    pub queue_depth: u32,
    /// Introductions that are acted upon in a second, 1 to 1,000,000 (`pow_rate`).
    pub rate: u32,
    /// The same at once after a quiet time, no fewer than in a second.
    pub burst: u32,
    /// The most effort that is suggested, 1 or more (`pow_max_effort`).
    pub max_effort: u32,
}

impl Default for ProofOfWork {
    /// Off; Arti's depth, C tor's rate and burst, and the most that clients do.
    fn default() -> Self {
        Self {
            enabled: false,
            queue_depth: 8_192,
            rate: 250,
            burst: 2_500,
            max_effort: CLIENT_MAX_EFFORT,
        }
    }
}

/// Reads the keys of a service that has so many local instances and asks relays
/// for a rate limit, or not. What is wrong has been reported.
pub(super) fn read(
    table: &mut TableReader<'_>,
    local_instances: u8,
    rate_limit_at_intro: Option<&TableItem<'_>>,
    report: &mut ConfigReport,
) -> ProofOfWork {
    let mut pow = ProofOfWork::default();
    let enable = table.get("enable_pow");
    if let Some(value) = enable.as_ref().and_then(|item| item.boolean(report)) {
        pow.enabled = value;
    }
    if let Some(value) =
        table.get("pow_rend_queue_depth").and_then(|item| item.integer(2..=MOST_WAITING, report))
    {
        pow.queue_depth = value;
    }
    if let Some((rate, burst)) = table.get("pow_rate").and_then(|item| rate(&item, report)) {
        (pow.rate, pow.burst) = (rate, burst);
    }
    if let Some(value) =
        table.get("pow_max_effort").and_then(|item| item.integer(1..=u32::MAX, report))
    {
        pow.max_effort = value;
    }
    if let Some(item) = table.get_unlisted("disable_pow_compilation") {
        let text = "solutions are never checked with compiled code here; it does nothing";
        report.warn(item.place(), &item.path, text);
    }
    let Some(item) = enable.filter(|_| pow.enabled) else { return pow };
    if !cfg!(feature = "pow") {
        item.wrong(
            "this program was built without proof of work (the feature `pow`): write false, or \
             install one that has it",
            report,
        );
    }
    if local_instances == 0 {
        let text = "local instances verify what clients did, and this service has none: work is \
                    asked for only while backends of its own kind with a control link verify it";
        report.warn(item.place(), &item.path, text);
    }
    if let Some(limit) = rate_limit_at_intro {
        let text = "relays drop what is beyond this limit without a look at the work that clients \
                    did, so with `enable_pow` leave it out";
        report.warn(limit.place(), &limit.path, text);
    }
    pow
}

/// `{ rate, burst }`, both of them.
fn rate(whole: &TableItem<'_>, report: &mut ConfigReport) -> Option<(u32, u32)> {
    const MOST: u32 = 1_000_000;
    let mut table = whole.table(report)?;
    let (rate, burst) = (table.get("rate"), table.get("burst"));
    let mut number = |item: &Option<TableItem<'_>>, key| match item {
        Some(item) => item.integer(1..=MOST, report),
        None => {
            let problem = "it is missing: give both, { rate = 250, burst = 2500 }";
            report.error(ConfigError::at_key(whole.place(), whole.path.key(key), problem));
            None
        }
    };
    let numbers = (number(&rate, "rate"), number(&burst, "burst"));
    table.finish(report);
    let (rate, least) = (numbers.0?, numbers.1?);
    if least < rate {
        burst.inspect(|item| item.wrong(format!("make it {rate} or more, as the rate"), report));
        return None;
    }
    Some((rate, least))
}
