//! The composition root: opens the state, starts both servers and the tasks, and ends when told to or when one of them
//! ends by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use crate::app::reign::Reign;
use crate::app::{App, Settings};
use crate::args::{Etcd, LogFormat, Serve};
use crate::ca::{Authority, SERVER_LIFE, root};
use crate::clock::{Clock, SystemClock};
use crate::link::server;
use crate::link::session::{Context, Timing};
use crate::link::sessions::Sessions;
use crate::metrics::Metrics;
use crate::store::etcd::{EtcdSettings, EtcdStore};
use crate::store::redb::RedbStore;
use crate::store::{Store, keys, records};
use crate::tasks::driver::{Triggers, drive};
use crate::tasks::liveness::Liveness;
use crate::tasks::plan::{self, Planning};
use crate::tasks::{Task, deliver, tenure};
use crate::tls::{self, LiveCertificate, PeerAddress, TlsListener};
use crate::web::{self, ConnectedCount, WebState};

/// Holder of the token that the first start writes.
const FIRST_ADMIN: &str = "admin";
/// How long work may go on after the hub was told to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If the state cannot be opened, an address cannot be bound, or a part ends by itself.
pub async fn serve(args: Serve) -> anyhow::Result<()> {
    let Serve {
        data_dir,
        web_listen,
        link_listen,
        advertise_link,
        advertise_web,
        trust_domain,
        etcd,
        log_format,
        log,
    } = args;
    start_log(log_format, &log)?;
    // Fails only if somebody installed one before, and nobody does.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let web_address =
        advertise_web.unwrap_or_else(|| format!("{}:{}", host(&advertise_link), web_listen.port()));
    let settings = Settings {
        link_addresses: advertise_link,
        web_address,
    };
    // Before a term begins: who cannot serve must not end the hub that does.
    let web = TcpListener::bind(web_listen)
        .await
        .with_context(|| format!("could not listen on {web_listen} (--web-listen)"))?;
    let link = TcpListener::bind(link_listen)
        .await
        .with_context(|| format!("could not listen on {link_listen} (--link-listen)"))?;
    let app = open(&data_dir, etcd, &trust_domain, settings).await?;
    let certificate = LiveCertificate::new(app.ca().issue_server(&names(&app), app.now())?)?;
    let hub = Hub::new(Arc::new(app), certificate);
    hub.run(web, link).await
}

fn start_log(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?} is no filter"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// Opens store and authority, in this order: an authority that is older than its store means that the store was lost.
async fn open(
    data_dir: &Path,
    etcd: Etcd,
    trust_domain: &str,
    settings: Settings,
) -> anyhow::Result<App> {
    let clock = SystemClock;
    let ca_dir = data_dir.join("ca");
    root::make_private_dir(data_dir)?;
    let store = open_store(data_dir, etcd).await?;
    let (ca, origin) = Authority::open(&ca_dir, trust_domain.parse()?, clock.now())?;
    let reign = Reign::begin(store.as_ref(), origin, clock.now()).await?;
    tracing::info!(store = %reign.store_id, term = %reign.term, incarnation = %reign.incarnation, "a new term begins");
    let app = App::new(store, Arc::new(ca), Arc::new(clock), settings, reign);
    for (by, doubt) in app.doubts().await? {
        tracing::error!(
            raised_by = by,
            reason = doubt.reason,
            "the hub only observes until a person lets it go on"
        );
    }
    write_first_token(&app, &data_dir.join("admin-token")).await?;
    Ok(app)
}

/// The state is in etcd where the command line says so, and otherwise in a file.
async fn open_store(data_dir: &Path, etcd: Etcd) -> anyhow::Result<Arc<dyn Store>> {
    if let Some(settings) = EtcdSettings::of(etcd)? {
        let store = EtcdStore::open(&settings).await?;
        tracing::info!(endpoints = ?settings.endpoints, root = settings.root, "the state is in etcd");
        return Ok(Arc::new(store));
    }
    let path = data_dir.join("hub.redb");
    let store =
        RedbStore::open(&path).with_context(|| format!("could not open {}", path.display()))?;
    Ok(Arc::new(store))
}

/// Makes the first administrator's token and writes it to a file that only the owner reads. The file is written before
/// the token is stored, so a start that ends in between is repeated and locks nobody out. A token that is there already
/// is taken into a new store: who could administer the hub before its store was lost can do so afterwards, and also once
/// the old store is put back.
async fn write_first_token(app: &App, path: &Path) -> anyhow::Result<()> {
    if !records::list(app.store().as_ref(), &keys::users())
        .await?
        .value
        .is_empty()
    {
        return Ok(());
    }
    let there = std::fs::read_to_string(path).ok();
    if let Some(kept) = there.and_then(|clear| app.read_api_token(&clear, FIRST_ADMIN)) {
        app.keep_api_token(&kept).await?;
        tracing::info!(path = %path.display(), "the administrator's token of an earlier store is taken over");
        return Ok(());
    }
    let (clear, kept) = app.draw_api_token(FIRST_ADMIN);
    root::write_file(path, clear.as_bytes(), 0o600)?;
    app.keep_api_token(&kept).await?;
    tracing::info!(path = %path.display(), "the first administrator's token was written");
    Ok(())
}

fn host(addresses: &[String]) -> String {
    let first = addresses.first().map(String::as_str).unwrap_or_default();
    first
        .rsplit_once(':')
        .map_or(first, |(host, _)| host)
        .trim_matches(['[', ']'])
        .to_owned()
}

/// Names in the server certificate: what is advertised, and this machine's own.
fn names(app: &App) -> Vec<String> {
    let settings = app.settings();
    let advertised = settings
        .link_addresses
        .iter()
        .chain([&settings.web_address]);
    let mut names: Vec<_> = advertised
        .map(|address| host(std::slice::from_ref(address)))
        .collect();
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

/// Everything that runs.
struct Hub {
    app: Arc<App>,
    certificate: Arc<LiveCertificate>,
    sessions: Sessions,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// What runs, by name.
type Parts = JoinSet<(&'static str, anyhow::Result<()>)>;

impl Hub {
    fn new(app: Arc<App>, certificate: Arc<LiveCertificate>) -> Self {
        Self {
            app,
            certificate,
            sessions: Sessions::default(),
            metrics: Arc::default(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }
    }

    async fn run(self, web: TcpListener, link: TcpListener) -> anyhow::Result<()> {
        let mut parts = JoinSet::new();
        self.start_servers(&mut parts, web, link)?;
        self.start_tasks(&mut parts);
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let ended = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = parts.join_next() => ended,
        };
        tracing::info!("the hub stops");
        self.stop.cancel();
        self.tracker.close();
        let farewell = async {
            self.tracker.wait().await;
            while parts.join_next().await.is_some() {}
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!(
                tasks = self.tracker.len(),
                parts = parts.len(),
                "work did not end in time and is cut off"
            );
        }
        match ended {
            None => Ok(()),
            Some(Ok((name, Err(error)))) => Err(error.context(format!("{name} failed"))),
            Some(Ok((name, Ok(())))) => bail!("{name} ended by itself"),
            Some(Err(error)) => Err(error).context("a part of the hub panicked"),
        }
    }

    fn start_servers(
        &self,
        parts: &mut Parts,
        web: TcpListener,
        link: TcpListener,
    ) -> anyhow::Result<()> {
        let timing = Timing::default();
        let (app, sessions, stop) = (
            Arc::clone(&self.app),
            self.sessions.clone(),
            self.stop.clone(),
        );
        let (web_address, link_address) = (web.local_addr()?, link.local_addr()?);
        let context = Context {
            app: Arc::clone(&app),
            sessions: sessions.clone(),
            timing,
            stop,
        };
        let link_tls = tls::link_config(Arc::clone(&self.certificate), app.ca().root())?;
        let web_tls = tls::web_config(Arc::clone(&self.certificate))?;
        let link = TlsListener::start(link, link_tls, &self.tracker, self.stop.clone())?;
        let web = TlsListener::start(web, web_tls, &self.tracker, self.stop.clone())?;
        let connected = ConnectedCount(Arc::new(move || sessions.connected().len()));
        let state = WebState {
            app,
            metrics: Arc::clone(&self.metrics),
            connected,
        };
        let link_router = server::router(context, self.tracker.clone());
        self.serve_on(parts, "the link", link, link_router);
        self.serve_on(parts, "the web API", web, web::router(state));
        tracing::info!(web = %web_address, link = %link_address, "serving");
        Ok(())
    }

    fn serve_on(
        &self,
        parts: &mut Parts,
        name: &'static str,
        listener: TlsListener,
        router: axum::Router,
    ) {
        let stop = self.stop.clone();
        let service: IntoMakeServiceWithConnectInfo<axum::Router, PeerAddress> =
            router.into_make_service_with_connect_info();
        parts.spawn(async move {
            let served = axum::serve(listener, service)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await;
            (name, served.map_err(Into::into))
        });
    }

    fn start_tasks(&self, parts: &mut Parts) {
        let store = || Arc::clone(self.app.store());
        let planning = Planning {
            app: Arc::clone(&self.app),
        };
        self.start_task(
            parts,
            planning,
            Triggers {
                every: Duration::from_secs(30),
                prefixes: plan::prefixes(),
            },
        );
        let timing = Timing::default();
        let (app, sessions, started) =
            (Arc::clone(&self.app), self.sessions.clone(), Instant::now());
        let liveness = Liveness {
            app,
            sessions,
            started,
            grace: timing.idle,
        };
        let prefixes = vec![keys::clusters().text().to_owned()];
        self.start_task(
            parts,
            liveness,
            Triggers {
                every: timing.beat,
                prefixes,
            },
        );
        let delivery = deliver::run(store(), self.sessions.clone(), self.stop.clone());
        parts.spawn(async move {
            delivery.await;
            ("delivery", Ok(()))
        });
        let (app, stop) = (Arc::clone(&self.app), self.stop.clone());
        parts.spawn(async move {
            let ended = tenure::ended(&app, stop).await;
            ("the reign of this hub", ended.map_err(Into::into))
        });
        let renewal = renew_certificate(
            Arc::clone(&self.app),
            Arc::clone(&self.certificate),
            self.stop.clone(),
        );
        parts.spawn(async move {
            renewal.await;
            ("the renewal of the server certificate", Ok(()))
        });
    }

    fn start_task<T: Task>(&self, parts: &mut Parts, task: T, triggers: Triggers) {
        let (store, metrics, stop) = (
            Arc::clone(self.app.store()),
            Arc::clone(&self.metrics),
            self.stop.clone(),
        );
        let work = drive(task, triggers, store, metrics, stop);
        parts.spawn(async move {
            work.await;
            (T::NAME, Ok(()))
        });
    }
}

/// Makes a new server certificate long before the old one ends. Standing connections keep theirs.
async fn renew_certificate(
    app: Arc<App>,
    certificate: Arc<LiveCertificate>,
    stop: CancellationToken,
) {
    let mut due = interval(SERVER_LIFE.unsigned_abs() / 3);
    due.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let renewed = app
            .ca()
            .issue_server(&names(&app), app.now())
            .map_err(anyhow::Error::from);
        match renewed.and_then(|identity| certificate.swap(identity).map_err(Into::into)) {
            Ok(()) => tracing::info!("the server certificate was renewed"),
            Err(error) => tracing::error!("the server certificate could not be renewed: {error:#}"),
        }
    }
}
