//! The table of routes, and the answer of each.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Bytes;
use prometheus::TextEncoder;

use super::answer::{error, json, text};
use super::{Access, Admin, listings, publish};
use crate::connections::lifecycle::State;

/// Who a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Kubelets, load balancers, Prometheus: nothing is changed and no secret shown, no credentials asked.
    Probe,
    /// People and tools that run this process: behind the port's [`super::Guard`].
    Operator,
}

/// One method of one path.
#[derive(Debug)]
pub(crate) struct Route {
    /// GET stands for HEAD too.
    pub method: Method,
    /// Compared as a whole; the query is the handler's.
    pub path: &'static str,
    /// Who it is for. All methods of one path have the same class.
    pub class: Class,
    handler: Handler,
}

/// All routes, in the order in which they are listed.
pub(crate) const ROUTES: &[Route] = &[
    Route { method: Method::GET, path: "/healthz", class: Class::Probe, handler: Handler::Healthz },
    Route { method: Method::GET, path: "/readyz", class: Class::Probe, handler: Handler::Readyz },
    Route { method: Method::GET, path: "/metrics", class: Class::Probe, handler: Handler::Metrics },
    Route {
        method: Method::GET,
        path: "/api/admin/drain",
        class: Class::Operator,
        handler: Handler::DrainState,
    },
    Route { method: Method::POST, path: "/api/admin/drain", class: Class::Operator, handler: Handler::Drain },
    Route {
        method: Method::POST,
        path: "/api/admin/broadcast",
        class: Class::Operator,
        handler: Handler::Publish,
    },
    Route {
        method: Method::GET,
        path: "/api/admin/channels",
        class: Class::Operator,
        handler: Handler::Channels,
    },
    Route {
        method: Method::GET,
        path: "/api/admin/subscribers",
        class: Class::Operator,
        handler: Handler::Subscribers,
    },
];

#[derive(Debug, Clone, Copy)]
enum Handler {
    Healthz,
    Readyz,
    Metrics,
    DrainState,
    Drain,
    Publish,
    Channels,
    Subscribers,
}

/// Finds the route, runs the guard if its class needs that, and answers.
pub(super) async fn answer<B>(request: Request<B>, access: &Access, admin: &Admin) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    let path = request.uri().path();
    let routes: Vec<&Route> = offered(access).filter(|route| route.path == path).collect();
    let Some(class) = routes.first().map(|route| route.class) else { return not_found(access) };
    if let (Class::Operator, Access::All(guard)) = (class, access)
        && let Err(refused) = guard.admit(&request)
    {
        return refused.answer();
    }
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match routes.iter().find(|route| route.method == *method) {
        Some(route) => handle(route.handler, request, admin).await,
        None => wrong_method(request.method(), &routes),
    }
}

fn offered(access: &Access) -> impl Iterator<Item = &'static Route> {
    let all = matches!(access, Access::All(_));
    ROUTES.iter().filter(move |route| all || route.class == Class::Probe)
}

async fn handle<B>(handler: Handler, request: Request<B>, admin: &Admin) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    match handler {
        Handler::Healthz => text("ok\n"),
        Handler::Readyz => match not_ready(admin).await {
            None => text("ready\n"),
            Some(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason),
        },
        Handler::Metrics => metrics(admin),
        Handler::DrainState => drain_state(StatusCode::OK, admin),
        Handler::Drain => drain(request.uri().query(), admin).await,
        Handler::Publish => publish::publish(request.into_body(), admin).await,
        Handler::Channels => listings::channels(request.uri().query(), admin),
        Handler::Subscribers => listings::subscribers(request.uri().query(), admin),
    }
}

async fn not_ready(admin: &Admin) -> Option<String> {
    match admin.operations.lifecycle().state() {
        State::Starting => return Some("starting: the client port is not open yet".into()),
        State::Draining => return Some("draining: clients are being let go, send no new ones here".into()),
        State::Drained => {
            return Some(
                "drained: nobody is connected, and none are taken in; a signal ends the process".into(),
            );
        }
        State::Ready => {}
    }
    if !admin.ready_needs_upstream {
        return None;
    }
    let check = Arc::clone(&admin.operations).check_upstream();
    match tokio::time::timeout(UPSTREAM_CHECK, check).await {
        Ok(Ok(())) => None,
        Ok(Err(reason)) => Some(format!("the upstream is not ready (admin.ready_needs_upstream): {reason}")),
        Err(_) => Some(format!(
            "the upstream is not ready (admin.ready_needs_upstream): no answer within {} ms",
            UPSTREAM_CHECK.as_millis()
        )),
    }
}

fn metrics(admin: &Admin) -> Response<Full<Bytes>> {
    match TextEncoder::new().encode_to_string(&admin.operations.metrics()) {
        Ok(body) => {
            let mut response = text(body);
            let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
            response
        }
        Err(reason) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the metrics cannot be shown: {reason}; this is a bug, please report it"),
        ),
    }
}

async fn drain(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    // The query is checked before anything is started: a mistyped `wait` must not start a drain.
    let wait = match query {
        None | Some("" | "wait=false") => false,
        Some("wait=true") => true,
        Some(_) => {
            return error(
                StatusCode::BAD_REQUEST,
                "nothing was started: the only query understood here is wait=true or wait=false",
            );
        }
    };
    if admin.operations.lifecycle().request_drain() {
        tracing::info!(clients = admin.operations.clients(), "drain asked for through the admin port");
    }
    if wait {
        admin.operations.lifecycle().until(State::Drained).await;
    }
    drain_state(StatusCode::ACCEPTED, admin)
}

fn drain_state(status: StatusCode, admin: &Admin) -> Response<Full<Bytes>> {
    let state = admin.operations.lifecycle().state().as_str();
    json(status, &serde_json::json!({ "state": state, "clients": admin.operations.clients() }))
}

fn not_found(access: &Access) -> Response<Full<Bytes>> {
    let listed: Vec<_> = offered(access).map(|route| format!("{} {}", route.method, route.path)).collect();
    error(StatusCode::NOT_FOUND, &format!("there is nothing here; this port has {}", listed.join(", ")))
}

fn wrong_method(method: &Method, routes: &[&Route]) -> Response<Full<Bytes>> {
    let mut allowed = Vec::new();
    for route in routes {
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    let allowed = allowed.join(", ");
    let mut response = error(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{method} does nothing here; this path takes {allowed}"),
    );
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(http::header::ALLOW, allowed);
    }
    response
}

/// Less than the second that a kubelet waits by default, so that it gets the reason.
const UPSTREAM_CHECK: Duration = Duration::from_millis(800);
