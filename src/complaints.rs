//! How often does the log say that something cannot be written?
//!
//! Whoever writes has a throttle of its own. What is wrong with the machine, and
//! not with one directory, would be said by every service and every instance: it
//! is said once for the whole process.

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::causes::{is_disk_full, is_out_of_handles};
use crate::throttle::Throttle;

/// What is wrong with the machine does not end soon.
const EVERY: Duration = Duration::from_secs(10 * 60);

static DISK_FULL: Mutex<Throttle> = Mutex::new(Throttle::new(EVERY));
static OUT_OF_HANDLES: Mutex<Throttle> = Mutex::new(Throttle::new(EVERY));

/// Whether a line on this error may be written now, where the writer's `own`
/// throttle decides on all but the machine's troubles; with the number of those
/// held back since the one before it.
pub(crate) fn permits(own: &mut Throttle, error: &io::Error, now: Instant) -> Option<u64> {
    let of_machine = |throttle: &Mutex<Throttle>| throttle.lock().permits(now);
    if is_disk_full(error) {
        of_machine(&DISK_FULL)
    } else if is_out_of_handles(error) {
        of_machine(&OUT_OF_HANDLES)
    } else {
        own.permits(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_machine_is_said_once_by_all_and_the_rest_by_each() {
        let now = crate::clock::now().monotonic;
        let mut services = [1, 2, 3].map(|_| Throttle::new(EVERY));
        let mut said = |code: i32| {
            let error = io::Error::from_raw_os_error(code);
            services.iter_mut().filter_map(|own| permits(own, &error, now)).count()
        };
        assert_eq!(said(24), 1);
        assert_eq!(said(24), 0);
        assert_eq!(said(28), 1);
        assert_eq!(said(13), 3);
    }
}
