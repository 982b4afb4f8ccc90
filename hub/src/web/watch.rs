//! `?watch=true`: what changes, as server-sent events. Every event is the newest state of an object and never one between: a
//! reader that falls behind misses states, not objects, and costs no memory.

mod feed;
mod places;
mod snapshot;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use meridian_api::fault::Fault;
use meridian_api::ids::Revision;
use meridian_api::web::EVENTS_CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use self::feed::{Feed, Feeds, State};
use self::places::{Place, Places};
use self::snapshot::{Asked, Event, Past, Snapshot, bookmark};
use super::WebState;
use super::answer::Failure;
use super::auth::{self, Caller};
use super::kinds::Kind;
use super::params::Params;
use crate::app::{App, AppError};
use crate::domain::access::ApiToken;
use crate::store::StoreError;

/// So often a watch that has nothing to tell says so, by which both ends see whether the other is there; and every one looks
/// whether its caller may still read, because a token ends without a change of the store.
const BEAT: Duration = Duration::from_secs(15);
/// A reader that takes nothing for this long is sent away. It loses nothing: it may resume.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events that wait for a reader.
const WAITING: usize = 4;

/// All watches of one process.
#[derive(Debug, Default)]
pub struct Watches {
    stop: CancellationToken,
    tracker: TaskTracker,
    feeds: Feeds,
    places: Places,
}

impl Watches {
    /// Watches that end with this token. The tracker knows their tasks.
    #[must_use]
    pub fn new(stop: CancellationToken, tracker: TaskTracker) -> Self {
        Self {
            stop,
            tracker,
            ..Self::default()
        }
    }

    /// Ends when all watches have to.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.stop.clone().cancelled_owned()
    }
}

/// How something is read: once, or again whenever it changes.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) params: Params,
    pub(super) watch: Option<Wish>,
}

/// What a watch is asked for.
#[derive(Debug)]
pub(super) struct Wish {
    seen: Option<Revision>,
    /// The caller's token as it was, and as it is presented, by which it is seen whether it is still good.
    token: ApiToken,
    presented: Zeroizing<String>,
}

impl<S: Sync> FromRequestParts<S> for Reading {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params = Params::from_request_parts(parts, state).await?;
        if !params.is_watch() {
            return Ok(Self {
                params,
                watch: None,
            });
        }
        let caller = parts.extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| Fault::Internal {
            detail: "a watch was not asked for by anybody".to_owned(),
        })?;
        let wish = Wish {
            seen: params.seen(),
            token: caller.0.clone(),
            presented: Zeroizing::new(auth::presented(&parts.headers)?.to_owned()),
        };
        Ok(Self {
            params,
            watch: Some(wish),
        })
    }
}

/// Answers with what changes of a kind, or of one object of it.
pub(super) async fn serve(
    state: &WebState,
    kind: Kind,
    name: Option<String>,
    wish: Wish,
) -> Result<Response, Failure> {
    let watches = &state.watches;
    if watches.stop.is_cancelled() {
        return Err(stops().into());
    }
    let place = watches.places.take(&wish.token.id)?;
    let (app, tracker) = (&state.app, &watches.tracker);
    let feed = watches.feeds.of(kind, app, &watches.stop, tracker);
    let asked = Asked {
        name,
        scope: wish.token.projects.clone(),
    };
    let begin = begin(app, kind, &asked, wish.seen, &feed).await?;
    let mut told = feed.state.clone();
    told.mark_changed();
    let (sender, receiver) = mpsc::channel(WAITING);
    let teller = Teller {
        app: Arc::clone(app),
        kind,
        asked,
        token: wish.token,
        presented: wish.presented,
        rights: None,
        seen: begin.upto,
        marked: wish
            .seen
            .filter(|_| begin.events.is_empty())
            .unwrap_or(begin.upto),
        told,
        sender,
        _keep: (feed, place),
    };
    let stop = watches.stop.clone();
    tracker.spawn(async move {
        let gone = teller.sender.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = gone.closed() => {}
            _ended = teller.run(begin.events) => {}
        }
    });
    let headers = [
        (CONTENT_TYPE, EVENTS_CONTENT_TYPE),
        (CACHE_CONTROL, "no-store"),
    ];
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok((headers, body).into_response())
}

/// What a watch begins with: events that lead to a revision.
struct Begin {
    events: Vec<(Event, Option<Revision>)>,
    upto: Revision,
}

async fn begin(
    app: &App,
    kind: Kind,
    asked: &Asked,
    seen: Option<Revision>,
    feed: &Feed,
) -> Result<Begin, Failure> {
    if let Some(seen) = seen {
        let head = app.store().list(Vec::new()).await?.revision;
        if seen > head {
            return Err(StoreError::Ahead { asked: seen, head }.into());
        }
    }
    let reached = feed.reached(seen.unwrap_or_default()).await;
    let (snapshot, upto) = reached.ok_or_else(stops)?;
    let Some(seen) = seen else {
        // Who is cut off before the end has no id, and begins anew.
        let events = snapshot.all(asked).into_iter().map(|event| (event, None));
        let end = (bookmark(kind, upto, true), Some(upto));
        return Ok(Begin {
            events: events.chain([end]).collect(),
            upto,
        });
    };
    let past = past(app, kind, seen, &snapshot).await?;
    if kind == Kind::Database && asked.scope.projects().is_some() && past.lost_any() {
        // The log names what went and not its project: it may be of others.
        return Err(Fault::Expired {
            detail: format!(
                "what was deleted since revision {seen} is not known by its project any more; list again and go on from the \
                 list's metadata.resourceVersion"
            ),
        }
        .into());
    }
    Ok(Begin {
        events: with_id(snapshot.news(seen, &past, asked), upto),
        upto,
    })
}

fn stops() -> Fault {
    Fault::Unavailable {
        detail: "this hub stops, or leads no more: another replica, or this one when it runs again, goes on".to_owned(),
        retry_after_ms: 1000,
    }
}

/// The last event of a revision carries it.
fn with_id(events: Vec<Event>, id: Revision) -> Vec<(Event, Option<Revision>)> {
    let last = events.len().saturating_sub(1);
    let events = events.into_iter().enumerate();
    events
        .map(|(at, event)| (event, (at == last).then_some(id)))
        .collect()
}

/// What went between what the caller saw and what the snapshot remembers, as the store's log tells it.
async fn past(
    app: &App,
    kind: Kind,
    seen: Revision,
    snapshot: &Snapshot,
) -> Result<Past, AppError> {
    let mut past = Past::default();
    if seen >= snapshot.since {
        return Ok(past);
    }
    let mut history = app
        .store()
        .history(String::new(), seen, snapshot.since)
        .await?;
    while let Some(batch) = history.next().await {
        for change in batch?.changes {
            if change.value.is_none() {
                past.deleted(kind, &change.key);
            }
        }
    }
    Ok(past)
}

/// Tells one reader.
struct Teller {
    app: Arc<App>,
    kind: Kind,
    asked: Asked,
    token: ApiToken,
    presented: Zeroizing<String>,
    /// State of the rights for which the caller was looked at last.
    rights: Option<u64>,
    /// The reader has, or waits for, everything up to here.
    seen: Revision,
    /// From where it would resume.
    marked: Revision,
    told: tokio::sync::watch::Receiver<State>,
    sender: mpsc::Sender<Result<Bytes, Infallible>>,
    _keep: (Arc<Feed>, Place),
}

/// Why a watch ends.
struct Ended;

impl Teller {
    async fn run(mut self, first: Vec<(Event, Option<Revision>)>) -> Result<(), Ended> {
        self.tell(first).await?;
        let mut beat = Instant::now() + BEAT;
        loop {
            let is_beat = tokio::select! {
                changed = self.told.changed() => changed.map(|()| false).map_err(|_| Ended)?,
                () = sleep_until(beat) => true,
            };
            if is_beat {
                beat = Instant::now() + BEAT;
            }
            let state = self.told.borrow_and_update().clone();
            if is_beat || self.rights != Some(state.rights) {
                self.may_still_read().await?;
                self.rights = Some(state.rights);
            }
            self.go_on(&state, is_beat).await?;
        }
    }

    async fn go_on(&mut self, state: &State, is_beat: bool) -> Result<(), Ended> {
        let snapshot = state.snapshot.as_ref().ok_or(Ended)?;
        if self.seen < snapshot.since {
            // So many deletions came at once that not all are remembered: the log knows them.
            return Err(Ended);
        }
        let news = snapshot.news(self.seen, &Past::default(), &self.asked);
        self.seen = self.seen.max(state.upto);
        if !news.is_empty() {
            self.marked = self.seen;
            return self.tell(with_id(news, self.seen)).await;
        }
        if !is_beat {
            return Ok(());
        }
        if self.marked == self.seen {
            return self.send(Bytes::from_static(b": nothing new\n\n")).await;
        }
        self.marked = self.seen;
        let beat = bookmark(self.kind, self.seen, false);
        self.send(beat.print(Some(self.seen))).await
    }

    async fn tell(&self, events: Vec<(Event, Option<Revision>)>) -> Result<(), Ended> {
        for (event, id) in events {
            self.send(event.print(id)).await?;
        }
        Ok(())
    }

    async fn send(&self, piece: Bytes) -> Result<(), Ended> {
        let sent = timeout(PATIENCE, self.sender.send(Ok(piece))).await;
        sent.ok().and_then(Result::ok).ok_or(Ended)
    }

    async fn may_still_read(&self) -> Result<(), Ended> {
        let why = match self.app.authenticate(&self.presented).await {
            Ok(token) if token.has_rights_of(&self.token) => return Ok(()),
            Ok(_) => "its rights have changed".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::info!(why, "a watch ends: its caller may not go on to read");
        Err(Ended)
    }
}
