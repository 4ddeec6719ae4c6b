//! Heads of answers that others wrote, the server or an authentication service, to the handshake that a request stands for. Pure.
//!
//! # Invariants
//! 1. Such an answer is kept by nobody on the way, whatever its author says: the next request to the same URL may be let in.
//! 2. Which pages may read it is said by [`super::cors`] alone: a browser has no answer at all from two opinions, and the
//!    more generous one would be somebody else's.

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub(in crate::server) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What tells caches that an answer may be kept, or how it is asked for again.
const OF_CACHES: [HeaderName; 6] = [
    header::AGE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    HeaderName::from_static("surrogate-control"),
    // nginx believes it before Cache-Control.
    HeaderName::from_static("x-accel-expires"),
];

/// Takes out what is not their author's to say of an endpoint, and says that nobody keeps them.
pub(in crate::server) fn set_passed_on(headers: &mut HeaderMap) {
    let is_ours = |name: &&HeaderName| {
        let text = name.as_str();
        // `CDN-Cache-Control` and others that are meant for one cache count before `Cache-Control` there (RFC 9213).
        text.starts_with("access-control-") || text.ends_with("cache-control") || OF_CACHES.contains(name)
    };
    let ours: Vec<HeaderName> = headers.keys().filter(is_ours).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    headers.insert(header::CACHE_CONTROL, NO_STORE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        set_passed_on(&mut map);
        let shown =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<String> = map.iter().map(shown).collect();
        lines.sort();
        lines
    }

    #[test]
    fn nobody_keeps_it_and_who_may_read_it_is_not_its_authors_to_say() {
        let no_store = "cache-control: no-store";
        assert_eq!(passed_on(&[]), [no_store]);
        for ours in [
            "access-control-allow-credentials",
            "access-control-allow-headers",
            "access-control-allow-methods",
            "access-control-allow-origin",
            "access-control-allow-private-network",
            "access-control-expose-headers",
            "access-control-max-age",
            "age",
            "cache-control",
            "cdn-cache-control",
            "cloudflare-cdn-cache-control",
            "etag",
            "expires",
            "last-modified",
            "surrogate-control",
            "x-accel-expires",
        ] {
            assert_eq!(passed_on(&[(ours, "1"), (ours, "2")]), [no_store], "{ours}");
        }
        // Everything else is, its order and its repetitions included.
        let theirs = [
            ("content-type", "text/html"),
            ("retry-after", "9"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("vary", "Accept-Language"),
            ("www-authenticate", "Basic realm=\"x\""),
        ];
        let mut expected: Vec<_> = theirs.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        expected.insert(0, no_store.to_owned());
        assert_eq!(passed_on(&theirs), expected);
    }
}
