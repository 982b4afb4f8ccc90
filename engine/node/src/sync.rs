//! The child of PID 1: learns the topology, replicates, serves other regions, exports metrics. It may end at any moment.
//!
//! An [`authority`] feeds the [`node`], which proposes to PID 1 and runs what PID 1 accepted: per shard a [`shard`] watch, a driver
//! of its [`roles`] and a [`durable`] clock reporter, per other region a [`link`]; one [`endpoint`] for other regions and one
//! ([`internal`]) for the other nodes of the cluster.

mod alive;
mod api;
mod authority;
pub mod certificates;
pub mod control;
pub mod directory;
mod durable;
mod endpoint;
mod entry;
mod exit;
pub mod exporter;
mod forward;
mod https;
mod internal;
mod kubernetes;
mod link;
mod node;
mod observed;
mod pauses;
mod proto;
mod report;
mod roles;
mod settings;
mod shard;
mod sni;
mod tls;
pub mod topology;
mod users;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meridian_api::certificates::Role;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::atomic_file::FileError;
use crate::desired::{Access, Password};
use crate::layout::Layout;
use crate::pid1::Source;
use crate::sacrifice;
use authority::Authority;
use certificates::Own;
use endpoint::Endpoint;
use internal::Members;
use link::Security;
use node::{Cluster, Node};
use observed::Observed;
use settings::{Settings, SettingsError};

/// What `--insecure` prints, and status shows.
pub const INSECURE_WARNING: &str = "\
WARNING: --insecure: replication is plain text, and whoever reaches the sync port can read every write and claim to be any \
region. For a laptop only; use --certs (see `meridian-node certs`) for anything else.";

/// How often the files of certificates are looked at. Kubernetes changes mounted Secrets about once a minute.
const CERTIFICATES_LOOK: Duration = Duration::from_secs(5);

/// Why the child ended.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// It does not know who it is.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A listener could not be opened.
    #[error("listen on {address} for {purpose}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What for.
        purpose: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// The socket for people.
    #[error(transparent)]
    Control(#[from] control::ControlError),
    /// Signals cannot be received.
    #[error("install signal handlers")]
    Signals(#[source] std::io::Error),
    /// The process could not be prepared.
    #[error("prepare the process")]
    Prepare(#[source] std::io::Error),
    /// There is no way to the Kubernetes API.
    #[error("reach the Kubernetes API")]
    Kubernetes(#[from] kubernetes::KubernetesError),
    /// An essential part ended by itself.
    #[error("{0} ended by itself")]
    Ended(&'static str),
}

/// Before any thread: the crypto provider, and to be told when PID 1 dies.
///
/// # Errors
/// [`SyncError::Prepare`] if the system refuses.
pub fn prepare_child() -> Result<(), SyncError> {
    // Fails only if one is installed already, which is what we want.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    sacrifice::offer();
    let signal = Some(rustix::process::Signal::TERM);
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|e| SyncError::Prepare(e.into()))
}

/// Where topologies come from and reports go.
enum Origin {
    /// The own file: nobody else is told anything.
    Standalone(Layout),
    Kubernetes(Arc<kubernetes::Kubernetes>),
    Directory(Arc<directory::Directory>),
}

impl Origin {
    async fn open(layout: &Layout, source: Source, settings: &Settings) -> Result<Self, SyncError> {
        Ok(match source {
            Source::Standalone => Self::Standalone(layout.clone()),
            Source::Kubernetes => Self::Kubernetes(kubernetes::Kubernetes::new(settings).await?),
            Source::Directory => {
                let file = settings::directory_file(layout)?;
                Self::Directory(directory::Directory::new(&file.directory, &file.node))
            }
        })
    }

    fn authority(&self) -> Option<Arc<dyn Authority>> {
        match self {
            Self::Standalone(_) => None,
            Self::Kubernetes(kubernetes) => Some(Arc::clone(kubernetes) as Arc<dyn Authority>),
            Self::Directory(directory) => Some(Arc::clone(directory) as Arc<dyn Authority>),
        }
    }

    async fn learn(self, node: Arc<Node>, observed: Arc<Observed>) -> Result<(), SyncError> {
        match self {
            Self::Standalone(layout) => standalone(node, layout).await,
            Self::Kubernetes(kubernetes) => kubernetes::learn(node, kubernetes, observed).await,
            Self::Directory(directory) => directory::learn(node, directory).await,
        }
    }
}

/// Runs until a signal. `internal` is the directory of the Secret that the nodes of a cluster share.
///
/// # Errors
/// [`SyncError`] if it cannot start, or if an essential part ends; PID 1 then starts it again.
pub async fn run(layout: Layout, source: Source, internal: &Path) -> Result<(), SyncError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SyncError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SyncError::Signals)?;
    let settings = Settings::load(&layout, source, internal)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let origin = Origin::open(&layout, source, &settings).await?;
    let own = Own::new(layout.certificates());
    let observed = Arc::new(Observed::default());
    if let Origin::Kubernetes(kubernetes) = &origin {
        follow_secrets(kubernetes, &own, &observed, &tasks, &stop);
    }
    // Before anything is obeyed: while another process has this address, it answers for this node, with what it obeys.
    let inside = match &settings.internal {
        Some(internal) => Some(bind(internal.listen, "the other nodes").await?),
        None => None,
    };
    let node = Node::new(
        layout.clone(),
        settings.clone(),
        cluster(&settings, origin.authority(), &own),
        tasks.clone(),
        stop.clone(),
    )?;
    // First of all what was followed before: shards are served and replicated while nobody can be asked.
    node.resume().await;
    tasks.spawn(alive::run(layout.supervisor_socket(), stop.clone()));
    let control = control::serve(&layout.control_socket(), node.clone())?;
    let mut serving = tokio::spawn(outward(node.clone(), settings.clone(), stop.clone()));
    let mut answering = tokio::spawn(inward(
        node.clone(),
        settings.clone(),
        inside,
        Arc::clone(&own),
        stop.clone(),
    ));
    if let Some(address) = settings.metrics_listen {
        let listener = bind(address, "metrics").await?;
        let pages = exporter::router(node.clone(), Arc::clone(&observed));
        // A region on one machine has no certificates to show.
        let shown = (source == Source::Kubernetes).then(|| Arc::clone(&own));
        measured(listener, pages, shown, &tasks, stop.clone());
    }
    for_people(&settings, &own, &observed, &tasks, &stop).await?;
    for certificates in all_certificates(&settings) {
        tasks.spawn(follow_certificates(certificates, stop.clone()));
    }
    let reporting = origin.authority().map(|authority| {
        let entries = forward::tell(Arc::clone(&authority), node.entries());
        let reports = report::run(node.clone(), authority);
        tokio::spawn(async { tokio::join!(reports, entries) })
    });
    let mut learning = tokio::spawn(origin.learn(node.clone(), observed));
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut serving => part_ended(ended, "the sync endpoint"),
        ended = &mut answering => part_ended(ended, "the answers to other nodes"),
        ended = &mut learning => part_ended(ended, "the source of topologies"),
    };
    stop.cancel();
    control.abort();
    learning.abort();
    if let Some(reporting) = reporting {
        reporting.abort();
    }
    tasks.close();
    tasks.wait().await;
    info!("the replication process has ended");
    ended
}

/// Serves the metrics, by HTTPS where there are certificates.
fn measured(
    listener: TcpListener,
    pages: axum::Router,
    own: Option<Arc<Own>>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) {
    match own {
        Some(own) => tasks.spawn(https::serve(listener, own, Role::Metrics, pages, stop)),
        None => tasks.spawn(exporter::serve(listener, pages, stop)),
    };
}

/// Keeps up with the Secrets that the agent makes for this node's listeners.
fn follow_secrets(
    kubernetes: &Arc<kubernetes::Kubernetes>,
    own: &Arc<Own>,
    observed: &Arc<Observed>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let (own, observed) = (Arc::clone(own), Arc::clone(observed));
    tasks.spawn(kubernetes::follow_secret(
        Arc::clone(kubernetes),
        "tls",
        move |secret| own.apply(secret),
        stop.clone(),
    ));
    tasks.spawn(kubernetes::follow_secret(
        Arc::clone(kubernetes),
        "api",
        move |secret| observed.secret(secret),
        stop.clone(),
    ));
}

/// Serves the API and the status page, where there is a cluster to show.
async fn for_people(
    settings: &Settings,
    own: &Arc<Own>,
    observed: &Arc<Observed>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), SyncError> {
    let Some((api, page)) = settings.people_listen else {
        return Ok(());
    };
    let source = api::Source::new(
        Arc::clone(observed),
        &settings.cluster,
        &settings.namespace,
        Arc::clone(&settings.host),
    );
    let parts = [
        (api, "the API", Role::Api, api::api(source.clone())),
        (page, "the status page", Role::Cm, api::page(source)),
    ];
    for (address, purpose, role, router) in parts {
        let listener = bind(address, purpose).await?;
        tasks.spawn(https::serve(
            listener,
            Arc::clone(own),
            role,
            router,
            stop.clone(),
        ));
    }
    Ok(())
}

fn part_ended(
    ended: Result<Result<(), SyncError>, tokio::task::JoinError>,
    part: &'static str,
) -> Result<(), SyncError> {
    match ended {
        Ok(Ok(())) | Err(_) => Err(SyncError::Ended(part)),
        Ok(Err(error)) => Err(error),
    }
}

/// How they know each other when one follows the other.
fn following(internal: &settings::Internal, own: &Arc<Own>) -> tls::Between {
    let shared = Arc::clone(&internal.certificates);
    tls::Between::new(shared, Arc::clone(own), Role::DpInternode)
}

/// How the nodes of a cluster know each other when they ask and answer.
fn asking(internal: &settings::Internal, own: &Arc<Own>) -> tls::Between {
    let shared = Arc::clone(&internal.certificates);
    tls::Between::new(shared, Arc::clone(own), Role::CpInternode)
}

fn cluster(
    settings: &Settings,
    authority: Option<Arc<dyn Authority>>,
    own: &Arc<Own>,
) -> Option<Cluster> {
    let internal = settings.internal.clone()?;
    let asking = asking(&internal, own);
    Some(Cluster {
        node: settings.node.clone(),
        internal: internal.directory.clone(),
        following: exit::Following {
            between: following(&internal, own),
            server_name: internal.server_name.clone(),
        },
        members: Members::new(internal, asking, Arc::clone(&settings.host)),
        authority: authority?,
    })
}

/// Serves other regions.
async fn outward(
    node: Arc<Node>,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), SyncError> {
    let listener = bind(settings.sync_listen, "other regions").await?;
    let endpoint = Endpoint {
        table: node.table(),
        security: settings.security.clone(),
        pod_address: settings.pod_address(),
    };
    endpoint
        .serve(listener, stop)
        .await
        .map_err(|_broken| SyncError::Ended("the sync endpoint"))
}

/// Serves the other nodes of the cluster, if there are any.
async fn inward(
    node: Arc<Node>,
    settings: Settings,
    listener: Option<TcpListener>,
    own: Arc<Own>,
    stop: CancellationToken,
) -> Result<(), SyncError> {
    let (Some(listener), Some(internal)) = (listener, settings.internal) else {
        stop.cancelled().await;
        return Ok(());
    };
    let asking = asking(&internal, &own);
    internal::serve(listener, asking, node, stop)
        .await
        .map_err(|_broken| SyncError::Ended("the answers to other nodes"))
}

fn all_certificates(settings: &Settings) -> Vec<Arc<tls::Certificates>> {
    let outward = match &settings.security {
        Security::Tls(certificates) => Some(Arc::clone(certificates)),
        Security::Insecure => None,
    };
    let inward = settings.internal.as_ref().map(|i| &i.certificates);
    outward.into_iter().chain(inward.cloned()).collect()
}

async fn bind(
    address: std::net::SocketAddr,
    purpose: &'static str,
) -> Result<TcpListener, SyncError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| SyncError::Listen {
            address,
            purpose,
            source,
        })
}

/// How often a standalone region makes sure that PID 1 has heard.
const REPEAT: Duration = Duration::from_secs(5);

/// A standalone region learns its topology once; then it only keeps telling PID 1, should that have missed it.
async fn standalone(node: Arc<Node>, layout: Layout) -> Result<(), SyncError> {
    let file = settings::standalone_file(&layout)?;
    let open = Access::only(Password::NoneOnLoopback);
    let access = BTreeMap::from([(file.topology.name.clone(), open)]);
    loop {
        node.follow(vec![file.topology.clone()], access.clone())
            .await;
        tokio::time::sleep(REPEAT).await;
    }
}

async fn follow_certificates(certificates: Arc<tls::Certificates>, stop: CancellationToken) {
    let mut told = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATES_LOOK) => {}
        }
        match certificates.reload() {
            Ok(true) => {
                info!("new certificates are in use");
                told = None;
            }
            Ok(false) => {}
            Err(error) => {
                let text = crate::run::chain(&error);
                if told.as_ref() != Some(&text) {
                    warn!(
                        error = text,
                        "certificates cannot be used; the earlier ones stay"
                    );
                    told = Some(text);
                }
            }
        }
    }
}
