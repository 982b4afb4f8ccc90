//! A hub's process: the production use cases, tasks and sessions over a mounted volume, as a leader runs them.

use std::sync::{Arc, OnceLock};

use meridian_hub::{
    app::{App, Settings, reign::Reign},
    ca::{Authority, Origin},
    clock::Clock as _,
    domain::denial::Speaker,
    link::{
        session::{Context, Timing, serve},
        sessions::Sessions,
    },
    metrics::Metrics,
    store::{Store, keys},
    tasks::{
        Task,
        audit::Linking,
        deliver,
        driver::{Awaited, Triggers, drive},
        liveness::Liveness,
        plan::{self, Planning},
    },
};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    clock::Wall,
    dice::Dice,
    network::HubEnd,
    volume::{Mount, Volume},
};

/// One process. Clones are the same.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) app: Arc<App>,
    pub(crate) volume: Volume,
    pub(crate) sessions: Sessions,
    mount: Mount,
    context: Context,
    killed: CancellationToken,
    tasks: TaskTracker,
}

/// The authority that every hub of every run has: it is nothing that a seed decides.
pub(crate) fn authority() -> Arc<Authority> {
    static AUTHORITY: OnceLock<(tempfile::TempDir, Arc<Authority>)> = OnceLock::new();
    let (_, authority) = AUTHORITY.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let begun = "2026-11-01T00:00:00Z".parse().unwrap();
        let domain = "meridian.local".parse().unwrap();
        let (authority, _) = Authority::open(&dir.path().join("ca"), domain, begun).unwrap();
        (dir, Arc::new(authority))
    });
    Arc::clone(authority)
}

impl Hub {
    /// Begins a reign on the volume, and works.
    pub(crate) async fn start(volume: &Volume, origin: Origin, wall: &Wall, dice: &Dice) -> Self {
        let mount = volume.mounted(dice.fork());
        let ca = authority();
        let reign = Reign::begin(&mount, &ca, origin, wall.now()).await.unwrap();
        let settings = Settings {
            audit_kept: 200,
            link_addresses: vec!["hub:8444".to_owned()],
            web_address: "hub:8443".to_owned(),
            approve_clusters: false,
            ca_margin: meridian_hub::domain::trust::MARGIN,
            names: vec!["hub".to_owned()],
        };
        let clock = Arc::new(wall.clone());
        let app = App::new(Arc::new(mount.clone()), ca, clock, settings, reign);
        let app = Arc::new(app.with_random(Arc::new(dice.fork())));
        let sessions = Sessions::default();
        let context = Context {
            app: Arc::clone(&app),
            sessions: sessions.clone(),
            timing: Timing::default(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        let hub = Self {
            app,
            volume: volume.clone(),
            sessions,
            mount,
            context,
            killed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        hub.start_tasks();
        hub
    }

    /// Serves a connection whose other end showed this certificate.
    pub(crate) fn accept(&self, speaker: Speaker, end: HubEnd) {
        let HubEnd {
            incoming, outgoing, ..
        } = end;
        self.spawn(serve(self.context.clone(), speaker, incoming, outgoing));
    }

    /// The process ends where it stands.
    pub(crate) fn kill(&self) {
        self.killed.cancel();
    }

    /// The process ends in order.
    pub(crate) async fn end(&self) {
        self.context.stop.cancel();
        self.tasks.close();
        drop(tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await);
        self.context.cut.cancel();
        self.killed.cancel();
    }

    /// Another process has the store from now on; this one has not noticed yet.
    pub(crate) fn is_overtaken(&self) {
        self.mount.lose();
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let killed = self.killed.clone();
        self.tasks.spawn(async move {
            killed.run_until_cancelled_owned(work).await;
        });
    }

    fn start_tasks(&self) {
        let app = || Arc::clone(&self.app);
        let seconds = Duration::from_secs;
        let planning = Planning::new(app());
        let awaited = planning.awaited();
        self.start_task(planning, (seconds(30), plan::prefixes()), awaited);
        let liveness = Liveness {
            app: app(),
            sessions: self.sessions.clone(),
            started: Instant::now(),
            grace: self.context.timing.idle,
        };
        self.start_task(
            liveness,
            (self.context.timing.beat, Liveness::prefixes()),
            Vec::new(),
        );
        let news = vec![keys::audit_news().text().to_owned()];
        self.start_task(Linking { app: app() }, (seconds(30), news), Vec::new());
        let store = Arc::clone(self.app.store());
        let stop = self.context.stop.clone();
        self.spawn(deliver::run(store, self.sessions.clone(), stop));
    }

    fn start_task<T: Task>(
        &self,
        task: T,
        (every, prefixes): (Duration, Vec<String>),
        awaited: Vec<Awaited>,
    ) {
        let triggers = Triggers {
            every,
            prefixes,
            awaited,
        };
        let store: Arc<dyn Store> = Arc::clone(self.app.store());
        let stop = self.context.stop.clone();
        self.spawn(drive(
            task,
            triggers,
            store,
            Arc::new(Metrics::default()),
            stop,
        ));
    }
}
