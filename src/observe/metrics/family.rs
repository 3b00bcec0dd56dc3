//! One family of metrics: a name, and a sample for each set of labels.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::observe::snapshot::{Durations, Timestamp};

/// The labels of one sample.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// One family of metrics: its name without unit, what it says, and its samples.
pub(super) struct Family<'a> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: Vec<(Labels<'a>, SampleValue<'a>)>,
}

/// The value of one sample.
pub(super) enum SampleValue<'a> {
    Counter(u64),
    Seconds(f64),
    Gauge(f64),
    Histogram(&'a Durations),
}

/// A count as it is shown in a gauge.
pub(super) fn gauge<'a>(value: u64) -> SampleValue<'a> {
    SampleValue::Gauge(value as f64)
}

/// Whether something is so, as it is shown in a gauge.
pub(super) fn flag<'a>(is_so: bool) -> SampleValue<'a> {
    gauge(is_so.into())
}

/// A moment, as Prometheus counts them: in seconds since 1970.
pub(super) fn moment<'a>(at: Timestamp) -> SampleValue<'a> {
    let since = at.0.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    gauge(since.as_secs())
}

impl<'a> Family<'a> {
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels<'a>, SampleValue<'a>)>,
    ) -> Self {
        // Nothing was counted there so far, not even into which sizes.
        let is_empty = |value: &SampleValue<'_>| matches!(value, SampleValue::Histogram(it) if it.buckets.is_empty());
        let samples = samples.into_iter().filter(|(_, value)| !is_empty(value));
        Self { name, help, unit: None, samples: samples.collect() }
    }

    pub(super) fn in_unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// Nothing at all where there is no sample: an empty family says nothing.
    pub(super) fn write(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some((_, first)) = self.samples.first() else { return Ok(()) };
        let unit = self.unit.as_ref();
        let mut family = encoder.encode_descriptor(self.name, self.help, unit, first.kind())?;
        for (labels, value) in &self.samples {
            match labels.as_slice() {
                [] => value.write(&mut family)?,
                labels => value.write(&mut family.encode_family(&labels)?)?,
            }
        }
        Ok(())
    }
}

impl SampleValue<'_> {
    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) | Self::Seconds(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }

    fn write(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), Error> {
        let none = None::<&Exemplar<NoLabelSet, f64>>;
        match self {
            Self::Counter(count) => encoder.encode_counter(count, none),
            Self::Seconds(seconds) => encoder.encode_counter(seconds, none),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Histogram(durations) => {
                let buckets = durations.buckets.iter();
                let buckets: Vec<_> = buckets
                    .map(|bucket| (bucket.le.unwrap_or(f64::INFINITY), bucket.count))
                    .collect();
                let count = durations.count();
                encoder.encode_histogram::<NoLabelSet>(durations.sum, count, &buckets, None)
            }
        }
    }
}
