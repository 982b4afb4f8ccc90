//! Asks PID 1 of a node what it runs: `GET http://<node>:8080/shards`, a fresh connection each time, because an open one says
//! nothing about a host that has gone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// Port of PID 1.
const PORT: u16 = 8080;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_millis(900);

/// More than any node says, bytes.
const LIMIT: usize = 1 << 20;

/// What PID 1 of a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Where it was reached.
    pub(super) address: IpAddr,
    /// Whether each shard answers, by `<database>-<shard>`.
    pub(super) ready: BTreeMap<String, bool>,
    /// It was asked to stop.
    pub(super) stopping: bool,
}

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    shards: BTreeMap<String, Shard>,
    #[serde(default)]
    stopping: bool,
}

#[derive(Deserialize)]
struct Shard {
    ready: bool,
}

/// Asks once. `None`: no answer that makes sense in time.
pub(super) async fn ask(host: &str) -> Option<Answer> {
    let asked = tokio::time::timeout(PATIENCE, get(host)).await;
    asked.ok().flatten()
}

async fn get(host: &str) -> Option<Answer> {
    let stream = TcpStream::connect((host, PORT)).await.ok()?;
    let address = stream.peer_addr().ok()?.ip();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/shards")
        .header(axum::http::header::HOST, "node")
        .body(Body::empty())
        .ok()?;
    let exchange = async {
        let response = sender.send_request(request).await.ok()?;
        let body = Body::new(response.into_body());
        axum::body::to_bytes(body, LIMIT).await.ok()
    };
    let mut exchange = std::pin::pin!(exchange);
    let bytes = tokio::select! {
        bytes = &mut exchange => bytes,
        _ended = connection => exchange.await,
    }?;
    let Said { shards, stopping } = serde_json::from_slice(&bytes).ok()?;
    let ready = shards
        .into_iter()
        .map(|(name, shard)| (name, shard.ready))
        .collect();
    Some(Answer {
        address,
        ready,
        stopping,
    })
}
