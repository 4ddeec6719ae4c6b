//! Waiting for something to become true: polled to a deadline, never slept for.

use std::fmt::Write as _;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What a condition may answer with.
pub trait Condition {
    /// What waiting for it yields.
    type Output;
    /// `Err` carries what was seen instead, for the failure's message.
    fn holds(self) -> Result<Self::Output, String>;
}

impl Condition for bool {
    type Output = ();
    fn holds(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<T> Condition for Option<T> {
    type Output = T;
    fn holds(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, E: std::fmt::Debug> Condition for Result<T, E> {
    type Output = T;
    fn holds(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

/// Asks `condition` again and again until it holds (`true`, `Some`, `Ok`); panics after `deadline`.
/// An `Err` says what was seen instead: the last one is part of the message.
#[track_caller]
pub fn eventually<F, A, C>(deadline: Duration, mut condition: F) -> impl Future<Output = C::Output>
where
    F: FnMut() -> A,
    A: Future<Output = C>,
    C: Condition,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut pause = Duration::from_millis(1);
        loop {
            let seen = match condition().await.holds() {
                Ok(output) => return output,
                Err(seen) => seen,
            };
            if Instant::now() >= end {
                let mut message = format!("{caller}: did not become true within {deadline:?}");
                if !seen.is_empty() {
                    let _ = write!(message, "; last seen: {seen}");
                }
                panic!("{message}");
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}
