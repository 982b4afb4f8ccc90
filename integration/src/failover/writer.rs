//! A client that writes one key after another, reconnects whenever it must, and keeps the log that the judges read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use redis::Value;

use super::client::{Connection, Home, Target, now};
use super::judge::{Acknowledged, Log};

/// Pause after a connection that was refused.
const AFTER_REFUSED_CONNECTION: Duration = Duration::from_millis(100);
/// Pause after a write that was refused.
const AFTER_REFUSED_WRITE: Duration = Duration::from_millis(10);
/// How long a client of the Service waits for an answer before it connects anew, as clients' libraries do.
const SERVICE_PATIENCE: Duration = Duration::from_millis(500);

/// What a writer is to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What its keys begin with.
    pub(crate) prefix: String,
    /// The pod that it writes to; `None`: the Service.
    pub(crate) pod: Option<String>,
    /// Pause after a write that was acknowledged.
    pub(crate) pace: Duration,
}

/// Finds out whom to connect to now.
pub(crate) type Find = Box<dyn FnMut() -> Result<Target> + Send>;

/// A writer that runs.
#[derive(Debug)]
pub(crate) struct Writer {
    pod: Option<String>,
    stop: Arc<AtomicBool>,
    wake: Sender<()>,
    count: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
    thread: JoinHandle<Result<Log>>,
}

impl Writer {
    pub(crate) fn start(plan: Plan, find: Find) -> Self {
        let (wake, woken) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let last = Arc::new(AtomicU64::new(0));
        let pod = plan.pod.clone();
        let loop_ = Loop {
            log: Log {
                pod: plan.pod.clone(),
                ..Log::default()
            },
            plan,
            find,
            stop: Arc::clone(&stop),
            woken,
            count: Arc::clone(&count),
            last: Arc::clone(&last),
        };
        Self {
            pod,
            stop,
            wake,
            count,
            last,
            thread: std::thread::spawn(move || loop_.run()),
        }
    }

    /// The pod that it writes to directly.
    pub(crate) fn pod(&self) -> Option<&str> {
        self.pod.as_deref()
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// When the last acknowledgement came, in microseconds of the boot clock; 0: none has.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // It has ended by itself only if it panicked, which `finish` tells.
        let _ended = self.wake.send(());
    }

    /// Ends it and gives its log.
    pub(crate) fn finish(self) -> Result<Log> {
        self.stop();
        self.thread
            .join()
            .map_err(|_| anyhow!("the client of {:?} panicked", self.pod))?
    }
}

struct Loop {
    plan: Plan,
    find: Find,
    stop: Arc<AtomicBool>,
    woken: Receiver<()>,
    count: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
    log: Log,
}

impl Loop {
    fn run(mut self) -> Result<Log> {
        let home = Home::here()?;
        let mut connection = None;
        let mut id = 0_u64;
        while !self.stopped() {
            let Some(open) = &mut connection else {
                connection = (self.find)()
                    .and_then(|target| Connection::open(&target))
                    .ok();
                if connection.is_none() {
                    home.enter()?;
                    self.pause(AFTER_REFUSED_CONNECTION);
                }
                continue;
            };
            id += 1;
            let key = format!("{}:{id}", self.plan.prefix);
            let sent = now();
            match self.write(open, &key) {
                Ok(()) => {
                    let acknowledged = now();
                    self.log.writes.push(Acknowledged {
                        key,
                        sent,
                        acknowledged,
                    });
                    self.count.fetch_add(1, Ordering::Relaxed);
                    self.last.store(acknowledged, Ordering::Relaxed);
                    self.pause(self.plan.pace);
                }
                Err(Refusal::ByServer(word)) => {
                    *self.log.refusals.entry(word).or_default() += 1;
                    // What the Service leads to may be another by now; a pod stays the same.
                    if self.plan.pod.is_none() {
                        connection = None;
                    }
                    self.pause(AFTER_REFUSED_WRITE);
                }
                Err(Refusal::Broken) => {
                    connection = None;
                    home.enter()?;
                }
            }
        }
        Ok(self.log)
    }

    fn write(&self, connection: &mut Connection, key: &str) -> Result<(), Refusal> {
        let started = Instant::now();
        // Whoever stands in the pod waits for ever: an answer that comes late is the one of interest.
        let patient =
            || !self.stopped() && (self.plan.pod.is_some() || started.elapsed() < SERVICE_PATIENCE);
        let answer = connection
            .send(&["SET", key, key])
            .and_then(|()| connection.answer(patient));
        match answer {
            Ok(Value::Okay) => Ok(()),
            Ok(Value::ServerError(error)) => Err(Refusal::ByServer(error.code().to_owned())),
            Ok(other) => Err(Refusal::ByServer(format!("{other:?}"))),
            Err(_) => Err(Refusal::Broken),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits so long, or until it is to end.
    fn pause(&self, pause: Duration) {
        match self.woken.recv_timeout(pause) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

enum Refusal {
    ByServer(String),
    Broken,
}

/// The writers of one run: one for the Service, and one for each pod.
#[derive(Debug)]
pub(crate) struct Writers(Vec<Writer>);

impl Writers {
    pub(crate) fn new(writers: Vec<Writer>) -> Self {
        Self(writers)
    }

    /// Waits until the client of the Service had `more` further acknowledgements.
    pub(crate) async fn progress(&self, more: u64, within: Duration) -> Result<()> {
        let service = self.0.iter().find(|writer| writer.pod().is_none());
        let service = service.context("no client of the Service")?;
        let from = service.acknowledged();
        crate::wait::until_true("a client's writes are acknowledged", within, || async {
            Ok(service.acknowledged() >= from + more)
        })
        .await
    }

    /// Waits until another pod than `pod` acknowledged a write after `since`. Returns whether one did in time.
    pub(crate) async fn moved(&self, pod: &str, since: u64, within: Duration) -> bool {
        let others = || {
            let other = |writer: &&Writer| writer.pod().is_some_and(|found| found != pod);
            let mut others = self.0.iter().filter(other);
            others.any(|writer| writer.last() > since)
        };
        crate::wait::until_true("another pod acknowledges", within, || async {
            Ok(others())
        })
        .await
        .is_ok()
    }

    /// Ends all and gives their logs.
    pub(crate) fn finish(self) -> Result<Vec<Log>> {
        self.0.iter().for_each(Writer::stop);
        self.0.into_iter().map(Writer::finish).collect()
    }
}
