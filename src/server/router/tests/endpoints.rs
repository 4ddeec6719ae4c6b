//! Requests to endpoints: whose they are, and that they get past no guard that a handshake would meet.

use super::*;

/// The route and the path of the WebSocket, the route alone where it is no endpoint, or what is refused.
fn requested(router: &Router<Entry>, path: &str) -> String {
    let picked = router.pick_request("h", path);
    let name = picked.stricter.map_or(&*picked.route.0.name, |_| "refused");
    match picked.endpoint {
        Some(EndpointMatch { endpoint, path }) => format!("{name} {endpoint:?} {path}"),
        None => name.to_owned(),
    }
}

const FEED: &str = "mode: broadcast, policy: {fallback: {sse: true, poll: true, replay: true}}";

#[test]
fn a_path_behind_that_of_a_websocket_is_an_endpoint_where_the_route_has_it() {
    let moved = FEED.replace("sse: true", "prefix: /.x/y, sse: true");
    let router = router(&format!(
        "[{{name: own, path: /ws/taken/poll}}, {{name: feed, path: '/ws/{{room}}', {FEED}}},
          {{name: moved, path: '/moved/{{*rest}}', {moved}}}, {{name: escaped, path: '/caf%C3%A9', {FEED}}},
          {{name: some, path: /some, mode: broadcast, policy: {{fallback: {{poll: true}}}}}},
          {{name: tunnel, path: '/t/{{*rest}}'}}, {{name: root, path: /, {FEED}}}]"
    ));
    for (path, expected) in [
        ("/ws/a/poll", "feed Poll /ws/a"),
        ("/ws/a/events", "feed Events /ws/a"),
        ("/ws/a/replay", "feed Replay /ws/a"),
        ("/ws/%61/poll", "feed Poll /ws/%61"),
        ("//ws//a//poll", "feed Poll //ws//a/"),
        ("/x/../ws/a/poll", "feed Poll /x/../ws/a"),
        // What is sent on a feed ends here, or has a user: not by HTTP.
        ("/ws/a/send", "default"),
        ("/ws/a", "feed"),
        ("/ws/poll", "feed"),
        ("/ws/a/b/poll", "default"),
        // One spelling.
        ("/ws/a/poll/", "default"),
        ("/ws/a/Poll", "default"),
        ("/ws/a/%70oll", "default"),
        ("/ws/a/poll;x", "default"),
        ("/ws/a/poll%00", "default"),
        ("/ws/a/./poll", "feed Poll /ws/a/."),
        ("/ws/a\\poll", "feed"),
        // In file order.
        ("/ws/taken/poll", "own"),
        ("/ws/taken/events", "feed Events /ws/taken"),
        // The prefix is the route's own.
        ("/ws/a/.x/y/poll", "default"),
        ("/moved/a/.x/y/poll", "moved Poll /moved/a"),
        ("/moved/.x/y/poll", "moved Poll /moved"),
        ("/moved/a/poll", "moved"),
        ("/moved/a/.x/%79/poll", "moved"),
        ("/moved/a/.x//y/poll", "moved"),
        ("/caf%C3%A9/poll", "escaped Poll /caf%C3%A9"),
        ("/some/poll", "some Poll /some"),
        ("/some/events", "default"),
        ("/some/replay", "default"),
        ("/t/a/poll", "tunnel"),
        ("/poll", "root Poll /"),
        ("//poll", "root Poll /"),
        ("poll", "default"),
        ("", "root"),
        ("*", "default"),
    ] {
        assert_eq!(requested(&router, path), expected, "{path}");
        assert!(router.pick("h", path).endpoint.is_none(), "a handshake is for no endpoint: {path}");
    }
}

#[test]
fn an_endpoint_belongs_to_the_route_that_a_handshake_for_its_websocket_takes() {
    for ambiguous in [AmbiguousPaths::Refuse, AmbiguousPaths::Pass] {
        let router = router_of(
            &format!(
                "routes: [{{name: guarded, path: /ws/admin, {GUARD}}}, {{name: feed, path: '/ws/{{*rest}}', {FEED}}}]"
            ),
            ambiguous,
        );
        // The feed's pattern fits both, but its WebSocket would be that of the guarded route.
        assert_eq!(requested(&router, "/ws/admin/poll"), "feed");
        assert_eq!(requested(&router, "/ws/admin"), "guarded");
        assert_eq!(requested(&router, "/ws/lobby/poll"), "feed Poll /ws/lobby");
    }
}

/// A feed asks its server for the path of the WebSocket, in the client's spelling: whoever reads that as guarded must not be
/// asked for somebody who has not passed the guard.
#[test]
fn no_spelling_gets_past_a_guard_by_an_endpoint() {
    let router = router_of(
        &format!(
            "routes: [{{name: guarded, path: '/ws/admin/{{*rest}}', {GUARD}}},
                      {{name: open, path: '/ws/{{*rest}}', {FEED}}}]"
        ),
        AmbiguousPaths::Refuse,
    );
    let mut refused = 0;
    for path in spellings() {
        let polled = format!("{path}/poll");
        let as_handshake = picked(&router, "h", &path);
        let found = router.pick_request("h", &polled);
        if let Some(endpoint) = found.endpoint {
            assert_eq!(endpoint.path, path);
            let name = found.stricter.map_or(&*found.route.0.name, |_| "refused");
            assert_eq!(name, as_handshake, "{polled}");
            refused += usize::from(name == "refused");
        } else {
            assert_ne!(as_handshake, "open", "{polled}");
        }
    }
    assert!(refused > 1000, "{refused}");
    assert_eq!(requested(&router, "/ws//lobby%20x/poll"), "open Poll /ws//lobby%20x");
}
