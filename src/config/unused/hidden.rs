//! Routes that no request takes, since an earlier route matches all of theirs. Pure.

use percent_encoding::percent_decode_str;

use crate::config::host::Host;
use crate::config::model::{Route, Segment};

/// The first route before `index` that matches whatever the route at `index` matches.
pub(super) fn by(routes: &[Route], index: usize) -> Option<usize> {
    let route = routes.get(index)?;
    routes.iter().take(index).position(|before| {
        let segments = |route: &Route| -> Vec<Segment> {
            // A trailing slash is no segment: it is removed from paths before they are matched.
            let is_empty = |segment: &&Segment| matches!(segment, Segment::Literal(text) if text.is_empty());
            route.path.segments.iter().filter(|segment| !is_empty(segment)).cloned().collect()
        };
        has_hosts_of(before, route) && covers(&segments(before), &segments(route))
    })
}

fn has_hosts_of(before: &Route, route: &Route) -> bool {
    let known: Vec<Host> = before.hosts.iter().map(|host| Host::read(host)).collect();
    known.is_empty()
        || (!route.hosts.is_empty() && route.hosts.iter().all(|host| known.contains(&Host::read(host))))
}

/// Whether every path that matches `narrow` matches `wide`.
fn covers(wide: &[Segment], narrow: &[Segment]) -> bool {
    use Segment::{Literal, One, Rest};

    match (wide, narrow) {
        ([Rest(_), ..], _) | ([], []) => true,
        ([One(_), wide @ ..], [One(_) | Literal(_), narrow @ ..]) => covers(wide, narrow),
        ([Literal(one), wide @ ..], [Literal(other), narrow @ ..]) => {
            // Paths are compared without their escapes.
            percent_decode_str(one).eq(percent_decode_str(other)) && covers(wide, narrow)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    #[test]
    fn a_route_is_hidden_by_one_before_it_that_is_as_wide_or_wider() {
        for (first, second, is_hidden) in [
            ("{path: /a}", "{path: /a, name: b}", true),
            ("{path: /a/}", "{path: /a, name: b}", true),
            ("{path: /%61, name: a}", "{path: /a}", true),
            ("{path: /A}", "{path: /a}", false),
            ("{path: '/a/{*rest}'}", "{path: /a/b}", true),
            ("{path: '/a/{*rest}'}", "{path: /a}", true),
            ("{path: '/{*rest}'}", "{path: /}", true),
            ("{path: '/a/{x}'}", "{path: /a/b}", true),
            ("{path: '/a/{x}'}", "{path: '/a/{y}'}", true),
            ("{path: '/a/{x}'}", "{path: '/a/{*rest}'}", false),
            ("{path: '/a/{x}'}", "{path: /a}", false),
            ("{path: '/{x}/b'}", "{path: '/a/{y}'}", false),
            ("{path: '/{x}/{*rest}'}", "{path: /}", false),
            ("{path: /a, hosts: [a.example]}", "{path: /a, name: b}", false),
            ("{path: /a}", "{path: /a, name: b, hosts: [a.example]}", true),
            ("{path: /a, hosts: [a.example, b.example]}", "{path: /a, name: b, hosts: [B.example]}", true),
            ("{path: /a, hosts: [a.example]}", "{path: /a, name: b, hosts: [a.example, b.example]}", false),
        ] {
            let yaml = format!("routes: [{first}, {second}]");
            let config = Config::from_yaml(&yaml).unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
            assert_eq!(by(&config.routes, 1), is_hidden.then_some(0), "{yaml}");
            assert_eq!(by(&config.routes, 0), None, "{yaml}");
        }
    }
}
