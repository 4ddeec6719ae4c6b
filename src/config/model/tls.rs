//! TLS on either hop.

use super::File;

/// `listen.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// The chain, PEM, our own certificate first.
    pub cert: File,
    /// Its private key, PEM.
    pub key: File,
    /// Authorities whose client certificates are believed, and whether a client must show one.
    pub clients: Option<ClientCertificates>,
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// `listen.tls.client_ca_file` and `client_certificate`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Certificates of authorities, PEM.
    pub ca: File,
    /// Whether a client without one is turned away.
    pub required: bool,
}

/// `listen.tls.min_version`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// `"1.2"`
    V1_2,
    /// `"1.3"`
    V1_3,
}

/// `upstream.tls`; what `https://` means without it is its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Authorities, PEM; `None`: the system's.
    pub ca: Option<File>,
    /// The name that the certificate must have and that is sent as SNI; `None`: the URL's host.
    pub server_name: Option<String>,
    /// Our own certificate and its key, PEM.
    pub identity: Option<Identity>,
    /// Whether any certificate will do. For tests: whoever stands between can read everything.
    pub insecure: bool,
}

/// A certificate chain and its private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The chain, our own certificate first.
    pub cert: File,
    /// Its private key.
    pub key: File,
}
