//! `/metrics`: made anew at each scrape from what the node shows. Labels are the database, the other region's instance id and closed
//! words; never an address, never an error text.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::link::State as LinkState;
use super::node::{Node, NodeView};

/// The content type of the text that the registry makes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn serve(listener: TcpListener, node: Arc<Node>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(node);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(%error, "metrics are no longer served");
    }
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], text(node.view()))
}

fn text(view: NodeView) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exported(view)));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Exported(NodeView);

#[derive(Clone, Debug, EncodeLabelSet)]
struct LinkLabels {
    syncer_type: &'static str,
    database: String,
    peer: u32,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct ShardLabels {
    database: String,
    shard: u32,
}

/// 0 in sync, 1 syncing, 2 out of sync: the words of the vendor's metric of this name.
fn status_number(state: LinkState) -> u32 {
    match state {
        LinkState::Up => 0,
        LinkState::Connecting | LinkState::Syncing => 1,
        LinkState::Paused | LinkState::Stalled | LinkState::Down => 2,
    }
}

type Samples<L> = Vec<(L, u64)>;

impl Exported {
    fn links(&self, value: impl Fn(&super::node::LinkRow) -> Option<u64>) -> Samples<LinkLabels> {
        let rows = self
            .0
            .databases
            .iter()
            .flat_map(|d| d.links.iter().map(move |row| (d, row)));
        rows.filter_map(|(database, row)| {
            let labels = LinkLabels {
                syncer_type: "crdt",
                database: database.name.clone(),
                peer: row.instance_id,
            };
            Some((labels, value(row)?))
        })
        .collect()
    }

    fn shards(&self) -> Samples<ShardLabels> {
        let shards = self
            .0
            .databases
            .iter()
            .flat_map(|d| d.shards.iter().map(move |shard| (d, shard)));
        shards
            .map(|(d, shard)| {
                (
                    ShardLabels {
                        database: d.name.clone(),
                        shard: shard.id,
                    },
                    u64::from(shard.ready),
                )
            })
            .collect()
    }
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: Samples<L>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
            .encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: Samples<L>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for Exported {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let e = &mut encoder;
        gauges(
            e,
            "database_syncer_lag_ms",
            "For how long this region has lacked something that the other has, in milliseconds",
            self.links(|row| row.status.lag_ms),
        )?;
        gauges(
            e,
            "database_syncer_current_status",
            "0 in sync, 1 syncing, 2 out of sync",
            self.links(|row| Some(status_number(row.status.state).into())),
        )?;
        counters(
            e,
            "database_syncer_ingress_bytes",
            "Bytes of effects pulled from the other region",
            self.links(|row| Some(row.status.ingress_bytes)),
        )?;
        counters(
            e,
            "database_syncer_effects_applied",
            "Effects of the other region that were new here",
            self.links(|row| Some(row.status.effects)),
        )?;
        gauges(
            e,
            "database_shard_ready",
            "1 if the shard serves",
            self.shards(),
        )?;
        let refused = u64::try_from(self.0.refusals.len()).unwrap_or(u64::MAX);
        let help = "Topologies that are lost or went back";
        let metric = e.encode_descriptor("node_refused_orders", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(refused).unwrap_or(i64::MAX)).encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::link::LinkStatus;
    use crate::sync::node::{DatabaseView, LinkRow, Pace};

    #[test]
    fn the_text_has_the_names_people_know() {
        let now = crate::clock::now();
        let mut status = LinkStatus::new(now, 0);
        status.idle("{}", now);
        status.change(LinkState::Up, None, now, 0);
        let row = LinkRow {
            instance_id: 2,
            name: "two".to_owned(),
            status: status.view(now, 0),
        };
        let database = DatabaseView {
            name: "db".to_owned(),
            topology_uid: String::new(),
            epoch: 1,
            generation: 1,
            guid: None,
            instance_id: None,
            config_version: None,
            shards: Vec::new(),
            links: vec![row],
            pace: Pace::Idle,
        };
        let view = NodeView {
            node: "n".to_owned(),
            warning: None,
            databases: vec![database],
            refusals: Vec::new(),
            problems: Vec::new(),
            as_of: String::new(),
        };
        let text = text(view);
        for line in [
            "database_syncer_lag_ms{syncer_type=\"crdt\",database=\"db\",peer=\"2\"} 0",
            "database_syncer_current_status{syncer_type=\"crdt\",database=\"db\",peer=\"2\"} 0",
            "database_syncer_ingress_bytes_total{syncer_type=\"crdt\",database=\"db\",peer=\"2\"} 0",
            "node_refused_orders 0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no {line:?} in\n{text}"
            );
        }
    }
}
