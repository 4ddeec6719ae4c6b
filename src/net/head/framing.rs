//! Where a message ends: one table for requests and answers (RFC 9112 §6).
//!
//! The library reads a body by the same headers, and takes more than is safe: `chunked` twice, another coding before
//! it, and in answers a length beside it. What it takes would be read in another way by another server on the path.

use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

/// What a message's framing is refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// RFC 9112 §6.1, §6.3.
    #[error(
        "its Transfer-Encoding is something else than `chunked`, once: where the message ends would depend on who reads it"
    )]
    Coding,
    /// RFC 9112 §6.1.
    #[error("it has a Transfer-Encoding, which its version of HTTP does not know")]
    CodingVersion,
    /// RFC 9112 §6.3.
    #[error("it has both Transfer-Encoding and Content-Length, of which only one can be so")]
    Both,
    /// RFC 9110 §8.6.
    #[error("its Content-Length is not one number")]
    Length,
}

/// Checks what a request says about its end.
///
/// # Errors
/// It does not say one thing.
pub(super) fn check_request(version: Version, headers: &mut HeaderMap) -> Result<(), FramingFault> {
    check(version, headers)
}

/// Checks what an answer says about its end, and takes out what it must not say. Answers whether its connection can
/// be used again: not after a body where there can be none, since that would be the next answer.
///
/// # Errors
/// It does not say one thing.
pub fn check_answer(
    status: StatusCode,
    version: Version,
    headers: &mut HeaderMap,
) -> Result<bool, FramingFault> {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6, RFC 9112 §6.1: they have neither. Some servers say it all the same, with an empty body.
        let has_coding = headers.remove(header::TRANSFER_ENCODING).is_some();
        let has_length = headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
        headers.remove(header::CONTENT_LENGTH);
        return Ok(!has_coding && !has_length);
    }
    check(version, headers)?;
    Ok(true)
}

fn check(version: Version, headers: &mut HeaderMap) -> Result<(), FramingFault> {
    let has_length = headers.contains_key(header::CONTENT_LENGTH);
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    if let Some(coding) = codings.next() {
        if version != Version::HTTP_11 {
            return Err(FramingFault::CodingVersion);
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err(FramingFault::Coding);
        }
        return if has_length { Err(FramingFault::Both) } else { Ok(()) };
    }
    if has_length {
        let length = one_length(headers).ok_or(FramingFault::Length)?;
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

/// The number that all lengths are, however often they were said (RFC 9110 §8.6).
fn one_length(headers: &HeaderMap) -> Option<u64> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for element in value.as_bytes().split(|byte| *byte == b',') {
            let length = number(element.trim_ascii())?;
            if found.is_some_and(|found| found != length) {
                return None;
            }
            found = Some(length);
        }
    }
    found
}

/// Digits and nothing else: a sign would be taken by `parse`.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
