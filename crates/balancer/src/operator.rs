//! The operator's word on one backend, which stands above what is believed of
//! it and above the configuration, until it is taken back.

use serde::{Deserialize, Serialize};

use crate::fact::BackendId;
use crate::timestamp::Timestamp;

/// Whether a backend is in use; the further it is out, the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// It is.
    #[default]
    Ready,
    /// No new clients are sent there; those that come still are served.
    Drain,
    /// It is not, at once.
    Maintenance,
}

/// What an operator says of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub enum Verb {
    /// It is in use again, with the weight of the configuration.
    Ready,
    /// See [`Word::Drain`].
    Drain,
    /// See [`Word::Maintenance`].
    Maintenance,
    /// It has this weight, whatever the configuration says.
    Weight {
        /// From 0 to 100.
        weight: u16,
    },
}

/// The highest weight.
pub const MAX_WEIGHT: u16 = 100;

/// What holds of a backend because an operator said so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Whether it is in use.
    #[serde(default)]
    pub word: Word,
    /// Its weight, if that is not the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<OverriddenWeight>,
    /// When that was said last.
    #[serde(default)]
    pub since: Timestamp,
    /// The user that said it, by its number on the machine; `None`: not known.
    #[serde(default)]
    pub by: Option<u32>,
}

/// A weight in place of the configuration's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverriddenWeight {
    /// The weight.
    pub weight: u16,
    /// The configuration's when that was said: if that changes, it holds again.
    pub instead_of: u16,
}

/// Why an operator's word is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing would be left that clients could be sent to.
    #[error(
        "it is the last backend that is in use: without it nobody answers (say so with --force)"
    )]
    TheLast,
    /// See [`MAX_WEIGHT`].
    #[error("a weight is from 0 to {MAX_WEIGHT}")]
    Weight,
    /// The settings do not have it.
    #[error("there is no such backend")]
    Unknown,
}

/// A word on one backend, and who says it.
#[derive(Clone, Copy, Debug)]
pub struct OperatorOrder {
    /// Which backend.
    pub backend: BackendId,
    /// What.
    pub verb: Verb,
    /// Whether even the last one may be taken out.
    pub force: bool,
    /// The user, by its number on the machine.
    pub by: Option<u32>,
}

impl Override {
    /// With one word more; the configuration says this weight.
    #[must_use]
    pub(super) fn with(self, order: &OperatorOrder, configured: u16, since: Timestamp) -> Self {
        let said = Self { since, by: order.by, ..self };
        match order.verb {
            Verb::Ready => Self { word: Word::Ready, weight: None, ..said },
            Verb::Drain => Self { word: Word::Drain, ..said },
            Verb::Maintenance => Self { word: Word::Maintenance, ..said },
            Verb::Weight { weight } => {
                Self { weight: Some(OverriddenWeight { weight, instead_of: configured }), ..said }
            }
        }
    }

    /// Whether it changes anything.
    pub(super) fn says_something(&self) -> bool {
        self.word != Word::Ready || self.weight.is_some()
    }

    /// What is left of it when the configuration says this weight.
    #[must_use]
    pub(super) fn under(self, configured: u16) -> Self {
        Self { weight: self.weight.filter(|it| it.instead_of == configured), ..self }
    }
}
