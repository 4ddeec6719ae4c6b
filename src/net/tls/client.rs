//! Begins TLS towards a server.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::{self, CertificateFiles};
use super::describe::{Settings, explain};
use super::error::{HandshakeError, TlsError};
use super::provider;
use super::records::End;
use super::stream::Tls;
use super::verify::{AnyServer, ServerVerifier};
use crate::config::{File, Target, UpstreamTls};
use crate::net::Stream;

/// Servers whose sessions are remembered, with up to eight tickets each: one connector has one name, or few.
const SESSIONS: usize = 8;

/// Which authorities are trusted to say who a server is.
#[derive(Debug, Clone, Copy)]
pub enum Authorities<'a> {
    /// Those that the system believes.
    System,
    /// Those in this file, which `key` names.
    File {
        /// The setting.
        key: &'static str,
        /// PEM.
        file: &'a File,
    },
}

/// Connects over TLS, as one set of settings says.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    not_after: Option<i64>,
    /// What an operator could set if a handshake comes to nothing.
    settings: Settings,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Connector {
    /// To any server, which has to show a certificate for the name it is dialled by. `key` is the setting
    /// that needs it.
    ///
    /// # Errors
    /// The file is not what it has to be, or the system has no authorities.
    pub fn new(key: &'static str, authorities: Authorities<'_>) -> Result<Self, TlsError> {
        let builder = builder(key)?.dangerous();
        let config = builder
            .with_custom_certificate_verifier(server_verifier(key, authorities)?)
            .with_no_client_auth();
        let settings = Settings { ca: Some(key), ..Settings::default() };
        Ok(Self { config: finish(config), name: None, not_after: None, settings })
    }

    /// To one upstream, by `upstream.tls`.
    ///
    /// # Errors
    /// A file is not what it has to be, or there is nothing a certificate could be issued for.
    pub fn to_upstream(settings: &UpstreamTls, target: &Target) -> Result<Self, TlsError> {
        const SECTION: &str = "upstream.tls";
        let UpstreamTls { ca, server_name, identity, insecure } = settings;
        let builder = builder(SECTION)?;
        let builder = if *insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider())))
        } else {
            const KEY: &str = "upstream.tls.ca_file";
            let authorities = match ca {
                None => Authorities::System,
                Some(file) => Authorities::File { key: KEY, file },
            };
            builder.dangerous().with_custom_certificate_verifier(server_verifier(KEY, authorities)?)
        };
        let identity = identity.as_ref().map(|identity| {
            certificate::load_own(CertificateFiles {
                cert_key: "upstream.tls.cert_file",
                cert: &identity.cert,
                key_key: "upstream.tls.key_file",
                key: &identity.key,
            })
        });
        let identity = identity.transpose()?;
        let not_after = identity.as_ref().map(|identity| identity.not_after);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified)))
            }
        };
        let (key, name) = match (server_name, target) {
            (Some(name), _) => ("upstream.tls.server_name", name.as_str()),
            (None, Target::Tcp { host, .. }) => ("upstream.url", host.as_str()),
            (None, Target::Unix(_)) => ("upstream.tls.server_name", "localhost"),
        };
        let name = server_name_of(name).ok_or_else(|| TlsError::ServerName { key, name: name.to_owned() })?;
        let settings = Settings {
            ca: Some("upstream.tls.ca_file"),
            name: Some("upstream.tls.server_name"),
            own_certificate: Some("upstream.tls.cert_file and key_file"),
        };
        Ok(Self { config: finish(config), name: Some(name), not_after, settings })
    }

    /// Shakes hands with the server behind `socket`: `host` is what its certificate has to be for, unless
    /// the settings name it. Takes as long as the server does: callers have a timeout.
    ///
    /// # Errors
    /// Why it came to nothing.
    pub async fn connect(&self, socket: Stream, host: &str) -> Result<Box<Tls>, HandshakeError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name_of(host).ok_or(HandshakeError::NoName)?,
        };
        let explained = |error: HandshakeError| error.with_text(|error| explain(error, self.settings));
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| explained(HandshakeError::from_rustls(error)))?;
        Tls::handshake(socket, End::Client(connection)).await.map_err(|(error, _)| explained(error))
    }

    /// When our own certificate ends, in seconds since 1970, if there is one.
    pub fn not_after(&self) -> Option<i64> {
        self.not_after
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(key: &'static str) -> Result<Builder, TlsError> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::refused(key, &source))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Arc::new(config)
}

fn server_name_of(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

/// Who is believed: authorities, and the very certificates of a file.
fn server_verifier(
    key: &'static str,
    authorities: Authorities<'_>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let (roots, certificates) = match authorities {
        Authorities::File { key, file } => {
            let found = certificate::load_trusted(key, file)?;
            (Arc::new(found.roots), found.certificates)
        }
        Authorities::System => {
            let no_roots = |why: &str| TlsError::NoSystemRoots { key, why: why.to_owned() };
            (system_roots().map_err(no_roots)?, Vec::<CertificateDer<'static>>::new())
        }
    };
    let known = ServerVerifier::new(roots, certificates, provider());
    Ok(Arc::new(known.map_err(|source| TlsError::refused(key, &source))?))
}

/// Read once, when they are first needed: that takes milliseconds and half a megabyte.
fn system_roots() -> Result<Arc<RootCertStore>, &'static str> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    let loaded = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some systems carry certificates that cannot be read: the others still count.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or("none were found".into(), ToString::to_string);
            return Err(why);
        }
        Ok(Arc::new(roots))
    });
    loaded.as_ref().map(Arc::clone).map_err(String::as_str)
}
