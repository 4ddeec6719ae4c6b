//! Secrets that the proxy's container sees as folders: volumes and mounts, and which files of a configuration they
//! hold.
//!
//! # Invariants
//! 1. What an operator mounted is neither replaced nor hidden.
//! 2. Where no secret is given, those of an earlier injection stay; where any is given, no other stays.

use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use super::fields;
use super::names::FOLDER;
use super::options::SecretMount;
use super::refusal::FieldError;
use crate::yaml::Value;

/// The prefix of names of volumes with Secrets, by which a later injection finds them.
const PREFIX: &str = "outrigger-secret-";
/// Names of volumes are labels (RFC 1123), those of Secrets longer, and with dots.
const MAX_VOLUME: usize = 63;
const MAX_SECRET: usize = 253;
/// Where the program is in its image.
const PROGRAM: &str = "/outrigger";

/// Refuses Secrets that cannot be mounted, or not at that path.
pub(super) fn check(secrets: &[SecretMount]) -> Result<(), FieldError> {
    for (index, SecretMount { name, path }) in secrets.iter().enumerate() {
        let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_inside = |c: char| is_edge(c) || c == '-' || c == '.';
        let is_name = name.starts_with(is_edge) && name.ends_with(is_edge) && name.chars().all(is_inside);
        if !is_name || name.len() > MAX_SECRET {
            let accepted = "the name of a Secret, such as chat-tls";
            return Err(FieldError::new("--secret", format!("{name:?}"), accepted, "say NAME:PATH"));
        }
        let folder = Path::new(path);
        let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        let is_path =
            path.starts_with('/') && folder.components().all(is_plain) && folder.file_name().is_some();
        if !is_path || path.contains([':', '\n']) {
            let accepted = "an absolute path of a folder, such as /etc/outrigger/tls";
            return Err(FieldError::new("--secret", format!("{path:?}"), accepted, "say NAME:PATH"));
        }
        let config = Path::new(FOLDER);
        for (taken, whose) in [(config, "the configuration's"), (Path::new(PROGRAM), "the program's")] {
            if folder.starts_with(taken) || taken.starts_with(folder) {
                let found = format!("{path}, and {} is {whose}", taken.display());
                let remedy = "mount it beside that, such as at /etc/outrigger/tls";
                return Err(FieldError::new("--secret", found, "a folder of its own", remedy));
            }
        }
        let is_same = |other: &SecretMount| Path::new(&other.path) == folder;
        if secrets.iter().take(index).any(is_same) {
            let found = format!("{}, twice", shown(folder));
            return Err(FieldError::new(
                "--secret",
                found,
                "a folder for each",
                "mount one of them elsewhere",
            ));
        }
    }
    Ok(())
}

/// The proxy's mounts: those of `secrets`, and those of `earlier` that stay.
pub(super) fn mounts<'a>(secrets: &[SecretMount], earlier: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let own = secrets.iter().map(|secret| {
        Value::map([
            ("name", Value::text(volume_name(&secret.name))),
            ("mountPath", Value::text(shown(Path::new(&secret.path)))),
            ("readOnly", Value::boolean(true)),
        ])
    });
    own.chain(earlier.filter(|mount| secrets.is_empty() || !is_ours(mount)).cloned()).collect()
}

/// Refuses a Secret that would hide another mount or replace a volume.
pub(super) fn refuse_taken(
    secrets: &[SecretMount],
    spec: &Value,
    sidecar: Option<&Value>,
    prefix: &str,
) -> Result<(), FieldError> {
    let mounts = sidecar.map(|sidecar| sidecar.list_at(&["volumeMounts"])).unwrap_or_default();
    for secret in secrets {
        let is_there = |mount: &&Value| {
            !is_ours(mount)
                && mount
                    .text_at(&["mountPath"])
                    .is_some_and(|path| Path::new(path) == Path::new(&secret.path))
        };
        if let Some(mount) = mounts.iter().find(is_there) {
            return Err(FieldError::new(
                fields::field(prefix, "spec: volumeMounts of the container outrigger"),
                format!("{} at {}", mount.text_at(&["name"]).unwrap_or("?"), secret.path),
                "nothing there",
                format!("mount the Secret {} elsewhere, or take that mount out", secret.name),
            ));
        }
        let name = volume_name(&secret.name);
        let mut volumes = spec.list_at(&["volumes"]).iter();
        let is_foreign = |volume: &Value| {
            volume.text_at(&["name"]) == Some(&*name) && (sidecar.is_none() || !is_volume(volume))
        };
        if volumes.any(is_foreign) {
            return Err(FieldError::new(
                fields::field(prefix, "spec.volumes"),
                format!("{name:?}, which `outrigger inject` did not put there"),
                format!("any other name; {name} is the proxy's"),
                "rename it",
            ));
        }
    }
    Ok(())
}

/// Puts the volumes of `secrets` into the pod's, in place of those of an earlier injection.
pub(super) fn put_volumes(secrets: &[SecretMount], volumes: &mut Vec<Value>) {
    if secrets.is_empty() {
        return;
    }
    let is_wanted = |volume: &Value| {
        secrets.iter().any(|secret| volume.text_at(&["name"]) == Some(&*volume_name(&secret.name)))
    };
    volumes.retain(|volume| !is_volume(volume) || is_wanted(volume));
    for secret in secrets {
        let name = volume_name(&secret.name);
        if !volumes.iter().any(|volume| volume.text_at(&["name"]) == Some(&*name)) {
            let source = Value::map([("secretName", Value::text(&*secret.name))]);
            volumes.push(Value::map([("name", Value::text(name)), ("secret", source)]));
        }
    }
}

/// Files of a configuration, each with its setting, that no mount of the proxy's container holds.
pub(super) fn missing(files: Vec<(String, String)>, sidecar: &Value) -> Vec<String> {
    let mounts = sidecar.list_at(&["volumeMounts"]);
    let is_held = |file: &Path| {
        let mut paths = mounts.iter().filter_map(|mount| mount.text_at(&["mountPath"]));
        paths.any(|path| file.starts_with(path))
    };
    let folder = |file: &Path| file.parent().map(shown).unwrap_or_default();
    let missing = files.into_iter().filter(|(_, file)| !is_held(Path::new(file)));
    missing
        .map(|(key, file)| {
            format!(
                "{key} is {file}, which nothing mounts into the container outrigger: --secret NAME:{} mounts a Secret \
                 there",
                folder(Path::new(&file))
            )
        })
        .collect()
}

/// Shows a path without a trailing slash.
fn shown(path: &Path) -> String {
    path.components().collect::<std::path::PathBuf>().display().to_string()
}

fn volume_name(secret: &str) -> String {
    let name = format!("{PREFIX}{secret}");
    if name.len() <= MAX_VOLUME && !name.contains('.') {
        return name;
    }
    let sum = Sha256::digest(secret);
    let short: String = sum.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{short}")
}

fn is_volume(volume: &Value) -> bool {
    is_ours(volume) && volume.at(&["secret"]).is_some()
}

fn is_ours(item: &Value) -> bool {
    item.text_at(&["name"]).is_some_and(|name| name.starts_with(PREFIX))
}
