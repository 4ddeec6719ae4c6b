//! PEM files, and what a certificate says about itself.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::certificate::BasicExtension;
use x509_parser::extensions::KeyUsage;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name, X509Version};

use super::contents::{ENCRYPTED, instead, is_encrypted};
use super::describe::describe;
use super::error::TlsError;
use super::provider;
use crate::config::File;

/// The longest name of a client that goes on: it becomes a header, a log field and the key of a quota.
const MAX_SUBJECT: usize = 256;

/// Our own certificate, its key, and when it ends.
pub(super) struct OwnCertificate {
    pub(super) certified: Arc<CertifiedKey>,
    /// Seconds since 1970.
    pub(super) not_after: i64,
    /// For whom it is, and until when: for people.
    pub(super) about: String,
}

/// The settings and files of an [`OwnCertificate`].
#[derive(Clone, Copy)]
pub(super) struct CertificateFiles<'a> {
    pub(super) cert_key: &'static str,
    pub(super) cert: &'a File,
    pub(super) key_key: &'static str,
    pub(super) key: &'a File,
}

/// A chain and the key of its first certificate, seen to belong together.
pub(super) fn load_own(named: CertificateFiles<'_>) -> Result<OwnCertificate, TlsError> {
    const CERTIFICATE: &str = "certificate";
    const KEY: &str = "private key";
    let CertificateFiles { cert_key, cert, key_key, key } = named;
    let chain = certificates(cert_key, cert, CERTIFICATE)?;
    let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
    let no_certificate =
        || TlsError::unusable(cert_key, &cert.path, CERTIFICATE, "it is not an X.509 certificate");
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| no_certificate())?;
    let not_after = parsed.validity().not_after.timestamp();
    let about = about(&parsed);
    let missing = |instead| TlsError::Missing { key: key_key, path: key.path.clone(), what: KEY, instead };
    if is_encrypted(&key.contents) {
        return Err(missing(ENCRYPTED));
    }
    let secret = match PrivateKeyDer::from_pem_slice(&key.contents) {
        Ok(secret) => secret,
        Err(PemError::NoItemsFound) => {
            return Err(missing(instead(&key.contents)));
        }
        // Without the library's words: they quote the file.
        Err(_) => return Err(TlsError::unusable(key_key, &key.path, KEY, "it is not well-formed PEM")),
    };
    // Without the library's words here, too: they tell how it has tried.
    let signer = provider().key_provider.load_private_key(secret).map_err(|_| {
        TlsError::unusable(
            key_key,
            &key.path,
            KEY,
            "TLS can sign with RSA of 2048 to 8192 bits, ECDSA on P-256, \
                P-384 or P-521, and Ed25519, and it is none of these, or damaged",
        )
    })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(TlsError::Mismatch {
                key: key_key,
                key_path: key.path.clone(),
                cert_path: cert.path.clone(),
            });
        }
        Err(error) => return Err(TlsError::unusable(cert_key, &cert.path, CERTIFICATE, describe(&error))),
    }
    Ok(OwnCertificate { certified: Arc::new(certified), not_after, about })
}

/// Who is believed by a file.
pub(super) struct TrustedCertificates {
    /// Who may have signed what the other side shows.
    pub(super) roots: RootCertStore,
    /// What the other side may show as it is.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// Authorities to believe, and certificates that may be shown as they are. Only what may sign others is an authority: the
/// webpki library takes whatever it is given for one, and whoever has the key of one certificate of the file could make
/// others then, for the names of all the rest.
pub(super) fn load_trusted(key: &'static str, file: &File) -> Result<TrustedCertificates, TlsError> {
    let certificates = certificates(key, file, AUTHORITY)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| TlsError::unusable(key, &file.path, AUTHORITY, "it is not an X.509 certificate"))?;
        if may_sign(&parsed) {
            // One that webpki cannot read signs nothing, but may be shown.
            let _ = roots.add(certificate.clone());
        }
    }
    Ok(TrustedCertificates { roots, certificates })
}

/// Whether it may sign other certificates: RFC 5280 §4.2.1.3, §4.2.1.9. Before version 3 none could say so; then it is
/// one that has signed itself.
fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    if certificate.version() != X509Version::V3 {
        return certificate.subject() == certificate.issuer();
    }
    let has_right =
        |usage: Option<BasicExtension<&KeyUsage>>| usage.is_none_or(|usage| usage.value.key_cert_sign());
    certificate.is_ca() && certificate.key_usage().is_ok_and(has_right)
}

const AUTHORITY: &str = "certificate authority";

/// At least one.
fn certificates(
    key: &'static str,
    file: &File,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.contents).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            let instead = instead(&file.contents);
            Err(TlsError::Missing { key, path: file.path.clone(), what, instead })
        }
        // Without the library's words: they quote the file, which may be a key by mistake.
        Err(_) => Err(TlsError::unusable(key, &file.path, what, "it is not well-formed PEM")),
    }
}

/// Names that are shown of one certificate; more are counted.
const NAMED: usize = 5;

/// The names that a certificate is for (RFC 5280 §4.2.1.6), or else its subject; and the day on which it ends, in UTC. As
/// they stand in it: whoever shows them escapes them.
fn about(certificate: &X509Certificate<'_>) -> String {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let mut shown: Vec<String> = names.iter().filter_map(name).collect();
    if shown.is_empty() {
        shown.extend(distinguished_name(certificate.subject()));
    }
    let more = shown.len().saturating_sub(NAMED);
    shown.truncate(NAMED);
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    let until = certificate.validity().not_after.to_datetime().date();
    format!("{} until {until}", shown.join(", "))
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Whose certificate it is: see [`super::Tls::subject`].
pub(super) fn subject(der: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject();
    let mut common = name.iter_common_name();
    let text = match (common.next(), common.next()) {
        (Some(only), None) => only.as_str().ok()?.to_owned(),
        _ => distinguished_name(name)?,
    };
    fits_header(&text).then(|| text.into())
}

/// Whether it arrives in a header as it is: receivers take white space off the ends.
fn fits_header(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_SUBJECT
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
}

/// The name as RFC 4514 writes it: the last part first.
fn distinguished_name(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.iter_rdn() {
        let attributes: Option<Vec<_>> = part.iter().map(attribute).collect();
        parts.push(attributes?.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    // The short names of RFC 4514 §3; all others go by their numbers.
    const SHORT: [(&str, &str); 9] = [
        ("2.5.4.3", "CN"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.10", "O"),
        ("2.5.4.11", "OU"),
        ("2.5.4.6", "C"),
        ("2.5.4.9", "STREET"),
        ("0.9.2342.19200300.100.1.25", "DC"),
        ("0.9.2342.19200300.100.1.1", "UID"),
    ];
    let number = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == number).map(|(_, short)| *short);
    let value = attribute.as_str().ok()?;
    let mut text = format!("{}=", short.unwrap_or(&number));
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let is_special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || at == 0 && matches!(c, ' ' | '#')
            || at == last && c == ' ';
        if c == '\0' {
            text.push_str("\\00");
            continue;
        }
        if is_special {
            text.push('\\');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{c}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    type Part<'a> = (DnType, &'a str);

    fn der(parts: &[Part<'_>]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_is_the_common_name_or_the_whole_name_and_fits_a_header() {
        let long = "x".repeat(MAX_SUBJECT + 1);
        let org = (DnType::OrganizationName, "Acme, Inc. ");
        let cases: [(&[Part<'_>], Option<&str>); 7] = [
            (&[org.clone(), (DnType::CommonName, "alice")], Some("alice")),
            (&[(DnType::CountryName, "DE"), org], Some("O=Acme\\, Inc.\\ ,C=DE")),
            (
                &[(DnType::OrganizationalUnitName, "#1"), (DnType::OrganizationName, "a+b")],
                Some("O=a\\+b,OU=\\#1"),
            ),
            (&[], None),
            (&[(DnType::CommonName, "Zoë")], None),
            (&[(DnType::CommonName, " admin")], None),
            (&[(DnType::CommonName, &long)], None),
        ];
        for (parts, expected) in cases {
            assert_eq!(subject(&der(parts)).as_deref(), expected, "{parts:?}");
        }
        assert_eq!(subject(b"no certificate"), None);
    }
}
