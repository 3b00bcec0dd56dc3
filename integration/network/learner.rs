//! Can a program learn to tell two kinds of things apart, by numbers about them?
//!
//! A logistic regression and boosted stumps, judged on groups that they have not seen. How
//! well chance does with as many groups is found out the same way, where it was drawn for
//! each group which kind is called which. Pure.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Parts into which groups are divided: each is judged by what was learnt from the others.
const PARTS: usize = 4;

/// Steps of the regression, and how much large weights cost.
const STEPS: usize = 25;
const DECAY: f64 = 0.02;

/// Stumps that are asked together, and places where each feature may be cut.
const STUMPS: usize = 8;
const CUTS: [f64; 3] = [0.2, 0.5, 0.8];

/// One thing.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Numbers about it: as many as others have.
    pub features: Vec<f64>,
    /// What was made together is learnt from together or judged together; each group has
    /// both kinds.
    pub group: usize,
    /// Which kind it is.
    pub ours: bool,
}

/// How a kind of program did.
#[derive(Clone, Debug)]
pub struct Result {
    /// What it is called.
    pub learner: &'static str,
    /// The share that it told rightly of either kind, on the average, with each division
    /// of the groups; 0.5 is no better than a coin.
    pub shares: Vec<f64>,
    /// The same where the kinds were drawn, in order.
    pub by_chance: Vec<f64>,
}

impl Result {
    /// Over all divisions.
    pub fn mean(&self) -> f64 {
        mean(&self.shares)
    }

    /// How often chance does as well, from 0 to 1.
    pub fn chance(&self) -> f64 {
        let as_well = self.by_chance.iter().filter(|share| **share >= self.mean()).count();
        (as_well + 1) as f64 / (self.by_chance.len() + 1) as f64
    }

    /// What chance stays below in 19 of 20 draws.
    pub fn limit(&self) -> f64 {
        let at = self.by_chance.len() * 19 / 20;
        self.by_chance.get(at).copied().unwrap_or(1.0)
    }

    /// Whether the kinds can be told apart: more often than that, and than chance does in
    /// all but one of a hundred draws.
    pub fn tells_more_than(&self, share: f64) -> bool {
        self.mean() > share && self.chance() < 0.01
    }
}

/// Lets both programs learn, with so many divisions of the groups, and as many draws.
pub fn learn(samples: &[Sample], divisions: u64, draws: u64) -> Vec<Result> {
    let groups = samples.iter().map(|sample| sample.group + 1).max().unwrap_or(0);
    let programs: [(&'static str, Program); 2] =
        [("logistic regression", regression), ("boosted stumps", stumps)];
    let learnt = programs.map(|(learner, program)| {
        let share = |samples: &[Sample], seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            judged(samples, &divided(groups, &mut rng), program)
        };
        let shares: Vec<f64> = (0..divisions).map(|seed| share(samples, seed)).collect();
        // With one division each: they scatter a little more than a mean over several does.
        let drawn = |draw: u64| share(&with_kinds_drawn(samples, groups, draw), draw);
        let mut by_chance: Vec<f64> = (0..draws).map(drawn).collect();
        by_chance.sort_by(f64::total_cmp);
        Result { learner, shares, by_chance }
    });
    learnt.into()
}

/// The features that tell most on their own, with the share that each tells rightly.
pub fn telling<'a>(samples: &[Sample], names: &'a [String]) -> Vec<(&'a str, f64)> {
    let rows: Vec<&Sample> = samples.iter().collect();
    let weight = 1.0 / rows.len().max(1) as f64;
    let told = |(feature, name): (usize, &'a String)| {
        let errors = cuts(&rows, feature).into_iter().map(|stump| {
            let wrong = rows.iter().filter(|sample| stump.says_ours(sample) != sample.ours);
            let error = wrong.count() as f64 * weight;
            error.min(1.0 - error)
        });
        (name.as_str(), 1.0 - errors.fold(0.5, f64::min))
    };
    let mut told: Vec<_> = names.iter().enumerate().map(told).collect();
    told.sort_by(|one, other| other.1.total_cmp(&one.1));
    told
}

/// Learns from some; says of others whether they are ours where that is above 0.
type Program = fn(&[&Sample], &[&Sample]) -> Vec<f64>;

/// To which part each group belongs.
fn divided(groups: usize, rng: &mut StdRng) -> Vec<usize> {
    let mut parts: Vec<usize> = (0..groups).map(|group| group % PARTS).collect();
    parts.shuffle(rng);
    parts
}

/// Which kind is called ours is drawn for each group.
fn with_kinds_drawn(samples: &[Sample], groups: usize, draw: u64) -> Vec<Sample> {
    let mut rng = StdRng::seed_from_u64(1_000_000 + draw);
    let swapped: Vec<bool> = (0..groups).map(|_| rng.random()).collect();
    let of = |it: &Sample| Sample { ours: it.ours != swapped[it.group], ..it.clone() };
    samples.iter().map(of).collect()
}

/// The share told rightly of either kind, over all parts.
fn judged(samples: &[Sample], parts: &[usize], program: Program) -> f64 {
    let mut right = [(0, 0); 2];
    for part in 0..PARTS {
        let (judged, learnt): (Vec<&Sample>, Vec<&Sample>) =
            samples.iter().partition(|sample| parts[sample.group] == part);
        for (sample, score) in judged.iter().zip(program(&learnt, &judged)) {
            let (of, all) = &mut right[usize::from(sample.ours)];
            *of += usize::from((score > 0.0) == sample.ours);
            *all += 1;
        }
    }
    mean(&right.map(|(of, all)| f64::from(of as u32) / f64::from((all as u32).max(1))))
}

fn regression(learnt: &[&Sample], judged: &[&Sample]) -> Vec<f64> {
    let width = learnt.first().map_or(0, |sample| sample.features.len());
    let scales: Vec<(f64, f64)> = (0..width).map(|feature| scale(learnt, feature)).collect();
    let scaled = |sample: &&Sample| -> Vec<f64> {
        let values = sample.features.iter().zip(&scales);
        values.map(|(value, (mean, spread))| ((value - mean) / spread).clamp(-5.0, 5.0)).collect()
    };
    let rows: Vec<Vec<f64>> = learnt.iter().map(scaled).collect();
    let (mut weights, mut constant) = (vec![0.0; width], 0.0);
    let pace = 4.0 / width.max(1) as f64;
    for _ in 0..STEPS {
        let mut slopes: Vec<f64> = weights.iter().map(|weight| DECAY * weight).collect();
        let mut slope = 0.0;
        for (row, sample) in rows.iter().zip(learnt) {
            let error = 1.0 / (1.0 + (-dot(&weights, row) - constant).exp())
                - f64::from(u8::from(sample.ours));
            let error = error / rows.len() as f64;
            slopes.iter_mut().zip(row).for_each(|(slope, value)| *slope += error * value);
            slope += error;
        }
        weights.iter_mut().zip(&slopes).for_each(|(weight, slope)| *weight -= pace * slope * 4.0);
        constant -= pace * slope * 4.0;
    }
    judged.iter().map(|sample| dot(&weights, &scaled(sample)) + constant).collect()
}

fn stumps(learnt: &[&Sample], judged: &[&Sample]) -> Vec<f64> {
    let width = learnt.first().map_or(0, |sample| sample.features.len());
    let all: Vec<(Stump, Vec<bool>)> = (0..width)
        .flat_map(|feature| cuts(learnt, feature))
        .map(|stump| {
            let right = learnt.iter().map(|sample| stump.says_ours(sample) == sample.ours);
            let right = right.collect();
            (stump, right)
        })
        .collect();
    let mut weights = vec![1.0 / learnt.len().max(1) as f64; learnt.len()];
    let mut scores = vec![0.0; judged.len()];
    for _ in 0..STUMPS {
        let right = |(_, right): &(Stump, Vec<bool>)| -> f64 {
            weights.iter().zip(right).filter(|(_, right)| **right).map(|(weight, _)| weight).sum()
        };
        // One that is mostly wrong tells as much as one that is mostly right.
        let shares = all.iter().map(|it| (it, right(it)));
        let distance = |share: f64| (share - 0.5).abs();
        let best = shares.max_by(|one, other| distance(one.1).total_cmp(&distance(other.1)));
        let Some(((stump, right), share)) = best else { break };
        let share = share.clamp(1e-6, 1.0 - 1e-6);
        let voice = 0.5 * (share / (1.0 - share)).ln();
        for (weight, right) in weights.iter_mut().zip(right) {
            *weight *= if *right { (-voice).exp() } else { voice.exp() };
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        for (score, sample) in scores.iter_mut().zip(judged) {
            *score += if stump.says_ours(sample) { voice } else { -voice };
        }
    }
    scores
}

/// Says ours above a cut.
struct Stump {
    feature: usize,
    cut: f64,
}

impl Stump {
    fn says_ours(&self, sample: &Sample) -> bool {
        sample.features[self.feature] > self.cut
    }
}

/// Where a feature may be cut; nowhere, if it never differs.
fn cuts(samples: &[&Sample], feature: usize) -> Vec<Stump> {
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.features[feature]).collect();
    values.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return Vec::new() };
    // Where nearly all have the same, others are told apart by the first cut or the middle.
    let quantiles = CUTS.map(|part| values[((values.len() - 1) as f64 * part) as usize]);
    let mut cuts: Vec<f64> = quantiles.into_iter().chain([*first, (first + last) / 2.0]).collect();
    cuts.retain(|cut| cut < last);
    cuts.sort_by(f64::total_cmp);
    cuts.dedup();
    cuts.into_iter().map(|cut| Stump { feature, cut }).collect()
}

/// Mean and standard deviation; what never differs tells nothing.
fn scale(samples: &[&Sample], feature: usize) -> (f64, f64) {
    let values: Vec<f64> = samples.iter().map(|sample| sample.features[feature]).collect();
    let mean = mean(&values);
    let squares: Vec<f64> = values.iter().map(|value| (value - mean).powi(2)).collect();
    let variance = self::mean(&squares);
    (mean, if variance > 1e-12 { variance.sqrt() } else { f64::INFINITY })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn dot(weights: &[f64], row: &[f64]) -> f64 {
    weights.iter().zip(row).map(|(weight, value)| weight * value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty features that tell nothing, of eight groups; then what `changed` makes of them.
    fn samples(changed: impl Fn(&mut Vec<f64>, bool, u64)) -> Vec<Sample> {
        let mut rng = StdRng::seed_from_u64(7);
        let mut samples = Vec::new();
        for service in 0..64_u64 {
            let ours = service % 2 == 0;
            // What all descriptors of a service have in common.
            let own: f64 = rng.random();
            for _ in 0..4 {
                let mut features: Vec<f64> = (0..20).map(|_| rng.random()).collect();
                features[0] = own;
                changed(&mut features, ours, service);
                let group = usize::try_from(service / 8).unwrap();
                samples.push(Sample { features, group, ours });
            }
        }
        samples
    }

    #[test]
    fn kinds_that_do_not_differ_are_not_told_apart() {
        for result in learn(&samples(|_, _, _| {}), 4, 20) {
            assert!(!result.tells_more_than(0.55), "{result:?}");
            assert!((0.4..0.6).contains(&mean(&result.by_chance)), "{result:?}");
        }
    }

    #[test]
    fn a_difference_in_a_quarter_of_the_services_is_found() {
        let rare = |features: &mut Vec<f64>, ours: bool, service: u64| {
            features[5] = f64::from(u8::from(ours && service.is_multiple_of(8)));
        };
        let results = learn(&samples(rare), 4, 120);
        let found = |result: &Result| result.tells_more_than(0.55);
        assert!(results.iter().any(found), "{results:?}");
    }

    #[test]
    fn what_differs_always_is_told_by_both_and_named() {
        let always = |features: &mut Vec<f64>, ours: bool, _| {
            features[3] = if ours { 14_109.0 } else { 14_435.0 };
        };
        let samples = samples(always);
        for result in learn(&samples, 2, 120) {
            assert!(result.mean() > 0.95 && result.tells_more_than(0.55), "{result:?}");
        }
        let names: Vec<String> = (0..20).map(|feature| format!("number {feature}")).collect();
        assert_eq!(telling(&samples, &names)[0], ("number 3", 1.0));
    }
}
