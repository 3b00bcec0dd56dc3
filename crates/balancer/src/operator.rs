//! The operator's word on one backend, which stands above what is believed of
//! it and above the configuration, until it is taken back.

use serde::{Deserialize, Serialize};

use crate::backend_id::BackendId;
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
    /// When the word was said last.
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
    /// When it was said; `None`: with the word, as older versions wrote it.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// The user that said it, as for the word.
    #[serde(default)]
    pub by: Option<u32>,
}

/// Why an operator's word is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefused {
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
    /// With one word more; the configuration says this weight. A word and a weight
    /// each keep who said them, and when.
    #[must_use]
    pub(super) fn with(self, order: &OperatorOrder, configured: u16, since: Timestamp) -> Self {
        let by = order.by;
        let weight = self.weight_said().map(|(weight, since, by)| OverriddenWeight {
            since: Some(since),
            by,
            ..weight
        });
        let word = |word| Self { word, weight, since, by };
        match order.verb {
            Verb::Ready => Self { weight: None, ..word(Word::Ready) },
            Verb::Drain => word(Word::Drain),
            Verb::Maintenance => word(Word::Maintenance),
            Verb::Weight { weight } => {
                let since = Some(since);
                let weight = OverriddenWeight { weight, instead_of: configured, since, by };
                Self { weight: Some(weight), ..self }
            }
        }
    }

    /// The word that takes it out of use, when it was said and by whom.
    pub(super) fn word_said(&self) -> Option<(Word, Timestamp, Option<u32>)> {
        (self.word != Word::Ready).then_some((self.word, self.since, self.by))
    }

    /// The weight in place of the configuration's, when it was said and by whom.
    pub(super) fn weight_said(&self) -> Option<(OverriddenWeight, Timestamp, Option<u32>)> {
        let weight = self.weight?;
        Some(match weight.since {
            Some(since) => (weight, since, weight.by),
            None => (weight, self.since, self.by),
        })
    }

    /// When anything of it was said last.
    pub(super) fn last_said(&self) -> Timestamp {
        let word = self.word_said().map(|(_, since, _)| since.0);
        let weight = self.weight_said().map(|(_, since, _)| since.0);
        word.max(weight).map(Timestamp).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn said(all: &[(Verb, u32)]) -> Override {
        all.iter().zip(1..).fold(Override::default(), |said, ((verb, by), second)| {
            let backend = BackendId(0);
            let order = OperatorOrder { backend, verb: *verb, force: false, by: Some(*by) };
            said.with(&order, 1, at(second))
        })
    }

    #[test]
    fn a_weight_and_a_word_each_keep_who_said_them_and_when() {
        let weight = Verb::Weight { weight: 5 };
        for both in [[(Verb::Drain, 100), (weight, 200)], [(weight, 200), (Verb::Drain, 100)]] {
            let said = said(&both);
            let moment = |verb| at(if both[0].0 == verb { 1 } else { 2 });
            assert_eq!(said.word_said(), Some((Word::Drain, moment(Verb::Drain), Some(100))));
            let (held, since, by) = said.weight_said().unwrap();
            assert_eq!((held.weight, since, by), (5, moment(weight), Some(200)));
            assert_eq!(said.last_said(), at(2));
        }
        let nothing = said(&[(weight, 1), (Verb::Drain, 2), (Verb::Ready, 3)]);
        assert!(!nothing.says_something());
    }

    #[test]
    fn a_weight_that_an_older_version_wrote_was_said_with_its_word() {
        let text = r#"{"word": "drain", "weight": {"weight": 3, "instead_of": 1}, "by": 7}"#;
        let old: Override = serde_json::from_str(text).unwrap();
        let (_, since, by) = old.weight_said().unwrap();
        assert_eq!((since, by), (old.since, Some(7)));
        // A word of somebody else does not take the weight over.
        let order = OperatorOrder {
            backend: BackendId(0),
            verb: Verb::Maintenance,
            force: false,
            by: Some(9),
        };
        let new = old.clone().with(&order, 1, at(5));
        assert_eq!(new.weight_said().unwrap().2, Some(7));
        assert_eq!(new.word_said(), Some((Word::Maintenance, at(5), Some(9))));
    }
}
