//! `/livez` and `/readyz`, each saying the reason, and `/shards`, by which the agent tells a dead shard from a slow one. All ask the
//! supervising loop itself, so a loop that hangs fails them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use meridian_api::version::Bundled;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Pid1Error, Report, Request, Verb};
use crate::layout::Layout;
use crate::valkey::{Answer, ping};

/// A loop that does not answer for this long hangs.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Probes {
    requests: mpsc::Sender<Request>,
    layout: Layout,
    bundled: Vec<Bundled>,
    internal_secret: String,
}

pub(super) async fn serve(
    address: SocketAddr,
    requests: mpsc::Sender<Request>,
    layout: Layout,
    bundled: Vec<Bundled>,
    internal_secret: String,
) -> Result<JoinHandle<()>, Pid1Error> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Pid1Error::Listen {
            address: address.to_string(),
            purpose: "probes",
            source,
        })?;
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/shards", get(shards))
        .with_state(Probes {
            requests,
            layout,
            bundled,
            internal_secret,
        });
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "probes are no longer served");
        }
    }))
}

async fn livez(State(probes): State<Probes>) -> (StatusCode, String) {
    match probes.report().await {
        Some(_) => (StatusCode::OK, "ok: the supervisor answers\n".to_owned()),
        None => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the supervisor does not answer\n".to_owned(),
        ),
    }
}

async fn readyz(State(probes): State<Probes>) -> (StatusCode, String) {
    let Some(report) = probes.report().await else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the supervisor does not answer\n".to_owned(),
        );
    };
    let mut reasons = reasons_from(&report);
    for (name, unit) in report.units.iter().filter(|(name, _)| *name != "sync") {
        if unit.state == "running"
            && let Answer::NotReady(reason) =
                ping(&probes.layout.shard(name).socket, &probes.internal_secret).await
        {
            reasons.push(format!("shard {name} does not serve: {reason}"));
        }
    }
    if reasons.is_empty() {
        (
            StatusCode::OK,
            "ok: every shard of this node serves\n".to_owned(),
        )
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}

/// What runs here, for the agent.
#[derive(Debug, Serialize)]
struct Shards {
    /// By process name.
    shards: BTreeMap<String, Shard>,
    /// The node was asked to stop.
    stopping: bool,
    /// By what shards can be run here.
    bundled: Vec<Bundled>,
}

#[derive(Debug, Serialize)]
struct Shard {
    /// As PID 1 names it.
    state: String,
    /// It answers.
    ready: bool,
    /// How often it was started in this life of PID 1.
    starts: u64,
}

async fn shards(State(probes): State<Probes>) -> Result<Json<Shards>, StatusCode> {
    let report = probes
        .report()
        .await
        .ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let units = report.units.into_iter().filter(|(name, _)| name != "sync");
    // All at once: one that is slow to answer must not make the others look dead.
    let asked = units.map(async |(name, unit)| {
        let ready = unit.state == "running"
            && ping(&probes.layout.shard(&name).socket, &probes.internal_secret).await
                == Answer::Ready;
        let shard = Shard {
            state: unit.state,
            ready,
            starts: unit.starts,
        };
        (name, shard)
    });
    let shards = futures::future::join_all(asked).await;
    Ok(Json(Shards {
        shards: shards.into_iter().collect(),
        stopping: report.stopping,
        bundled: probes.bundled.clone(),
    }))
}

/// What can be said without asking the shards.
fn reasons_from(report: &Report) -> Vec<String> {
    let mut reasons = Vec::new();
    if report.stopping {
        reasons.push("the node is stopping".to_owned());
    }
    if !report.informed {
        let sync = report.units.get("sync");
        let state = sync.map_or("unknown", |unit| unit.state.as_str());
        let last = sync
            .and_then(|unit| unit.last_end.as_ref())
            .map_or(String::new(), |end| format!(", ended last with {end}"));
        reasons.push(format!(
            "no topology heard yet (process sync is {state}{last})"
        ));
    }
    for (name, unit) in report.units.iter().filter(|(name, _)| *name != "sync") {
        if unit.state != "running" {
            let last = unit
                .last_end
                .as_ref()
                .map_or(String::new(), |end| format!(", ended last with {end}"));
            reasons.push(format!("shard {name} is {}{last}", unit.state));
        }
    }
    reasons
}

impl Probes {
    async fn report(&self) -> Option<Report> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.requests
                .send(Request {
                    verb: Verb::Status,
                    asker: None,
                    reply,
                })
                .await
                .ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .ok()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pid1::UnitReport;
    use std::collections::BTreeMap;

    fn report(informed: bool, shard: &str) -> Report {
        let unit = |state: &str| UnitReport {
            state: state.to_owned(),
            pid: None,
            starts: 1,
            hangs: 0,
            last_end: Some("signal 9".to_owned()),
        };
        Report {
            informed,
            stopping: false,
            databases: BTreeMap::new(),
            refusals: Vec::new(),
            owed: None,
            units: BTreeMap::from([
                ("sync".to_owned(), unit("waiting")),
                ("db-1".to_owned(), unit(shard)),
            ]),
        }
    }

    #[test]
    fn a_dead_child_does_not_make_an_informed_node_unready() {
        assert_eq!(reasons_from(&report(true, "running")), Vec::<String>::new());
    }

    #[test]
    fn every_reason_names_its_object() {
        let reasons = reasons_from(&report(false, "waiting"));
        assert_eq!(reasons.len(), 2);
        assert!(
            reasons[0].contains("sync is waiting, ended last with signal 9"),
            "{reasons:?}"
        );
        assert!(reasons[1].contains("shard db-1 is waiting"), "{reasons:?}");
    }
}
