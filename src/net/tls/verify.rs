//! Whether a server is who it should be, beyond what rustls asks of it. Of clients: [`super::verify_client`].
//!
//! # Invariants
//! 1. A server that shows the very certificate that the operator named is believed, whoever signed it: the operator
//!    said so. It still has to be valid by its dates, and for the name that is asked for if it holds any; one without
//!    `subjectAltName` (made with a common name only, or X.509 v1) cannot be for another name.
//! 2. Whatever is believed of a certificate, the server has to show that it has the key: the handshake is signed with
//!    it. A certificate whose key cannot be read is refused, also where any other would do.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How handshakes are signed is judged in one way, whoever is verified: the three methods that rustls asks for it, of a
/// verifier that has its provider in this field.
macro_rules! verify_signatures {
    ($provider:tt) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            signature(&self.$provider, Version::Tls12, message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            signature(&self.$provider, Version::Tls13, message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$provider.signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(super) use verify_signatures;

/// By authorities, and by certificates that are believed as they are.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    /// None: there is no authority among them.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    /// `certificates` may be shown as they are.
    ///
    /// # Errors
    /// There are neither authorities nor certificates.
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        certificates: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let authorities = if roots.is_empty() {
            if certificates.is_empty() {
                return Err(Error::General("nobody is believed".into()));
            }
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            Some(builder.build().map_err(|error| Error::General(error.to_string()))?)
        };
        Ok(Self { authorities, certificates, provider })
    }
}

/// Whether a certificate that is known as it is may be shown for `name` now.
fn check_known(der: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    check_dates(&certificate, now)?;
    if certificate.subject_alternative_name().is_ok_and(|names| names.is_none()) {
        return Ok(());
    }
    rustls::client::verify_server_name(&ParsedCertificate::try_from(der)?, name)
}

/// Whether a certificate is valid now, by what it says of itself.
pub(super) fn check_dates(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    let unix = |seconds: i64| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if seconds < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: unix(not_before) }.into());
    }
    if seconds > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after: unix(not_after) }.into());
    }
    Ok(())
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.contains(end_entity) {
            return check_known(end_entity, name, now).map(|()| ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => {
                let verified = authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now);
                verified.map_err(|error| match error {
                    // An authority was made anew under its old name: this is another one's certificate.
                    Error::InvalidCertificate(CertificateError::BadSignature) => {
                        CertificateError::UnknownIssuer.into()
                    }
                    error => error,
                })
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    verify_signatures!(provider);
}

/// `upstream.tls.insecure`: any certificate will do, as long as the server has its key.
#[derive(Debug)]
pub(super) struct AnyServer(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    verify_signatures!(0);
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// Whether the handshake is signed with the certificate's key. rustls asks webpki, which reads X.509 v3 only: of
/// another one the key is taken out here.
pub(super) fn signature(
    provider: &CryptoProvider,
    version: Version,
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = &provider.signature_verification_algorithms;
    if ParsedCertificate::try_from(cert).is_ok() {
        return match version {
            Version::Tls12 => verify_tls12_signature(message, cert, dss, algorithms),
            Version::Tls13 => verify_tls13_signature(message, cert, dss, algorithms),
        };
    }
    let key = public_key(cert).ok_or(CertificateError::BadEncoding)?;
    let fitting = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
    // In TLS 1.3 the first algorithm of a scheme is the scheme's own (RFC 8446 §4.2.3).
    let most = if version == Version::Tls13 { 1 } else { usize::MAX };
    let holds = fitting.flat_map(|(_, algorithms)| algorithms.iter().take(most)).any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key.algorithm
            && algorithm.verify_signature(key.bits, message, dss.signature()).is_ok()
    });
    // RFC 8446 §4.2.3: these sign certificates, and no handshakes of TLS 1.3.
    let is_of_certificates = matches!(
        dss.scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    );
    if holds && !(version == Version::Tls13 && is_of_certificates) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

/// What RFC 5280 §4.1.2.7 has of a key, without the tags around it.
struct PublicKey<'a> {
    algorithm: &'a [u8],
    bits: &'a [u8],
}

fn public_key<'a>(der: &'a CertificateDer<'_>) -> Option<PublicKey<'a>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let raw: &'a [u8] = certificate.tbs_certificate.subject_pki.raw;
    let (_, whole) = Any::from_der(raw).ok()?;
    let (rest, algorithm) = Any::from_der(whole.data).ok()?;
    let (_, bits) = Any::from_der(rest).ok()?;
    // The first byte says how many bits of the last one are none: keys are whole bytes.
    let (0, bits) = bits.data.split_first().map(|(unused, bits)| (*unused, bits))? else { return None };
    Some(PublicKey { algorithm: algorithm.data, bits })
}
