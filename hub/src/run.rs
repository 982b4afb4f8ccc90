//! The composition root: opens the state, serves, and ends when told to or when a part ends by itself. A hub on a file is
//! the leader as long as it runs; one on etcd is a replica that may lead.

mod identity;
mod office;
mod process;
mod renewal;
mod replica;
mod restore;
mod shown;
mod sign_in;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use crate::app::reign::Reign;
use crate::app::trust::trusted;
use crate::app::{App, Settings, tokens};
use crate::args::{Command, Etcd, Init, LogFormat, Serve};
use crate::ca::{self, Authority, Origin, root};
use crate::clock::{Clock as _, SystemClock};
use crate::logging::Logging;
use crate::store::etcd::{EtcdSettings, EtcdStore};
use crate::store::redb::RedbStore;
use crate::store::{Store, StoreError};
use crate::web::limits::Limits;
use identity::{FIRST_ADMIN, FIRST_TOKEN, Identity};
use process::{LinkPort, Process, names};
use replica::Replica;

/// Does what the command line says.
///
/// # Errors
/// If it cannot be done.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(settings) => serve(*settings).await,
        Command::Init(settings) => init(&settings),
        Command::NextRoot(settings) => next_root(&settings),
        Command::Restore(settings) => restore::restore(*settings).await,
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If the state cannot be opened, an address cannot be bound, or a part ends by itself.
async fn serve(args: Serve) -> anyhow::Result<()> {
    let inside = shown::inside(&args)?;
    let Serve {
        data_dir,
        ca_dir,
        web_listen,
        link_listen,
        advertise_link,
        advertise_web,
        replica_web,
        trust_domain,
        audit_keep,
        limit_requests,
        limit_refusals,
        approve_clusters,
        ca_margin,
        etcd,
        oidc,
        ..
    } = args;
    // Fails only if somebody installed one before, and nobody does.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let web_address = advertise_web.unwrap_or_else(|| {
        let host = process::host(advertise_link.first().map_or("", String::as_str));
        format!("{host}:{}", web_listen.port())
    });
    let replica_web = replica_web.unwrap_or_else(|| web_address.clone());
    // Before a term begins, as everything that may be wrong with the settings.
    let door = sign_in::open(oidc, &web_address).await?;
    let settings = Settings {
        names: names(&advertise_link, &web_address, &replica_web),
        audit_kept: audit_keep,
        link_addresses: advertise_link,
        web_address,
        approve_clusters,
        ca_margin,
    };
    // Before a term begins: who cannot serve must not end the hub that does.
    let web = process::bind(web_listen)
        .and_then(|socket| socket.listen(process::BACKLOG))
        .with_context(|| format!("could not listen on {web_listen} (--web-listen)"))?;
    let link = LinkPort::reserve(link_listen)
        .with_context(|| format!("could not listen on {link_listen} (--link-listen)"))?;
    root::make_private_dir(&data_dir)?;
    // The store first, then the authority: one that is older than its store means that the store was lost.
    let state = State::open(&data_dir, etcd).await?;
    let mut identity =
        Identity::open(state.store(), &data_dir, ca_dir, &trust_domain, settings).await?;
    if matches!(state, State::Etcd(_)) {
        identity = identity.of_a_replica()?;
    }
    let names = identity.settings.names.clone();
    let limits = Arc::new(Limits::new(limit_requests, limit_refusals));
    let shown = door.as_ref().map(|door| Arc::clone(&door.sign_in));
    let mut process = Process::start(
        Arc::clone(&identity.ca),
        names,
        web,
        (limits, shown, inside),
    )?;
    if let Some(sign_in::Door { roles, file, .. }) = door {
        identity.roles = Arc::clone(&roles);
        process.run_beside("the roles of groups", roles.follow(file));
    }
    match state {
        State::File(store) => alone(identity, store, process, link).await,
        State::Etcd(store) => {
            trusted(store.as_ref(), &identity.ca).await?;
            Replica::new(identity, store, process, link, replica_web)
                .run()
                .await
        }
    }
}

/// Makes what all replicas of a hub share: the certificate authority and the token of the first administrator.
///
/// # Errors
/// If a file is there already or cannot be written.
fn init(args: &Init) -> anyhow::Result<()> {
    let Init {
        ca_dir,
        trust_domain,
    } = args;
    start_log(LogFormat::Text, "info")?;
    let token = ca_dir.join(FIRST_TOKEN);
    let now = SystemClock.now();
    ensure!(
        !token.exists(),
        "{} exists: found an authority that was made before, expected an empty directory",
        token.display()
    );
    let (ca, origin) = Authority::open(ca_dir, trust_domain.parse()?, now)?;
    ensure!(
        origin == Origin::Created,
        "{} holds an authority that was made before, expected an empty directory",
        ca_dir.display()
    );
    let (clear, _) = tokens::draw(FIRST_ADMIN, now);
    root::write_file(&token, clear.as_bytes(), 0o600)?;
    let fingerprint = ca.fingerprint();
    tracing::info!(dir = %ca_dir.display(), fingerprint, "made a certificate authority and the first administrator's token");
    Ok(())
}

/// Makes a root that is to take over from the present one, for replicas that share their authority.
///
/// # Errors
/// If the directory holds no authority, or a file cannot be written.
fn next_root(args: &Init) -> anyhow::Result<()> {
    let Init {
        ca_dir,
        trust_domain,
    } = args;
    start_log(LogFormat::Text, "info")?;
    let root = ca::next_root(ca_dir, &trust_domain.parse()?, SystemClock.now())?;
    tracing::info!(dir = %ca_dir.display(), fingerprint = root.fingerprint, "made a root; give its files to every replica, then `meridian ca rotate`");
    Ok(())
}

fn start_log(format: LogFormat, filter: &str) -> anyhow::Result<Logging> {
    let (logging, subscriber) = Logging::new(filter, format == LogFormat::Json)
        .with_context(|| format!("--log {filter:?} is no filter"))?;
    tracing::subscriber::set_global_default(subscriber).context("the log was started before")?;
    Ok(logging)
}

/// A hub on a file leads from its start to its end.
async fn alone(
    identity: Identity,
    store: Arc<dyn Store>,
    process: Process,
    mut link: LinkPort,
) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let reign = Reign::begin(store.as_ref(), &identity.ca, identity.origin, now).await?;
    let first = identity.first_token(store.as_ref()).await?;
    let app = identity.app(store, reign);
    if let Some(first) = first {
        app.keep_api_token(&first.kept).await?;
    }
    let office = process.open_office(Arc::new(app), &mut link)?;
    process.serve_alone(office).await
}

/// Where the state is kept.
enum State {
    File(Arc<dyn Store>),
    Etcd(Arc<EtcdStore>),
}

impl State {
    /// The state is in etcd where the command line says so, and otherwise in a file.
    async fn open(data_dir: &Path, etcd: Etcd) -> anyhow::Result<Self> {
        if let Some(settings) = EtcdSettings::of(etcd)? {
            let store = EtcdStore::open(&settings).await?;
            tracing::info!(endpoints = ?settings.endpoints, root = settings.root, "the state is in etcd");
            return Ok(Self::Etcd(Arc::new(store)));
        }
        let path = data_dir.join("hub.redb");
        let store =
            RedbStore::open(&path).with_context(|| format!("could not open {}", path.display()))?;
        Ok(Self::File(Arc::new(store)))
    }

    fn store(&self) -> &dyn Store {
        match self {
            Self::File(store) => store.as_ref(),
            Self::Etcd(store) => store.as_ref(),
        }
    }
}

/// Says loudly why a hub that has begun to lead does not decide.
async fn tell_doubts(app: Arc<App>) -> Result<(), StoreError> {
    for (by, doubt) in app.doubts().await? {
        tracing::error!(
            raised_by = by,
            reason = doubt.reason,
            "the hub only observes until a person lets it go on"
        );
    }
    Ok(())
}
