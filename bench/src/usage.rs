//! What a process and all its descendants use: CPU, memory, wake-ups, from /proc.
//!
//! CPU time comes from `/proc/PID/task/TID/schedstat`, in nanoseconds; a kernel that keeps no such
//! statistics (`CONFIG_SCHED_INFO`) leaves the 10 ms ticks of `/proc/PID/stat`. How much of it was user time is told in ticks
//! only, by what ran when the clock ticked: of 5 busy seconds that share is good to 2 points or so.

use std::collections::HashMap;
use std::fs;
use std::sync::LazyLock;

/// Whether this kernel counts run time in nanoseconds. This process has run already: 0 says no.
static PRECISE: LazyLock<bool> =
    LazyLock::new(|| fs::read_to_string("/proc/self/schedstat").is_ok_and(|s| first_number(&s) > 0));

/// Name of the clock behind [`CpuSample`], for the results.
pub fn cpu_clock() -> &'static str {
    if *PRECISE { "schedstat" } else { "ticks" }
}

/// Nanoseconds of one thread.
#[derive(Clone, Copy, Default)]
struct Time {
    ran: u64,
    /// Ready to run, while something else had the core. Unknown, so 0, where ticks are all there is.
    waited: u64,
}

/// CPU time so far of every thread in a process tree, and the ticks of its processes.
#[derive(Default)]
pub struct CpuSample {
    threads: HashMap<u32, Time>,
    user_ticks: u64,
    ticks: u64,
}

impl CpuSample {
    /// `None` samples nothing and is worth 0.
    pub fn of(root: Option<u32>) -> Self {
        let mut sample = Self::default();
        for pid in root.map(tree).unwrap_or_default() {
            let threads = &mut sample.threads;
            let stat = stat(pid);
            if let Some(stat) = &stat {
                sample.user_ticks += stat.user_ticks;
                sample.ticks += stat.ticks;
            }
            if *PRECISE {
                for tid in numeric_entries(&format!("/proc/{pid}/task")) {
                    let path = format!("/proc/{pid}/task/{tid}/schedstat");
                    if let Ok(text) = fs::read_to_string(path) {
                        let waited = text.split_once(' ').map_or(0, |(_, rest)| first_number(rest));
                        threads.insert(tid, Time { ran: first_number(&text), waited });
                    }
                }
            } else if let Some(stat) = stat {
                let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
                threads.insert(pid, Time { ran: stat.ticks * tick, waited: 0 });
            }
        }
        sample
    }

    /// Nanoseconds run from `earlier` to this sample. A thread that ended in between is not counted:
    /// see [`CpuSample::gone_since`].
    pub fn since(&self, earlier: &Self) -> u64 {
        self.sum_since(earlier, |time| time.ran)
    }

    /// Nanoseconds waited for a core from `earlier` to this sample: on a quiet machine next to none.
    pub fn waited_since(&self, earlier: &Self) -> u64 {
        self.sum_since(earlier, |time| time.waited)
    }

    /// The share of user time in what was run from `earlier` to this sample; `None` if that was not a tick.
    pub fn user_share_since(&self, earlier: &Self) -> Option<f64> {
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        (ticks > 0).then(|| user as f64 / ticks as f64)
    }

    fn sum_since(&self, earlier: &Self, part: impl Fn(&Time) -> u64) -> u64 {
        let before = |tid| earlier.threads.get(tid).map_or(0, &part);
        self.threads.iter().map(|(tid, time)| part(time).saturating_sub(before(tid))).sum()
    }

    /// Threads of `earlier` that are no longer there.
    pub fn gone_since(&self, earlier: &Self) -> usize {
        earlier.threads.keys().filter(|tid| !self.threads.contains_key(tid)).count()
    }
}

/// PSS in KiB over the process tree: private pages, and a fair share of those it shares.
pub fn pss_kb(root: Option<u32>) -> u64 {
    let of = |pid| field(&read(&format!("/proc/{pid}/smaps_rollup")), "Pss:");
    root.map(tree).unwrap_or_default().into_iter().map(of).sum()
}

/// How often the threads of the process tree went to sleep so far.
pub fn sleeps(root: Option<u32>) -> u64 {
    let mut sum = 0;
    for pid in root.map(tree).unwrap_or_default() {
        for tid in numeric_entries(&format!("/proc/{pid}/task")) {
            sum += field(&read(&format!("/proc/{pid}/task/{tid}/status")), "voluntary_ctxt_switches:");
        }
    }
    sum
}

struct Stat {
    parent: u32,
    user_ticks: u64,
    /// User and system time.
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = read(&format!("/proc/{pid}/stat"));
    // The name, in brackets, may hold spaces and brackets of its own.
    let fields: Vec<&str> = text[text.rfind(')')?..].split(' ').collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    let user_ticks = number(12)?;
    Some(Stat { parent: number(2)? as u32, user_ticks, ticks: user_ticks + number(13)? })
}

/// `root` and every process descended from it.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        numeric_entries("/proc").into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn numeric_entries(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// A process that ended meanwhile reads as empty.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, key: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(key)).map_or(0, first_number)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{SEC, now_ns};

    fn sample(threads: &[(u32, u64)]) -> CpuSample {
        let threads = threads.iter().map(|&(tid, ran)| (tid, Time { ran, waited: 2 * ran })).collect();
        CpuSample { threads, ..CpuSample::default() }
    }

    #[test]
    fn the_share_of_user_time_is_that_of_the_window() {
        let at = |user_ticks, ticks| CpuSample { user_ticks, ticks, ..CpuSample::default() };
        assert_eq!(at(130, 500).user_share_since(&at(100, 100)), Some(0.075));
        assert_eq!(at(100, 100).user_share_since(&at(100, 100)), None);
    }

    #[test]
    fn threads_that_came_or_went_do_not_distort_the_others() {
        let (start, end) = (sample(&[(1, 100), (2, 5_000)]), sample(&[(1, 150), (3, 7)]));
        assert_eq!(end.since(&start), 57);
        assert_eq!(end.waited_since(&start), 2 * 57);
        assert_eq!(end.gone_since(&start), 1);
    }

    #[test]
    fn our_own_cpu_time_grows_as_we_work() {
        let own = Some(std::process::id());
        let start = CpuSample::of(own);
        assert!(start.user_ticks <= start.ticks);
        let limit = now_ns() + 20 * SEC; // generous: a busy machine gives us little of it
        while CpuSample::of(own).since(&start) < 20_000_000 {
            assert!(now_ns() < limit, "20 s of work, and not 20 ms of CPU time seen");
        }
    }

    #[test]
    fn our_own_memory_is_found() {
        assert!(pss_kb(Some(std::process::id())) > 100);
    }
}
