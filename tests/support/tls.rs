//! Certificates made for one run, and the other end of a TLS hop, as tokio-rustls drives it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use outrigger::config::{ClientCertificates, File, Identity, ListenTls, TlsVersion, UpstreamTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Pem {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let key = KeyPair::generate().expect("keys can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// The one that everybody in this process believes, unless a test wants another.
    pub fn known() -> &'static Self {
        static KNOWN: OnceLock<Authority> = OnceLock::new();
        KNOWN.get_or_init(|| Self::new("known"))
    }

    /// For these names, with this common name.
    pub fn issue(&self, names: &[&str], common_name: &str) -> Pem {
        let names = Vec::from_iter(names.iter().map(|name| (*name).to_owned()));
        let mut params = CertificateParams::new(names).expect("DNS names or addresses");
        params.distinguished_name = named(common_name);
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        let key = KeyPair::generate().expect("keys can be made");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Pem { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn file(&self) -> File {
        file("ca.pem", &self.pem())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        Arc::new(roots)
    }

    /// A client that believes this authority, and shows `identity`.
    pub fn client(
        &self,
        identity: Option<&Pem>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots());
        match identity {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let (chain, key) = pem.parse();
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
        }
    }

    /// A server that shows `identity`; `clients`: it wants a certificate of this authority too.
    pub fn server(identity: &Pem, clients: Option<&Self>) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots(), Arc::new(default_provider()))
                    .build()
                    .expect("a verifier"),
            ),
        };
        let (chain, key) = identity.parse();
        let mut config = builder.with_single_cert(chain, key).expect("an identity");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

impl Pem {
    fn parse(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate");
        (vec![cert], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key"))
    }

    /// As `upstream.tls` has it.
    pub fn identity(&self) -> Identity {
        Identity { cert: file("client.pem", &self.cert), key: file("client.key", &self.key) }
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A file of the configuration that is on no disk.
pub fn file(path: &str, contents: &str) -> File {
    File { path: PathBuf::from(path), contents: contents.as_bytes().into() }
}

/// Both versions.
pub const ANY: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// `listen.tls` for `127.0.0.1` and `localhost`.
pub fn listen() -> ListenTls {
    static OWN: OnceLock<Pem> = OnceLock::new();
    let own = OWN.get_or_init(|| Authority::known().issue(&["127.0.0.1", "localhost"], "proxy"));
    ListenTls {
        cert: file("cert.pem", &own.cert),
        key: file("key.pem", &own.key),
        clients: None,
        min_version: TlsVersion::V1_2,
    }
}

/// `listen.tls` that asks clients for a certificate of `authority`.
pub fn listen_for(authority: &Authority, required: bool) -> ListenTls {
    ListenTls { clients: Some(ClientCertificates { ca: authority.file(), required }), ..listen() }
}

/// `upstream.tls` that believes the known authority.
pub fn upstream() -> UpstreamTls {
    UpstreamTls { ca: Some(Authority::known().file()), ..UpstreamTls::default() }
}

/// A server for `127.0.0.1`, as the known authority says.
pub fn server() -> Arc<ServerConfig> {
    static OWN: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || Arc::new(Authority::server(&Authority::known().issue(&["127.0.0.1"], "upstream"), None));
    Arc::clone(OWN.get_or_init(make))
}

/// A client that believes the known authority.
pub fn client() -> Arc<ClientConfig> {
    static OWN: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    Arc::clone(OWN.get_or_init(|| Arc::new(Authority::known().client(None, ANY))))
}

/// The proxy's own address as clients dial it.
pub fn loopback() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").expect("an address")
}
