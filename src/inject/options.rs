//! What is injected. Names and numbers are those of the chart in `helm/outrigger`.

use super::refusal::FieldError;

/// How a manifest is changed.
#[derive(Debug, Clone)]
pub struct Options {
    /// The proxy's image.
    pub image: String,
    /// Where its configuration is.
    pub configuration: Configuration,
    /// Secrets with files that the configuration names. Empty: those of an earlier injection.
    pub secrets: Vec<SecretMount>,
    /// The application's port, by number or name. None: the only one that its container names.
    pub upstream_port: Option<String>,
    /// The application's container. None: the only one.
    pub container: Option<String>,
    /// The workloads to inject into: `NAME` or `KIND/NAME`. Empty: all.
    pub only: Vec<String>,
    /// Whether the sidecar is an init container with `restartPolicy: Always` (Kubernetes 1.29 and newer).
    pub native_sidecar: bool,
    /// How the application's container waits in its preStop hook.
    pub sleep: Sleep,
    /// Whether Services of the manifest are pointed to the proxy.
    pub services: bool,
    /// The proxy's ports.
    pub ports: Ports,
    /// Family of the pod's address.
    pub family: Family,
}

/// Where the proxy's configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configuration {
    /// That of an earlier injection where there was one, else [`DEFAULT_CONFIGURATION`].
    Default,
    /// The text of a file, which goes into a ConfigMap of the manifest.
    Text(String),
    /// A ConfigMap of this name, key `outrigger.yaml`.
    Named(String),
}

/// A Secret that the proxy's container sees as a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    /// Its name.
    pub name: String,
    /// The folder.
    pub path: String,
}

/// How the application's container waits while the proxy drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// The `sleep` action of Kubernetes 1.30 and newer.
    Action,
    /// The program `sleep` of the container's image.
    Exec,
}

/// The proxy's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Where clients come in.
    pub client: u16,
    /// The operators' port, on loopback.
    pub admin: u16,
    /// Health and metrics, on the pod's address.
    pub probes: u16,
}

/// Family of the pod's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// The configuration where none is given.
pub const DEFAULT_CONFIGURATION: &str = "\
trusted_proxies:
- private
drain:
  delay: 10s
  spread: 5s
  timeout: 30s
";

impl Default for Options {
    fn default() -> Self {
        Self {
            image: concat!("outrigger:", env!("CARGO_PKG_VERSION")).to_owned(),
            configuration: Configuration::Default,
            secrets: Vec::new(),
            upstream_port: None,
            container: None,
            only: Vec::new(),
            native_sidecar: true,
            sleep: Sleep::Action,
            services: false,
            ports: Ports::default(),
            family: Family::V4,
        }
    }
}

impl Default for Ports {
    /// Ports that applications rarely use.
    fn default() -> Self {
        Self { client: 19080, admin: 19090, probes: 19091 }
    }
}

impl Ports {
    /// Each port, with its flag.
    pub(super) fn all(self) -> [(&'static str, u16); 3] {
        [("--port", self.client), ("--admin-port", self.admin), ("--probe-port", self.probes)]
    }

    /// The flag whose port this is.
    pub(super) fn flag_of(self, port: u16) -> Option<&'static str> {
        self.all().into_iter().find(|(_, own)| *own == port).map(|(flag, _)| flag)
    }
}

impl Options {
    /// Refuses options that contradict one another.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        for (flag, port) in self.ports.all() {
            if port == 0 || self.ports.flag_of(port) != Some(flag) {
                let accepted = "three different ports from 1 to 65535";
                return Err(FieldError::new(flag, port.to_string(), accepted, "choose another port"));
            }
        }
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            let accepted = "an image, such as registry.example.com/outrigger:1.0.0";
            return Err(FieldError::new("--image", format!("{:?}", self.image), accepted, "name the image"));
        }
        Ok(())
    }
}
