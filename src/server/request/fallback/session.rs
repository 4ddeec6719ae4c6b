//! Mode `session` without a WebSocket: a client begins a session with its first poll or event stream, and goes on with it by
//! its ticket, over whichever way it likes.
//!
//! # Invariants
//! 1. A client has one answer of its own for whatever its session says: nothing of that is judged here.
//! 2. The first poll of a session is answered at once: its client can say nothing before it has its ticket, and many servers
//!    wait for the client to say something.
//! 3. An event stream whose ticket is good for nothing begins another session, since an `EventSource` would ask with it for
//!    ever; one whose server has said Close is told to stop.
//!
//! # Not here
//! What becomes of a session ([`crate::session`]); what a `POST` says ([`Messages`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::failure::Failure;
use crate::admission::{Bound, Refused, ResumeDecision, Ticket};
use crate::connections::{EndedSession, ResumeGrant, Via};
use crate::delivery::EventsWire;
use crate::delivery::events::{DataForm, PollAnswer, ReplayAnswer, stream};
use crate::frame::CloseCode;
use crate::net::ClientBody;
use crate::net::own_protocols::TicketText;
use crate::net::position::Position;
use crate::server::fallback::{
    BadParameter, EndpointError, Messages, NO_STORE, Parameters, json, passes, refused_stream, set_passed_on,
    with_messages,
};
use crate::server::http::body::{AnswerBody, stream_answer};
use crate::server::http::connection::HttpConnection;
use crate::server::http::upgrade::{PendingResume, PendingSessionEvents, PendingUpgrade};
use crate::server::request::routed::{Answering, RoutedRequest};
use crate::server::request::session::{Accepted, Answered, SessionRoute, ask_server, opening_of};
use crate::session::{
    EventsStart, Greeted, Handle, Newcomer, Poll, Polled, Refusal, Replay, Send, Sent, Stream, Visitor, Wire,
};
use crate::telemetry::{Label, SessionEnd};

/// When a client comes back whose server is away, and as much waits for it as may.
const SERVER_AWAY: Duration = Duration::from_secs(1);

/// How long the body of a `POST` may take: a message that takes longer is better said over something that lasts.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What an event stream whose session ends before it has begun is reported as.
const GOING_AWAY: CloseCode = CloseCode::GOING_AWAY;

/// Answers a poll: of the session whose ticket it has, or of a new one.
pub(super) async fn poll<'a>(
    request: RoutedRequest<'a>,
    route: SessionRoute<'a>,
    position: Option<Position>,
    parameters: Parameters,
) -> Result<Answering<'a, Failure>, Failure> {
    let (state, connection) = (request.state, request.connection);
    let after = number(position, "afterSequence")?;
    let grant = match request.context.resume {
        ResumeDecision::None => {
            return Box::pin(begin_with_poll(request, route, parameters)).await.map(Answering::Now);
        }
        ResumeDecision::Refused(ended) => return Err(gone(ended, None).into()),
        ResumeDecision::Granted(grant) => grant,
    };
    let (handle, ticket) = find(&request, route, grant)?;
    let answer = ask(request, &handle, grant, after, &parameters)?;
    let form = parameters.form;
    Ok(Answering::Later(Box::pin(async move {
        let polled = connection.wait(answer).await.map_err(|refusal| error_of(refusal, route, grant))?;
        let answer = with_messages(&polled.entries, &state.answers, || body_of(&polled, &ticket, form))?;
        Ok(answer.map(|body| AnswerBody::own(body, connection)))
    })))
}

/// Leaves the poll with its session. Not an async function: who waits for the answer does not need the request any more.
fn ask(
    mut request: RoutedRequest<'_>,
    handle: &Handle,
    grant: ResumeGrant,
    after: Option<u64>,
    parameters: &Parameters,
) -> Result<impl Future<Output = Result<Polled, Refusal>> + use<>, Refused> {
    let opening = opening_of(&mut request)?;
    let until = request.waits_until(parameters.timeout);
    let visitor = visitor(request, grant.generation);
    Ok(handle.poll(Poll { visitor, after, limit: parameters.limit, until, opening: Some(opening) }))
}

/// Opens a session, and answers what its server has said so far.
async fn begin_with_poll(
    mut request: RoutedRequest<'_>,
    route: SessionRoute<'_>,
    parameters: Parameters,
) -> Result<Response<AnswerBody>, Failure> {
    let (state, connection) = (request.state, request.connection);
    let (said, answered) = open(&mut request, route).await?.into_parts();
    let Accepted { opened, identity } = match answered {
        Answered::Accepted(accepted) => *accepted,
        Answered::Declined(body) => return Ok(declined(said, body, connection)),
    };
    let guard = route.plan.enter(identity).ok_or(Refused::Capacity(Bound::Memory))?;
    let (generation, ticket) = route.plan.issue(&guard).ok_or(Refused::Capacity(Bound::Memory))?;
    let handle = Arc::clone(guard.handle());
    let (visitor, until) = (Visitor { generation, newcomer: None }, Instant::now());
    let answer = handle.poll(Poll { visitor, after: None, limit: parameters.limit, until, opening: None });
    let (mut connected, held) = request.into_admitted().open_for(handle, &state.registry, Via::Polls);
    state.drain.schedule(connected.guard.handle());
    connected.held = held;
    route.plan.spawn_over_http(opened, guard, connected);
    let polled = answer.await.map_err(|refusal| endpoint_error(refusal, None))?;
    // Never refused: its client would not know that it has a session.
    let mut answer = json(state.answers.hold(body_of(&polled, &ticket, parameters.form)));
    pass_cookies(&said.headers, answer.headers_mut());
    Ok(answer.map(|body| AnswerBody::own(body, connection)))
}

/// Answers with an event stream: of the session whose ticket the client has, or of a new one.
pub(super) async fn events(
    mut request: RoutedRequest<'_>,
    route: SessionRoute<'_>,
    position: Option<Position>,
    form: DataForm,
    head: Response<()>,
) -> Result<Response<AnswerBody>, Failure> {
    let after = number(position, "afterSequence")?;
    let (mut previous, mut missed) = (None, Some(0));
    match request.context.resume {
        ResumeDecision::None => {}
        ResumeDecision::Refused(ended) => (previous, missed) = (ended, None),
        ResumeDecision::Granted(grant) => {
            let asked = match find(&request, route, grant) {
                Ok((handle, ticket)) => {
                    let stream = Stream { generation: grant.generation, after };
                    handle.ask_for_stream(stream).await.map(|after| (handle, ticket, after))
                }
                Err(_) => Err(Refusal::Gone(None, None)),
            };
            match asked {
                Ok((handle, ticket, seen)) => {
                    return resume(request, route, handle, grant, Begun { ticket, seen, form, head });
                }
                Err(Refusal::Gone(ended, lost)) => {
                    previous = ended.or_else(|| route.plan.ended(&grant.session));
                    missed = lost;
                }
                Err(refusal) => return Err(error_of(refusal, route, grant).into()),
            }
            request.context = route.afresh.clone().oneshot(request.context).await?;
        }
    }
    if previous.is_some_and(|ended| ended.why == SessionEnd::Server.as_str()) {
        return Ok(no_content().map(|body| AnswerBody::own(body, request.connection)));
    }
    let greeted = Greeted { nonce: None, missed, previous };
    Box::pin(begin_with_events(request, route, form, head, greeted)).await
}

/// Where an event stream goes on.
struct Begun {
    ticket: TicketText,
    seen: u64,
    form: DataForm,
    head: Response<()>,
}

/// Goes on with a session.
fn resume(
    mut request: RoutedRequest<'_>,
    route: SessionRoute<'_>,
    handle: Arc<Handle>,
    grant: ResumeGrant,
    begun: Begun,
) -> Result<Response<AnswerBody>, Failure> {
    let Begun { ticket, seen, form, head } = begun;
    let connection = request.connection;
    let keys = route.plan.ticket_keys().ok_or_else(|| gone(None, None))?;
    let opening = opening_of(&mut request)?;
    let (answer, head) = stream_answer(connection, head);
    let pending = PendingResume {
        admitted: request.into_admitted(),
        handle,
        generation: grant.generation,
        seen,
        nonce: None,
        opening,
        keys,
        over: GOING_AWAY,
        wire: Wire::Events(Box::new(EventsStart { wire: wire(form, &head), ticket })),
    };
    connection.set_upgrade(PendingUpgrade::Resume(Box::new(pending)));
    Ok(answer)
}

/// Opens a session whose client has an event stream.
async fn begin_with_events(
    mut request: RoutedRequest<'_>,
    route: SessionRoute<'_>,
    form: DataForm,
    mut head: Response<()>,
    greeted: Greeted,
) -> Result<Response<AnswerBody>, Failure> {
    let connection = request.connection;
    let (said, answered) = open(&mut request, route).await?.into_parts();
    let Accepted { opened, identity } = match answered {
        Answered::Accepted(accepted) => *accepted,
        Answered::Declined(_) if passes(said.status) => {
            let refused = refused_stream("upstream_refused", None);
            return Ok(refused.map(|body| AnswerBody::own(body, connection)));
        }
        Answered::Declined(body) => return Ok(declined(said, body, connection)),
    };
    let guard = route.plan.enter(identity).ok_or(Refused::Capacity(Bound::Memory))?;
    let (_, ticket) = route.plan.issue(&guard).ok_or(Refused::Capacity(Bound::Memory))?;
    pass_cookies(&said.headers, head.headers_mut());
    let (answer, head) = stream_answer(connection, head);
    let pending = PendingSessionEvents {
        admitted: request.into_admitted(),
        plan: Arc::clone(route.plan),
        opened,
        guard,
        greeted,
        start: EventsStart { wire: wire(form, &head), ticket },
    };
    connection.set_upgrade(PendingUpgrade::SessionEvents(Box::new(pending)));
    Ok(answer)
}

/// What a `POST` has beside its head.
pub(super) struct Brought {
    pub(super) body: ClientBody,
    pub(super) content_type: Option<HeaderValue>,
}

/// Takes messages of the client. `number`: of the first one, if the query says that. Nothing is read for a client that has no
/// session.
pub(super) async fn send(
    request: RoutedRequest<'_>,
    route: SessionRoute<'_>,
    brought: Brought,
    number: Option<u64>,
) -> Result<Response<AnswerBody>, Failure> {
    let connection = request.connection;
    let grant = match request.context.resume {
        ResumeDecision::None => return Err(EndpointError::NoTicket.into()),
        ResumeDecision::Refused(ended) => return Err(gone(ended, None).into()),
        ResumeDecision::Granted(grant) => grant,
    };
    let (handle, _) = find(&request, route, grant)?;
    let _permit = handle.begin_post().ok_or(EndpointError::Posts)?;
    let Brought { body, content_type } = brought;
    let max = request.route.config.policy.max_message;
    let body = (body, connection.is_http2_stream());
    let read = Messages::read(body, content_type.as_ref(), number, max, &request.state.posts);
    let Ok(read) = timeout(BODY_TIMEOUT, read).await else {
        return Err(EndpointError::BadBody("the body has not come in full").into());
    };
    // Counted until they were taken.
    let (Messages { first, messages }, _share) = read?;
    let visitor = visitor(request, grant.generation);
    let sent = handle.send(Send { visitor, first, messages }).await;
    let Sent { received, taken } = sent.map_err(|refusal| error_of(refusal, route, grant))?;
    let mut answer = json(format!(r#"{{"received":{received}}}"#).into());
    if taken > 0 {
        *answer.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(answer.map(|body| AnswerBody::own(body, connection)))
}

/// Answers with what is kept, from a number on.
pub(super) async fn replay(
    request: RoutedRequest<'_>,
    route: SessionRoute<'_>,
    parameters: Parameters,
) -> Result<Response<AnswerBody>, Failure> {
    let (state, connection) = (request.state, request.connection);
    let grant = match request.context.resume {
        ResumeDecision::None => return Err(EndpointError::NoTicket.into()),
        ResumeDecision::Refused(ended) => return Err(gone(ended, None).into()),
        ResumeDecision::Granted(grant) => grant,
    };
    let from = number(parameters.from, "fromSequence")?.unwrap_or_default();
    let (handle, _) = find(&request, route, grant)?;
    let asked = Replay { generation: grant.generation, from, limit: parameters.limit };
    let replayed = handle.replay(asked).await.map_err(|refusal| error_of(refusal, route, grant))?;
    let answer = ReplayAnswer {
        epoch: replayed.epoch,
        entries: &replayed.entries,
        total: replayed.total,
        first: replayed.first,
    };
    let answer = with_messages(&replayed.entries, &state.answers, || answer.to_json(parameters.form))?;
    Ok(answer.map(|body| AnswerBody::own(body, connection)))
}

/// Asks the server, if its breaker is closed. A client that could not come back is refused before that: it would have nothing.
async fn open(
    request: &mut RoutedRequest<'_>,
    route: SessionRoute<'_>,
) -> Result<Response<Answered>, Refused> {
    if !route.plan.gives_tickets() {
        return Err(Refused::Capacity(Bound::Memory));
    }
    let caller = request.context.caller();
    match route.breaker {
        Some(breaker) => breaker.guard(caller, ask_server(request)).await,
        None => ask_server(request).await,
    }
}

/// The session that the ticket is of, and the ticket.
fn find(
    request: &RoutedRequest<'_>,
    route: SessionRoute<'_>,
    grant: ResumeGrant,
) -> Result<(Arc<Handle>, TicketText), EndpointError> {
    match (route.plan.find(&grant.session), request.context.ticket) {
        (Some(handle), Ticket::Read(ticket)) => Ok((handle, ticket)),
        // It has ended since its ticket was looked at.
        _ => Err(gone(route.plan.ended(&grant.session), None)),
    }
}

fn visitor(request: RoutedRequest<'_>, generation: u32) -> Visitor {
    let state = request.state;
    let (registry, close_at) = (Arc::clone(&state.registry), state.drain.close_at());
    Visitor { generation, newcomer: Some(Newcomer { admitted: request.into_admitted(), registry, close_at }) }
}

fn wire(form: DataForm, head: &Bytes) -> EventsWire {
    let mut preface = head.to_vec();
    stream::push_retry(&mut preface);
    EventsWire { form, preface: preface.into() }
}

/// Numbers of a session need no epoch: its ticket says which log they are of.
fn number(position: Option<Position>, name: &'static str) -> Result<Option<u64>, EndpointError> {
    match position {
        None | Some(Position::Unknown) => Ok(None),
        Some(Position::Number(number)) => Ok(Some(number)),
        Some(Position::Of { .. }) => Err(BadParameter::Unreadable(name, "a number").into()),
    }
}

fn body_of(polled: &Polled, ticket: &TicketText, form: DataForm) -> Bytes {
    let answer = PollAnswer {
        session: Some(ticket.as_str()),
        epoch: polled.epoch,
        received: Some(polled.received),
        entries: &polled.entries,
        next: polled.next,
        lost: Some(0),
        expires_in: Some(polled.expires_in),
        closed: polled.closed.as_ref().map(|(code, reason)| (*code, &**reason)),
        is_draining: polled.is_draining,
    };
    answer.to_json_with(&polled.told, form)
}

/// The server's own answer to the handshake.
fn declined(mut said: Parts, body: Incoming, connection: &Arc<HttpConnection>) -> Response<AnswerBody> {
    set_passed_on(&mut said.headers);
    Response::from_parts(said, AnswerBody::upstream(body, connection))
}

/// What the server sets when it accepts is the client's.
fn pass_cookies(from: &HeaderMap, to: &mut HeaderMap) {
    for cookie in from.get_all(header::SET_COOKIE) {
        to.append(header::SET_COOKIE, cookie.clone());
    }
}

/// An `EventSource` asks no more after this (WHATWG HTML §9.2.3).
fn no_content() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

fn gone(ended: Option<EndedSession>, lost: Option<u64>) -> EndpointError {
    EndpointError::Gone {
        why: ended.map(|ended| ended.why),
        received: ended.map(|ended| ended.received),
        lost,
    }
}

/// What a refusal of the session is to its client.
fn error_of(refusal: Refusal, route: SessionRoute<'_>, grant: ResumeGrant) -> EndpointError {
    endpoint_error(refusal, route.plan.ended(&grant.session))
}

/// `ended`: what is remembered of the session, if it is over.
fn endpoint_error(refusal: Refusal, ended: Option<EndedSession>) -> EndpointError {
    match refusal {
        Refusal::Gone(known, lost) => gone(known.or(ended), lost),
        Refusal::Attached(wait) => EndpointError::Attached(wait),
        Refusal::Ahead(head) => EndpointError::Ahead { head },
        Refusal::Gap(received) => EndpointError::Gap { received },
        Refusal::Polls => EndpointError::Polls,
        Refusal::Rate(wait) => EndpointError::MessageRate(wait),
        Refusal::QueueFull(received) => EndpointError::QueueFull { wait: SERVER_AWAY, received },
    }
}
