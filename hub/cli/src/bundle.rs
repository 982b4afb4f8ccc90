//! `meridian support-bundle`: what somebody needs who was not there, of one cluster, without a secret in it.
//!
//! Talks to a member's API server, as [`crate::preflight`] does, with the rights of the person's own kubeconfig. Values of Secrets and
//! ConfigMaps are never asked for: the API server is asked for metadata alone. Of everything else only listed fields are
//! kept ([`redact`]), and texts that people or programs wrote go through [`scrub`].

mod archive;
mod collect;
pub(crate) mod hub;
mod kinds;
mod redact;
mod scrub;
pub(crate) mod source;

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{args::BundleArgs, error::CliError, output};
use archive::Archive;
use collect::{Collector, Scope};
use source::Kubernetes;

/// Writes the bundle; tells on standard error what is read, and how long it took.
pub(crate) async fn run(
    args: BundleArgs,
    patience: Duration,
    now: Timestamp,
) -> Result<(), CliError> {
    let started = Instant::now();
    let tell = |text: &str| {
        let seconds = started.elapsed().as_secs_f64();
        output::note(&format!("[{seconds:6.1} s] {text}"));
    };
    let cluster = Kubernetes::open(args.kubeconfig, args.context, args.namespace, patience).await?;
    let scope = Scope {
        namespace: cluster.namespace().to_owned(),
        all: args.all,
        since: args.since,
    };
    let name = format!(
        "meridian-support-{}-{}",
        scope.namespace,
        now.strftime("%Y%m%dT%H%M%SZ")
    );
    let path = args
        .output
        .unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    tell(&format!(
        "namespace {} of {}",
        scope.namespace,
        cluster.address()
    ));
    let archive = Archive::create(&path, &name, now)?;
    let collected = Collector::new(&cluster, scope, archive, &tell)
        .run(now)
        .await?;
    tell(&format!(
        "{}: {} files, {} things could not be read (see manifest.json)",
        path.display(),
        collected.files,
        collected.missing
    ));
    output::print(&format!("{}\n", path.display()))
}
