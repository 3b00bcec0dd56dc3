//! What a descriptor says of the service as a whole, and how that is merged.

use serde::{Deserialize, Serialize};

use super::protocols::Protocols;

/// The descriptor-wide fields that tell clients what they may ask of every
/// introduction point listed (rend-spec-v3, section 2.5.2.2; proposals 324, 346).
///
/// A merged descriptor must promise only what all backends in it keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The `flow-control` line: protocol versions and the `sendme_inc` in cells.
    pub flow_control: Option<(Protocols, u8)>,
    /// The `proto` line: subprotocol capabilities that a client may request.
    pub protocols: Protocols,
    /// The `single-onion-service` line: the backend is not anonymous.
    pub single_onion: bool,
}

impl Capabilities {
    /// What all of these backends keep.
    ///
    /// Flow control survives only if every backend has it with the same
    /// `sendme_inc`; versions and protocols are intersected; a service is a
    /// single onion service only if every backend is. Of nothing: nothing.
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Capabilities>) -> Capabilities {
        all.into_iter()
            .cloned()
            .reduce(|a, b| Capabilities {
                flow_control: match (a.flow_control, b.flow_control) {
                    (Some((va, inc_a)), Some((vb, inc_b))) if inc_a == inc_b => {
                        Some((va.intersection(&vb), inc_a))
                            .filter(|(versions, _)| *versions != Protocols::default())
                    }
                    _ => None,
                },
                protocols: a.protocols.intersection(&b.protocols),
                single_onion: a.single_onion && b.single_onion,
            })
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flow: Option<(&str, u8)>, proto: &str, single_onion: bool) -> Capabilities {
        Capabilities {
            flow_control: flow.map(|(versions, inc)| (versions.parse().unwrap(), inc)),
            protocols: proto.parse().unwrap(),
            single_onion,
        }
    }

    #[test]
    fn merging_keeps_only_what_every_backend_has() {
        let a = with(Some(("FlowCtrl=1-2", 31)), "Relay=5-6", false);
        let b = with(Some(("FlowCtrl=2-3", 31)), "Relay=6", true);
        assert_eq!(
            Capabilities::merged([&a, &b]),
            with(Some(("FlowCtrl=2", 31)), "Relay=6", false)
        );
    }

    #[test]
    fn flow_control_is_dropped_when_one_backend_lacks_it_or_counts_otherwise() {
        let a = with(Some(("FlowCtrl=1-2", 31)), "", false);
        assert_eq!(Capabilities::merged([&a, &with(None, "", false)]).flow_control, None);
        let other = with(Some(("FlowCtrl=1-2", 30)), "", false);
        assert_eq!(Capabilities::merged([&a, &other]).flow_control, None);
        let disjoint = with(Some(("FlowCtrl=3", 31)), "", false);
        assert_eq!(Capabilities::merged([&a, &disjoint]).flow_control, None);
    }

    #[test]
    fn one_backend_alone_keeps_everything_and_none_promises_nothing() {
        let a = with(Some(("FlowCtrl=1-2", 31)), "Relay=6", true);
        assert_eq!(Capabilities::merged([&a]), a);
        assert_eq!(Capabilities::merged([]), Capabilities::default());
    }
}
