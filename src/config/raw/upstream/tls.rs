//! `upstream.tls`.
//!
//! # Not here
//! What is in the files: whoever makes keys and certificates of them reports what is wrong there.

use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{Identity, UpstreamTls};
use crate::config::problems::Problems;
use crate::config::raw::values::scalar::Scalar;
use crate::config::raw::values::tls_files::required_file;

/// `upstream.tls`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(crate) struct RawUpstreamTls {
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
    pub(crate) fn validate(self, problems: &mut Problems) -> UpstreamTls {
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
                let cert = required_file("cert_file", cert, problems);
                let key = required_file("key_file", key, problems);
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

/// Whether a certificate and a ClientHello can have this name.
pub(crate) fn is_server_name(name: &str) -> bool {
    rustls::pki_types::ServerName::try_from(name).is_ok()
}
