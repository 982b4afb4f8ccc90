//! The child of PID 1: learns the topology, replicates, serves other regions, exports metrics. It may end at any moment.
//!
//! Sources of the topology ([`source`]) feed the [`node`], which proposes to PID 1 and runs what PID 1 accepted: per shard a
//! [`shard`] watch and a [`durable`] clock reporter, per other region a [`link`]; one [`endpoint`] for all.

pub mod control;
mod durable;
mod endpoint;
mod exporter;
mod kubernetes;
mod link;
mod node;
mod pauses;
mod proto;
mod report;
mod settings;
mod shard;
mod sni;
mod tls;
pub mod topology;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::atomic_file::FileError;
use crate::layout::Layout;
use crate::pid1::Source;
use endpoint::Endpoint;
use link::Security;
use node::Node;
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
    let signal = Some(rustix::process::Signal::TERM);
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|e| SyncError::Prepare(e.into()))
}

/// Runs until a signal.
///
/// # Errors
/// [`SyncError`] if it cannot start, or if an essential part ends; PID 1 then starts it again.
pub async fn run(layout: Layout, source: Source) -> Result<(), SyncError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SyncError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SyncError::Signals)?;
    let settings = Settings::load(&layout, source)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let node = Node::new(
        layout.clone(),
        settings.clone(),
        tasks.clone(),
        stop.clone(),
    )?;
    // First of all what was followed before: shards are served and replicated while nobody can be asked.
    node.resume().await;
    let control = control::serve(&layout.control_socket(), node.clone())?;
    let endpoint = Endpoint {
        table: node.table(),
        security: settings.security.clone(),
        pod_address: settings.pod_address(),
    };
    let listener = bind(settings.sync_listen, "other regions").await?;
    let mut serving = tokio::spawn(endpoint.serve(listener, stop.clone()));
    if let Some(address) = settings.metrics_listen {
        tasks.spawn(exporter::serve(
            bind(address, "metrics").await?,
            node.clone(),
            stop.clone(),
        ));
    }
    if let Security::Tls(certificates) = &settings.security {
        tasks.spawn(follow_certificates(Arc::clone(certificates), stop.clone()));
    }
    let mut learning = match source {
        Source::Standalone => tokio::spawn(standalone(node.clone(), layout)),
        Source::Kubernetes => tokio::spawn(kubernetes::run(node.clone(), settings, stop.clone())),
    };
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ended = &mut serving => Err(SyncError::Ended("the sync endpoint")),
        ended = &mut learning => match ended {
            Ok(Ok(())) | Err(_) => Err(SyncError::Ended("the source of topologies")),
            Ok(Err(error)) => Err(error),
        },
    };
    stop.cancel();
    control.abort();
    learning.abort();
    tasks.close();
    tasks.wait().await;
    info!("the replication process has ended");
    ended
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
    let passwords: BTreeMap<_, _> = [(
        file.topology.name.clone(),
        crate::desired::Password::NoneOnLoopback,
    )]
    .into();
    loop {
        node.follow(vec![file.topology.clone()], passwords.clone())
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
