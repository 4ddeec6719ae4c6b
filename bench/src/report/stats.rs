//! PURE: figures by round, their medians, and what one proxy's are to another's, round by round.

use std::collections::BTreeMap;

/// One figure of one proxy in one workload: round → value.
pub type Series = BTreeMap<u64, f64>;

/// A median with its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// `None` of nothing.
pub fn summary(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
    let mut v: Vec<f64> = values.into_iter().collect();
    v.sort_by(f64::total_cmp);
    let (min, max) = (*v.first()?, *v.last()?);
    let median = f64::midpoint(v[(v.len() - 1) / 2], v[v.len() / 2]);
    Some(Summary { median, min, max })
}

/// `a / b` of each round that has both. Rounds are paired because what disturbs a machine lasts longer
/// than one measurement: it then disturbs both alike.
pub fn ratios(a: &Series, b: &Series) -> Vec<f64> {
    a.iter().filter_map(|(round, x)| Some(x / b.get(round).filter(|y| **y > 0.0)?)).collect()
}

/// `a - b` of each round that has both.
pub fn differences(a: &Series, b: &Series) -> Vec<f64> {
    a.iter().filter_map(|(round, x)| Some(x - b.get(round)?)).collect()
}

/// The smallest value of each round among `peers`, and how many rounds each of them had it.
pub fn best<'a>(peers: &[(&'a str, Series)]) -> (Series, Vec<(&'a str, usize)>) {
    let mut smallest: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
    for (i, (_, series)) in peers.iter().enumerate() {
        for (&round, &value) in series {
            let best = smallest.entry(round).or_insert((value, i));
            if value < best.0 {
                *best = (value, i);
            }
        }
    }
    let count = |i| smallest.values().filter(|(_, who)| *who == i).count();
    let mut wins: Vec<_> = peers.iter().enumerate().map(|(i, (name, _))| (*name, count(i))).collect();
    wins.retain(|(_, n)| *n > 0);
    wins.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    (smallest.into_iter().map(|(round, (value, _))| (round, value)).collect(), wins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(u64, f64)]) -> Series {
        values.iter().copied().collect()
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_two_in_the_middle() {
        let of = |v: &[f64]| summary(v.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(Summary { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(of(&[9.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 9.0 }));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some(Summary { median: 3.0, min: 1.0, max: 9.0 }));
    }

    #[test]
    fn only_rounds_that_have_both_are_compared() {
        let ours = series(&[(1, 10.0), (2, 12.0), (3, 5.0), (5, 7.0)]);
        let theirs = series(&[(1, 5.0), (2, 24.0), (4, 1.0), (5, 0.0)]);
        assert_eq!(ratios(&ours, &theirs), [2.0, 0.5]);
    }

    #[test]
    fn the_best_is_chosen_anew_in_each_round() {
        let peers = [
            ("a", series(&[(1, 3.0), (2, 1.0), (3, 4.0)])),
            ("b", series(&[(1, 2.0), (2, 2.0)])),
            ("c", series(&[(1, 9.0)])),
        ];
        let (best, wins) = best(&peers);
        assert_eq!(best, series(&[(1, 2.0), (2, 1.0), (3, 4.0)]));
        assert_eq!(wins, [("a", 2), ("b", 1)]);
    }
}
