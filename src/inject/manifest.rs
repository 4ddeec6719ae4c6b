//! A manifest as a stream of objects, wherever they stand: in documents of their own, or in a `kind: List`.
//!
//! # Not here
//! What is done to an object ([`super::workload`], [`super::related`], [`super::server_fields`]).

use super::fields;
use super::injected::InjectedWorkload;
use super::names;
use super::object::Object;
use super::options::Options;
use super::read::{self, Document};
use super::refusal::{FieldError, Location, Refusals, Warning};
use super::{server_fields, workload};
use crate::yaml::{Map, Value};

/// Documents, each an object or a list of them.
pub(super) struct Manifest(Vec<ManifestDocument>);

struct ManifestDocument {
    /// A `kind: List` without its items. None: the document is the one object.
    list: Option<Value>,
    objects: Vec<Object>,
}

/// A ConfigMap that goes with a workload.
pub(super) struct NewConfigMap {
    /// The workload that it is inserted before.
    before: Location,
    namespace: Option<String>,
    name: String,
    text: String,
}

impl Manifest {
    pub(super) fn read(file: &str, text: &str) -> Result<Self, Refusals> {
        let whole = Location::file(file);
        let documents = read::read(text).map_err(|error| {
            let location = Location { document: error.document, ..whole.clone() };
            let field = format!("line {}, column {}", error.mark.line, error.mark.column);
            FieldError::new(field, error.what, "YAML or JSON, as kubectl takes it", "mend the manifest")
                .at(&location)
        })?;
        if documents.is_empty() {
            let remedy = "give a manifest; if it comes from a command, look what went wrong there";
            return Err(FieldError::new("the manifest", "nothing", "one object or more", remedy)
                .at(&whole)
                .into());
        }
        let mut groups = Vec::new();
        for Document { number, mut value } in documents {
            let location = Location { document: Some(number), ..whole.clone() };
            let items = match &mut value {
                Value::Map(map) if is_list(map) => map.get_mut("items").and_then(|items| match items {
                    Value::List(items) => Some(std::mem::take(items)),
                    Value::Scalar(_) | Value::Map(_) => None,
                }),
                Value::Map(_) => None,
                other => {
                    let found = other.describe();
                    return Err(FieldError::mismatch(
                        "the document",
                        found,
                        "an object with apiVersion and kind",
                    )
                    .at(&location)
                    .into());
                }
            };
            groups.push(match items {
                None => ManifestDocument { list: None, objects: vec![Object::new(value, location)] },
                Some(items) => {
                    let item = |(index, value)| {
                        Object::new(value, Location { item: Some(index + 1), ..location.clone() })
                    };
                    ManifestDocument {
                        list: Some(value),
                        objects: items.into_iter().enumerate().map(item).collect(),
                    }
                }
            });
        }
        Ok(Self(groups))
    }

    fn objects(&self) -> impl Iterator<Item = &Object> {
        self.0.iter().flat_map(|group| &group.objects)
    }

    pub(super) fn objects_mut(&mut self) -> impl Iterator<Item = &mut Object> {
        self.0.iter_mut().flat_map(|group| &mut group.objects)
    }

    /// A name in `--only` that is not in the manifest is a typing mistake.
    pub(super) fn check_only(&self, options: &Options) -> Result<(), FieldError> {
        let workloads: Vec<_> = self.objects().filter(|object| object.template().is_some()).collect();
        let missing = |only: &&String| !workloads.iter().any(|object| object.matches(only));
        match options.only.iter().find(missing) {
            None => Ok(()),
            Some(only) => {
                let names =
                    Vec::from_iter(workloads.iter().map(|object| &*object.location.object)).join(", ");
                let accepted = if names.is_empty() { "nothing: there is no workload".into() } else { names };
                Err(FieldError::new("--only", format!("{only:?}"), accepted, "name one that is there"))
            }
        }
    }

    pub(super) fn inject(
        &mut self,
        options: &Options,
        warnings: &mut Vec<Warning>,
    ) -> Result<(Vec<InjectedWorkload>, Vec<NewConfigMap>), Refusals> {
        let known: Vec<_> = self.objects().filter_map(KnownConfigMap::read).collect();
        let (mut targets, mut config_maps, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        for object in self.objects_mut() {
            let Some(template) = object.template().filter(|_| object.is_selected(options)) else { continue };
            if let Some(owner) = object.owner() {
                let what = format!("left as it is: it belongs to {owner}, which is where the sidecar goes");
                warnings.push(Warning { location: object.location.clone(), what });
                continue;
            }
            let namespace = object.value.text_at(&["metadata", "namespace"]).map(str::to_owned);
            let named = |name: &str| {
                let found = known.iter().find(|map| map.is(name, namespace.as_deref()));
                found.map(|map| map.text.clone())
            };
            match workload::inject(&mut object.value, template, options, named) {
                Err(error) => refusals.push(error.at(&object.location)),
                Ok(injected) => {
                    let location = || object.location.clone();
                    warnings.extend(
                        injected.warnings.into_iter().map(|what| Warning { location: location(), what }),
                    );
                    config_maps.extend(injected.config_map.map(|(name, text)| NewConfigMap {
                        before: location(),
                        namespace: namespace.clone(),
                        name,
                        text,
                    }));
                    targets.push(InjectedWorkload {
                        object: object.location.object.clone(),
                        namespace,
                        labels: injected.labels,
                        container: injected.container,
                        port: injected.port,
                        port_names: injected.port_names,
                        earlier: injected.earlier,
                    });
                }
            }
        }
        if refusals.is_empty() { Ok((targets, config_maps)) } else { Err(Refusals(refusals)) }
    }

    /// Adds ConfigMaps: in place of those of the same name, or else each before its workload.
    pub(super) fn add(&mut self, config_maps: Vec<NewConfigMap>) -> Result<(), Refusals> {
        let mut written: Vec<NewConfigMap> = Vec::new();
        for new in config_maps {
            let same = |other: &&NewConfigMap| other.name == new.name && other.namespace == new.namespace;
            if let Some(other) = written.iter().find(same) {
                if other.text == new.text {
                    continue;
                }
                let found = format!("the name {}, which {} has as well", new.name, other.before.object);
                let remedy = "inject them one by one with --only, and --config-map NAME for one of them";
                let error = FieldError::new("its ConfigMap", found, "workloads of different names", remedy);
                return Err(error.at(&new.before).into());
            }
            let found = self.objects_mut().find(|object| {
                object.is("ConfigMap")
                    && object.value.text_at(&["metadata", "name"]) == Some(&*new.name)
                    && object.value.text_at(&["metadata", "namespace"]) == new.namespace.as_deref()
            });
            match found {
                Some(object) => {
                    let data = fields::map_at(&mut object.value, &["data"], "data")
                        .map_err(|error| error.at(&object.location))?;
                    data.set(names::KEY, Value::text(&*new.text));
                }
                None => self.insert(&new),
            }
            written.push(new);
        }
        Ok(())
    }

    fn insert(&mut self, new: &NewConfigMap) {
        let mut metadata = Map::default();
        metadata.set("name", Value::text(&*new.name));
        if let Some(namespace) = &new.namespace {
            metadata.set("namespace", Value::text(&**namespace));
        }
        let value = Value::map([
            ("apiVersion", Value::text("v1")),
            ("kind", Value::text("ConfigMap")),
            ("metadata", Value::Map(metadata)),
            ("data", Value::map([(names::KEY, Value::text(&*new.text))])),
        ]);
        let object = Object::new(value, new.before.clone());
        for (index, group) in self.0.iter_mut().enumerate() {
            if let Some(item) = group.objects.iter().position(|object| object.location == new.before) {
                match group.list {
                    Some(_) => group.objects.insert(item, object),
                    None => self.0.insert(index, ManifestDocument { list: None, objects: vec![object] }),
                }
                return;
            }
        }
    }

    pub(super) fn into_values(self) -> Vec<Value> {
        let value = |group: ManifestDocument| {
            let mut objects = group.objects.into_iter().map(|object| object.value);
            match group.list {
                None => objects.next(),
                Some(mut list) => {
                    if let Value::Map(map) = &mut list {
                        map.set("items", Value::List(objects.collect()));
                    }
                    server_fields::strip(&mut list);
                    Some(list)
                }
            }
        };
        self.0.into_iter().filter_map(value).collect()
    }
}

/// A ConfigMap of the manifest that holds a configuration.
struct KnownConfigMap {
    namespace: Option<String>,
    name: String,
    text: String,
}

impl KnownConfigMap {
    fn read(object: &Object) -> Option<Self> {
        let text = |path: &[&str]| object.value.text_at(path).map(str::to_owned);
        object.is("ConfigMap").then_some(())?;
        Some(Self {
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"])?,
            text: text(&["data", names::KEY])?,
        })
    }

    fn is(&self, name: &str, namespace: Option<&str>) -> bool {
        self.name == name && self.namespace.as_deref() == namespace
    }
}

fn is_list(map: &Map) -> bool {
    map.get("kind").and_then(Value::as_text) == Some("List")
}
