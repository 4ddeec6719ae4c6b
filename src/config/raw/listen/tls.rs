//! `listen.tls`.
//!
//! # Not here
//! What is in the files: whoever makes keys and certificates of them reports what is wrong there.

use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{ClientCertificates, ListenTls, TlsVersion};
use crate::config::problems::Problems;
use crate::config::raw::values::scalar::{Scalar, words};
use crate::config::raw::values::tls_files::required_file;

/// `listen.tls`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(crate) struct RawListenTls {
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

impl RawListenTls {
    pub(crate) fn validate(self, problems: &mut Problems) -> Option<ListenTls> {
        let Self { cert_file, key_file, client_ca_file, client_certificate, min_version } = self;
        if client_certificate.is_some() && client_ca_file.is_none() && !problems.has("client_ca_file") {
            let accepted = "client_ca_file too: whose certificates are to be believed";
            problems.refuse("client_certificate", "no client_ca_file", accepted);
        }
        let cert = required_file("cert_file", cert_file, problems);
        let key = required_file("key_file", key_file, problems);
        let clients = client_ca_file.map(|path| ClientCertificates {
            ca: problems.file("client_ca_file", &path.0),
            required: client_certificate.is_none_or(|wanted| wanted.0 == ClientCertificate::Required),
        });
        Some(ListenTls { cert: cert?, key: key?, clients, min_version: min_version.0 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientCertificate {
    Required,
    Optional,
}

words!(ClientCertificate { Required = "required", Optional = "optional" });

words!(TlsVersion { V1_2 = "1.2", V1_3 = "1.3" });
