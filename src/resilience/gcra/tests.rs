use proptest::prelude::*;

use super::*;

/// What the algorithm is another form of: tokens as a number, which grows with time.
struct Model {
    rate: Rate,
    tokens: f64,
    as_of: Instant,
}

impl Model {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: f64::from(rate.burst), as_of: now }
    }

    fn tokens(&mut self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.as_of).as_secs_f64() * self.rate.per_second;
        self.tokens = (self.tokens + gained).min(f64::from(self.rate.burst));
        self.as_of = now;
        self.tokens
    }
}

#[test]
fn tokens_come_back_at_the_rate_and_never_exceed_the_burst() {
    let start = Instant::now();
    let mut bucket = Bucket::new(Rate { per_second: 10.0, burst: 5 }, start);
    assert_eq!(bucket.available(start), 5);
    bucket.take(5);
    assert_eq!(bucket.available(start), 0);
    let next = bucket.next_token_at();
    assert_eq!(next, start + Duration::from_millis(100));
    assert_eq!(bucket.available(next - Duration::from_millis(1)), 0);
    assert_eq!(bucket.available(next), 1);
    assert_eq!(bucket.available(start + Duration::from_secs(60)), 5);
    let later = start + Duration::from_secs(60);
    assert!(
        bucket.take_or_empty(3, later) && bucket.take_or_empty(2, later) && !bucket.take_or_empty(1, later)
    );
    assert!(!bucket.take_or_empty(2, later + Duration::from_millis(100)));
    assert_eq!(bucket.available(later + Duration::from_millis(100)), 0);
}

#[test]
fn over_a_long_time_exactly_rate_plus_burst_pass() {
    let start = Instant::now();
    let mut bucket = Bucket::new(Rate { per_second: 7.0, burst: 3 }, start);
    let (mut passed, mut now) = (0, start);
    while now < start + Duration::from_secs(100) {
        let n = bucket.available(now);
        bucket.take(n);
        passed += n;
        now = bucket.next_token_at().max(now + Duration::from_micros(1));
    }
    assert!((700..=703).contains(&passed), "{passed}");
}

#[test]
fn what_was_taken_ahead_of_its_time_is_waited_for() {
    let start = Instant::now();
    let mut bucket = Bucket::new(Rate { per_second: 10.0, burst: 2 }, start);
    bucket.take(5);
    assert_eq!(bucket.next_token_at(), start + Duration::from_millis(400));
    assert!(!bucket.take_or_empty(1, start + Duration::from_millis(100)));
    assert_eq!(bucket.next_token_at(), start + Duration::from_millis(400), "a refusal forgives no debt");
    assert_eq!(bucket.available(start + Duration::from_millis(400)), 1);
}

#[test]
fn a_burst_is_there_at_once_and_comes_back_at_the_rate() {
    let start = Instant::now();
    let gcra = Gcra::new(Rate { per_second: 10.0, burst: 5 });
    let at = |millis| start + Duration::from_millis(millis);
    let mut arrival = ArrivalTime::default();
    assert!(arrival.take_or_empty(3, gcra, start) && arrival.take_or_empty(2, gcra, start));
    assert!(!arrival.take_or_empty(1, gcra, start), "it is used up");
    assert!(!arrival.take_or_empty(1, gcra, at(99)));
    let mut arrival = ArrivalTime::default();
    assert!(arrival.take_or_empty(5, gcra, start) && arrival.take_or_empty(1, gcra, at(100)));
    assert!(!arrival.take_or_empty(2, gcra, at(200)), "only one has come back");
    assert!(arrival.take_or_empty(5, gcra, at(60_000)), "a minute later it is as new");
    assert!(!ArrivalTime::default().take_or_empty(6, gcra, start), "more than a burst never is");
    assert_eq!(size_of::<ArrivalTime>(), size_of::<Instant>());
}

#[test]
fn who_is_refused_is_told_the_moment_of_the_next_token_and_loses_nothing() {
    let start = Instant::now();
    let gcra = Gcra::new(Rate { per_second: 10.0, burst: 2 });
    let mut arrival = ArrivalTime::default();
    assert!(arrival.is_full(start));
    assert_eq!((arrival.take(gcra, start), arrival.take(gcra, start)), (Ok(()), Ok(())));
    for (millis, wait) in [(0, 100), (0, 100), (40, 60), (99, 1)] {
        let now = start + Duration::from_millis(millis);
        assert_eq!(arrival.take(gcra, now), Err(Duration::from_millis(wait)), "{millis}");
    }
    assert_eq!(arrival.take(gcra, start + Duration::from_millis(100)), Ok(()));
    assert!(!arrival.is_full(start + Duration::from_millis(299)));
    assert!(arrival.is_full(start + Duration::from_millis(300)));
}

#[test]
fn any_rate_that_a_file_can_say_has_an_interval() {
    let now = Instant::now();
    for per_second in [f64::MIN_POSITIVE, 1e-6, 0.5, 10.0, 1e9, 1e300] {
        for burst in [1, 1000, u32::MAX] {
            let rate = Rate { per_second, burst };
            assert_eq!(Bucket::new(rate, now).available(now), burst, "{per_second}");
            let (gcra, mut arrival) = (Gcra::new(rate), ArrivalTime::default());
            assert_eq!(arrival.take(gcra, now), Ok(()), "{per_second} {burst}");
            assert!(ArrivalTime::default().take_or_empty(burst, gcra, now), "{per_second} {burst}");
            assert!(!ArrivalTime::default().take_or_empty(u32::MAX, gcra, now) || burst == u32::MAX);
        }
    }
    assert_eq!(Gcra::new(Rate { per_second: 10.0, burst: 1 }).interval(), Duration::from_millis(100));
    assert_eq!(Gcra::new(Rate { per_second: 3.0, burst: 1 }).interval(), Duration::from_nanos(333_333_334));
}

proptest! {
    #[test]
    fn it_takes_what_a_plain_token_bucket_takes(
        per_second in 0.1_f64..1000.0,
        burst in 1_u32..2000,
        steps in prop::collection::vec((0_u64..500, 0_u32..100), 1..100),
    ) {
        let rate = Rate { per_second, burst };
        let gcra = Gcra::new(rate);
        let mut now = Instant::now();
        let (mut arrival, mut bucket) = (ArrivalTime::default(), Bucket::new(rate, now));
        let mut model = Model::new(rate, now);
        for (millis, n) in steps {
            now += Duration::from_millis(millis);
            let there = model.tokens(now);
            let is_clear = (there - f64::from(n)).abs() > 0.01;
            if is_clear && (there - there.round()).abs() > 0.01 {
                prop_assert_eq!(bucket.available(now), there as u32);
            }
            let taken = arrival.take_or_empty(n, gcra, now);
            prop_assert_eq!(taken, bucket.take_or_empty(n, now), "one owner or one of many: the same sums");
            // Rounding may decide about the last one.
            prop_assert!(taken == (f64::from(n) <= there) || !is_clear, "{} of {}", n, there);
            model.tokens = if taken { there - f64::from(n) } else { 0.0 };
        }
    }

    #[test]
    fn one_at_a_time_is_let_pass_exactly_when_a_plain_token_bucket_has_one(
        per_second in 0.1_f64..1000.0,
        burst in 1_u32..50,
        gaps in prop::collection::vec(0_u64..5000, 1..200),
    ) {
        let rate = Rate { per_second, burst };
        let gcra = Gcra::new(rate);
        let mut now = Instant::now();
        let mut arrival = ArrivalTime::default();
        let mut model = Model::new(rate, now);
        for micros in gaps {
            now += Duration::from_micros(micros);
            let there = model.tokens(now);
            match arrival.take(gcra, now) {
                Ok(()) => {
                    prop_assert!(there > 1.0 - 0.01, "{}", there);
                    model.tokens = there - 1.0;
                }
                Err(wait) => {
                    prop_assert!(there < 1.0 + 0.01, "{}", there);
                    let mut early = arrival;
                    prop_assert!(early.take(gcra, now + wait - Duration::from_nanos(1)).is_err());
                    prop_assert_eq!(early.take(gcra, now + wait), Ok(()), "a wait is rewarded");
                    prop_assert!((wait.as_secs_f64() * per_second - (1.0 - there)).abs() < 0.01);
                }
            }
        }
    }
}
