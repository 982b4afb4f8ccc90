//! Asks PID 1 of a pod what its shards do: `GET http://<pod>:8080/shards`, a fresh connection each time, because an open
//! one says nothing about a host that has gone.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use axum::body::Body;
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use meridian_api::version::Bundled;
use serde::Deserialize;
use tokio::net::TcpStream;

/// Port of PID 1.
const PORT: u16 = 8080;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_millis(900);
/// More than any node says, bytes.
const LIMIT: usize = 1 << 20;

/// What PID 1 says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(in crate::controllers) struct Shards {
    /// By `<database>-<shard>`.
    #[serde(default)]
    pub(in crate::controllers) shards: BTreeMap<String, ShardState>,
    /// By what shards can be run there.
    #[serde(default = "bundled_before")]
    pub(in crate::controllers) bundled: Vec<Bundled>,
}

impl Default for Shards {
    fn default() -> Self {
        Self {
            shards: BTreeMap::new(),
            bundled: bundled_before(),
        }
    }
}

/// What the nodes of releases brought that did not tell it.
fn bundled_before() -> Vec<Bundled> {
    vec![Bundled {
        version: "8.1".to_owned(),
        active_active: true,
    }]
}

/// What PID 1 says about one shard.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(in crate::controllers) struct ShardState {
    /// It answers commands.
    pub(in crate::controllers) ready: bool,
}

/// Asks once. `None`: no answer in time. An answer that is not understood is one of a PID 1 that lives.
pub(in crate::controllers) async fn ask(address: IpAddr) -> Option<Shards> {
    let asked = tokio::time::timeout(PATIENCE, get(address)).await;
    asked.ok().flatten()
}

async fn get(address: IpAddr) -> Option<Shards> {
    let stream = TcpStream::connect((address, PORT)).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/shards")
        .header(hyper::header::HOST, "node")
        .body(Body::empty())
        .ok()?;
    let exchange = async {
        let response = sender.send_request(request).await.ok()?;
        axum::body::to_bytes(Body::new(response.into_body()), LIMIT)
            .await
            .ok()
    };
    let mut exchange = std::pin::pin!(exchange);
    let bytes = tokio::select! {
        bytes = &mut exchange => bytes,
        _ = connection => exchange.await,
    }?;
    Some(serde_json::from_slice(&bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_pid_1_is_understood_and_more_than_expected_is_no_error() {
        let text = r#"{"shards":{"db-0":{"state":"running","ready":true,"starts":3}},"stopping":false,
                "bundled":[{"version":"9.1.2","activeActive":false}]}"#;
        let shards: Shards = serde_json::from_str(text).unwrap();
        assert!(shards.shards["db-0"].ready);
        assert_eq!(shards.bundled[0].version, "9.1.2");
        assert_eq!(
            serde_json::from_str::<Shards>("{}").unwrap(),
            Shards::default()
        );
    }
}
