//! The composition root: opens the state, serves, and ends when told to or when a part ends by itself. A hub on a file is
//! the leader as long as it runs; one on etcd is a replica that may lead.

mod office;
mod process;
mod replica;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::app::reign::{Reign, trusted};
use crate::app::{App, Settings, tokens};
use crate::args::{Command, Etcd, Init, LogFormat, Serve};
use crate::ca::{Authority, Origin, root};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::access::ApiToken;
use crate::store::etcd::{EtcdSettings, EtcdStore};
use crate::store::redb::RedbStore;
use crate::store::{Store, StoreError, keys, records};
use process::{LinkPort, Process, names};
use replica::Replica;

/// Holder of the token that the first start writes.
const FIRST_ADMIN: &str = "admin";
/// File of the first administrator's token, in the data directory or beside the authority that was given.
const FIRST_TOKEN: &str = "admin-token";

/// Does what the command line says.
///
/// # Errors
/// If it cannot be done.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(settings) => serve(*settings).await,
        Command::Init(settings) => init(&settings),
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If the state cannot be opened, an address cannot be bound, or a part ends by itself.
async fn serve(args: Serve) -> anyhow::Result<()> {
    let Serve {
        data_dir,
        ca_dir,
        web_listen,
        link_listen,
        advertise_link,
        advertise_web,
        replica_web,
        trust_domain,
        etcd,
        log_format,
        log,
    } = args;
    start_log(log_format, &log)?;
    // Fails only if somebody installed one before, and nobody does.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let web_address = advertise_web.unwrap_or_else(|| {
        let host = process::host(advertise_link.first().map_or("", String::as_str));
        format!("{host}:{}", web_listen.port())
    });
    let replica_web = replica_web.unwrap_or_else(|| web_address.clone());
    let settings = Settings {
        names: names(&advertise_link, &web_address, &replica_web),
        link_addresses: advertise_link,
        web_address,
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
    let identity = Identity::open(&data_dir, ca_dir, &trust_domain, settings)?;
    let names = identity.settings.names.clone();
    let process = Process::start(Arc::clone(&identity.ca), names, web)?;
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

/// A hub on a file leads from its start to its end.
async fn alone(
    identity: Identity,
    store: Arc<dyn Store>,
    process: Process,
    mut link: LinkPort,
) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let reign = Reign::begin(store.as_ref(), &identity.ca, identity.origin, now).await?;
    let kept = identity.first_token(store.as_ref()).await?;
    let app = identity.app(store, reign);
    if let Some(kept) = kept {
        app.keep_api_token(&kept).await?;
    }
    let office = process.open_office(Arc::new(app), link.listen()?)?;
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
}

/// What makes this process a hub, whether it leads or not.
struct Identity {
    ca: Arc<Authority>,
    origin: Origin,
    settings: Settings,
    /// Where the first administrator's token is looked for, and where it is written if it is nowhere.
    tokens: (Vec<PathBuf>, PathBuf),
}

impl Identity {
    fn open(
        data_dir: &Path,
        ca_dir: Option<PathBuf>,
        trust_domain: &str,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let own = data_dir.join(FIRST_TOKEN);
        let mut there = vec![own.clone()];
        let (ca, origin) = match ca_dir {
            None => Authority::open(
                &data_dir.join("ca"),
                trust_domain.parse()?,
                SystemClock.now(),
            )?,
            Some(dir) => {
                there.insert(0, dir.join(FIRST_TOKEN));
                Authority::given(&dir, trust_domain.parse()?)
                    .with_context(|| format!("no certificate authority in {} (--ca-dir); `meridian-hub init --ca-dir DIR` makes one", dir.display()))?
            }
        };
        tracing::info!(fingerprint = ca.fingerprint(), "the certificate authority");
        Ok(Self {
            ca: Arc::new(ca),
            origin,
            settings,
            tokens: (there, own),
        })
    }

    fn app(&self, store: Arc<dyn Store>, reign: Reign) -> App {
        let clock = Arc::new(SystemClock);
        let settings = self.settings.clone();
        App::new(store, Arc::clone(&self.ca), clock, settings, reign)
    }

    /// The first administrator's token, to be kept in a store that has none. It is in a file that only the owner reads
    /// before it is kept, so a start that ends in between is repeated and locks nobody out. A token that is there already
    /// is taken into a new store: who could administer the hub before its store was lost can do so afterwards, and also
    /// once the old store is put back.
    async fn first_token(&self, store: &dyn Store) -> anyhow::Result<Option<ApiToken>> {
        if !records::list(store, &keys::users()).await?.value.is_empty() {
            return Ok(None);
        }
        let now = SystemClock.now();
        let (there, own) = &self.tokens;
        for path in there {
            let clear = std::fs::read_to_string(path).map(Zeroizing::new).ok();
            if let Some(kept) = clear.and_then(|clear| tokens::read(&clear, FIRST_ADMIN, now)) {
                tracing::info!(path = %path.display(), "the first administrator's token is taken from its file");
                return Ok(Some(kept));
            }
        }
        let (clear, kept) = tokens::draw(FIRST_ADMIN, now);
        root::write_file(own, clear.as_bytes(), 0o600)?;
        tracing::info!(path = %own.display(), "the first administrator's token was written");
        Ok(Some(kept))
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
