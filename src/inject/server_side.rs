//! What a cluster adds to an object that is read back from it (`kubectl get -o yaml`). An object that is sent
//! with these is refused (`managedFields`), or runs into a conflict as soon as its status has changed
//! (`resourceVersion`).
//!
//! # Not here
//! Defaults that the cluster filled in: they are taken as if they had been said.

use crate::yaml::Value;

/// Takes it out of an object that comes from a cluster. What was never there keeps what it has.
pub(super) fn take_out(object: &mut Value) {
    let is_from_cluster =
        ["resourceVersion", "uid", "managedFields"].iter().any(|key| object.at(&["metadata", key]).is_some());
    let Value::Map(map) = object else { return };
    if !is_from_cluster {
        return;
    }
    map.remove("status");
    let Some(Value::Map(metadata)) = map.get_mut("metadata") else { return };
    for key in ["managedFields", "resourceVersion", "uid", "selfLink", "generation", "creationTimestamp"] {
        metadata.remove(key);
    }
    let Some(Value::Map(annotations)) = metadata.get_mut("annotations") else { return };
    // kubectl's own copy of what was sent last; how many rollouts there were.
    for key in ["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision"] {
        annotations.remove(key);
    }
    if annotations.0.is_empty() {
        metadata.remove("annotations");
    }
}
