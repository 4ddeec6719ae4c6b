//! The target of a request, as the upstream is to see it. Pure.

use http::Uri;

use crate::admission::Refused;
use crate::net::head::HeadFault;
use crate::server::router::without_prefix;
use crate::server::state::Route;

/// Path and query as the upstream is to see them: in origin form, without `strip_prefix`.
pub(super) fn for_upstream(route: &Route, uri: &Uri) -> Result<Uri, Refused> {
    strip(route.config.strip_prefix.as_deref(), uri)
}

fn strip(prefix: Option<&str>, uri: &Uri) -> Result<Uri, Refused> {
    let path_and_query = uri.path_and_query().map_or("/", |target| target.as_str());
    if !path_and_query.starts_with('/') {
        return Err(Refused::Unsupported("a request without a path"));
    }
    let rest = prefix.and_then(|prefix| {
        let rest = without_prefix(uri.path(), prefix)?;
        path_and_query.get(uri.path().len() - rest.len()..)
    });
    let text = match rest {
        None => path_and_query.to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) => format!("/{rest}"),
    };
    text.parse().map_err(|_| HeadFault::Target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_off_at_a_segment() {
        let cases = [
            (None, "/ws/a?b=c", "/ws/a?b=c"),
            (Some("/ws"), "/ws/a?b=c", "/a?b=c"),
            (Some("/ws/"), "/ws/a", "/a"),
            (Some("/ws"), "/ws", "/"),
            (Some("/ws"), "/ws?x", "/?x"),
            (Some("/ws"), "/wsx", "/wsx"),
            (Some("/ws"), "http://host/ws/a", "/a"),
            (Some("/ws"), "//ws/a?b=//ws", "/a?b=//ws"),
            (Some("/ws"), "/%77s/a%2Fb;c", "/a%2Fb;c"),
            (Some("/ws"), "/x/../ws?a", "/?a"),
        ];
        for (prefix, uri, expected) in cases {
            assert_eq!(strip(prefix, &uri.parse().unwrap()).unwrap(), expected, "{prefix:?} {uri}");
        }
        assert!(strip(None, &"*".parse().unwrap()).is_err());
    }
}
