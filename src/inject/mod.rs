//! Puts the sidecar into Kubernetes manifests: text in, text and warnings out. Pure.
//!
//! [`read`] turns text into [`yaml::Value`]s, [`manifest`] finds the objects in them, [`workload`] puts the proxy in
//! front of the application of one workload, [`related`] points the objects around it to the proxy, [`yaml::write`]
//! makes text of it again.
//!
//! # Invariants
//! 1. Everything that does not have to change keeps its meaning and its order.
//! 2. Injection is idempotent, byte for byte.
//! 3. If anything is refused, no text comes out.
//! 4. The text that comes out was read back and compared.
//!
//! # Not here
//! Files, standard input, flags ([`crate::cli`]).

mod app;
mod fields;
mod injected;
mod manifest;
mod names;
mod object;
mod options;
mod pod;
mod prior;
mod read;
mod refusal;
mod related;
mod secrets;
mod server_fields;
mod settings;
mod sidecar;
#[cfg(test)]
mod tests;
mod workload;

use self::manifest::Manifest;
use self::refusal::{FieldError, Location};
use crate::yaml;

pub use options::{Configuration, DEFAULT_CONFIGURATION, Family, Options, Ports, SecretMount, Sleep};
pub(crate) use read::MAX_BYTES;
pub use refusal::{Refusal, Refusals, Warning};

/// A manifest with sidecars.
#[derive(Debug)]
pub struct Injected {
    /// YAML.
    pub text: String,
    /// What the operator should know.
    pub warnings: Vec<Warning>,
}

/// Puts sidecars into the workloads of `text`, which is called `file` in errors.
///
/// # Errors
/// Everything that keeps a sidecar from being injected.
pub fn inject(file: &str, text: &str, options: &Options) -> Result<Injected, Refusals> {
    let whole = Location::file(file);
    let checked = options.check().and_then(|()| secrets::check(&options.secrets));
    checked.map_err(|error| error.at(&whole))?;
    let mut manifest = Manifest::read(file, text)?;
    let mut warnings = Vec::new();
    manifest.check_only(options).map_err(|error| error.at(&whole))?;

    let (targets, config_maps) = manifest.inject(options, &mut warnings)?;
    if targets.is_empty() {
        let what = "nothing to inject: no Deployment, StatefulSet, DaemonSet, ReplicaSet or Pod".to_owned();
        warnings.push(Warning { location: whole.clone(), what });
    }
    warnings.extend(related::retarget(manifest.objects_mut(), &targets, options));
    manifest.add(config_maps)?;
    for object in manifest.objects_mut() {
        server_fields::strip(&mut object.value);
    }
    let values = manifest.into_values();
    let text = yaml::write(&values);
    let again = read::read(&text).map(|documents| documents.into_iter().map(|document| document.value));
    if !again.is_ok_and(|again| again.eq(values)) {
        let found = "text that YAML cannot be trusted to carry";
        let remedy = "report this, with the manifest";
        return Err(FieldError::new("the manifest as a whole", found, "ordinary manifests", remedy)
            .at(&whole)
            .into());
    }
    Ok(Injected { text, warnings })
}
