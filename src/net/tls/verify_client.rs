//! Whether a client is the subject of its certificate.
//!
//! # Invariants
//! 1. A client that shows the very certificate that the operator named comes in, whoever signed it, while it is valid
//!    by its dates. It speaks for itself only: what is signed with its key comes in if it is an authority's
//!    ([`super::certificate::load_trusted`]).
//! 2. Whatever is believed of a certificate, the client has to show that it has the key.
//!
//! # Not here
//! What becomes of the name that it holds ([`super::Tls::subject`]).

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::TrustedCertificates;
use super::verify::{Version, check_dates, signature, verify_signatures};

/// By authorities, and by certificates that are believed as they are.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// None: there is no authority among them.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    certificates: Vec<CertificateDer<'static>>,
    /// Who may have signed what a client shows: some choose by it which one they do.
    issuers: Vec<DistinguishedName>,
    required: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientVerifier {
    /// `required`: nobody comes in without a certificate.
    ///
    /// # Errors
    /// rustls does not take the authorities.
    pub(super) fn new(
        trusted: TrustedCertificates,
        required: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let TrustedCertificates { roots, certificates } = trusted;
        let mut issuers = roots.subjects();
        for certificate in &certificates {
            let (_, parsed) =
                X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
            let issuer = DistinguishedName::from(parsed.issuer().as_raw().to_vec());
            if !issuers.iter().any(|known| known.as_ref() == issuer.as_ref()) {
                issuers.push(issuer);
            }
        }
        let authorities = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Some(builder.build().map_err(|error| Error::General(error.to_string()))?)
        };
        Ok(Self { authorities, certificates, issuers, required, provider })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.issuers
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.certificates.contains(end_entity) {
            let (_, certificate) =
                X509Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
            return check_dates(&certificate, now).map(|()| ClientCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    verify_signatures!(provider);
}
