//! `outrigger inject`: files, standard input and flags of [`crate::inject`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgAction, Args, ValueEnum};

use super::configuration::{config_file, start_error};
use super::output::{print, warn};
use super::runtime::runtime;
use crate::config::{self, Sources};
use crate::inject::{self, Configuration, Family, Options, Ports, SecretMount, Sleep};
use crate::server::Server;

#[derive(Debug, Args)]
pub(super) struct InjectArgs {
    /// The manifest, YAML or JSON, such as `kubectl get -o yaml` prints; `-` is standard input. Comments are not
    /// kept
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Lead the Services in it to the proxy as well
    #[arg(long)]
    service: bool,
    /// Inject only this one: NAME or KIND/NAME. May be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The proxy's image
    #[arg(long, value_name = "IMAGE", default_value_t = Options::default().image)]
    image: String,
    /// Configuration to write along as a ConfigMap; its addresses are filled in [env: OUTRIGGER_CONFIG]
    #[arg(long, value_name = "FILE", conflicts_with = "config_map")]
    config: Option<PathBuf>,
    /// A ConfigMap that holds the configuration under the key outrigger.yaml
    #[arg(long, value_name = "NAME")]
    config_map: Option<String>,
    /// Mount a Secret as a folder for the proxy, whose configuration names its files. May be given several times
    #[arg(long, value_name = "NAME:PATH", value_parser = secret)]
    secret: Vec<SecretMount>,
    /// The container with the WebSocket server, where there are several
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// The port of the WebSocket server, by number or name, where its container names several or none
    #[arg(long, value_name = "PORT")]
    upstream_port: Option<String>,
    /// An init container that goes on running (Kubernetes 1.29 and newer), else an ordinary one
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    native_sidecar: bool,
    /// How the server's container waits while clients are let go: the action of Kubernetes 1.30 and newer, or
    /// the program `sleep` of its image [default: action; exec without a native sidecar]
    #[arg(long, value_name = "HOW")]
    sleep: Option<SleepMethod>,
    /// Where clients come in
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().client)]
    port: u16,
    /// The operators' port, on loopback
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().admin)]
    admin_port: u16,
    /// Health and metrics, on the pod's address
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().probes)]
    probe_port: u16,
    /// Family of the pod's address
    #[arg(long, value_name = "FAMILY", value_enum, default_value_t = IpFamily::Ipv4)]
    ip_family: IpFamily,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SleepMethod {
    Action,
    Exec,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IpFamily {
    Ipv4,
    Ipv6,
}

pub(super) fn run(args: InjectArgs) -> anyhow::Result<()> {
    let configuration = match (args.config, args.config_map) {
        (None, Some(name)) => Configuration::Named(name),
        (config, _) => match config_file(config) {
            Some(path) => Configuration::Text(checked(&path)?),
            None => Configuration::Default,
        },
    };
    let (name, text) = manifest(&args.file)?;
    let options = Options {
        image: args.image,
        configuration,
        secrets: args.secret,
        upstream_port: args.upstream_port,
        container: args.container,
        only: args.only,
        native_sidecar: args.native_sidecar,
        sleep: match args.sleep {
            Some(SleepMethod::Action) => Sleep::Action,
            Some(SleepMethod::Exec) => Sleep::Exec,
            // A cluster without native sidecars does not have the `sleep` action either.
            None if args.native_sidecar => Sleep::Action,
            None => Sleep::Exec,
        },
        services: args.service,
        ports: Ports { client: args.port, admin: args.admin_port, probes: args.probe_port },
        family: match args.ip_family {
            IpFamily::Ipv4 => Family::V4,
            IpFamily::Ipv6 => Family::V6,
        },
    };
    let injected = inject::inject(&name, &text, &options)?;
    warn(&injected.warnings);
    print(injected.text)
}

/// `NAME:PATH`; whether they can be is for [`inject`].
fn secret(text: &str) -> Result<SecretMount, &'static str> {
    let (name, path) =
        text.split_once(':').ok_or("it has to be NAME:PATH, such as chat-tls:/etc/outrigger/tls")?;
    Ok(SecretMount { name: name.to_owned(), path: path.to_owned() })
}

/// The text of a configuration that `outrigger check` accepts, but for files that only the pod has.
fn checked(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    match config::load(Sources { file: Some(path.to_owned()), ..Sources::default() }) {
        Ok(config) => runtime()?.block_on(Server::check(config)).map_err(start_error)?,
        Err(errors) if errors.iter().all(config::ConfigError::is_file_problem) => {
            for error in errors.iter() {
                warn(&[format!("not checked here, since the pod has to have it:\n{error}")]);
            }
        }
        Err(errors) => return Err(errors.into()),
    }
    Ok(text)
}

/// What the manifest is called, and its text.
fn manifest(path: &Path) -> anyhow::Result<(String, String)> {
    let limit = inject::MAX_BYTES as u64;
    let mut bytes = Vec::new();
    let (name, read) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), io::stdin().lock().take(limit + 1).read_to_end(&mut bytes))
    } else {
        let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        (path.display().to_string(), read)
    };
    read.with_context(|| format!("cannot read the manifest {name}"))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(error) => bail!(
            "the manifest {name} is not UTF-8 after byte {}: save it as UTF-8",
            error.utf8_error().valid_up_to()
        ),
    }
}
