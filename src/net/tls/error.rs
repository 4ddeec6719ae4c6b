//! What can be wrong: with the files that were named, and with a handshake.

use std::io;
use std::path::{Path, PathBuf};

use rustls::{AlertDescription, Error, InvalidMessage};

use super::describe::describe;

/// Why no TLS can be had with these settings. Names the key and the file; never shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No such section in the file.
    #[error("{key}: {} holds no {what} in PEM{instead}; is it the right file?", path.display())]
    Missing {
        /// The setting.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is there, as the end of the sentence; empty if nobody knows.
        instead: &'static str,
    },
    /// The file, or what is in it, cannot be read as what it has to be.
    #[error("{key}: the {what} in {} cannot be used: {why}", path.display())]
    Unusable {
        /// The setting.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key were not made for each other.
    #[error(
        "{key}: the private key in {} does not belong to the first certificate in {}; \
         name the key it was issued for, and put that certificate first",
        key_path.display(), cert_path.display()
    )]
    Mismatch {
        /// The setting of the key.
        key: &'static str,
        /// The key's file.
        key_path: PathBuf,
        /// The certificate's file.
        cert_path: PathBuf,
    },
    /// Nothing that a certificate could be issued for.
    #[error("{key}: {name:?} is neither a DNS name nor an IP address")]
    ServerName {
        /// The setting.
        key: &'static str,
        /// What was found.
        name: String,
    },
    /// The machine's own list of authorities.
    #[error(
        "{key}: the system has no certificate authorities ({why}); install them (ca-certificates), name a file, or \
         see whether SSL_CERT_FILE and SSL_CERT_DIR, if they are set, lead to some"
    )]
    NoSystemRoots {
        /// The setting that names others.
        key: &'static str,
        /// What was wrong with those that were found.
        why: String,
    },
    /// rustls refuses the whole.
    #[error("{key}: {why}")]
    Refused {
        /// The section.
        key: &'static str,
        /// Why.
        why: String,
    },
}

impl TlsError {
    pub(super) fn unusable(
        key: &'static str,
        path: &Path,
        what: &'static str,
        why: impl std::fmt::Display,
    ) -> Self {
        Self::Unusable { key, path: path.to_owned(), what, why: why.to_string() }
    }

    pub(super) fn refused(key: &'static str, error: &Error) -> Self {
        Self::Refused { key, why: describe(error) }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// What came was HTTP in the clear.
    #[error("the peer spoke HTTP without TLS")]
    Plaintext,
    /// The connection ended before the handshake did.
    #[error("the peer went away during the TLS handshake")]
    Ended,
    /// The connection broke.
    #[error("the connection broke during the TLS handshake: {}", crate::net::describe_io(.0))]
    Io(#[source] io::Error),
    /// One side did not believe the other's certificate, or saw none.
    #[error("{why}")]
    Certificate {
        /// In our words, and with what to do about it.
        why: String,
        /// What rustls found.
        found: Error,
    },
    /// They have no version, cipher or protocol in common, or somebody broke the rules.
    #[error("{why}")]
    Protocol {
        /// In our words, and with what to do about it.
        why: String,
        /// What rustls found.
        found: Error,
    },
    /// What is to be connected to can have no certificate.
    #[error("its host is neither a DNS name nor an IP address, so that no certificate can be for it")]
    NoName,
}

impl HandshakeError {
    /// What a stream's error was. `first` is the first byte that ever came, if this side was to be spoken to.
    pub(super) fn of(error: io::Error, first: Option<u8>) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Ended,
            None => Self::Io(error),
            // The letters that methods are made of; a record begins with 20 to 24.
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType))
                if first.is_some_and(|first| first.is_ascii_uppercase()) =>
            {
                Self::Plaintext
            }
            Some(error) => Self::from_rustls(error.clone()),
        }
    }

    pub(super) fn from_rustls(error: Error) -> Self {
        use AlertDescription as Alert;
        let is_certificate = match &error {
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::InvalidCertRevocationList(_) => true,
            Error::AlertReceived(alert) => matches!(
                alert,
                Alert::NoCertificate
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::CertificateRequired
            ),
            _ => false,
        };
        let (why, found) = (describe(&error), error);
        if is_certificate { Self::Certificate { why, found } } else { Self::Protocol { why, found } }
    }

    /// The same, told in other words.
    pub(super) fn with_text(mut self, explain: impl FnOnce(&Error) -> String) -> Self {
        if let Self::Certificate { why, found } | Self::Protocol { why, found } = &mut self {
            *why = explain(found);
        }
        self
    }
}
