//! Names in a manifest that are the sidecar's, and where its container sees its configuration. They are those of the
//! chart in `helm/outrigger`.

use std::path::Path;

/// The container's name.
pub(super) const NAME: &str = "outrigger";
/// The name of the port of clients.
pub(super) const CLIENT_PORT: &str = "outrigger";
/// The name of the port of health and metrics.
pub(super) const PROBE_PORT: &str = "outrigger-probe";
/// The name of the volume with the configuration.
pub(super) const VOLUME: &str = "outrigger-config";

/// Where the sidecar sees its configuration: the folder, not the file, since only then a change arrives in a
/// running pod.
pub(super) const FOLDER: &str = "/etc/outrigger/config";
/// The key in the ConfigMap.
pub(super) const KEY: &str = "outrigger.yaml";

/// Where the sidecar reads it.
pub(super) fn configuration_path() -> String {
    Path::new(FOLDER).join(KEY).display().to_string()
}
