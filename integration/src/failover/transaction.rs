//! A transaction that is queued on the primary before a fault, and executed after it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use redis::Value;

use super::client::{Connection, Target, now};
use super::judge::{Acknowledged, Log};

/// How long the transaction may take to be queued.
const QUEUED: Duration = Duration::from_secs(5);
/// How long an answer to EXEC is waited for: longer than any stop of a process.
const EXECUTED: Duration = Duration::from_secs(120);

/// A queued transaction on its own connection.
#[derive(Debug)]
pub(crate) struct Transaction {
    go: Sender<()>,
    thread: JoinHandle<Executed>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Executed {
    /// In words.
    pub(crate) words: String,
    /// As the log of a client of that pod, for the judges.
    pub(crate) log: Log,
}

impl Transaction {
    /// Queues a write of `key` on `pod`.
    pub(crate) async fn queue(target: Target, pod: &str, key: &str) -> Result<Self> {
        let (go, told) = channel();
        let (queued, is_queued) = tokio::sync::oneshot::channel();
        let (pod, key) = (pod.to_owned(), key.to_owned());
        let thread = std::thread::spawn(move || match begin(&target, &key) {
            Ok(connection) => {
                // Who asked has gone only if the run was given up.
                let _listening = queued.send(Ok(()));
                execute(connection, &told, &pod, key)
            }
            Err(error) => {
                let _listening = queued.send(Err(error));
                Executed {
                    words: "not queued".to_owned(),
                    log: Log::default(),
                }
            }
        });
        is_queued.await??;
        Ok(Self { go, thread })
    }

    /// Sends EXEC; the answer is looked at in [`Transaction::finish`].
    pub(crate) fn execute(&self) {
        // The thread waits for this and for nothing else.
        let _told = self.go.send(());
    }

    /// What became of it.
    pub(crate) fn finish(self) -> Result<Executed> {
        self.thread
            .join()
            .map_err(|_| anyhow!("the client of the transaction panicked"))
    }
}

fn begin(target: &Target, key: &str) -> Result<Connection> {
    let mut connection = Connection::open(target)?;
    let multi = connection.ask(&["MULTI"], QUEUED)?;
    ensure!(multi == Value::Okay, "MULTI: {multi:?}");
    let set = connection.ask(&["SET", key, key], QUEUED)?;
    ensure!(
        set == Value::SimpleString("QUEUED".to_owned()),
        "SET in MULTI: {set:?}"
    );
    Ok(connection)
}

fn execute(mut connection: Connection, told: &Receiver<()>, pod: &str, key: String) -> Executed {
    let mut log = Log {
        pod: Some(pod.to_owned()),
        ..Log::default()
    };
    if told.recv().is_err() {
        return Executed {
            words: "not executed: the run was given up".to_owned(),
            log,
        };
    }
    let sent = now();
    let words = match connection.ask(&["EXEC"], EXECUTED) {
        Ok(Value::Array(answers)) if answers == [Value::Okay] => {
            log.writes.push(Acknowledged {
                key,
                sent,
                acknowledged: now(),
            });
            "applied".to_owned()
        }
        Ok(Value::ServerError(error)) => format!("refused: {error}"),
        Ok(other) => format!("refused: {other:?}"),
        Err(error) => format!("refused: {error}"),
    };
    Executed { words, log }
}
