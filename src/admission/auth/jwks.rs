//! A key set by URL: fetched in the background, again each `refresh`, and when a token names a key that is
//! not in it or that its signature does not fit: keys are also replaced under the name that they had.
//!
//! # Invariants
//! 1. One task fetches, one fetch at a time. However many tokens name unknown keys or are signed wrongly:
//!    because of them it fetches at most once in `min_interval`.
//! 2. A set that was good stays until another good one comes, also where a reload changes what is asked of tokens.
//! 3. No request waits longer than [`MAX_WAIT`], and no more than [`MAX_WAITING`] do.
//! 4. The task ends with its [`Jwks`].
//!
//! # Not here
//! What keys are good for ([`super::keys`]).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::error::AuthError;
use super::keys::KeySet;
use super::waiting::Waiting;
use crate::config::{File, JwtAlgorithm};
use crate::net::Fetch;
use crate::net::http::PRODUCT;
use crate::telemetry::panics::{PAUSE, catch_panic};
use crate::telemetry::redact::redact_path;
use crate::telemetry::{AuthFailure, JwksOutcome, Metrics, TaskKind};

/// How long a handshake waits for keys: a client has given up by the time its own timeout comes.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Handshakes that may wait for keys; more are told to come back.
const MAX_WAITING: usize = 1024;
/// How long one fetch may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// A dozen keys with their certificates are 30 KiB.
const MAX_DOCUMENT: usize = 256 * 1024;
/// The delay after a fetch that failed, doubled with each further failure …
const RETRY: Duration = Duration::from_secs(1);
/// … up to this, or `refresh` if that is shorter.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// The least delay between two fetches, whatever the settings.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// The set, and the task that keeps it fresh.
#[derive(Debug)]
pub(super) struct Jwks {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    keys: ArcSwapOption<KeySet>,
    status: watch::Sender<Status>,
    /// A token needs a key that is not there, or another one than is.
    fetch_requested: Notify,
    waiting: Semaphore,
    metrics: Arc<Metrics>,
}

/// Where the task is.
#[derive(Debug, Clone, Copy)]
struct Status {
    is_fetching: bool,
    /// Fetches that are over.
    fetches: u64,
    has_failed: bool,
    /// Before it no token makes it fetch.
    may_fetch_at: Instant,
}

/// Where the set is, and how often it is asked for.
#[derive(Debug)]
pub(super) struct Source {
    fetch: Fetch,
    uri: Uri,
    algorithms: Vec<JwtAlgorithm>,
    refresh: Duration,
    min_interval: Duration,
}

impl Jwks {
    /// Starts to fetch at once; needs a runtime. `fetched` holds until then.
    pub(super) fn new(source: Source, fetched: Option<Arc<KeySet>>, metrics: Arc<Metrics>) -> Self {
        let status =
            Status { is_fetching: true, fetches: 0, has_failed: false, may_fetch_at: Instant::now() };
        let shared = Arc::new(Shared {
            keys: ArcSwapOption::new(fetched),
            status: watch::Sender::new(status),
            fetch_requested: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            metrics,
        });
        let task = tokio::spawn(run(source, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// The set as it is, if there is one.
    pub(super) fn fetched(&self) -> Option<Arc<KeySet>> {
        self.shared.keys.load_full()
    }

    /// Runs `check` with the present keys, and once more with fresh ones if its failure is one that `may_change` with them.
    pub(super) async fn with<R>(
        &self,
        check: impl Fn(&KeySet) -> Result<R, AuthFailure>,
        may_change: impl Fn(AuthFailure) -> bool,
    ) -> Result<R, AuthFailure> {
        let check_current = || match self.shared.keys.load().as_deref() {
            Some(keys) => check(keys),
            None => Err(AuthFailure::Unavailable),
        };
        let is_final = |result: &Result<R, AuthFailure>| match result {
            Ok(_) => true,
            Err(failure) => *failure != AuthFailure::Unavailable && !may_change(*failure),
        };
        let result = check_current();
        if is_final(&result) {
            return result;
        }
        let mut status = self.shared.status.subscribe();
        let seen = *status.borrow_and_update();
        // Again: a fetch may have ended before the status was looked at.
        let result = check_current();
        if is_final(&result) || (!seen.is_fetching && Instant::now() < seen.may_fetch_at) {
            return verdict(result, seen);
        }
        let Ok(_permit) = self.shared.waiting.try_acquire() else { return while_unfetchable(result) };
        let _waiting = Waiting::new(&self.shared.metrics);
        if !seen.is_fetching {
            self.shared.fetch_requested.notify_one();
        }
        let fetched = timeout(MAX_WAIT, status.wait_for(|now| now.fetches != seen.fetches)).await;
        match fetched {
            Ok(Ok(now)) => verdict(check_current(), *now),
            Ok(Err(_)) | Err(_) => while_unfetchable(result),
        }
    }
}

/// A token with an unknown key is refused, unless the last fetch failed: then the key may be a new one.
fn verdict<R>(result: Result<R, AuthFailure>, status: Status) -> Result<R, AuthFailure> {
    if status.has_failed { while_unfetchable(result) } else { result }
}

/// The result while keys cannot be fetched. A signature that does not fit the key stays wrong: a forged token must not look
/// like a failure of the proxy.
fn while_unfetchable<R>(result: Result<R, AuthFailure>) -> Result<R, AuthFailure> {
    match result {
        Err(AuthFailure::UnknownKey) => Err(AuthFailure::Unavailable),
        result => result,
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fetches until the task is aborted. A panic counts as a fetch that has failed.
async fn run(source: Source, shared: Arc<Shared>) {
    while catch_panic(TaskKind::Jwks, &shared.metrics, fetch_repeatedly(&source, &shared)).await.is_err() {
        shared.status.send_modify(|status| {
            status.is_fetching = false;
            status.has_failed = true;
            status.fetches += 1;
        });
        sleep(PAUSE).await;
    }
}

async fn fetch_repeatedly(source: &Source, shared: &Shared) {
    let url = source.uri.to_string();
    let mut is_up = None;
    let mut failures = 0_u32;
    loop {
        shared.status.send_modify(|status| {
            status.is_fetching = true;
            status.may_fetch_at = Instant::now() + source.min_interval;
        });
        let result = source.get().await;
        let outcome = result.as_ref().err().map_or(JwksOutcome::Ok, |(outcome, _)| *outcome);
        shared.metrics.admission.jwks_fetches.inc(outcome);
        failures = if result.is_ok() { 0 } else { failures.saturating_add(1) };
        let has_failed = result.is_err();
        match result {
            Ok(keys) => {
                shared.keys.store(Some(Arc::new(keys)));
                if is_up.replace(true) != Some(true) {
                    info!(url = %redact_path(&url), "key set fetched");
                }
            }
            // Logged once, until it changes.
            Err((_, why)) if is_up.replace(false) != Some(false) => {
                let has_keys = shared.keys.load().is_some();
                warn!(url = %redact_path(&url), why, has_keys, "key set cannot be fetched (policy.auth.jwt.jwks_url)");
            }
            Err(_) => {}
        }
        shared.status.send_modify(|status| {
            status.is_fetching = false;
            status.has_failed = has_failed;
            status.fetches += 1;
        });
        let due = Instant::now() + pause(failures, source.refresh);
        loop {
            tokio::select! {
                () = sleep_until(due) => break,
                () = shared.fetch_requested.notified() => {
                    if Instant::now() >= shared.status.borrow().may_fetch_at {
                        break;
                    }
                }
            }
        }
    }
}

/// How long until the next fetch, after so many failures in a row. Jittered: replicas start together.
fn pause(failures: u32, refresh: Duration) -> Duration {
    let longest = if failures == 0 { refresh } else { refresh.min(MAX_RETRY) };
    let backoff = match failures {
        0 => refresh,
        _ => RETRY.saturating_mul(2_u32.saturating_pow(failures - 1)),
    };
    backoff.min(longest).mul_f64(fastrand::f64().mul_add(0.2, 0.8)).max(MIN_PAUSE)
}

impl Source {
    /// Nothing is fetched yet. Keys are kept if they are for one of `algorithms`.
    pub(super) fn new(
        url: &str,
        ca: Option<&File>,
        refresh: Duration,
        min_interval: Duration,
        algorithms: &[JwtAlgorithm],
    ) -> Result<Self, AuthError> {
        let ca = ca.map(|file| ("policy.auth.jwt.ca_file", file));
        let (fetch, uri) = Fetch::new("policy.auth.jwt.jwks_url", url, ca)
            .map_err(|error| AuthError::of_url("jwt.jwks_url", error))?;
        Ok(Self { fetch, uri, algorithms: algorithms.to_vec(), refresh, min_interval })
    }

    async fn get(&self) -> Result<KeySet, (JwksOutcome, String)> {
        let unreachable = |why: String| (JwksOutcome::Unreachable, why);
        let request = Request::get(&self.uri)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, PRODUCT)
            .body(Empty::<Bytes>::new())
            .map_err(|error| unreachable(error.to_string()))?;
        let response = self.fetch.send(request, DEADLINE, MAX_DOCUMENT).await;
        let response = response.map_err(|error| unreachable(error.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(unreachable(format!(
                "the answer's status is {}, not 200",
                response.status().as_u16()
            )));
        }
        KeySet::from_json(response.body(), &self.algorithms)
            .map_err(|what| (JwksOutcome::Invalid, what.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_refresh_and_after_failures_it_grows_up_to_a_bound() {
        let hour = Duration::from_secs(3600);
        let cases = [
            (0, hour, 3600.0),
            (1, hour, 1.0),
            (2, hour, 2.0),
            (5, hour, 16.0),
            (6, hour, 30.0),
            (u32::MAX, hour, 30.0),
            (4, Duration::from_secs(5), 5.0),
            (0, Duration::ZERO, 0.1),
            (3, Duration::ZERO, 0.1),
        ];
        for (failures, refresh, longest) in cases {
            for _ in 0..50 {
                let seconds = pause(failures, refresh).as_secs_f64();
                let shortest = f64::max(longest * 0.8, 0.1);
                assert!((shortest..=longest + 1e-6).contains(&seconds), "{failures} {refresh:?}: {seconds}");
            }
        }
    }

    #[tokio::test]
    async fn the_task_ends_with_its_set() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let second = Duration::from_secs(1);
        let source = Source::new(&url, None, second, second, &[]).unwrap();
        let jwks = Jwks::new(source, None, Metrics::new("test").unwrap());
        let _asked = listener.accept().await.unwrap();
        let shared = Arc::downgrade(&jwks.shared);
        assert!(shared.upgrade().is_some());
        drop(jwks);
        let ended = async {
            while shared.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), ended).await.expect("nothing holds it any more");
    }
}
