//! What went wrong in a handshake, in words that say what to do: rustls' own are for programmers.
//!
//! # Not here
//! Which setting helps is known where a connection is made ([`super::client`]).

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use x509_parser::time::ASN1Time;

/// Names of a certificate that are shown: some hold hundreds.
const MAX_NAMES: usize = 8;

/// The settings that a sentence may name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    /// Which authorities are trusted.
    pub(super) ca: Option<&'static str>,
    /// What the server's certificate has to be for.
    pub(super) name: Option<&'static str>,
    /// Our own certificate.
    pub(super) own_certificate: Option<&'static str>,
}

/// An error of rustls, where no setting is known that would help.
pub(crate) fn describe(error: &Error) -> String {
    explain(error, Settings::default())
}

/// An error of rustls, with the setting that would help.
pub(super) fn explain(error: &Error, settings: Settings) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error, settings),
        Error::NoCertificatesPresented => "it showed no certificate".into(),
        Error::InvalidCertRevocationList(_) => "a list of revoked certificates cannot be read".into(),
        Error::AlertReceived(alert) => alerted(*alert, settings),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what came is not TLS: does it speak TLS on this port?".into()
        }
        Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => "a message of TLS is malformed".into(),
        Error::PeerIncompatible(_) => {
            "there is no version or cipher of TLS that both sides speak (this proxy: TLS 1.2 and 1.3)".into()
        }
        Error::NoApplicationProtocol => "there is no protocol that both sides speak (ALPN)".into(),
        Error::DecryptError => "a record cannot be deciphered: somebody has changed it on its way".into(),
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_) => "a rule of TLS was broken".into(),
        _ => "TLS failed".into(),
    }
}

/// Ours to set, or nothing to say.
fn hint(setting: Option<&'static str>, what: impl FnOnce(&str) -> String) -> String {
    setting.map(what).unwrap_or_default()
}

fn certificate(error: &CertificateError, settings: Settings) -> String {
    use CertificateError as Fault;
    let authority = || {
        hint(settings.ca, |key| {
            format!(
                "; name that authority's certificate in {key}, which has to say that it may sign others (CA:TRUE), or \
                 this very certificate if it signs itself"
            )
        })
    };
    match error {
        Fault::UnknownIssuer => {
            format!("its certificate was issued by an authority that is not believed{}", authority())
        }
        Fault::NotValidForNameContext { expected, presented } => {
            let mut text = format!("its certificate is not for {}", expected.to_str());
            if presented.is_empty() {
                text.push_str(" and holds no name at all (subjectAltName)");
            } else {
                let names: Vec<_> = presented.iter().take(MAX_NAMES).map(|name| bare(name)).collect();
                text = text + " but for " + &names.join(", ");
                if let Some(more @ 1..) = presented.len().checked_sub(MAX_NAMES) {
                    text = format!("{text} and {more} more");
                }
            }
            text + &hint(settings.name, |key| format!("; set {key} to a name that it holds"))
        }
        Fault::NotValidForName => {
            let name = hint(settings.name, |key| format!("; set {key} to a name that it holds"));
            format!("its certificate is for another name{name}")
        }
        Fault::ExpiredContext { not_after, .. } => {
            format!("its certificate has expired on {}: renew it", date(*not_after))
        }
        Fault::Expired => "its certificate has expired: renew it".into(),
        Fault::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}; if that has passed, the clock of this machine is wrong",
            date(*not_before)
        ),
        Fault::NotValidYet => {
            "its certificate is not valid yet; or the clock of this machine is wrong".into()
        }
        Fault::Revoked => "its certificate has been revoked".into(),
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => {
            "its certificate was not issued for this side of a connection (extendedKeyUsage)".into()
        }
        Fault::BadSignature => "what is signed with its certificate does not hold: it has not the key".into(),
        Fault::UnsupportedSignatureAlgorithmContext { .. }
        | Fault::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed in a way that is not believed any more, such as SHA-1".into()
        }
        Fault::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => format!(
            "its certificate is an authority's own, and no server's{}",
            hint(settings.ca, |key| format!("; if it is meant to be, name this very certificate in {key}"))
        ),
        Fault::Other(error) if error.to_string().contains("Version") => format!(
            "its certificate is of an old form (X.509 v1), which holds no names{}",
            hint(settings.ca, |key| format!(
                "; name this very certificate in {key}, or have one made of version 3"
            ))
        ),
        Fault::BadEncoding => "its certificate cannot be read".into(),
        _ => "its certificate is not valid".into(),
    }
}

fn alerted(alert: AlertDescription, settings: Settings) -> String {
    use AlertDescription as Alert;
    let own_certificate = || hint(settings.own_certificate, |key| format!("; set {key}"));
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            format!("the other side wants a certificate of ours{}", own_certificate())
        }
        Alert::UnknownCA => "the other side does not believe who issued our certificate".into(),
        Alert::CertificateExpired => "the other side says that our certificate has expired".into(),
        Alert::CertificateRevoked => "the other side says that our certificate has been revoked".into(),
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown => {
            "the other side does not take our certificate".into()
        }
        Alert::UnrecognisedName => format!(
            "the other side knows no server of that name (SNI){}",
            hint(settings.name, |key| format!("; set {key} to a name that it knows"))
        ),
        Alert::ProtocolVersion => {
            "the other side speaks no version of TLS that this proxy does (1.2, 1.3)".into()
        }
        Alert::HandshakeFailure | Alert::InsufficientSecurity => format!(
            "the other side ended the handshake: there is no cipher that both speak, or it wants a certificate of ours{}",
            own_certificate()
        ),
        Alert::NoApplicationProtocol => "the other side does not speak HTTP/1.1 over TLS (ALPN)".into(),
        other => format!("the other side ended TLS with the alert {}", name_of(other)),
    }
}

/// As RFC 8446 §6 writes it.
fn name_of(alert: AlertDescription) -> String {
    let mut name = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// A name as it stands in the certificate: rustls says of what kind it is around it.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match ASN1Time::from_timestamp(seconds).map(|time| time.to_datetime()) {
        Ok(time) => format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day()),
        Err(_) => format!("{seconds} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::ServerName;

    use super::*;

    const SETTINGS: Settings = Settings {
        ca: Some("upstream.tls.ca_file"),
        name: Some("upstream.tls.server_name"),
        own_certificate: Some("upstream.tls.cert_file"),
    };

    #[test]
    fn what_is_wrong_is_told_with_the_setting_that_helps_and_without_the_librarys_words() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expected = ServerName::try_from("app").unwrap();
        let names = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: expected.to_owned(),
            presented: presented.iter().map(|name| (*name).to_owned()).collect(),
        };
        let many = vec!["DnsName(\"x\")"; 11];
        let expired =
            CertificateError::ExpiredContext { time: time(2_000_000_000), not_after: time(1_600_000_000) };
        let early = CertificateError::NotValidYetContext { time: time(0), not_before: time(1_600_000_000) };
        let cases: [(Error, &str); 11] = [
            (
                CertificateError::UnknownIssuer.into(),
                "not believed; name that authority's certificate in upstream.tls.ca_file",
            ),
            (
                names(&["DnsName(\"a.example\")", "IpAddress(10.0.0.1)"]).into(),
                "is not for app but for a.example, 10.0.0.1; set upstream.tls.server_name",
            ),
            (names(&[]).into(), "is not for app and holds no name at all"),
            (names(&many).into(), "x and 3 more;"),
            (expired.into(), "has expired on 2020-09-13: renew it"),
            (early.into(), "not valid before 2020-09-13"),
            (
                Error::AlertReceived(AlertDescription::CertificateRequired),
                "wants a certificate of ours; set upstream.tls.cert_file",
            ),
            (Error::AlertReceived(AlertDescription::InternalError), "with the alert internal_error"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "does it speak TLS on this port?"),
            (Error::NoApplicationProtocol, "ALPN"),
            (Error::General("words of the library".into()), "TLS failed"),
        ];
        for (error, expected) in cases {
            let message = explain(&error, SETTINGS);
            assert!(message.contains(expected), "{error:?}: {message}");
            assert!(!message.contains(&error.to_string()), "{message}");
            assert!(
                !describe(&error).contains("upstream."),
                "nobody said which setting: {}",
                describe(&error)
            );
        }
    }
}
