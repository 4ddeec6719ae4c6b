//! `policy`: what holds for every connection; routes override any key of it.

mod auth;
mod breaker;
mod broadcast;
mod close_codes;
mod delivery;
mod fallback;
mod handshake_rate;
pub(crate) mod heartbeat;
mod history;
mod http;
mod limits;
mod notices;
mod origins;
mod redial;
mod session;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::{Auth, IdleActivity, Jwt, OnRefuse, OriginPattern, Origins, Policy, TokenSource};
use crate::config::problems::Problems;
use crate::config::raw::policy::auth::RawAuth;
use crate::config::raw::policy::breaker::RawBreaker;
use crate::config::raw::policy::broadcast::{RawBroadcast, greeting};
use crate::config::raw::policy::close_codes::RawCloseCodes;
use crate::config::raw::policy::delivery::RawDelivery;
use crate::config::raw::policy::fallback::RawFallback;
use crate::config::raw::policy::handshake_rate::RawHandshakeRate;
use crate::config::raw::policy::heartbeat::RawHeartbeat;
use crate::config::raw::policy::history::RawHistory;
use crate::config::raw::policy::http::RawHttp;
use crate::config::raw::policy::limits::RawLimits;
use crate::config::raw::policy::notices::Notices;
use crate::config::raw::policy::origins::RawOrigins;
use crate::config::raw::policy::redial::RawRedial;
use crate::config::raw::policy::session::RawSession;
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::{Scalar, ScalarValue, words};
use crate::config::raw::values::units::{Bytes, Span, SpanOrOff};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawPolicy {
    heartbeat: Option<RawHeartbeat>,
    idle_timeout: Scalar<SpanOrOff>,
    idle_activity: Scalar<IdleActivity>,
    max_lifetime: Scalar<SpanOrOff>,
    close_timeout: Scalar<Span>,
    max_frame: Scalar<Bytes>,
    max_message: Scalar<Bytes>,
    limits: Option<RawLimits>,
    handshake_rate: Option<RawHandshakeRate>,
    on_refuse: Scalar<OnRefuse>,
    close_codes: RawCloseCodes,
    http: RawHttp,
    origins: Option<RawOrigins>,
    auth: Option<RawAuth>,
    breaker: Option<RawBreaker>,
    delivery: RawDelivery,
    broadcast: RawBroadcast,
    redial: RawRedial,
    notices: Scalar<Notices>,
    session: RawSession,
    history: RawHistory,
    fallback: RawFallback,
    compression: Scalar<Compression>,
}

impl Default for RawPolicy {
    fn default() -> Self {
        Self {
            heartbeat: Some(RawHeartbeat::default()),
            idle_timeout: Scalar(SpanOrOff(Some(Span::secs(600).0))),
            idle_activity: Scalar(IdleActivity::Any),
            max_lifetime: Scalar(SpanOrOff(None)),
            close_timeout: Scalar(Span::secs(5)),
            max_frame: Scalar(Bytes(16 << 20)),
            max_message: Scalar(Bytes(64 << 20)),
            limits: Some(RawLimits::default()),
            handshake_rate: Some(RawHandshakeRate::default()),
            on_refuse: Scalar(OnRefuse::Http),
            close_codes: RawCloseCodes::default(),
            http: RawHttp::default(),
            origins: None,
            auth: None,
            breaker: Some(RawBreaker::default()),
            delivery: RawDelivery::default(),
            broadcast: RawBroadcast::default(),
            redial: RawRedial::default(),
            notices: Scalar(Notices::Auto),
            session: RawSession::default(),
            history: RawHistory::default(),
            fallback: RawFallback::default(),
            compression: Scalar(Compression::Off),
        }
    }
}

words!(IdleActivity { Any = "any", Messages = "messages" });

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Off,
    Deflate,
}

words!(Compression { Off = "off", Deflate = "deflate" });

impl RawPolicy {
    pub(crate) fn validate(self, problems: &mut Problems) -> Policy {
        let Self {
            heartbeat,
            idle_timeout,
            idle_activity,
            max_lifetime,
            close_timeout,
            max_frame,
            max_message,
            limits,
            handshake_rate,
            on_refuse,
            close_codes,
            http,
            origins,
            auth,
            breaker,
            delivery,
            broadcast,
            redial,
            notices,
            session,
            history,
            fallback,
            compression,
        } = self;
        check::positive("close_timeout", close_timeout, problems);
        check::not_empty("max_frame", max_frame, problems);
        check::not_empty("max_message", max_message, problems);
        let suspect = problems.has("max_frame") || problems.has("max_message");
        if !suspect && max_frame.0.0 > max_message.0.0 {
            // On a route the problem is that of the key which the route sets.
            if problems.is_own("max_message") && !problems.is_own("max_frame") {
                let accepted = format!("at least max_frame, {}", check::shown(max_frame));
                problems.refuse("max_message", check::shown(max_message), accepted);
            } else {
                let accepted = format!("at most max_message, {}", check::shown(max_message));
                problems.refuse("max_frame", check::shown(max_frame), accepted);
            }
        }
        let (limits, message_rate, control_rate) =
            problems.within("limits", |problems| limits.unwrap_or_else(RawLimits::off).validate(problems));
        let handshake_rate = handshake_rate.unwrap_or_else(RawHandshakeRate::off);
        let origins =
            origins.map(|origins| problems.within("origins", |problems| origins.validate(problems)));
        let auth = auth.and_then(|auth| problems.within("auth", |problems| auth.validate(problems)));
        let has_guards = origins.is_some() || auth.is_some();
        check_cookies(auth.as_ref(), origins.as_ref(), problems);
        let broadcast = problems.within("broadcast", |problems| broadcast.validate(problems));
        broadcast::check_tokens(auth.as_ref(), &broadcast, problems);
        greeting::check(&broadcast.greeting, max_frame, problems);
        let notices = notices.0.are_sent(&broadcast);
        Policy {
            heartbeat: heartbeat
                .and_then(|heartbeat| problems.within("heartbeat", |problems| heartbeat.validate(problems))),
            idle_timeout: idle_timeout.0.0,
            idle_activity: idle_activity.0,
            max_lifetime: max_lifetime.0.0,
            close_timeout: close_timeout.0.0,
            max_frame: max_frame.0.0,
            max_message: max_message.0.0,
            message_rate,
            control_rate,
            limits,
            handshake_rate: problems.within("handshake_rate", |problems| handshake_rate.validate(problems)),
            on_refuse: on_refuse.0,
            http: problems.within("http", |problems| http.validate(has_guards, problems)),
            origins,
            auth,
            close_codes: close_codes.validate(),
            delivery: problems.within("delivery", |problems| delivery.validate(problems)),
            breaker: breaker.map(|breaker| problems.within("breaker", |problems| breaker.validate(problems))),
            broadcast,
            session: problems.within("session", |problems| session.validate(problems)),
            redial: problems.within("redial", |problems| redial.validate(problems)),
            notices,
            history: problems.within("history", |problems| history.validate(problems)),
            fallback: fallback.validate(),
            compression: compression.0 == Compression::Deflate,
        }
    }
}

/// A browser sends its cookies whichever page connects: with cookies, origins have to be checked.
fn check_cookies(auth: Option<&Auth>, origins: Option<&Origins>, problems: &mut Problems) {
    let Some(Auth::Jwt(Jwt { token_from, .. })) = auth else { return };
    let cookie = token_from.iter().find(|source| matches!(source, TokenSource::Cookie(_)));
    let Some(cookie) = cookie else { return };
    let lets_all_in = match origins {
        None => true,
        Some(origins) => origins.allow.contains(&OriginPattern::Null),
    };
    if !lets_all_in || problems.has("origins") {
        return;
    }
    // On a route the problem is that of the key which the route sets.
    let key = if problems.is_own("origins") && !problems.is_own("auth.jwt.token_from") {
        "origins"
    } else {
        "auth.jwt.token_from"
    };
    let (without, accepted) = match origins {
        None => {
            ("no origins", "cookies together with origins: a browser sends them for any page that connects")
        }
        Some(_) => (
            "\"null\" among origins",
            "cookies, or \"null\" among origins: a browser sends cookies for any page, and any page can have a frame \
             whose origin is null",
        ),
    };
    let found = format!("{}, and {without}", quoted(&cookie.write()));
    problems.refuse(key, found, accepted);
}

words!(OnRefuse { Http = "http", Close = "close" });
