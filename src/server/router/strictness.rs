//! Which of two routes lets more in. Pure.
//!
//! What counts is what keeps somebody out or holds a client down: credentials, origins, what becomes of plain
//! HTTP, rates, limits and sizes, and that clients of a broadcast do not reach the server. Clocks, heartbeats,
//! close codes, where the server is and how it is told of the client do not: whoever gets past them has gained
//! nothing.

use crate::config::{HandshakeRate, Http, HttpMode, Limits, Mode, Policy, Rate, Route};

/// Whether whoever `route` lets in might come in by `other` too, and do there what it may do here. Two settings of which neither
/// is plainly the stricter one (two key sets, two lists of origins) are not as strict as each other.
pub(crate) fn is_as_strict(route: &Route, other: &Route) -> bool {
    let (ours, theirs): (&Policy, &Policy) = (&route.policy, &other.policy);
    let mode = match (route.mode, other.mode) {
        (Mode::Tunnel, Mode::Broadcast) => false,
        (Mode::Broadcast, Mode::Broadcast) => ours.broadcast == theirs.broadcast,
        (Mode::Tunnel | Mode::Broadcast, Mode::Tunnel) => true,
    };
    mode && policy(ours, theirs) && rate(control_rate(route), control_rate(other))
}

/// Taken apart without `..`, so that a new setting cannot be forgotten here.
fn policy(ours: &Policy, theirs: &Policy) -> bool {
    let Policy {
        max_frame,
        max_message,
        message_rate,
        control_rate: _, // Depends on the mode.
        limits: how_many,
        handshake_rate,
        origins,
        auth,
        http: plain,
        heartbeat: _,
        idle_timeout: _,
        idle_activity: _,
        max_lifetime: _,
        close_timeout: _,
        on_refuse: _,
        close_codes: _,
        breaker: _,
        delivery: _,
        broadcast: _,
        redial: _,
        notices: _,
        history: _,
        compression: _,
    } = ours;
    is_same_or_off(auth, &theirs.auth)
        && is_same_or_off(origins, &theirs.origins)
        && http(plain, &theirs.http)
        && limits(how_many, &theirs.limits)
        && rates(handshake_rate, &theirs.handshake_rate)
        && rate(*message_rate, theirs.message_rate)
        && *max_frame <= theirs.max_frame
        && *max_message <= theirs.max_message
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
    let mode = ours.mode == theirs.mode || ours.mode == HttpMode::Refuse || theirs.mode == HttpMode::Pass;
    mode && limit(ours.max_body, theirs.max_body)
        && rate(ours.rate.global, theirs.rate.global)
        && rate(ours.rate.per_ip, theirs.rate.per_ip)
}

fn limits(ours: &Limits, theirs: &Limits) -> bool {
    limit(ours.connections, theirs.connections)
        && limit(ours.per_ip, theirs.per_ip)
        && limit(ours.per_user, theirs.per_user)
}

/// What holds for control frames in the route's mode.
fn control_rate(route: &Route) -> Option<Rate> {
    match route.mode {
        Mode::Tunnel => route.policy.control_rate.in_tunnels(),
        Mode::Broadcast => route.policy.control_rate.in_feeds(),
    }
}

fn rates(ours: &HandshakeRate, theirs: &HandshakeRate) -> bool {
    rate(ours.global, theirs.global)
        && rate(ours.per_ip, theirs.per_ip)
        && rate(ours.per_user, theirs.per_user)
}
