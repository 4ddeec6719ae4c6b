//! How much memory the container may have: the limit of this process's control group.
//!
//! # Invariants
//! 1. A group is bound by those around it: the smallest limit on the way up counts.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted, by convention.
const ROOT: &str = "/sys/fs/cgroup";

/// In bytes; `None`: there is no limit, or no way to see one.
pub(crate) fn memory_limit() -> Option<u64> {
    limit_in(Path::new(ROOT), &fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
}

/// `groups`: what `/proc/self/cgroup` says, a line `ID:CONTROLLERS:PATH` for each hierarchy.
fn limit_in(root: &Path, groups: &str) -> Option<u64> {
    let mut smallest = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            // Version 2 has one hierarchy.
            "" => (root.to_path_buf(), "memory.max"),
            v1 if v1.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in upwards(&mount, path) {
            // Without a namespace of its own, a container sees a path that is not mounted for it; its own
            // group is the mount itself then.
            let limit = fs::read_to_string(group.join(file)).ok().and_then(|text| text.trim().parse().ok());
            smallest = smallest.into_iter().chain(limit).min();
        }
    }
    smallest
}

/// The group at `path` and each around it, the mount last.
fn upwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    // `/..` stands for a group above what the namespace shows.
    let seen = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let inner = path.ancestors().filter(|inner| seen && !inner.as_os_str().is_empty());
    inner.map(|inner| mount.join(inner)).chain([mount.to_path_buf()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files with their contents, below a folder of their own.
    fn tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("outrigger-cgroup-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts_in_either_version() {
        for (name, files, groups, limit) in [
            ("namespace", &[("memory.max", "1048576\n")][..], "0::/\n", Some(1_048_576)),
            ("none", &[("memory.max", "max\n")], "0::/\n", None),
            ("missing", &[("other", "")], "0::/a/b\n", None),
            ("outer", &[("a/memory.max", "100\n"), ("a/b/memory.max", "200\n")], "0::/a/b\n", Some(100)),
            ("within", &[("a/memory.max", "200\n"), ("a/b/memory.max", "100\n")], "0::/a/b\n", Some(100)),
            ("inner", &[("a/memory.max", "max\n"), ("a/b/memory.max", "200\n")], "0::/a/b\n", Some(200)),
            ("above", &[("memory.max", "300\n"), ("../memory.max", "1\n")], "0::/../x\n", Some(300)),
            (
                "v1",
                &[("memory/a/memory.limit_in_bytes", "400\n"), ("memory.max", "1\n")],
                "9:cpu,cpuacct:/b\n4:memory:/a\n",
                Some(400),
            ),
            // A container of version 1 that sees its host's path.
            ("v1-host", &[("memory/memory.limit_in_bytes", "500\n")], "4:memory:/docker/x\n", Some(500)),
            ("hybrid", &[("memory/a/memory.limit_in_bytes", "600\n")], "4:memory:/a\n0::/b\n", Some(600)),
            ("empty", &[("memory.max", "1\n")], "", None),
            ("odd", &[("memory.max", "1\n")], "x\n:\n0:\n", None),
        ] {
            let root = tree(name, files);
            assert_eq!(limit_in(&root, groups), limit, "{name}");
            fs::remove_dir_all(root).unwrap();
        }
    }
}
