//! The controllers: one per kind, each `fetch → validate → build → apply → status`.
//!
//! They know neither the link nor the rigger: what those need stands in the Kubernetes API.

mod active_active;
mod cluster;
mod database;
pub mod failover;
mod inert;
mod ledger;
mod namespaces;
mod placement;
mod remote_cluster;
mod secrets;
mod serve;
mod stage;
mod topology;

use meridian_api::crds::shared::ClusterReference;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::ledger::Ledger;
use crate::{
    k8s::{apply::Objects, drive::Report, lacks::Lacks},
    namespaces::Selection,
    probes::Board,
};

/// What every controller needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// The objects of the namespace.
    pub objects: Objects,
    /// Where outcomes go.
    pub report: Report,
    /// Image of a REC that names none.
    pub node_image: String,
    /// Ends the controllers.
    pub stop: CancellationToken,
    /// Databases whose primary is on its way.
    pub moves: failover::Moves,
    /// What the installed definitions do not keep.
    pub lacks: Lacks,
    /// Who has which name, place and port: two databases that choose at once would choose the same.
    ledger: Ledger,
}

impl Context {
    /// A context of the controllers; `stop` ends them, best not before `moves` are over.
    #[must_use]
    pub fn new(
        objects: Objects,
        report: Report,
        node_image: String,
        stop: CancellationToken,
        moves: failover::Moves,
    ) -> Self {
        Self {
            objects,
            report,
            node_image,
            stop,
            moves,
            lacks: Lacks::default(),
            ledger: Ledger::default(),
        }
    }

    /// The same, with what is known of the installed definitions.
    #[must_use]
    pub fn knowing(self, lacks: Lacks) -> Self {
        Self { lacks, ..self }
    }
}

/// Runs every controller until the context stops, that of databases in each namespace of `selection` as well. What
/// namespaces it operates stands on `board`.
pub async fn run(context: Context, selection: watch::Receiver<Selection>, board: Board) {
    tokio::join!(
        cluster::run(context.clone()),
        namespaces::run(context.clone(), selection, board),
        active_active::run(context.clone()),
        failover::run(context.clone()),
        remote_cluster::run(context),
    );
}

/// Whether a database with this reference is served by the REC `rec`; without a reference it is served by the only one.
fn served_by(reference: Option<&ClusterReference>, rec: &str, only: bool) -> bool {
    match reference.filter(|reference| !reference.name.is_empty()) {
        Some(reference) => reference.name == rec,
        None => only,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_waits_for_the_databases_that_name_it() {
        let named = |name: &str| {
            Some(ClusterReference {
                name: name.to_owned(),
            })
        };
        let cases = [
            (named("rec"), false, true),
            (named("other"), true, false),
            (named(""), true, true),
            (None, true, true),
            (None, false, false),
        ];
        for (reference, only, expected) in cases {
            assert_eq!(
                served_by(reference.as_ref(), "rec", only),
                expected,
                "{reference:?}, the only one: {only}"
            );
        }
    }
}
