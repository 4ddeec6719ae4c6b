//! `listen.tls` and `upstream.tls`.
//!
//! # Not here
//! What is in the files: whoever makes keys and certificates of them says what is wrong there.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Scalar, words};
use crate::config::model::{ClientCertificates, File, Identity, ListenTls, TlsVersion, UpstreamTls};
use crate::config::problems::Problems;

/// `listen.tls`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(super) struct RawListenTls {
    /// File with the certificate and those that lead to its authority, PEM, our own first
    cert_file: Option<Scalar<PathBuf>>,
    /// File with the certificate's private key, PEM
    key_file: Option<Scalar<PathBuf>>,
    /// File with certificates of authorities, PEM: clients may show a certificate of theirs
    client_ca_file: Option<Scalar<PathBuf>>,
    /// Whether clients have to show a certificate; without it they do where client_ca_file is set
    client_certificate: Option<Scalar<ClientCertificate>>,
    /// Oldest version of TLS
    min_version: Scalar<TlsVersion>,
}

impl Default for RawListenTls {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            client_certificate: None,
            min_version: Scalar(TlsVersion::V1_2),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientCertificate {
    Required,
    Optional,
}

words!(ClientCertificate { Required = "required", Optional = "optional" });
words!(TlsVersion { V1_2 = "1.2", V1_3 = "1.3" });

impl RawListenTls {
    pub(super) fn validate(self, problems: &mut Problems) -> Option<ListenTls> {
        let Self { cert_file, key_file, client_ca_file, client_certificate, min_version } = self;
        if client_certificate.is_some() && client_ca_file.is_none() && !problems.has("client_ca_file") {
            let accepted = "client_ca_file too: whose certificates are to be believed";
            problems.refuse("client_certificate", "no client_ca_file", accepted);
        }
        let cert = needed("cert_file", cert_file, problems);
        let key = needed("key_file", key_file, problems);
        let clients = client_ca_file.map(|path| ClientCertificates {
            ca: problems.file("client_ca_file", &path.0),
            required: client_certificate.is_none_or(|wanted| wanted.0 == ClientCertificate::Required),
        });
        Some(ListenTls { cert: cert?, key: key?, clients, min_version: min_version.0 })
    }
}

/// `upstream.tls`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(super) struct RawUpstreamTls {
    /// File with the authorities to trust in place of the system's, PEM
    ca_file: Option<Scalar<PathBuf>>,
    /// The name that the certificate must have, and that is asked for (SNI); without it the URL's host
    server_name: Option<Scalar<String>>,
    /// File with a certificate of our own, PEM, for servers that ask for one
    cert_file: Option<Scalar<PathBuf>>,
    /// File with the private key of cert_file, PEM
    key_file: Option<Scalar<PathBuf>>,
    /// Takes any certificate. For tests only: whoever stands between can read and change everything
    insecure: Scalar<bool>,
}

impl Default for RawUpstreamTls {
    fn default() -> Self {
        Self { ca_file: None, server_name: None, cert_file: None, key_file: None, insecure: Scalar(false) }
    }
}

impl RawUpstreamTls {
    pub(super) fn validate(self, problems: &mut Problems) -> UpstreamTls {
        let Self { ca_file, server_name, cert_file, key_file, insecure } = self;
        if insecure.0 && ca_file.is_some() {
            let accepted = "one of the two: with insecure any certificate will do";
            problems.refuse("insecure", "true, and ca_file too", accepted);
        }
        if let Some(Scalar(name)) = &server_name
            && !is_server_name(name)
        {
            let accepted = "a host name or an IP address, without a port";
            problems.refuse("server_name", crate::config::error::quoted(name), accepted);
        }
        let identity = match (cert_file, key_file) {
            (None, None) => None,
            (cert, key) => {
                let cert = needed("cert_file", cert, problems);
                let key = needed("key_file", key, problems);
                cert.zip(key).map(|(cert, key)| Identity { cert, key })
            }
        };
        UpstreamTls {
            ca: ca_file.map(|path| problems.file("ca_file", &path.0)),
            server_name: server_name.map(|name| name.0),
            identity,
            insecure: insecure.0,
        }
    }
}

/// Whether a certificate could name it, and a ClientHello ask for it.
pub(super) fn is_server_name(name: &str) -> bool {
    rustls::pki_types::ServerName::try_from(name).is_ok()
}

fn needed(key: &'static str, path: Option<Scalar<PathBuf>>, problems: &mut Problems) -> Option<File> {
    if path.is_none() && !problems.has(key) {
        problems.refuse(key, "nothing", "the path of a PEM file; cert_file and key_file go together");
    }
    path.map(|path| problems.file(key, &path.0))
}
