//! What does the process take of the machine? Read from the system when
//! somebody asks, never in between.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use procfs::process::Process;
use procfs::{Current as _, Meminfo};
use rlimit::Resource;

use crate::observe::snapshot::{Handles, ProcessMemory};

/// The memory that there is for this process. Nobody changes it while it runs.
static MEMORY_LIMIT: LazyLock<Option<u64>> = LazyLock::new(memory_limit);

/// What is known at this moment.
pub(super) struct Usage {
    /// Files and connections; those of clients are known elsewhere.
    pub(super) handles: Handles,
    pub(super) memory: ProcessMemory,
    pub(super) cpu_seconds: Option<f64>,
}

impl Usage {
    /// Looks.
    pub(super) fn now() -> Self {
        let process = Process::myself().ok();
        let stat = process.as_ref().and_then(|process| process.stat().ok());
        let handles = Handles {
            open: process.as_ref().and_then(|it| it.fd_count().ok()).map(|open| open as u64),
            limit: Resource::NOFILE.get_soft().unwrap_or_default(),
            ..Handles::default()
        };
        let ticks = procfs::ticks_per_second() as f64;
        Self {
            handles,
            memory: ProcessMemory {
                resident: stat.as_ref().map(|stat| stat.rss * procfs::page_size()),
                limit: *MEMORY_LIMIT,
            },
            cpu_seconds: stat.map(|stat| (stat.utime + stat.stime) as f64 / ticks),
        }
    }
}

/// The least of what the machine has and what the control group allows.
fn memory_limit() -> Option<u64> {
    let machine = Meminfo::current().ok().map(|memory| memory.mem_total);
    [machine, group_limit()].into_iter().flatten().min()
}

/// The limit of the control group, of version 2 or 1. Within a container the
/// group is seen at the root.
fn group_limit() -> Option<u64> {
    let groups = Process::myself().ok()?.cgroups().ok()?;
    let limits = groups.into_iter().filter_map(|group| {
        let (root, file) = match group.hierarchy {
            0 => ("/sys/fs/cgroup", "memory.max"),
            _ if group.controllers.iter().any(|it| it == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let below = group.pathname.trim_start_matches('/');
        let places = [PathBuf::from(root).join(below).join(file), PathBuf::from(root).join(file)];
        let text = places.iter().find_map(|place| fs::read_to_string(place).ok())?;
        // "max", or an enormous number, where there is none.
        text.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_this_process_takes() {
        let usage = Usage::now();
        let Handles { open, limit, .. } = usage.handles;
        assert!(open.unwrap() >= 3 && open.unwrap() <= limit, "{:?}", usage.handles);
        let ProcessMemory { resident, limit } = usage.memory;
        assert!(resident.unwrap() > 1 << 20 && resident.unwrap() < limit.unwrap());
        assert!(usage.cpu_seconds.unwrap() >= 0.0);
    }
}
