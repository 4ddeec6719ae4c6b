//! Puts the sidecar into Kubernetes manifests: text in, text and warnings out.
//!
//! [`read`] turns text into [`yaml::Value`]s, [`stream`] finds the objects in them, [`workload`] puts the proxy before the
//! application of one workload, [`follow`] leads what is beside it to the proxy, [`yaml::write`] makes text of it again.
//!
//! # Invariants
//! 1. What is not ours to change keeps its meaning and its order.
//! 2. To inject twice is to inject once, byte for byte.
//! 3. If anything is refused, there is no text at all.
//! 4. The text that comes out was read back and is what was meant.
//!
//! # Not here
//! Files, standard input, flags ([`crate::cli`]).

mod fields;
mod follow;
mod injected;
mod names;
mod object;
mod options;
mod pod;
mod read;
mod refusal;
mod secrets;
mod server_side;
mod settings;
mod sidecar;
mod stream;
#[cfg(test)]
mod tests;
mod workload;

use self::refusal::{Fault, Location};
use self::stream::Stream;
use crate::yaml;

pub use options::{Configuration, DEFAULT_CONFIGURATION, Family, Options, Ports, SecretMount, Sleep};
pub use read::MAX_BYTES;
pub use refusal::{Refusal, Refusals, Warning};

/// A manifest with sidecars.
#[derive(Debug)]
pub struct Injected {
    /// YAML.
    pub text: String,
    /// What whoever reads it should know.
    pub warnings: Vec<Warning>,
}

/// Puts sidecars into the workloads of `text`, which is called `file` in errors.
///
/// # Errors
/// Everything in it that no sidecar can be put into.
pub fn inject(file: &str, text: &str, options: &Options) -> Result<Injected, Refusals> {
    let whole = Location::file(file);
    let checked = options.check().and_then(|()| secrets::check(&options.secrets));
    checked.map_err(|fault| fault.at(&whole))?;
    let mut stream = Stream::read(file, text)?;
    let mut warnings = Vec::new();
    stream.check_only(options).map_err(|fault| fault.at(&whole))?;

    let (targets, config_maps) = stream.inject(options, &mut warnings)?;
    if targets.is_empty() {
        let what = "nothing to inject: no Deployment, StatefulSet, DaemonSet, ReplicaSet or Pod".to_owned();
        warnings.push(Warning { location: whole.clone(), what });
    }
    warnings.extend(follow::follow(stream.objects_mut(), &targets, options));
    stream.add(config_maps)?;
    for object in stream.objects_mut() {
        server_side::take_out(&mut object.value);
    }
    let values = stream.into_values();
    let text = yaml::write(&values);
    let again = read::read(&text).map(|documents| documents.into_iter().map(|document| document.value));
    if !again.is_ok_and(|again| again.eq(values)) {
        let found = "text that YAML cannot be trusted to carry";
        let todo = "report this, with the manifest";
        return Err(Fault::new("the manifest as a whole", found, "ordinary manifests", todo)
            .at(&whole)
            .into());
    }
    Ok(Injected { text, warnings })
}
