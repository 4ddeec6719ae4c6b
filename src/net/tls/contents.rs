//! What a file holds in place of what was looked for: told of files that were confused with one another. Pure.
//!
//! # Invariants
//! 1. Nothing of what stands in a file is shown: it may be a key.

/// What is in a file that has no such section, as the end of a sentence, and what to do; empty if nobody knows.
pub(super) fn instead(contents: &[u8]) -> &'static str {
    match label(contents) {
        Some("CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") => ", but a certificate",
        Some("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => {
            ", but a request for a certificate, which an authority has yet to sign"
        }
        Some("PUBLIC KEY" | "RSA PUBLIC KEY") => ", but a public key",
        Some("X509 CRL") => ", but a list of revoked certificates",
        Some("EC PARAMETERS" | "DSA PARAMETERS" | "DH PARAMETERS") => ", but parameters for making keys",
        Some("PKCS7") => {
            ", but a PKCS#7 bundle (`openssl pkcs7 -print_certs -in FILE` takes its certificates out)"
        }
        Some("OPENSSH PRIVATE KEY") => ", but a key of OpenSSH, which is not for TLS",
        Some("ENCRYPTED PRIVATE KEY") => ENCRYPTED,
        Some(label) if label.ends_with("PRIVATE KEY") => ", but a private key",
        Some(_) => ", but something else",
        None => binary(contents),
    }
}

/// Whether a key in PEM needs a passphrase: by its label (RFC 5958 §3) or by a header of its own (RFC 1421 §4.6.1.1).
pub(super) fn is_encrypted(contents: &[u8]) -> bool {
    let text = String::from_utf8_lossy(contents);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
}

/// As [`instead`].
pub(super) const ENCRYPTED: &str = ", but a private key that is encrypted with a passphrase, which nobody is there to \
                                    type (`openssl pkey -in FILE -out FILE` takes it off)";

/// The label of the first section (RFC 7468 §3).
fn label(contents: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(contents) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&contents[..error.valid_up_to()]).unwrap_or_default(),
    };
    let (_, rest) = text.split_once("-----BEGIN ")?;
    rest.split_once("-----").map(|(label, _)| label)
}

/// The same of what is no PEM. All of the formats in DER are a SEQUENCE; what stands first in it tells them apart.
fn binary(contents: &[u8]) -> &'static str {
    if contents.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) {
        return ", but a Java keystore (`keytool -importkeystore -deststoretype PKCS12` makes a PKCS#12 archive of it, \
                and `openssl pkcs12 -in ARCHIVE -nodes` takes certificate and key out)";
    }
    match inside_sequence(contents) {
        // RFC 7292 §4: PFX begins with its version, which is 3.
        Some([0x02, 0x01, 0x03, ..]) => {
            ", but a PKCS#12 archive (`openssl pkcs12 -in FILE -nodes` takes certificate and key out)"
        }
        // RFC 5958 §2, RFC 8017 §A.1.2, RFC 5915 §3: keys begin with a version, which is 0 or 1.
        Some([0x02, 0x01, 0x00 | 0x01, ..]) => {
            ", but a private key in DER (`openssl pkey -inform DER -in FILE` makes PEM of it)"
        }
        // RFC 5280 §4.1: a certificate begins with what is signed.
        Some([0x30, ..]) => {
            ", but what may be a certificate in DER (`openssl x509 -inform DER -in FILE` makes PEM of it)"
        }
        _ if contents.is_ascii() => ", but text without a line -----BEGIN …-----",
        _ => ", but bytes that are no PEM",
    }
}

/// What is in a SEQUENCE of DER that begins here.
fn inside_sequence(der: &[u8]) -> Option<&[u8]> {
    let [0x30, length, rest @ ..] = der else { return None };
    match length {
        0..=0x7f => Some(rest),
        0x81..=0x84 => rest.get(usize::from(length - 0x80)..),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_first_section_or_its_first_bytes() {
        let cases: [(&[u8], &str); 18] = [
            (b"", "text without a line"),
            (b"-----BEGIN CERTIFICATE-----\n", "but a certificate"),
            (b"Bag Attributes\n-----BEGIN CERTIFICATE REQUEST-----\n", "has yet to sign"),
            (b"-----BEGIN PRIVATE KEY-----\n", "but a private key"),
            (b"-----BEGIN EC PRIVATE KEY-----\n", "but a private key"),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "encrypted with a passphrase"),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "OpenSSH"),
            (b"-----BEGIN PUBLIC KEY-----\n", "public key"),
            (b"-----BEGIN PKCS7-----\n", "PKCS#7"),
            (b"-----BEGIN PGP MESSAGE-----\n\xff", "something else"),
            (b"\x30\x82\x0b\xd6\x02\x01\x03\x30", "PKCS#12"),
            (b"\x30\x81\x87\x02\x01\x00\x30", "private key in DER"),
            (b"\x30\x77\x02\x01\x01\x04", "private key in DER"),
            (b"\x30\x82\x01\x7c\x30\x82", "certificate in DER"),
            (b"\xfe\xed\xfe\xed\x00", "Java keystore"),
            (b"\x30\x82", "no PEM"),
            (b"\x30", "text without a line"),
            (b"key: none\n", "text without a line"),
        ];
        for (contents, message) in cases {
            let said = instead(contents);
            assert!(said.contains(message), "{}: {said}", contents.escape_ascii());
        }
        for (contents, expected) in [
            (&b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"[..], true),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", true),
            (b"-----BEGIN PRIVATE KEY-----\n", false),
        ] {
            assert_eq!(is_encrypted(contents), expected, "{}", contents.escape_ascii());
        }
    }
}
