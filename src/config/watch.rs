//! Notices when a file of the configuration may have changed.
//!
//! # Invariants
//! 1. Directories are watched, not files: editors and Kubernetes put another file, or another symlink, in the
//!    place of the old one. Each link on the way to a file has its directory watched.
//! 2. An event is only a reason to read again. What has changed, if anything, is found by reading.
//! 3. Changes of other files in these directories wake no task, and neither does our own reading.
//! 4. Nobody waits for the system's watcher for long: while somebody writes in one of the directories without a pause,
//!    it comes to nothing else. A thread of its own tells it what to watch.
//!
//! # Not here
//! Reading ([`super::read`]) and what a change leads to ([`crate::server`]).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// How long nothing has to happen: what is written in several steps is read when they are over.
const SETTLE_TIME: Duration = Duration::from_millis(100);
/// The longest wait for a writer that does not stop, and for a watcher that is busy with its events.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// The most symlinks that are followed for all files together; the kernel follows fewer.
const MAX_LINKS: usize = 256;

/// Watches the files of a configuration, as far as the system lets it.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Jobs for the thread that drives the watcher. `None`: nothing can be watched.
    jobs: Option<mpsc::Sender<Job>>,
    events: Arc<Events>,
    /// Whether an event has come that [`Watch::changed`] has not returned for.
    pending: bool,
}

/// The directories that are to be watched from now on.
#[derive(Debug)]
struct Job {
    /// These, and no others.
    directories: BTreeSet<PathBuf>,
    /// Completes when they are watched.
    done: oneshot::Sender<()>,
}

/// What the watcher's thread shares with [`Watch`].
#[derive(Debug, Default)]
struct Events {
    /// The directories, and the entries in them, whose events count.
    names: Mutex<BTreeSet<PathBuf>>,
    happened: Notify,
}

/// Where events may come from: directories, and the entries in them that lead to files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchedPaths {
    directories: BTreeSet<PathBuf>,
    entries: BTreeSet<PathBuf>,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new() -> Self {
        let events = Arc::new(Events::default());
        let (jobs, receiver) = mpsc::channel();
        let started = start(receiver, &events);
        if let Err(error) = &started {
            log_failure(error);
        }
        Self { jobs: started.is_ok().then_some(jobs), events, pending: false }
    }

    /// Watches these paths and no others. Answers whether some of them were not watched before: what was read
    /// meanwhile may have changed since. Where watching takes long, [`Watch::changed`] returns for it instead.
    pub(crate) async fn follow(&mut self, paths: WatchedPaths) -> bool {
        let WatchedPaths { directories, mut entries } = paths;
        entries.extend(directories.iter().cloned());
        let Some(jobs) = &self.jobs else { return false };
        let is_new = {
            let mut names = self.events.names.lock();
            // Events of other entries of these directories were not counted before either.
            let is_new = !entries.is_subset(&names);
            *names = entries;
            is_new
        };
        let (done, watched) = oneshot::channel();
        // This fails only if the thread has panicked.
        let _ = jobs.send(Job { directories, done });
        let is_watched = matches!(timeout(MAX_WAIT, watched).await, Ok(Ok(())));
        is_watched && is_new
    }

    /// Waits until one of the files may have changed, and nothing more happens for a moment. Never returns where
    /// nothing can be watched. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if !self.pending {
            self.events.happened.notified().await;
            self.pending = true;
        }
        let end = Instant::now() + MAX_WAIT;
        loop {
            let settled = (Instant::now() + SETTLE_TIME).min(end);
            if timeout_at(settled, self.events.happened.notified()).await.is_err() {
                self.pending = false;
                return;
            }
        }
    }
}

/// Starts the thread that watches what `jobs` name, until their sender is dropped.
fn start(jobs: mpsc::Receiver<Job>, events: &Arc<Events>) -> notify::Result<()> {
    let (notifier, thread_events) = (Arc::clone(events), Arc::clone(events));
    let watcher = notify::recommended_watcher(move |event| notifier.on_event(&event))?;
    thread::Builder::new().name("watch".into()).spawn(move || serve(&jobs, watcher, &thread_events))?;
    Ok(())
}

/// Runs in a thread of its own.
fn serve(jobs: &mpsc::Receiver<Job>, mut watcher: RecommendedWatcher, events: &Events) {
    let mut watched = BTreeSet::new();
    let mut has_logged = false;
    while let Ok(job) = jobs.recv() {
        // Only the newest job counts.
        let Job { directories, done } = jobs.try_iter().last().unwrap_or(job);
        for gone in watched.difference(&directories) {
            // The kernel may have stopped watching it already.
            let _ = watcher.unwatch(gone);
        }
        let mut failed = None;
        for directory in &directories {
            // Also those that are watched already: another directory may be at that path now.
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                failed = Some(error);
            }
        }
        watched = directories;
        if let Some(error) = failed
            && !std::mem::replace(&mut has_logged, true)
        {
            log_failure(&error);
        }
        if done.send(()).is_err() {
            // The caller has stopped waiting, and events until now may have been missed.
            events.happened.notify_one();
        }
    }
}

fn log_failure(error: &notify::Error) {
    tracing::warn!(%error, "files cannot be watched: after a change send SIGHUP");
}

impl Events {
    /// Runs in the watcher's thread.
    fn on_event(&self, event: &notify::Result<Event>) {
        let is_relevant = match event {
            Ok(event) => {
                let is_reading = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
                let names = self.names.lock();
                // An event without a path says that events were lost.
                !is_reading && (event.paths.is_empty() || event.paths.iter().any(|path| names.contains(path)))
            }
            Err(_) => true,
        };
        if is_relevant {
            self.happened.notify_one();
        }
    }
}

impl WatchedPaths {
    /// The directories and entries that lead to `files` now.
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        let mut paths = Self::default();
        let mut pending_paths: Vec<PathBuf> =
            files.iter().filter_map(|file| std::path::absolute(file).ok()).collect();
        let mut links = 0;
        while let Some(path) = pending_paths.pop() {
            paths.add(&path);
            for link in path.ancestors() {
                let Ok(target) = fs::read_link(link) else { continue };
                paths.add(link);
                links += 1;
                if links > MAX_LINKS {
                    return paths;
                }
                let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
                let target = link.parent().unwrap_or(Path::new("/")).join(target);
                // Joining nothing would add a slash.
                pending_paths.push(if rest.as_os_str().is_empty() { target } else { target.join(rest) });
            }
        }
        paths
    }

    /// The directory of `entry`; if that does not exist, the nearest one around it, in which it would appear.
    fn add(&mut self, entry: &Path) {
        for entry in entry.ancestors() {
            let (Some(parent), Some(name)) = (entry.parent(), entry.file_name()) else { return };
            if let Ok(directory) = fs::canonicalize(parent) {
                self.entries.insert(directory.join(name));
                self.directories.insert(directory);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::time::timeout;

    use super::*;

    /// A folder of its own, gone with the guard.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("outrigger-watch-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(fs::canonicalize(path).unwrap())
        }

        async fn watch(&self, file: &str) -> Watch {
            let mut watch = Watch::new();
            watch.follow(WatchedPaths::of(&[self.0.join(file)])).await;
            watch
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn sees(watch: &mut Watch) -> bool {
        timeout(Duration::from_secs(10), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_removed_or_made_is_noticed() {
        let folder = Folder::new("file");
        let file = folder.0.join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = folder.watch("a.yaml").await;
        fs::write(&file, "2").unwrap();
        assert!(sees(&mut watch).await, "written");
        fs::write(folder.0.join("b"), "3").unwrap();
        fs::rename(folder.0.join("b"), &file).unwrap();
        assert!(sees(&mut watch).await, "replaced");
        fs::remove_file(&file).unwrap();
        assert!(sees(&mut watch).await, "removed");
        fs::write(&file, "4").unwrap();
        assert!(sees(&mut watch).await, "made");
    }

    #[tokio::test]
    async fn other_files_and_our_own_reading_wake_nobody() {
        let folder = Folder::new("others");
        fs::write(folder.0.join("a.yaml"), "1").unwrap();
        let mut watch = folder.watch("a.yaml").await;
        for number in 0..10 {
            fs::write(folder.0.join("other"), number.to_string()).unwrap();
            fs::read(folder.0.join("a.yaml")).unwrap();
        }
        assert!(timeout(Duration::from_millis(300), watch.changed()).await.is_err());
        fs::write(folder.0.join("a.yaml"), "2").unwrap();
        assert!(sees(&mut watch).await);
    }

    #[tokio::test]
    async fn a_kubernetes_mount_that_swaps_its_data_is_noticed_each_time() {
        let folder = Folder::new("swap");
        let version = |name: &str| {
            fs::create_dir(folder.0.join(name)).unwrap();
            fs::write(folder.0.join(name).join("a.yaml"), name).unwrap();
        };
        version("..1");
        symlink("..1", folder.0.join("..data")).unwrap();
        symlink("..data/a.yaml", folder.0.join("a.yaml")).unwrap();
        let file = folder.0.join("a.yaml");
        let mut watch = folder.watch("a.yaml").await;
        for (old, new) in [("..1", "..2"), ("..2", "..3")] {
            version(new);
            symlink(new, folder.0.join("..data_tmp")).unwrap();
            fs::rename(folder.0.join("..data_tmp"), folder.0.join("..data")).unwrap();
            fs::remove_dir_all(folder.0.join(old)).unwrap();
            assert!(sees(&mut watch).await, "{new}");
            assert_eq!(fs::read_to_string(&file).unwrap(), new);
            watch.follow(WatchedPaths::of(std::slice::from_ref(&file))).await;
        }
    }

    #[tokio::test]
    async fn a_file_behind_a_link_and_a_folder_that_is_not_there_yet_are_noticed() {
        let folder = Folder::new("link");
        fs::create_dir(folder.0.join("archive")).unwrap();
        fs::write(folder.0.join("archive/cert"), "1").unwrap();
        symlink("archive", folder.0.join("current")).unwrap();
        let mut watch = folder.watch("current/cert").await;
        fs::write(folder.0.join("archive/cert"), "2").unwrap();
        assert!(sees(&mut watch).await, "behind a link");

        let missing = [folder.0.join("later/deep/file")];
        assert!(watch.follow(WatchedPaths::of(&missing)).await);
        fs::create_dir(folder.0.join("later")).unwrap();
        assert!(sees(&mut watch).await, "the first folder");
        assert!(watch.follow(WatchedPaths::of(&missing)).await, "there is more to watch now");
        fs::create_dir(folder.0.join("later/deep")).unwrap();
        assert!(sees(&mut watch).await, "the second folder");
        assert!(watch.follow(WatchedPaths::of(&missing)).await);
        fs::write(&missing[0], "1").unwrap();
        assert!(sees(&mut watch).await, "the file");
        assert!(!watch.follow(WatchedPaths::of(&missing)).await, "nothing new");
    }

    #[tokio::test]
    async fn a_watcher_that_is_kept_busy_is_not_waited_for_and_what_it_missed_is_looked_for() {
        let folder = Folder::new("busy");
        let file = folder.0.join("a.yaml");
        let (jobs, receiver) = mpsc::channel();
        let mut watch = Watch { jobs: Some(jobs), events: Arc::default(), pending: false };
        let paths = || WatchedPaths::of(std::slice::from_ref(&file));
        for _ in 0..2 {
            let following = timeout(2 * MAX_WAIT, watch.follow(paths())).await;
            assert_eq!(following, Ok(false), "it is told when they are watched");
        }
        assert!(timeout(SETTLE_TIME, watch.changed()).await.is_err());
        start(receiver, &watch.events).unwrap();
        assert!(sees(&mut watch).await, "it has time again");
        fs::write(&file, "1").unwrap();
        assert!(sees(&mut watch).await, "and watches");
    }

    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let folder = Folder::new("circle");
        symlink("b", folder.0.join("a")).unwrap();
        symlink("a", folder.0.join("b")).unwrap();
        assert_eq!(WatchedPaths::of(&[folder.0.join("a")]).directories, BTreeSet::from([folder.0.clone()]));
    }
}
