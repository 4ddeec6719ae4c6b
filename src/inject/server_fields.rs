//! Fields that the API server adds to an object that is read from it (`kubectl get -o yaml`). An object that is sent
//! back with them is refused (`managedFields`), or conflicts once its status has changed (`resourceVersion`).
//!
//! # Not here
//! Defaults that the API server filled in: they count as written.

use crate::yaml::Value;

/// Removes these fields from an object that was read from a cluster. Any other object stays as it is.
pub(super) fn strip(object: &mut Value) {
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
    // kubectl's copy of what was applied last, and the number of rollouts.
    for key in ["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision"] {
        annotations.remove(key);
    }
    if annotations.0.is_empty() {
        metadata.remove("annotations");
    }
}
