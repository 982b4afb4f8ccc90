//! A client of one region's database.

use std::time::Duration;

use anyhow::Context;
use redis::{FromRedisValue, aio::MultiplexedConnection};

/// A connection to one region.
#[derive(Debug, Clone)]
pub struct Region {
    /// Name of the cluster.
    pub name: String,
    /// `host:port` as seen from this machine.
    pub address: String,
    url: String,
}

/// How long a command may take before it counts as failed.
const ANSWER: Duration = Duration::from_secs(5);

impl Region {
    /// A region at `address`; `password` empty means none is asked for.
    #[must_use]
    pub fn new(name: &str, address: &str, password: &str) -> Self {
        let auth = if password.is_empty() {
            String::new()
        } else {
            format!(":{password}@")
        };
        Self {
            name: name.into(),
            address: address.into(),
            url: format!("redis://{auth}{address}/"),
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// If the region does not answer in time.
    pub async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let client = redis::Client::open(self.url.as_str())?;
        // The client's own limit is half a second, which a busy machine exceeds without anything being wrong.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        tokio::time::timeout(ANSWER, connecting)
            .await
            .with_context(|| {
                format!(
                    "{} ({}): no answer in {} s",
                    self.name,
                    self.address,
                    ANSWER.as_secs()
                )
            })?
            .with_context(|| format!("{} ({})", self.name, self.address))
    }

    /// Runs one command on a new connection.
    ///
    /// # Errors
    /// If the region does not answer, or answers with an error.
    pub async fn run<T: FromRedisValue>(&self, command: &str) -> anyhow::Result<T> {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            cmd.arg(word);
        }
        let mut connection = self.connect().await?;
        tokio::time::timeout(ANSWER, cmd.query_async(&mut connection))
            .await
            .with_context(|| {
                format!(
                    "{}: `{command}`: no answer in {} s",
                    self.name,
                    ANSWER.as_secs()
                )
            })?
            .with_context(|| format!("{}: `{command}`", self.name))
    }
}
