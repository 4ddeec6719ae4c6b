//! An object of a manifest.

use super::options::Options;
use super::refusal::Location;
use crate::yaml::Value;

pub(super) struct Object {
    pub(super) location: Location,
    pub(super) value: Value,
}

impl Object {
    pub(super) fn new(value: Value, location: Location) -> Self {
        let part = |path: &[&str]| value.text_at(path).unwrap_or("?").to_owned();
        let object = format!("{}/{}", part(&["kind"]), part(&["metadata", "name"]));
        Self { location: Location { object, ..location }, value }
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.value.text_at(&["kind"]) == Some(kind)
    }

    /// The path of its pod template, if it is a workload of Kubernetes' own.
    pub(super) fn template(&self) -> Option<&'static [&'static str]> {
        let version = self.value.text_at(&["apiVersion"])?;
        let is_builtin = version == "v1" || version.starts_with("apps/");
        template_of(self.value.text_at(&["kind"])?).filter(|_| is_builtin)
    }

    pub(super) fn is_selected(&self, options: &Options) -> bool {
        options.only.is_empty() || options.only.iter().any(|only| self.matches(only))
    }

    /// `NAME` or `KIND/NAME`.
    pub(super) fn matches(&self, only: &str) -> bool {
        let name = self.value.text_at(&["metadata", "name"]);
        match only.split_once('/') {
            None => name == Some(only),
            Some((kind, own)) => {
                let is_kind = |own: &str| own.eq_ignore_ascii_case(kind);
                name == Some(own) && self.value.text_at(&["kind"]).is_some_and(is_kind)
            }
        }
    }

    /// The controller that made it, and would make it again.
    pub(super) fn owner(&self) -> Option<String> {
        let mut owners = self.value.list_at(&["metadata", "ownerReferences"]).iter();
        let owner = owners.find(|owner| owner.is_true_at(&["controller"]))?;
        Some(format!("{}/{}", owner.text_at(&["kind"])?, owner.text_at(&["name"])?))
    }
}

/// The path of the pod template of each kind that serves clients. Jobs end, so they have none.
fn template_of(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&[]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" => {
            Some(&["spec", "template"])
        }
        _ => None,
    }
}
