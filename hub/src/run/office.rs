//! What only a leader does: it listens on the link, plans and delivers.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::process::{Parts, failed, finish, serve_on};
use super::tell_doubts;
use crate::app::App;
use crate::link::server;
use crate::link::session::{Context, Timing};
use crate::link::sessions::Sessions;
use crate::metrics::Metrics;
use crate::store::keys;
use crate::tasks::audit::Linking;
use crate::tasks::conditions::Conditions;
use crate::tasks::driver::{Triggers, drive};
use crate::tasks::liveness::Liveness;
use crate::tasks::plan::{self, Planning};
use crate::tasks::{Task, deliver};
use crate::tls::{self, LinkTls, LiveCertificate};
use crate::web::inside::{Inside, SessionShown};
use crate::web::watch::Watches;
use crate::web::{ConnectedCount, WebState};

/// The work of one reign.
pub(super) struct Office {
    app: Arc<App>,
    metrics: Arc<Metrics>,
    sessions: Sessions,
    parts: Parts,
    stop: CancellationToken,
    /// Ends the sessions that did not end when they were told to.
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl Office {
    /// One in which nobody works yet.
    pub(super) fn new(app: Arc<App>, metrics: Arc<Metrics>) -> Self {
        Self {
            app,
            sessions: Sessions::measured(metrics.deliveries()),
            metrics,
            parts: JoinSet::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }
    }

    /// Begins to work.
    pub(super) fn begin(
        &mut self,
        certificate: Arc<LiveCertificate>,
        link: TcpListener,
    ) -> anyhow::Result<()> {
        self.serve_link(certificate, link)?;
        self.start_tasks();
        let reign = self.app.reign();
        tracing::info!(store = %reign.store_id, term = %reign.term, incarnation = %reign.incarnation, "this hub leads: a new term begins");
        let telling = tell_doubts(Arc::clone(&self.app));
        self.tracker.spawn(async move {
            if let Err(error) = telling.await {
                tracing::warn!(%error, "whether the hub only observes could not be read");
            }
        });
        Ok(())
    }

    /// The state of the leader's web API.
    pub(super) fn web(&self) -> WebState {
        let (sessions, shown) = (self.sessions.clone(), self.sessions.clone());
        WebState {
            app: Arc::clone(&self.app),
            metrics: Arc::clone(&self.metrics),
            connected: ConnectedCount(Arc::new(move || sessions.connected().len())),
            limits: Arc::default(),
            watches: Arc::new(Watches::new(self.stop.clone(), self.tracker.clone())),
            sign_in: None,
            follower: None,
            inside: Inside {
                sessions: Some(Arc::new(move || shown_sessions(&shown))),
                ..Inside::default()
            },
        }
    }

    /// Waits until a part ends, which none does by itself.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        failed(&mut self.parts).await
    }

    /// Ends every session and all work: nothing of it is left afterwards.
    pub(super) async fn close(self, within: Duration) {
        self.stop.cancel();
        if !finish(self.parts, &self.tracker, within).await {
            self.cut.cancel();
        }
    }

    fn serve_link(
        &mut self,
        certificate: Arc<LiveCertificate>,
        link: TcpListener,
    ) -> anyhow::Result<()> {
        let context = Context {
            app: Arc::clone(&self.app),
            sessions: self.sessions.clone(),
            timing: Timing::default(),
            stop: self.stop.clone(),
            cut: self.cut.clone(),
        };
        let address = link.local_addr()?;
        let config = LinkTls::new(
            certificate,
            Arc::clone(self.app.authority()),
            Arc::clone(self.app.clock()),
        )?;
        let link = tls::listen_link(link, config, &self.tracker, self.stop.clone());
        let router = server::router(context, self.tracker.clone());
        let stop = self.stop.clone();
        serve_on(&mut self.parts, "the link", link, router, stop);
        tracing::info!(link = %address, "serving the link");
        Ok(())
    }

    fn start_tasks(&mut self) {
        let planning = Planning::new(Arc::clone(&self.app));
        let awaited = planning.awaited();
        self.start_task(
            planning,
            Triggers {
                every: Duration::from_secs(30),
                prefixes: plan::prefixes(),
                awaited,
            },
        );
        let timing = Timing::default();
        let liveness = Liveness {
            app: Arc::clone(&self.app),
            sessions: self.sessions.clone(),
            started: Instant::now(),
            grace: timing.idle,
        };
        let prefixes = Liveness::prefixes();
        self.start_task(
            liveness,
            Triggers {
                every: timing.beat,
                prefixes,
                awaited: Vec::new(),
            },
        );
        let prefixes = Conditions::prefixes();
        self.start_task(
            Conditions::new(Arc::clone(&self.app)),
            Triggers {
                every: Duration::from_secs(60),
                prefixes,
                awaited: Vec::new(),
            },
        );
        let store = Arc::clone(self.app.store());
        let linking = Linking {
            app: Arc::clone(&self.app),
        };
        let prefixes = vec![keys::audit_news().text().to_owned()];
        self.start_task(
            linking,
            Triggers {
                every: Duration::from_secs(30),
                prefixes,
                awaited: Vec::new(),
            },
        );
        let delivery = deliver::run(store, self.sessions.clone(), self.stop.clone());
        self.parts.spawn(async move {
            delivery.await;
            ("delivery", Ok(()))
        });
    }

    fn start_task<T: Task>(&mut self, task: T, triggers: Triggers) {
        let (store, metrics, stop) = (
            Arc::clone(self.app.store()),
            Arc::clone(&self.metrics),
            self.stop.clone(),
        );
        let work = drive(task, triggers, store, metrics, stop);
        self.parts.spawn(async move {
            work.await;
            (T::NAME, Ok(()))
        });
    }
}

/// The sessions in the words of the web.
fn shown_sessions(sessions: &Sessions) -> Vec<SessionShown> {
    let shown = sessions.shown().into_iter();
    let shown = shown.map(|session| SessionShown {
        cluster: session.cluster,
        epoch: session.epoch,
        since: session.since,
        heard_at: session.heard_at,
        certificate_ends: session.certificate_ends,
        waiting: session.waiting,
        sent_to: session.standing.sent_to,
        unacknowledged: session.standing.unacknowledged,
        room: session.standing.room,
        unanswered: session.standing.unanswered,
        answered_to: session.standing.answered_to,
        observes: session.standing.observes,
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::testing::TestHub;
    use crate::web::router;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, header};
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn what_is_watched_ends_with_the_office() {
        let hub = TestHub::new().await;
        let (clear, kept) = crate::app::tokens::draw("alice", hub.app.now());
        hub.app.keep_api_token(&kept).await.unwrap();
        let office = Office::new(hub.app, Arc::default());
        let watch = Request::builder()
            .uri("/api/v1/tokens?watch=true")
            .header(header::AUTHORIZATION, format!("Bearer {}", clear.as_str()))
            .body(Body::empty());
        let asked = router(office.web()).oneshot(watch.unwrap()).await.unwrap();
        assert_eq!(asked.status(), 200);
        let told = to_bytes(asked.into_body(), 1 << 16);
        let (told, ()) = tokio::join!(told, office.close(Duration::from_secs(10)));
        assert!(told.is_ok(), "it ends as it should");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_with_an_office_in_time_is_cut_off() {
        let office = Office::new(TestHub::new().await.app, Arc::default());
        let tracker = office.tracker.clone();
        tracker.spawn(office.cut.clone().cancelled_owned());
        let begun = Instant::now();
        let within = Duration::from_millis(400);
        office.close(within).await;
        let ended = tokio::time::timeout(within, tracker.wait()).await;
        assert!(
            ended.is_ok(),
            "{} tasks outlive their office",
            tracker.len()
        );
        assert_eq!(begun.elapsed(), within);
    }
}
