//! A hub in this process: the real use cases, certificates and listener over a store in memory, with a clock that the
//! test moves.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use meridian_agent::link::{
    dial::{Connection, DialError, Dialer},
    enroll::{self, EnrollError, Facts, HubRegistrar},
    identity::Identity,
    join::JoinMaterial,
};
use meridian_hub::{
    app::{App, Settings, reign::Reign, writes::Manner},
    ca::Authority,
    clock::{Clock as _, ManualClock},
    link::{
        server,
        session::{Context, Timing},
        sessions::Sessions,
    },
    store::{Store, memory::MemoryStore},
    tasks::{
        driver::{Triggers, drive},
        liveness::Liveness,
    },
    tls::{self, LinkTls, LiveCertificate, PeerAddress},
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A hub that serves until it is dropped.
pub(super) struct Hub {
    pub(super) app: Arc<App>,
    pub(super) clock: ManualClock,
    pub(super) address: String,
    stop: CancellationToken,
    _ca_dir: tempfile::TempDir,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Hub {
    /// Starts a hub with a root of its own on a free port.
    pub(super) async fn start() -> Self {
        Self::start_as("127.0.0.1").await
    }

    /// As [`Hub::start`]; its certificate is for this name as well.
    pub(super) async fn start_as(name: &str) -> Self {
        // Other tests of this process may have installed it before; which of them did does not matter.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let ca_dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::now());
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let trust_domain = "meridian.local".parse().unwrap();
        let (ca, origin) =
            Authority::open(&ca_dir.path().join("ca"), trust_domain, clock.now()).unwrap();
        let reign = Reign::begin(store.as_ref(), &ca, origin, clock.now())
            .await
            .unwrap();
        let settings = Settings {
            audit_kept: 20_000,
            link_addresses: vec![address.clone()],
            web_address: "127.0.0.1:8443".to_owned(),
            approve_clusters: false,
            ca_margin: meridian_hub::domain::trust::MARGIN,
            names: ["127.0.0.1"].map(str::to_owned).to_vec(),
        };
        let app = Arc::new(App::new(
            store,
            Arc::new(ca),
            Arc::new(clock.clone()),
            settings,
            reign,
        ));
        let names = ["127.0.0.1".to_owned(), name.to_owned()];
        let certificate =
            LiveCertificate::new(app.ca().issue_server(&names, app.now()).unwrap()).unwrap();
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let config = LinkTls::new(
            certificate,
            Arc::clone(app.authority()),
            Arc::clone(app.clock()),
        )
        .unwrap();
        let listener = tls::listen_link(tcp, config, &tracker, stop.clone());
        let context = Context {
            app: Arc::clone(&app),
            sessions: Sessions::default(),
            timing: Timing::default(),
            stop: stop.clone(),
            cut: CancellationToken::new(),
        };
        watch_revocations(&context);
        let service =
            server::router(context, tracker).into_make_service_with_connect_info::<PeerAddress>();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            axum::serve(listener, service)
                .with_graceful_shutdown(stopped)
                .await
        });
        Self {
            app,
            clock,
            address,
            stop,
            _ca_dir: ca_dir,
        }
    }

    /// Join material for a cluster of this name, good for ten minutes.
    pub(super) async fn material(&self, name: &str) -> JoinMaterial {
        self.material_with(name, false).await
    }

    /// As [`Hub::material`]; perhaps a person must approve whoever uses it.
    pub(super) async fn material_with(&self, name: &str, require_approval: bool) -> JoinMaterial {
        let (life, manner) = (SignedDuration::from_mins(10), Manner::default());
        let made = self
            .app
            .create_join_token(name, life, require_approval, &manner)
            .await
            .unwrap();
        JoinMaterial {
            addresses: vec![self.address.parse().unwrap()],
            ca_pem: made.ca_pem,
            token: made.token.to_string(),
            name: name.to_owned(),
        }
    }
}

/// Ends the sessions of those who are let in no more, as a hub that leads does.
fn watch_revocations(context: &Context) {
    let liveness = Liveness {
        app: Arc::clone(&context.app),
        sessions: context.sessions.clone(),
        started: Instant::now(),
        grace: context.timing.idle,
    };
    let triggers = Triggers {
        every: context.timing.beat,
        prefixes: Liveness::prefixes(),
        awaited: Vec::new(),
    };
    let (store, stop) = (Arc::clone(context.app.store()), context.stop.clone());
    tokio::spawn(drive(liveness, triggers, store, Arc::default(), stop));
}

/// Why a cluster did not join.
#[derive(Debug)]
pub(super) enum Refused {
    Dial(DialError),
    Enroll(EnrollError),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::Enroll(error) => error.fmt(f),
        }
    }
}

/// Joins as the agent does, from join material alone.
pub(super) async fn join(
    identity: &mut Identity,
    material: &JoinMaterial,
    cluster_uid: &str,
) -> Result<(), Refused> {
    let dialer = Dialer {
        addresses: material.addresses.clone(),
        roots_pem: material.ca_pem.clone(),
        ..Dialer::default()
    };
    let Connection { channel, .. } = dialer.connect(None, || 0.5).await.map_err(Refused::Dial)?;
    let mut registrar = HubRegistrar::new(channel);
    enroll::join(&mut registrar, identity, material, &facts(cluster_uid))
        .await
        .map(|_hub_clock| ())
        .map_err(Refused::Enroll)
}

/// What an agent says of itself.
pub(super) fn facts(cluster_uid: &str) -> Facts {
    Facts {
        kube_system_uid: cluster_uid.to_owned(),
        agent_version: "test".to_owned(),
        wall_ms: 0,
    }
}
