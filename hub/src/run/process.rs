//! What runs as long as the process: the web API, whoever stands behind it, and the renewal of the server certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::office::Office;
use super::renewal::{Held, Renewal, from_authority};
use crate::app::App;
use crate::ca::Authority;
use crate::clock::{Clock as _, SystemClock};
use crate::metrics::Metrics;
use crate::sign_in::SignIn;
use crate::tls::{self, LiveCertificate, PeerAddress, TlsListener};
use crate::web::WebState;
use crate::web::front::Front;
use crate::web::inside::Inside;
use crate::web::limits::Limits;
use crate::web::watch::Watches;

/// How long work may go on after the hub was told to stop.
pub(super) const FAREWELL: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
pub(super) const BACKLOG: u32 = 1024;

/// What runs, by name.
pub(super) type Parts = JoinSet<(&'static str, anyhow::Result<()>)>;

/// The parts that every hub runs, leader or not.
pub(super) struct Process {
    pub(super) certificate: Arc<LiveCertificate>,
    pub(super) front: Arc<Front>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Arc<Limits>,
    pub(super) sign_in: Option<Arc<SignIn>>,
    pub(super) inside: Inside,
    parts: Parts,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Process {
    /// Serves the web API, behind which nobody stands yet.
    pub(super) fn start(
        ca: Arc<Authority>,
        names: Vec<String>,
        web: TcpListener,
        (limits, sign_in, inside): (Arc<Limits>, Option<Arc<SignIn>>, Inside),
    ) -> anyhow::Result<Self> {
        // Before the certificate is made: roots that change meanwhile are not missed.
        let roots = ca.changes();
        let first = ca.issue_server(&names, SystemClock.now())?;
        ca.serves(&first.signer);
        let held = Held::of(&first);
        let certificate = LiveCertificate::new(first)?;
        let mut process = Self {
            certificate,
            front: Arc::default(),
            metrics: Arc::default(),
            limits,
            sign_in,
            inside,
            parts: JoinSet::new(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        let address = web.local_addr()?;
        let config = tls::web_config(Arc::clone(&process.certificate))?;
        let stop = process.stop.clone();
        let listener = tls::listen(web, config, &process.tracker, stop.clone());
        let router = Arc::clone(&process.front).router();
        serve_on(&mut process.parts, "the web API", listener, router, stop);
        let (live, clock) = (Arc::clone(&process.certificate), Arc::new(SystemClock));
        let renewal = Renewal {
            renew: from_authority(ca, names, live, clock.clone()),
            clock,
            metrics: Arc::clone(&process.metrics),
            random: rand::random,
            roots,
        };
        let renewal = async move { match renewal.run(held).await {} };
        process.run_beside("the renewal of the server certificate", renewal);
        tracing::info!(web = %address, "serving the web API");
        Ok(process)
    }

    /// Begins to lead: the leader's web API in front, the link, and the tasks. In this order: who is let in by the link finds
    /// the leader by the web as well.
    pub(super) fn open_office(&self, app: Arc<App>, link: &mut LinkPort) -> anyhow::Result<Office> {
        let mut office = Office::new(app, Arc::clone(&self.metrics));
        let web = office.web();
        self.front.put(WebState {
            limits: Arc::clone(&self.limits),
            sign_in: self.sign_in.clone(),
            inside: Inside {
                sessions: web.inside.sessions,
                ..self.inside.clone()
            },
            ..web
        });
        office.begin(Arc::clone(&self.certificate), link.listen()?)?;
        Ok(office)
    }

    /// What a replica that follows hands on ends with the process.
    pub(super) fn watches(&self) -> Arc<Watches> {
        Arc::new(Watches::new(self.stop.clone(), self.tracker.clone()))
    }

    /// Runs a hub that leads for ever, until it is told to stop or a part ends by itself.
    pub(super) async fn serve_alone(mut self, mut office: Office) -> anyhow::Result<()> {
        let ended = tokio::select! {
            told = told_to_stop() => told,
            error = self.failed() => Err(error),
            error = office.failed() => Err(error),
        };
        tokio::join!(office.close(FAREWELL), self.close());
        ended
    }

    /// Runs work that has no end of its own until the process stops.
    pub(super) fn run_beside(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.parts.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
            (name, Ok(()))
        });
    }

    /// Waits until a part ends, which none does by itself.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        failed(&mut self.parts).await
    }

    /// Stops to serve.
    pub(super) async fn close(self) {
        tracing::info!("the hub stops");
        self.stop.cancel();
        finish(self.parts, &self.tracker, FAREWELL).await;
    }
}

/// Why a part ended; none does by itself.
pub(super) async fn failed(parts: &mut Parts) -> anyhow::Error {
    match parts.join_next().await {
        Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
        Some(Ok((name, Ok(())))) => anyhow::anyhow!("{name} ended by itself"),
        Some(Err(error)) => anyhow::Error::new(error).context("a part of the hub panicked"),
        None => std::future::pending().await,
    }
}

/// Waits until everything that was told to stop has stopped, and cuts off the parts that do not in time. Whether all has
/// stopped.
pub(super) async fn finish(mut parts: Parts, tracker: &TaskTracker, within: Duration) -> bool {
    tracker.close();
    let farewell = async {
        tracker.wait().await;
        while parts.join_next().await.is_some() {}
    };
    let ended = timeout(within, farewell).await.is_ok();
    if !ended {
        tracing::warn!(
            tasks = tracker.len(),
            parts = parts.len(),
            "work did not end in time and is cut off"
        );
    }
    ended
}

/// Serves on a listener until told to stop.
pub(super) fn serve_on(
    parts: &mut Parts,
    name: &'static str,
    listener: TlsListener,
    router: axum::Router,
    stop: CancellationToken,
) {
    let service: IntoMakeServiceWithConnectInfo<axum::Router, PeerAddress> =
        router.into_make_service_with_connect_info();
    parts.spawn(async move {
        let served = axum::serve(listener, service)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await;
        (name, served.map_err(Into::into))
    });
}

/// SIGTERM or SIGINT.
pub(super) async fn told_to_stop() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The port of the link, on which only a leader listens: whoever reaches a hub there has reached the leader, and behind a
/// balancer the others are refused at once, by the kernel.
pub(super) struct LinkPort {
    address: SocketAddr,
    reserved: Option<TcpSocket>,
}

impl LinkPort {
    /// Takes the port, so that a wrong address shows before the hub leads, and listens not yet.
    pub(super) fn reserve(address: SocketAddr) -> io::Result<Self> {
        let socket = bind(address)?;
        Ok(Self {
            address: socket.local_addr()?,
            reserved: Some(socket),
        })
    }

    /// Listens until the listener is dropped.
    pub(super) fn listen(&mut self) -> anyhow::Result<TcpListener> {
        let socket = self.reserved.take();
        let listening = socket
            .map_or_else(|| bind(self.address), Ok)
            .and_then(|socket| socket.listen(BACKLOG));
        listening.with_context(|| format!("could not listen on {} (--link-listen)", self.address))
    }
}

/// A socket of this address. It may be bound again while connections of its predecessor still end.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The host of `host:port`.
pub(super) fn host(address: &str) -> &str {
    address
        .rsplit_once(':')
        .map_or(address, |(host, _)| host)
        .trim_matches(['[', ']'])
}

/// Names in the server certificate: what is advertised, what the other replicas know, and this machine's own.
pub(super) fn names(link: &[String], web: &str, replica_web: &str) -> Vec<String> {
    let advertised = link.iter().map(String::as_str);
    let advertised = advertised.chain([web, replica_web]);
    let mut names: Vec<_> = advertised
        .map(host)
        .chain(["localhost", "127.0.0.1", "::1"])
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::testing::TestHub;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn the_web_api_is_the_leaders_before_the_link_lets_anybody_in() {
        let hub = TestHub::new().await;
        let ca = Arc::clone(hub.app.authority());
        let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let names = vec!["localhost".to_owned()];
        let process =
            Process::start(ca, names, web, (Arc::default(), None, Inside::default())).unwrap();
        let front = Arc::clone(&process.front);
        let asked = move || {
            let request = Request::get("/api/v1/hub").body(Body::empty()).unwrap();
            Arc::clone(&front).router().oneshot(request)
        };
        let nobody = asked().await.unwrap().status();
        assert_eq!(nobody, StatusCode::SERVICE_UNAVAILABLE);
        // A link that cannot be opened.
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut link = LinkPort {
            address: taken.local_addr().unwrap(),
            reserved: None,
        };
        let opened = process.open_office(hub.app, &mut link);
        assert!(opened.is_err_and(|error| error.to_string().contains("--link-listen")));
        assert_eq!(asked().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
}
