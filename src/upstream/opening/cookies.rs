//! What `Set-Cookie` does to the `Cookie` of a kept head: RFC 6265 §5.2, for one host and one path. Pure.
//!
//! # Invariants
//! 1. What the client sent itself stays as it is, in its order, but for cookies that the server replaces or deletes.
//! 2. What is set makes no head grow beyond [`MAX_COOKIES`] and [`MAX_BYTES`]: a server that sets one more at each dial
//!    would otherwise be sent heads in the end that it does not take.
//! 3. Nothing that is set can be read as two cookies, or as another one than it was set as.
//!
//! # Not here
//! `Domain`, `Path`, `Secure`, `SameSite`, and what browsers ask of `__Host-` and `__Secure-`: the head goes to the server
//! that has set the cookie, and to nobody else.

use std::borrow::Cow;

use super::http_date;

/// The most cookies of a head to which one is added: browsers hold some 180 for a whole site, servers use a few.
pub(super) const MAX_COOKIES: usize = 64;
/// The longest `Cookie` line that may grow: twice what common servers take.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// The cookies of one head.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Cookies<'a> {
    /// Each as it is sent, `name=value`.
    pairs: Vec<Cow<'a, [u8]>>,
}

/// What one `Set-Cookie` line wants.
struct SetCookie<'a> {
    name: &'a [u8],
    value: &'a [u8],
    is_deleted: bool,
}

impl<'a> Cookies<'a> {
    /// Those of a head, which may have several `Cookie` lines (RFC 9113 §8.2.3).
    pub(super) fn of_lines(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
        Self { pairs: pairs.filter(|pair| !pair.is_empty()).map(Cow::Borrowed).collect() }
    }

    /// Applies one `Set-Cookie` line. `now`: seconds since 1970. False: there was no room for it.
    pub(super) fn set(&mut self, line: &[u8], now: i64) -> bool {
        let Some(SetCookie { name, value, is_deleted }) = SetCookie::parse(line, now) else { return true };
        if is_deleted {
            self.pairs.retain(|pair| name_of(pair) != name);
            return true;
        }
        let pair = [name, b"=", value].concat();
        let first = self.pairs.iter().position(|pair| name_of(pair) == name);
        let replaced = first.map_or(0, |at| self.pairs[at].len() + SEPARATOR.len());
        let is_too_many = first.is_none() && self.pairs.len() >= MAX_COOKIES;
        let is_too_long = self.len() - replaced + pair.len() > MAX_BYTES;
        // What the client sent may be beyond the bounds: as long as it does not grow, the newest value goes in.
        if is_too_many || is_too_long && pair.len() + SEPARATOR.len() > replaced {
            return false;
        }
        match first {
            // Several of one name were set for several paths. Of those that are left the server would not know which one
            // is the newest.
            Some(first) => {
                let mut at = 0;
                self.pairs.retain(|pair| {
                    at += 1;
                    at - 1 <= first || name_of(pair) != name
                });
                self.pairs[first] = Cow::Owned(pair);
            }
            None => self.pairs.push(Cow::Owned(pair)),
        }
        true
    }

    /// Takes over what made `kept` of `sent`, as far as the client says the same as it did in `sent`: where it says something
    /// else, that is newer. What finds no room is left as the client says it.
    pub(super) fn carry_over(&mut self, sent: &Self, kept: &Self) {
        let own = self.clone();
        let mut done: Vec<Vec<u8>> = Vec::new();
        for name in kept.pairs.iter().chain(&sent.pairs).map(|pair| name_of(pair)) {
            let is_new = !done.iter().any(|other| other == name);
            if is_new && !kept.of(name).eq(sent.of(name)) && own.of(name).eq(sent.of(name)) {
                self.replace(name, kept.of(name).cloned().collect());
            }
            if is_new {
                done.push(name.to_vec());
            }
        }
    }

    /// Those of this name.
    fn of(&self, name: &[u8]) -> impl Iterator<Item = &Cow<'a, [u8]>> {
        self.pairs.iter().filter(move |pair| name_of(pair) == name)
    }

    /// Puts these in the place of those with the same name.
    fn replace(&mut self, name: &[u8], by: Vec<Cow<'a, [u8]>>) {
        let mut pairs = self.pairs.clone();
        let at = pairs.iter().position(|pair| name_of(pair) == name).unwrap_or(pairs.len());
        pairs.retain(|pair| name_of(pair) != name);
        pairs.splice(at..at, by);
        let replaced = Self { pairs };
        let is_more = replaced.pairs.len() > self.pairs.len() && replaced.pairs.len() > MAX_COOKIES;
        let is_longer = replaced.len() > self.len() && replaced.len() > MAX_BYTES;
        if !is_more && !is_longer {
            *self = replaced;
        }
    }

    /// The line to send, without its name; empty: none.
    pub(super) fn to_line(&self) -> Vec<u8> {
        self.pairs.join(SEPARATOR)
    }

    /// The length of the line, with a separator for one more.
    fn len(&self) -> usize {
        self.pairs.iter().map(|pair| pair.len() + SEPARATOR.len()).sum()
    }
}

const SEPARATOR: &[u8] = b"; ";

/// What stands before the first `=`. A pair without one is a value without a name, as browsers send it.
fn name_of(pair: &[u8]) -> &[u8] {
    pair.iter().position(|byte| *byte == b'=').map_or(&[], |at| pair[..at].trim_ascii())
}

impl<'a> SetCookie<'a> {
    /// `None`: the line sets nothing.
    fn parse(line: &'a [u8], now: i64) -> Option<Self> {
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return None;
        }
        let mut parts = line.split(|byte| *byte == b';');
        let (name, value) = halves(parts.next()?)?;
        // Without a name the value would be sent as if it were a pair: it could pass for any other cookie.
        if name.is_empty() {
            return None;
        }
        let (mut by_age, mut by_date) = (None, None);
        for (attribute, value) in parts.filter_map(halves) {
            if attribute.eq_ignore_ascii_case(b"max-age") {
                by_age = is_over_at_once(value).or(by_age);
            } else if attribute.eq_ignore_ascii_case(b"expires") {
                by_date = http_date::parse(value).map(|date| date <= now).or(by_date);
            }
        }
        // RFC 6265 §5.3, step 3: the age has precedence.
        Some(Self { name, value, is_deleted: by_age.or(by_date).unwrap_or(false) })
    }
}

fn halves(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = part.iter().position(|byte| *byte == b'=')?;
    Some((part[..at].trim_ascii(), part[at + 1..].trim_ascii()))
}

/// Whether an age of so many seconds is none; `None` if it is no number (RFC 6265 §5.2.2).
fn is_over_at_once(age: &[u8]) -> Option<bool> {
    let (is_negative, digits) = match age {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(is_negative || digits.iter().all(|digit| *digit == b'0'))
}

#[cfg(test)]
mod tests;
