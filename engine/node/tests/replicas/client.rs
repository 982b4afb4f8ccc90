//! Clients of the database. What they were told is the judge of every test.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use crate::cluster::PORT;
use crate::node::{SOON, until};

/// A connection to one node.
pub(crate) struct Client {
    connection: MultiplexedConnection,
}

async fn connection(host: &str, patience: Duration) -> RedisResult<MultiplexedConnection> {
    connection_as("", host, patience).await
}

/// `login` is nothing, or `user:password@`; a host without a port means that of the database.
async fn connection_as(
    login: &str,
    host: &str,
    patience: Duration,
) -> RedisResult<MultiplexedConnection> {
    let address = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{PORT}")
    };
    let client = redis::Client::open(format!("redis://{login}{address}"))?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

impl Client {
    pub(crate) async fn connect(host: &str) -> Self {
        let connection = until(&format!("{host} takes clients"), SOON, async || {
            connection(host, SOON).await.map_err(|e| e.to_string())
        })
        .await;
        Self { connection }
    }

    /// Logs in once the database lets it.
    pub(crate) async fn log_in(host: &str, user: &str, password: &str) -> Self {
        let login = format!("{user}:{password}@");
        let connection = until(&format!("{user} may log in at {host}"), SOON, async || {
            connection_as(&login, host, SOON)
                .await
                .map_err(|e| e.to_string())
        })
        .await;
        Self { connection }
    }

    /// The error of somebody who must not get in.
    pub(crate) async fn refused_login(host: &str, login: &str) -> Option<String> {
        match connection_as(login, host, SOON).await {
            Ok(mut connection) => redis::cmd("GET")
                .arg("k")
                .query_async::<redis::Value>(&mut connection)
                .await
                .err()
                .map(|e| e.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(crate) async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection).await
    }

    /// The error that a command gets.
    pub(crate) async fn refused(&mut self, words: &[&str]) -> String {
        self.ask::<redis::Value>(words)
            .await
            .unwrap_err()
            .to_string()
    }
}

/// What one writer was told.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The keys of every acknowledged write.
    pub(crate) acknowledged: BTreeSet<String>,
    /// Every answer that was none, with when it came.
    pub(crate) failures: Vec<(Instant, String)>,
    /// The longest time without an acknowledgement.
    pub(crate) longest_pause: Duration,
}

/// Writes one key after the other to whoever takes it, until it is told to stop.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    task: JoinHandle<Log>,
}

impl Writer {
    pub(crate) fn start(hosts: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(write(hosts, Arc::clone(&stop), Arc::clone(&acknowledged)));
        Self {
            stop,
            acknowledged,
            task,
        }
    }

    /// Waits until `more` further writes are acknowledged.
    pub(crate) async fn advances(&self, more: usize) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + more;
        until(
            &format!("{goal} writes are acknowledged"),
            SOON,
            async || {
                let now = self.acknowledged.load(Ordering::SeqCst);
                if now >= goal {
                    Ok(())
                } else {
                    Err(now.to_string())
                }
            },
        )
        .await;
    }

    pub(crate) async fn finish(self) -> Log {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

async fn write(hosts: Vec<String>, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicUsize>) -> Log {
    static WRITERS: AtomicUsize = AtomicUsize::new(0);
    let writer = WRITERS.fetch_add(1, Ordering::SeqCst);
    let mut log = Log::default();
    let (mut number, mut host) = (0_u64, 0);
    let mut last = Instant::now();
    let mut connected = None;
    while !stop.load(Ordering::SeqCst) {
        let key = format!("key-{writer}-{number}");
        number += 1;
        let reply = async {
            if connected.is_none() {
                connected = Some(connection(&hosts[host], Duration::from_secs(1)).await?);
            }
            let connection = connected.as_mut().unwrap();
            let mut command = redis::cmd("SET");
            command.arg(&key).arg(number);
            command.query_async::<String>(connection).await
        };
        match reply.await {
            Ok(_) => {
                log.longest_pause = log.longest_pause.max(last.elapsed());
                last = Instant::now();
                log.acknowledged.insert(key);
                acknowledged.store(log.acknowledged.len(), Ordering::SeqCst);
            }
            Err(error) => {
                log.failures.push((Instant::now(), error.to_string()));
                connected = None;
                host = (host + 1) % hosts.len();
                // Not a condition: a client's own pace.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    log.longest_pause = log.longest_pause.max(last.elapsed());
    log
}
