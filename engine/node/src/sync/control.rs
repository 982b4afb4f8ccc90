//! The child's Unix socket for people: `sync status`, `sync pause`, `sync resume`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::layout::{Layout, SocketPathTooLong};

/// How long the child may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question is one short line.
const QUESTION_MAX: u64 = 1024;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// Everything about replication.
    Status,
    /// Stop pulling.
    Pause {
        /// From this region only.
        peer: Option<u32>,
    },
    /// Pull again.
    Resume {
        /// From this region only.
        peer: Option<u32>,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody is there, or the connection broke.
    #[error("ask the replication process at {path}; is a meridian-node running with this --dir?")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// A socket path that the system would cut off.
    #[error(transparent)]
    SocketPath(#[from] SocketPathTooLong),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Ok(serde_json::Value),
    Error(String),
}

/// Asks the child at `path`.
///
/// # Errors
/// [`ControlError`] if there is no answer, or if it is a refusal.
pub async fn ask(path: &Path, question: &Question) -> Result<serde_json::Value, ControlError> {
    Layout::check_socket(path)?;
    let exchange = async {
        let mut stream = UnixStream::connect(path).await?;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(serde_json::from_slice::<Answer>(&answer)?)
    };
    let io = |source| ControlError::Io {
        path: path.to_owned(),
        source,
    };
    match tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| io(std::io::ErrorKind::TimedOut.into()))?
        .map_err(io)?
    {
        Answer::Ok(value) => Ok(value),
        Answer::Error(message) => Err(ControlError::Refused(message)),
    }
}

/// Who answers.
pub trait Answers: Send + Sync + 'static {
    /// The answer, or a sentence that says why there is none.
    ///
    /// # Errors
    /// The sentence.
    fn answer(&self, question: &Question) -> Result<serde_json::Value, String>;
}

/// Answers questions at `path` for ever.
///
/// # Errors
/// [`ControlError`] if the socket cannot be opened.
pub fn serve(
    path: &Path,
    answers: Arc<dyn Answers>,
) -> Result<tokio::task::JoinHandle<()>, ControlError> {
    Layout::check_socket(path)?;
    let io = |source| ControlError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, Arc::clone(&answers)))),
                Err(error) => tracing::warn!(%error, "a question was not accepted"),
            }
        }
    }))
}

async fn converse(stream: UnixStream, answers: Arc<dyn Answers>) {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(reading.take(QUESTION_MAX))
        .read_line(&mut line)
        .await
        .is_err()
    {
        return;
    }
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) => answers
            .answer(&question)
            .map_or_else(Answer::Error, Answer::Ok),
        Err(error) => Answer::Error(format!(
            "the running process does not understand the question: {error}"
        )),
    };
    if let Ok(text) = serde_json::to_vec(&answer) {
        // Whoever asked may have gone.
        let _gone = writing.write_all(&text).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Answers for Echo {
        fn answer(&self, question: &Question) -> Result<serde_json::Value, String> {
            match question {
                Question::Status => Ok(serde_json::json!({"fine": true})),
                Question::Pause { peer } | Question::Resume { peer } => {
                    Err(format!("no peer {peer:?}"))
                }
            }
        }
    }

    #[tokio::test]
    async fn questions_are_answered_and_refusals_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let missing = ask(&path, &Question::Status).await.unwrap_err();
        assert!(
            missing.to_string().contains("is a meridian-node running"),
            "{missing}"
        );
        let server = serve(&path, Arc::new(Echo)).unwrap();
        assert_eq!(ask(&path, &Question::Status).await.unwrap()["fine"], true);
        let refused = ask(&path, &Question::Pause { peer: Some(9) })
            .await
            .unwrap_err();
        assert_eq!(refused.to_string(), "no peer Some(9)");
        server.abort();
    }
}
