//! Has the descriptors of remote backends fetched anew where what is known of them may no
//! longer hold: after a sleep of the machine, and in a new time period.

use rand::Rng;

use super::Balancer;
use crate::backend::TrackedBackend;
use crate::fact::Now;
use crate::schedule::Alarm;

impl Balancer {
    /// If the machine has slept, what was published and seen before is older
    /// than it looks.
    pub(super) fn notice_pause(&mut self, now: Now, rng: &mut impl Rng) {
        if let Some(slept) = self.clocks.slept(now) {
            for descriptor in self.backends.iter_mut().filter_map(TrackedBackend::descriptor) {
                descriptor.slept(now.monotonic, rng);
            }
            self.publisher.slept(slept, now.monotonic, rng);
        }
    }

    /// Looks for the backends in a new period once it is time to.
    pub(super) fn look_in_new_period(&mut self, alarm: &mut Alarm, rng: &mut impl Rng) {
        let mut descriptors = self.backends.iter_mut().filter_map(TrackedBackend::descriptor);
        let found = descriptors.any(|descriptor| descriptor.has_changed_period());
        if self.publisher.look_due(found, alarm) {
            for descriptor in self.backends.iter_mut().filter_map(TrackedBackend::descriptor) {
                descriptor.look_in_period(alarm.now(), rng);
            }
        }
    }
}
