//! Waiting for a part to come up, and saying which did not, and why.

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::{LabError, Result};
use super::files;
use super::unit::{self, log_path};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A process that had to be started this often while it was waited for does not come up.
const TOO_MANY_RESTARTS: u32 = 8;
/// Lines of a log that an error shows.
const TAIL: usize = 15;

/// What is waited for.
#[derive(Debug)]
pub(crate) struct Wait {
    /// For people: the part with its cluster or node.
    pub(crate) part: String,
    /// Folder of the unit it belongs to.
    pub(crate) unit: PathBuf,
    /// The process that must do it.
    pub(crate) process: &'static str,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl Wait {
    /// Looks until the probe answers. The probe's error says what is still missing.
    pub(crate) async fn until<T, F, Fut>(&self, mut probe: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        let started = Instant::now();
        let before = self.restarts()?;
        loop {
            let missing = match tokio::time::timeout(Duration::from_secs(5), probe()).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(missing)) => missing,
                Err(_) => "no answer within 5 s".to_owned(),
            };
            if unit::running(&self.unit)?.is_none() {
                return Err(self.failed("supervisor", "its supervisor ended".to_owned()));
            }
            let restarts = self.restarts()?.saturating_sub(before);
            if restarts >= TOO_MANY_RESTARTS {
                return Err(self.failed(
                    self.process,
                    format!("{} ended {restarts} times; {missing}", self.process),
                ));
            }
            if started.elapsed() > self.limit {
                return Err(self.failed(
                    self.process,
                    format!("after {} s: {missing}", self.limit.as_secs()),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How often the process was started again since its unit began. Faults that stop it count as well.
    fn restarts(&self) -> Result<u32> {
        let all = unit::restarts(&self.unit)?;
        Ok(all.get(self.process).copied().unwrap_or_default())
    }

    fn failed(&self, process: &str, reason: String) -> LabError {
        let log = log_path(&self.unit, process);
        LabError::NotReady {
            part: self.part.clone(),
            reason,
            tail: files::tail(&log, TAIL),
            log,
        }
    }
}

/// Asks for a page without TLS; the answer must be 200.
pub(crate) async fn http_ok(address: &str, path: &str) -> Result<(), String> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(
            String::from_utf8_lossy(&answer)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let status = ask
        .await
        .map_err(|error| format!("http://{address}{path}: {error}"))?;
    if status.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(format!("http://{address}{path} answers `{status}`"))
    }
}
