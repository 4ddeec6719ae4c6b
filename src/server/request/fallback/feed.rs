//! Mode `broadcast` without a WebSocket: whoever polls has a place on the channel for as long as the poll takes, reads the
//! channel's log where it says that it is, and waits there for the next message.
//!
//! # Invariants
//! 1. Nothing is opened for a replay, and nobody is a client for it.
//! 2. Who was let in to go on reading a log passes what was left out for that, before a channel with another log is opened.
//!
//! # Not here
//! What a channel is ([`crate::broadcast`]); how much an answer has ([`crate::delivery::poll`]).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::time::Instant;
use tower::ServiceExt;

use super::failure::Failure;
use super::place::Place;
use crate::admission::Stack;
use crate::broadcast::{Hub, Joiner, Over, Reservation};
use crate::config::OnJoin;
use crate::connections::ConnectionPermit;
use crate::delivery::events::{DataForm, PollAnswer, ReplayAnswer};
use crate::delivery::poll;
use crate::log::{Cursor, Log};
use crate::net::position::Position;
use crate::server::fallback::{EndpointError, Parameters, with_messages};
use crate::server::http::body::{AnswerBody, stream_answer};
use crate::server::http::upgrade::{PendingEvents, PendingUpgrade};
use crate::server::limits::gauge::GaugeGuard;
use crate::server::request::feeds;
use crate::server::request::routed::{Later, RoutedRequest};

/// What the mode has of a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feed<'a> {
    pub(super) hub: &'a Arc<Hub>,
    /// What a request passes that goes on reading a log, if its channel has another one.
    pub(super) left_out: &'a Stack,
}

/// What one poll reads, and where.
struct Poll {
    reservation: Reservation,
    user: Option<Arc<str>>,
    cursor: Cursor,
    limit: usize,
    until: Instant,
    place: Place,
}

/// Answers with what came after what the client has had, as soon as there is something.
pub(super) async fn poll<'a>(
    request: RoutedRequest<'a>,
    feed: Feed<'a>,
    position: Option<Position>,
    parameters: Parameters,
) -> Result<Later<'a, Failure>, Failure> {
    let (state, connection, route) = (request.state, request.connection, request.route);
    let (request, reservation) = reserve(request, feed, Joiner::Poll(position)).await?;
    let lost = reservation.missed();
    let until = request.waits_until(parameters.timeout);
    let user = request.context.user.as_ref().map(|user| Arc::clone(&user.name));
    // Its place is all that is held of the request.
    let permit = request.context.quota_permit.map(|permit| permit as Box<dyn ConnectionPermit>);
    let place = Place::take(permit, user.is_some(), state.registry.next_number());
    let poll =
        Poll { user, cursor: reservation.cursor(), limit: parameters.limit, until, reservation, place };
    let counted = GaugeGuard::new(&route.metrics.polls);
    let form = parameters.form;
    Ok(Box::pin(async move {
        let drain = pin!(state.drain.answer_by());
        let (page, over) = connection.wait(poll.page(drain)).await?;
        drop(counted);
        let lost = lost.map(|lost| lost + page.missed);
        let log = poll.reservation.log();
        let closed = over.filter(|_| !page.has_more).and_then(|over| over.said);
        let answer = PollAnswer {
            session: None,
            epoch: log.epoch(),
            received: None,
            entries: &page.entries,
            next: page.sequence(),
            lost,
            expires_in: None,
            closed: closed.as_ref().map(|(code, reason)| (*code, &**reason)),
            is_draining: state.drain.refuses_new(Instant::now),
        };
        let answer = with_messages(&page.entries, &state.answers, || answer.to_json(form))?;
        feed.hub.count_missed(lost.unwrap_or(page.missed));
        Ok(answer.map(|body| AnswerBody::own(body, connection)))
    }))
}

/// Answers with a stream of what came after what the client has had, and of what comes.
pub(super) async fn events(
    request: RoutedRequest<'_>,
    feed: Feed<'_>,
    position: Option<Position>,
    form: DataForm,
    head: Response<()>,
) -> Result<Response<AnswerBody>, Failure> {
    let connection = request.connection;
    let (request, reservation) = reserve(request, feed, Joiner::Events(position)).await?;
    let (answer, head) = stream_answer(connection, head);
    let pending = PendingEvents { admitted: request.into_admitted(), reservation, form, head };
    connection.set_upgrade(PendingUpgrade::Events(Box::new(pending)));
    Ok(answer)
}

impl Poll {
    /// What there is, once there is something or no more is to be waited for; and how the feed ended, if it is over. `drain`: a
    /// drain wants the answer.
    ///
    /// # Errors
    /// A newer connection of the user has taken its place.
    async fn page(
        &self,
        mut drain: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(poll::Page, Option<Over>), EndpointError> {
        let log = self.reservation.log();
        let mut ending = self.reservation.over();
        let (mut cursor, mut is_drained) = (self.cursor, false);
        loop {
            // Looked at before the log is read: what the server said last is in there by then.
            let over = ending.borrow_and_update().clone();
            let page = poll::read(log, cursor, self.user.as_ref(), self.limit);
            let is_due = is_drained || Instant::now() >= self.until;
            if !page.entries.is_empty() || page.missed > 0 || over.is_some() || is_due {
                return Ok((page, over));
            }
            cursor = page.cursor;
            tokio::select! {
                _ = poll::wait_for(log, page.sequence(), self.until) => {}
                _ = ending.changed() => {}
                () = &mut drain => is_drained = true,
                () = poll_fn(|cx| self.place.poll_taken(cx)) => return Err(EndpointError::Replaced),
            }
        }
    }
}

/// A place on the channel, once whatever was left out on the way to it is made up for.
async fn reserve<'a>(
    mut request: RoutedRequest<'a>,
    feed: Feed<'_>,
    by: Joiner<'_>,
) -> Result<(RoutedRequest<'a>, Reservation), Failure> {
    feeds::prepare(&mut request.context);
    if request.context.is_continued {
        let log = log_of(&request, feed.hub);
        if log.map(|log| log.epoch()) != request.context.epoch {
            request.context = feed.left_out.clone().oneshot(request.context).await?;
        }
    }
    let reservation = feeds::reserve(&request, feed.hub, by).await?;
    match reservation.ahead_of() {
        Some(head) => Err(EndpointError::Ahead { head }.into()),
        None => Ok((request, reservation)),
    }
}

/// The log of the channel that the request is for, if that runs.
fn log_of(request: &RoutedRequest<'_>, hub: &Hub) -> Option<Arc<Log>> {
    let context = &request.context;
    let user = context.user.as_ref().map(|user| &user.name);
    hub.log_of(&context.head.uri, &context.head.headers, user)
}

/// Answers with what is kept, from a number on.
pub(super) fn replay(
    mut request: RoutedRequest<'_>,
    hub: &Hub,
    parameters: &Parameters,
) -> Result<Response<Full<Bytes>>, Failure> {
    feeds::prepare(&mut request.context);
    let log = log_of(&request, hub).ok_or(EndpointError::NoChannel)?;
    let from = match parameters.from {
        Some(Position::Number(from)) => from,
        Some(Position::Of { epoch, sequence }) if epoch == log.epoch() => sequence,
        // Numbers of another log say nothing here.
        None | Some(Position::Of { .. } | Position::Unknown) => 0,
    };
    let head = log.head();
    if from > head + 1 {
        return Err(EndpointError::Ahead { head }.into());
    }
    let kept = log.join(OnJoin::All);
    let cursor = Cursor { next: kept.next.max(from), all_from: kept.all_from.max(from) };
    let user = request.context.user.as_ref().map(|user| &user.name);
    let page = poll::read(&log, cursor, user, parameters.limit);
    let answer = ReplayAnswer {
        epoch: log.epoch(),
        entries: &page.entries,
        total: log.lag(cursor).messages,
        first: kept.next,
    };
    let answers = &request.state.answers;
    Ok(with_messages(&page.entries, answers, || answer.to_json(parameters.form))?)
}
