//! The composition root: puts the parts together and waits for the first that ends.
//!
//! Order of a start: probes and admission → CRDs served → leader lease → controllers, rigger and link. Everything after
//! the lease runs on the leader only. If an essential part ends, the process ends, and Kubernetes starts it again.

use std::{io::IsTerminal as _, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use kube::{Client, Config, client::ClientBuilder, config::KubeConfigOptions};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    admission::{self, Admission},
    args::{Args, Command, ProxyArgs, RunArgs},
    controllers::{self, failover::Moves},
    k8s::{
        apply::Objects,
        crds,
        drive::Report,
        events::Events,
        lacks::Lacks,
        lease::{Elector, Role},
    },
    link::{
        self, LinkConfig,
        dial::{Environment, ProxySettings},
    },
    metrics::{CountRequests, Metrics},
    namespaces::{self, Flags, Selection},
    probes::{self, Board},
    rigger,
};

/// Name of the leader lease.
const LEASE: &str = "meridian-agent";
/// How long the parts may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(8);
/// How much of it the leader may take to bring primaries that are on their way to where they go.
const FINISH_WITHIN: Duration = Duration::from_secs(4);

/// Runs the command of `args` to its end.
///
/// # Errors
/// Whatever ended the process before it was asked to stop.
pub fn main(args: Args) -> anyhow::Result<()> {
    let Args {
        command: Command::Run(args),
    } = args;
    start_log(args.log_json);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(run(args))
}

fn start_log(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.init();
    }
}

/// A part of the process, by name.
type Part = (&'static str, anyhow::Result<()>);

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs {
        namespace,
        namespaces: list,
        namespaces_label: label,
        identity,
        node_image,
        probes_listen,
        admission_listen,
        hub_proxy,
        kubeconfig,
        log_json: _,
    } = args;
    let proxy = proxy(hub_proxy)?;
    let metrics = Arc::new(Metrics::default());
    let client = connect(kubeconfig, Arc::clone(&metrics)).await?;
    let stop = CancellationToken::new();
    let board = Board::default();
    let (role, roles) = watch::channel(Role::Unknown);
    let unread = format!("the Lease `{namespace}/{LEASE}` was not read yet");
    board.bad("lease", unread);
    tracing::info!(
        namespace,
        identity,
        node_image,
        version = env!("CARGO_PKG_VERSION"),
        "agent starts"
    );

    let mut parts = JoinSet::new();
    let flags = Flags { list, label };
    let selection = select(&mut parts, &client, &namespace, flags, &stop);
    let admission = Admission {
        listen: admission_listen,
        namespace: namespace.clone(),
        board: board.clone(),
        metrics: Arc::clone(&metrics),
        roles: roles.clone(),
        selection: selection.clone(),
    };
    answer(&mut parts, probes_listen, admission, &client, &stop);
    let elector = Elector::new(Objects::new(client.clone(), &namespace), LEASE, &identity);
    let resign = CancellationToken::new();
    parts.spawn(named("leader lease", elector.run(role, resign.clone())));
    let readiness = show_role(
        roles.clone(),
        board.clone(),
        Arc::clone(&metrics),
        stop.clone(),
    );
    parts.spawn(named("readiness", readiness));
    parts.spawn(named("signals", signals(stop.clone())));
    let stop_work = stop.clone();
    let context = Context {
        client,
        namespace,
        identity,
        node_image,
        proxy,
        metrics,
        selection,
        board,
    };
    parts.spawn(async move {
        let outcome = lead(context, roles, stop_work).await;
        // Only now: the lease is given back when nothing of this replica writes any more.
        resign.cancel();
        ("leader's work", outcome)
    });
    first_end(parts, stop).await
}

/// Which proxy the hub is dialled through: by our own settings, and by the variables that other programs follow.
fn proxy(args: ProxyArgs) -> anyhow::Result<ProxySettings> {
    let ProxyArgs {
        hub_proxy,
        hub_no_proxy,
        hub_proxy_files,
    } = args;
    let settings = ProxySettings {
        url: hub_proxy,
        except: hub_no_proxy,
        files: Some(hub_proxy_files),
        environment: Environment::read(|name| std::env::var(name).ok()),
    };
    settings.check().map_err(anyhow::Error::msg)?;
    Ok(settings)
}

/// Starts to find out which namespaces are operated besides `home`.
fn select(
    parts: &mut JoinSet<Part>,
    client: &Client,
    home: &str,
    flags: Flags,
    stop: &CancellationToken,
) -> watch::Receiver<Selection> {
    let (selected, selection) = watch::channel(Selection::default());
    let select = namespaces::run(
        client.clone(),
        home.to_owned(),
        flags,
        selected,
        stop.clone(),
    );
    parts.spawn(named("selection of namespaces", select));
    selection
}

/// Starts what every replica answers: probes and admission.
fn answer(
    parts: &mut JoinSet<Part>,
    probes_listen: SocketAddr,
    admission: Admission,
    client: &Client,
    stop: &CancellationToken,
) {
    let serve = probes::serve(
        probes_listen,
        admission.board.clone(),
        Arc::clone(&admission.metrics),
        stop.clone(),
    );
    parts.spawn(async move {
        (
            "probes",
            serve
                .await
                .with_context(|| format!("serve probes on {probes_listen}")),
        )
    });
    parts.spawn(named(
        "admission",
        admission::run(admission, client.clone(), stop.clone()),
    ));
}

/// What the leader's work needs.
#[derive(Clone)]
struct Context {
    client: Client,
    namespace: String,
    identity: String,
    node_image: String,
    proxy: ProxySettings,
    metrics: Arc<Metrics>,
    selection: watch::Receiver<Selection>,
    board: Board,
}

async fn connect(
    kubeconfig: Option<std::path::PathBuf>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(&path)
                .with_context(|| format!("read the kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::infer()
            .await
            .context("find the API server: no service account and no kubeconfig")?,
    };
    let builder = ClientBuilder::try_from(config).context("build the Kubernetes client")?;
    Ok(builder.with_layer(&CountRequests(metrics)).build())
}

async fn named<E: std::error::Error + Send + Sync + 'static>(
    name: &'static str,
    part: impl Future<Output = Result<(), E>>,
) -> Part {
    (name, part.await.map_err(anyhow::Error::from))
}

/// Ends when the process is asked to stop; cancels `stop` then.
async fn signals(stop: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = stop.cancelled() => {}
    }
    stop.cancel();
    Ok(())
}

/// Keeps readiness and the leader metric equal to the role.
async fn show_role(
    mut roles: watch::Receiver<Role>,
    board: Board,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        let role = roles.borrow_and_update().clone();
        metrics.leads(role == Role::Leader);
        match role {
            Role::Unknown => {}
            Role::Standby { leader } => board.good("lease", format!("standby; `{leader}` leads")),
            Role::Leader => board.good("lease", "leader"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = roles.changed() => if changed.is_err() { return Ok(()) }
        }
    }
}

/// Waits for the custom resources and for the lease, then does the leader's work until `stop`, and what must not be left half
/// done for another moment.
async fn lead(
    context: Context,
    mut roles: watch::Receiver<Role>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let lacks = Lacks::default();
    let prepared = async {
        crds::wait_served(&context.client, &context.board).await;
        crds::show_whose(&context.client, &context.board).await;
        lacks.look(&context.client, &context.board).await;
        roles
            .wait_for(|role| *role == Role::Leader)
            .await
            .map(|_| ())
    };
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        leads = prepared => leads.map_err(|_| anyhow!("the election ended before this replica led"))?,
    }
    let (end, moves) = (CancellationToken::new(), Moves::default());
    let mut work = std::pin::pin!(work(context, lacks, end.clone(), moves.clone()));
    tokio::select! {
        done = &mut work => return done,
        () = stop.cancelled() => {}
    }
    tokio::select! {
        done = &mut work => return done,
        left = moves.over(FINISH_WITHIN) => if !left.is_empty() {
            tracing::warn!(?left, "the next leader goes on with these moves of primaries");
        }
    }
    end.cancel();
    work.await
}

/// Everything that only the leader does.
async fn work(
    context: Context,
    lacks: Lacks,
    stop: CancellationToken,
    moves: Moves,
) -> anyhow::Result<()> {
    let Context {
        client,
        namespace,
        identity,
        node_image,
        proxy,
        metrics,
        selection,
        board,
    } = context;
    tracing::info!(identity, "leads: the controllers start");
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let hub = LinkConfig {
        client: client.clone(),
        namespace: namespace.clone(),
        identity: identity.clone(),
        version,
        proxy,
        metrics: Arc::clone(&metrics),
    };
    let events = Events::new(client.clone(), &identity);
    let objects = Objects::new(client, &namespace).telling(events.clone());
    let report = Report { events, metrics };
    let controllers = controllers::Context::new(
        objects.clone(),
        report.clone(),
        node_image,
        stop.clone(),
        moves,
    );
    tokio::join!(
        lacks.follow(objects.client(), board.clone(), stop.clone()),
        controllers::run(controllers.knowing(lacks.clone()), selection, board),
        rigger::run(objects, report, stop.clone()),
        link::run(hub, stop)
    );
    Ok(())
}

/// Waits for the first part that ends. If it ended because of `stop`, waits for the others as well.
async fn first_end(mut parts: JoinSet<Part>, stop: CancellationToken) -> anyhow::Result<()> {
    // A part that failed ends the process at once, whatever is under way: the lease may be another's by now.
    ended(parts.join_next().await, &stop)?;
    stop.cancel();
    let rest = async {
        while let Some(part) = parts.join_next().await {
            if let Err(error) = ended(Some(part), &stop) {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a part ended badly while stopping"
                );
            }
        }
    };
    if tokio::time::timeout(STOP_WITHIN, rest).await.is_err() {
        tracing::warn!("some parts did not stop in {} s", STOP_WITHIN.as_secs());
    }
    Ok(())
}

/// Judges the end of a part: only a part that ends after `stop` without an error ended well.
fn ended(
    part: Option<Result<Part, tokio::task::JoinError>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    match part {
        None => Ok(()),
        Some(Err(panic)) => Err(panic).context("a part of the agent failed"),
        Some(Ok((name, Err(error)))) => Err(error).context(format!("the part `{name}` failed")),
        Some(Ok((name, Ok(())))) if !stop.is_cancelled() => {
            Err(anyhow!("the part `{name}` ended by itself"))
        }
        Some(Ok(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_names_no_proxy_is_refused_at_the_start() {
        let args = |url: &str| ProxyArgs {
            hub_proxy: Some(url.to_owned()),
            hub_no_proxy: None,
            hub_proxy_files: "/none".into(),
        };
        let refused = proxy(args("ftp://x:1")).unwrap_err().to_string();
        assert!(refused.contains("--hub-proxy"), "{refused}");
        assert!(proxy(args("http://x:1")).is_ok());
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_ends_the_process_without_waiting_for_the_others() {
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        parts.spawn(async { ("leader lease", Ok(())) });
        parts.spawn(async {
            std::future::pending::<()>().await;
            ("leader's work", Ok(()))
        });
        let error = first_end(parts, stop).await.unwrap_err();
        assert_eq!(error.to_string(), "the part `leader lease` ended by itself");
    }

    #[tokio::test]
    async fn a_stop_that_was_asked_for_ends_well() {
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        let waits = stop.clone();
        parts.spawn(async move {
            waits.cancelled().await;
            ("probes", Ok(()))
        });
        stop.cancel();
        first_end(parts, stop).await.unwrap();
    }
}
