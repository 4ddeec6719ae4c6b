//! Reads single samples out of Prometheus' text format.

use std::collections::BTreeSet;

/// The text of `/metrics`.
pub struct Metrics(pub String);

impl Metrics {
    /// The value of one sample, by name and labels; labels may come in any order.
    pub fn get(&self, sample: &str) -> Option<f64> {
        let wanted = parse_sample(sample);
        self.0.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            (parse_sample(key) == wanted).then(|| value.parse().expect("a sample's value is a number"))
        })
    }

    /// The sum over all samples of this name, whatever their labels.
    pub fn sum(&self, name: &str) -> f64 {
        let samples = self.0.lines().filter(|line| !line.starts_with('#'));
        let values = samples.filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            (parse_sample(key).0 == name).then(|| value.parse::<f64>().expect("a number"))
        });
        values.sum()
    }
}

/// Name and labels. No label of the proxy's holds a comma: they are enums and route names.
fn parse_sample(sample: &str) -> (&str, BTreeSet<&str>) {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
    (name, labels.collect())
}
