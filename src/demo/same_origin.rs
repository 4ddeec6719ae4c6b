//! Whether a web page of another origin asks. The demo listens where the browser of whoever runs it can reach it, and so
//! can any page in there.

use http::uri::Authority;
use http::{HeaderName, Request, header};

/// Where a request comes from, as browsers tell (W3C Fetch Metadata Request Headers §2.3). Pages cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether no page of another origin asks for this. Browsers send `Origin` with each POST; what is no browser sends none.
pub(super) fn is_same_origin<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Some(host) = host.to_str().ok().filter(|host| cannot_be_rebound(host)) else { return false };
    let is_own = |origin: &[u8]| {
        let named = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        named.is_some_and(|named| named.eq_ignore_ascii_case(host.as_bytes()))
    };
    headers.get_all(header::ORIGIN).iter().all(|origin| is_own(origin.as_bytes()))
        && headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin" || site == "none")
}

/// An address, or a name that means this machine to every browser. Any other name may be a stranger's, who has it point
/// here: to the browser his page would be of the same origin (DNS rebinding).
fn cannot_be_rebound(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "127.0.0.1:8080";

    type Values = &'static [&'static str];

    #[test]
    fn a_page_of_another_origin_is_told_from_the_own_one_and_from_what_is_no_page() {
        let cases: [(Values, Values, Values, bool); 19] = [
            // No browser.
            (&[OWN], &[], &[], true),
            (&["localhost:8080"], &[], &[], true),
            (&["[::1]:8080"], &[], &[], true),
            (&["192.168.1.2"], &[], &[], true),
            // The own page.
            (&[OWN], &["http://127.0.0.1:8080"], &["same-origin"], true),
            (&["localhost"], &["https://LOCALHOST"], &[], true),
            (&[OWN], &[], &["none"], true),
            // Another one.
            (&[OWN], &["http://evil.example"], &[], false),
            (&[OWN], &["http://127.0.0.1:8081"], &[], false),
            (&[OWN], &["http://127.0.0.1"], &[], false),
            (&[OWN], &["null"], &[], false),
            (&[OWN], &["http://127.0.0.1:8080", "http://evil.example"], &[], false),
            (&[OWN], &["http://127.0.0.1:8080"], &["same-site"], false),
            (&[OWN], &[], &["cross-site"], false),
            (&[OWN], &[], &["none", "cross-site"], false),
            // One whose name points here.
            (&["evil.example:8080"], &["http://evil.example:8080"], &["same-origin"], false),
            (&["127.0.0.1@evil.example"], &[], &[], false),
            (&[OWN, "evil.example"], &[], &[], false),
            (&[], &[], &[], false),
        ];
        for (hosts, origins, sites, expected) in cases {
            let mut request = Request::post("/kill");
            for (name, values) in [(header::HOST, hosts), (header::ORIGIN, origins), (SEC_FETCH_SITE, sites)]
            {
                for value in values {
                    request = request.header(&name, *value);
                }
            }
            assert_eq!(
                is_same_origin(&request.body(()).unwrap()),
                expected,
                "{hosts:?} {origins:?} {sites:?}"
            );
        }
    }
}
