//! PID 1's Unix socket: one JSON line in ("look again", "what is running?"), one JSON line out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Pid1Error;
use crate::desired::Refusal;
use crate::layout::Layout;

/// How long PID 1 may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question is one short line.
const QUESTION_MAX: u64 = 1024;

/// What PID 1 can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Read the proposal again and follow it, as far as it is an order.
    Apply,
    /// Say what is running.
    Status,
}

/// A question with the way back.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub verb: Verb,
    /// The process that asks, as the system knows it; `None`: PID 1 itself.
    pub asker: Option<i32>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Report>,
}

/// What runs, and by whose order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `true` once an order was heard, in this life or an earlier one.
    pub informed: bool,
    /// `true` while the node stops.
    pub stopping: bool,
    /// The orders obeyed, by database.
    pub databases: BTreeMap<String, OrderNumbers>,
    /// What was not followed in the newest proposal.
    pub refusals: Vec<Refusal>,
    /// Why the newest proposal is not followed although it could be an order: it is to be repeated. `None`: it is followed.
    pub owed: Option<String>,
    /// The processes, by name.
    pub units: BTreeMap<String, UnitReport>,
}

/// Which order was obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderNumbers {
    /// The topology's UID.
    pub topology_uid: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its generation.
    pub generation: u64,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitReport {
    /// `stopped`, `waiting` (for its next start), `running` or `stopping`.
    pub state: String,
    /// Its process id while it runs.
    pub pid: Option<i32>,
    /// How often it was started in this life of PID 1.
    pub starts: u64,
    /// How often it was killed because it hung.
    #[serde(default)]
    pub hangs: u64,
    /// How it ended last.
    pub last_end: Option<String>,
}

/// Why PID 1 gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there, or the connection broke.
    #[error("ask the supervisor at {path}; is a meridian-node running on this directory?")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The answer is not one.
    #[error("the supervisor at {path} gave an answer that this version does not understand")]
    Answer {
        /// The socket.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
}

/// Asks PID 1 at `path`.
///
/// # Errors
/// [`AskError`] if there is no answer within a few seconds.
pub async fn ask(path: &Path, verb: Verb) -> Result<Report, AskError> {
    let exchange = async {
        let mut stream = UnixStream::connect(path).await?;
        let mut line = serde_json::to_vec(&verb)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let io = |source| AskError::Io {
        path: path.to_owned(),
        source,
    };
    let answer = tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_elapsed| io(std::io::ErrorKind::TimedOut.into()))?
        .map_err(io)?;
    serde_json::from_slice(&answer).map_err(|source| AskError::Answer {
        path: path.to_owned(),
        source,
    })
}

/// Listens at `path` and passes questions on.
pub(super) fn serve(
    path: &Path,
    requests: mpsc::Sender<Request>,
) -> Result<JoinHandle<()>, Pid1Error> {
    Layout::check_socket(path)?;
    let listen = |source| Pid1Error::Listen {
        address: path.display().to_string(),
        purpose: "the child's questions",
        source,
    };
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(listen(e)),
    }
    let listener = UnixListener::bind(path).map_err(listen)?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, requests.clone()))),
                Err(error) => tracing::warn!(%error, "the child's question was not accepted"),
            }
        }
    }))
}

async fn converse(stream: UnixStream, requests: mpsc::Sender<Request>) {
    let asker = stream.peer_cred().ok().and_then(|asker| asker.pid());
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(reading.take(QUESTION_MAX))
        .read_line(&mut line)
        .await
        .is_err()
    {
        return;
    }
    let Ok(verb) = serde_json::from_str(&line) else {
        tracing::warn!(
            question = line.trim(),
            "a question that this version does not understand"
        );
        return;
    };
    let (reply, answer) = oneshot::channel();
    if requests.send(Request { verb, asker, reply }).await.is_err() {
        return;
    }
    if let Ok(report) = answer.await
        && let Ok(mut text) = serde_json::to_vec(&report)
    {
        text.push(b'\n');
        // The asker may have gone; then nobody needs the answer.
        let _gone = writing.write_all(&text).await;
    }
}
