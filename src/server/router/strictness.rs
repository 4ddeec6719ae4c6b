//! Which of two routes lets more in. Pure.
//!
//! What counts is what keeps somebody out or holds a client down: credentials, origins, what becomes of plain
//! HTTP, rates, limits and sizes, and that clients of a broadcast do not reach the server. Clocks, heartbeats,
//! close codes, where the server is and how it is told of the client do not: whoever gets past them has gained
//! nothing.

use crate::config::{HandshakeRate, Http, HttpMode, HttpRate, Limits, Mode, Policy, Rate, Route};

/// Whether every request that `route` admits might be admitted by `other` too, and do the same there. Two settings of
/// which neither is plainly the stricter one (two key sets, two lists of origins) are not as strict as each other.
pub(crate) fn is_as_strict(route: &Route, other: &Route) -> bool {
    let (ours, theirs): (&Policy, &Policy) = (&route.policy, &other.policy);
    let mode = match (route.mode, other.mode) {
        (Mode::Tunnel | Mode::Session, Mode::Broadcast) => false,
        (Mode::Broadcast, Mode::Broadcast) => ours.broadcast == theirs.broadcast,
        // What a client says reaches the server in a session as it does in a tunnel, and on a link of its own.
        (Mode::Tunnel | Mode::Session | Mode::Broadcast, Mode::Tunnel | Mode::Session) => true,
    };
    // What `auto` means depends on the mode. Where the proxy answers control frames it spares the proxy alone: a tunnel
    // is not held to that.
    let as_told = if route.mode == Mode::Tunnel { Mode::Tunnel } else { other.mode };
    let controls = rate(control_rate(ours, route.mode), control_rate(theirs, as_told));
    mode && controls && (ours == theirs || is_as_strict_by(ours, theirs))
}

/// Taken apart whole, so that a setting to come has to be put on one side or the other.
fn is_as_strict_by(ours: &Policy, theirs: &Policy) -> bool {
    let Policy {
        auth,
        origins,
        http: plain,
        limits: room,
        handshake_rate,
        message_rate,
        max_frame,
        max_message,
        // Compared with the mode.
        control_rate: _,
        broadcast: _,
        // These refuse no request.
        heartbeat: _,
        idle_timeout: _,
        idle_activity: _,
        max_lifetime: _,
        close_timeout: _,
        on_refuse: _,
        close_codes: _,
        breaker: _,
        delivery: _,
        session: _,
        redial: _,
        notices: _,
        history: _,
        // Whoever is let in by an endpoint may join the channel, and nothing of an endpoint goes to the server.
        fallback: _,
        compression: _,
    } = ours;
    is_same_or_off(auth, &theirs.auth)
        && is_same_or_off(origins, &theirs.origins)
        && http(plain, &theirs.http)
        && limits(room, &theirs.limits)
        && rates(handshake_rate, &theirs.handshake_rate)
        && rate(*message_rate, theirs.message_rate)
        && *max_frame <= theirs.max_frame
        && *max_message <= theirs.max_message
}

/// Of control frames.
fn control_rate(policy: &Policy, mode: Mode) -> Option<Rate> {
    match mode {
        Mode::Tunnel => policy.control_rate.in_tunnels(),
        Mode::Session | Mode::Broadcast => policy.control_rate.in_feeds(),
    }
}

fn is_same_or_off<T: PartialEq>(ours: &Option<T>, theirs: &Option<T>) -> bool {
    theirs.is_none() || ours == theirs
}

/// `None` is no limit.
fn limit<T: PartialOrd>(ours: Option<T>, theirs: Option<T>) -> bool {
    theirs.is_none_or(|theirs| ours.is_some_and(|ours| ours <= theirs))
}

fn rate(ours: Option<Rate>, theirs: Option<Rate>) -> bool {
    let second = |rate: Option<Rate>| rate.map(|rate| rate.per_second);
    let burst = |rate: Option<Rate>| rate.map(|rate| rate.burst);
    limit(second(ours), second(theirs)) && limit(burst(ours), burst(theirs))
}

fn http(ours: &Http, theirs: &Http) -> bool {
    let &Http { mode, max_body, rate: HttpRate { global, per_ip, max_keys: _ }, response_timeout: _ } = ours;
    let is_mode = mode == theirs.mode || mode == HttpMode::Refuse || theirs.mode == HttpMode::Pass;
    // A route that answers no plain requests needs no rate and no bound for them.
    let are_bounds = limit(max_body, theirs.max_body)
        && rate(global, theirs.rate.global)
        && rate(per_ip, theirs.rate.per_ip);
    is_mode && (mode == HttpMode::Refuse || are_bounds)
}

fn limits(ours: &Limits, theirs: &Limits) -> bool {
    let &Limits { connections, per_ip, per_user, on_user_limit: _ } = ours;
    limit(connections, theirs.connections) && limit(per_ip, theirs.per_ip) && limit(per_user, theirs.per_user)
}

fn rates(ours: &HandshakeRate, theirs: &HandshakeRate) -> bool {
    let &HandshakeRate { global, per_ip, per_user, queue: _, max_queued: _, max_keys: _ } = ours;
    rate(global, theirs.global) && rate(per_ip, theirs.per_ip) && rate(per_user, theirs.per_user)
}
