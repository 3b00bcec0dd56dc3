//! Addresses and time periods from and to Arti's types.

use tor_hscrypto::pk::{HsId, HsIdKey};
use tor_hscrypto::time::TimePeriod;

use onionbraid_balancer::onion::{OnionAddress, Period};

/// The public identity key of an address.
pub(crate) fn identity_key(address: &OnionAddress) -> Option<HsIdKey> {
    HsId::from(*address.public_key()).try_into().ok()
}

/// Arti's time period as our value.
pub(crate) fn from_arti(period: TimePeriod) -> Period {
    Period {
        number: period.interval_num(),
        length_minutes: period.length().as_minutes(),
        offset_seconds: period.epoch_offset_in_sec(),
    }
}

/// Our value as Arti's time period.
pub(crate) fn to_arti(period: Period) -> TimePeriod {
    TimePeriod::from_parts(period.length_minutes, period.number, period.offset_seconds)
}
