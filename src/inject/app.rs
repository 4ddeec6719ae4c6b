//! The application in a pod: its container, and the port that it listens on.

use super::fields::field;
use super::names;
use super::options::Options;
use super::prior::PriorInjection;
use super::refusal::FieldError;
use super::settings::UpstreamTarget;
use crate::yaml::Value;

/// The application in a pod.
#[derive(Debug)]
pub(super) struct App {
    pub(super) container: String,
    /// The port that it listens on; `None` if it is not in this pod, or not known here.
    pub(super) port: Option<u16>,
    /// The names that its container gives that port.
    pub(super) port_names: Vec<String>,
}

impl App {
    pub(super) fn find(
        spec: &Value,
        prior: Option<&PriorInjection>,
        options: &Options,
        upstream: UpstreamTarget,
        prefix: &str,
    ) -> Result<Self, FieldError> {
        let containers = field(prefix, "spec.containers");
        let mut others = Vec::new();
        for (index, container) in spec.list_at(&["containers"]).iter().enumerate() {
            match container.text_at(&["name"]) {
                Some(names::NAME) => {}
                Some(name) => others.push((name, container)),
                None => {
                    let at = format!("{containers}[{index}].name");
                    return Err(FieldError::mismatch(at, "nothing", "the container's name"));
                }
            }
        }
        let names = Vec::from_iter(others.iter().map(|(name, _)| *name)).join(", ");
        let find = |wanted: &str| others.iter().find(|(name, _)| *name == wanted).copied();
        let chosen = match (&options.container, prior.and_then(|prior| find(&prior.container)), &*others) {
            (Some(wanted), ..) => find(wanted).ok_or_else(|| {
                let remedy = "say --container with one of them, or leave this object out with --only";
                FieldError::new(&*containers, format!("no container {wanted:?}"), &*names, remedy)
            })?,
            (None, Some(remembered), _) => remembered,
            (None, None, [only]) => *only,
            (None, None, []) => {
                return Err(FieldError::mismatch(
                    containers,
                    "no container of yours",
                    "a container with the server",
                ));
            }
            (None, None, _) => {
                let remedy = "say which one is the WebSocket server: --container NAME";
                return Err(FieldError::new(containers, "several containers", names, remedy));
            }
        };
        let (name, container) = chosen;
        let ports = ContainerPorts::read(container);
        let field = format!("{containers}[{name}].ports");
        let port = match (&options.upstream_port, upstream) {
            (Some(wanted), upstream) => {
                let port = ports.find(wanted, &field)?;
                if let UpstreamTarget::SamePod(in_url) = upstream
                    && in_url != port
                {
                    let found = format!("{port}, and upstream.url says {in_url}");
                    let remedy = "leave one of the two out";
                    return Err(FieldError::new("--upstream-port", found, "the same port in both", remedy));
                }
                Some(port)
            }
            (None, UpstreamTarget::SamePod(port)) => Some(port),
            (None, UpstreamTarget::Elsewhere) => ports.only(),
            (None, UpstreamTarget::Unspecified) => {
                let remembered = prior.and_then(|prior| prior.port).filter(|port| ports.may_have(*port));
                Some(remembered.or_else(|| ports.only()).ok_or_else(|| ports.ambiguous(&field))?)
            }
        };
        let is_it = |(own, _): &&(u16, Option<&str>)| Some(*own) == port;
        let port_names =
            ports.0.iter().filter(is_it).filter_map(|(_, name)| name.map(str::to_owned)).collect();
        Ok(Self { container: name.to_owned(), port, port_names })
    }
}

/// Whether the application can still listen on the port that an earlier injection has recorded.
pub(super) fn is_still_valid(prior: &PriorInjection, spec: &Value) -> bool {
    let mut containers = spec.list_at(&["containers"]).iter();
    let app = containers.find(|container| container.text_at(&["name"]) == Some(&*prior.container));
    app.zip(prior.port).is_none_or(|(app, port)| ContainerPorts::read(app).may_have(port))
}

/// The TCP ports that a container names.
struct ContainerPorts<'a>(Vec<(u16, Option<&'a str>)>);

impl<'a> ContainerPorts<'a> {
    fn read(container: &'a Value) -> Self {
        let is_tcp = |port: &&Value| port.text_at(&["protocol"]).is_none_or(|protocol| protocol == "TCP");
        let ports = container.list_at(&["ports"]).iter().filter(is_tcp);
        Self(
            ports
                .filter_map(|port| Some((port.port_at(&["containerPort"])?, port.text_at(&["name"]))))
                .collect(),
        )
    }

    fn only(&self) -> Option<u16> {
        match &*self.0 {
            [(port, _)] => Some(*port),
            _ => None,
        }
    }

    /// A container may leave its ports out. If it declares any, the server's port is among them.
    fn may_have(&self, port: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|(own, _)| *own == port)
    }

    /// By number or name.
    fn find(&self, wanted: &str, field: &str) -> Result<u16, FieldError> {
        let number = wanted.parse().ok().filter(|port| *port != 0 && self.may_have(*port));
        let named = || self.0.iter().find(|(_, name)| *name == Some(wanted)).map(|(port, _)| *port);
        number.or_else(named).ok_or_else(|| {
            let remedy = "say --upstream-port with one of them, or name the port in the container";
            FieldError::new(field, format!("no port {wanted}"), self.describe(), remedy)
        })
    }

    fn ambiguous(&self, field: &str) -> FieldError {
        let (found, remedy) = match self.0.is_empty() {
            true => (
                "no port",
                "say where the server listens: --upstream-port NUMBER, or leave it out with --only",
            ),
            false => ("several ports", "say which one is the WebSocket server's: --upstream-port"),
        };
        FieldError::new(field, found, self.describe(), remedy)
    }

    fn describe(&self) -> String {
        let one = |(port, name): &(u16, Option<&str>)| match name {
            Some(name) => format!("{port} ({name})"),
            None => port.to_string(),
        };
        match self.0.is_empty() {
            true => "a number from 1 to 65535".into(),
            false => Vec::from_iter(self.0.iter().map(one)).join(", "),
        }
    }
}
