//! Spreads many events over a window, so that their consequences do not come all at once.

use std::time::Duration;

/// When event `index` of `count` is due within `window`: evenly, and anywhere (`jitter`, 0 to 1)
/// inside its own share, so that neighbours never coincide by design and no share stays empty.
pub(crate) fn spread_evenly(index: usize, count: usize, window: Duration, jitter: f64) -> Duration {
    let place = (index as f64 + jitter.clamp(0.0, 1.0)) / count.max(1) as f64;
    window.mul_f64(place.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_of_the_window_gets_its_event() {
        let window = Duration::from_secs(10);
        for index in 0..10 {
            for jitter in [0.0, 0.5, 0.999] {
                let at = spread_evenly(index, 10, window, jitter);
                assert_eq!(at.as_secs(), index as u64, "{index} {jitter}");
            }
        }
        assert_eq!(spread_evenly(0, 0, window, 0.5), Duration::from_secs(5));
        assert_eq!(spread_evenly(9, 10, window, 7.0), window);
    }
}
