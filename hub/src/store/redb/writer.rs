//! The one writer: a thread that takes every waiting transaction, carries them out in order inside one redb
//! transaction, and syncs the disk once for all of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use redb::{Database, ReadableTable as _, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::recent::Recent;
use super::{COMPACTED, ENTRIES, LOG, LogKey, LogValue, META, REVISION, TERM, number};
use crate::store::txn::Parts;
use crate::store::{Batch, Change, Fence, Revision, StoreError, following};

/// Transactions that may wait for the writer. A caller beyond that waits for room, so memory stays bounded by
/// this number times the largest transaction.
const QUEUE: usize = 64;

enum Job {
    Commit {
        parts: Parts,
        fence: Fence,
        done: oneshot::Sender<Result<Revision, StoreError>>,
    },
    Compact {
        upto: Revision,
        done: oneshot::Sender<Result<Revision, StoreError>>,
    },
}

/// Handle of the writer thread. Dropping it waits for the transactions that were handed over.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        db: Arc<Database>,
        (head, recent): (watch::Sender<Revision>, Recent),
        keep: u64,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let worker = Worker {
            db,
            head,
            recent,
            keep,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || worker.run(queue))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    pub(super) async fn commit(&self, parts: Parts, fence: Fence) -> Result<Revision, StoreError> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Commit { parts, fence, done }, answer).await
    }

    pub(super) async fn compact(&self, upto: Revision) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Compact { upto, done }, answer)
            .await
            .map(|_| ())
    }

    async fn send(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<Revision, StoreError>>,
    ) -> Result<Revision, StoreError> {
        let gone = || StoreError::unavailable("commit", "the writer thread has ended");
        self.jobs
            .as_ref()
            .ok_or_else(gone)?
            .send(job)
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

struct Worker {
    db: Arc<Database>,
    head: watch::Sender<Revision>,
    recent: Recent,
    keep: u64,
}

/// What a group has made durable: up to which revision, and its transactions.
type Written = (Revision, Vec<Batch>);

type Answer = (
    oneshot::Sender<Result<Revision, StoreError>>,
    Result<Revision, StoreError>,
);

impl Worker {
    fn run(self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < QUEUE
                && let Ok(job) = queue.try_recv()
            {
                jobs.push(job);
            }
            self.group(jobs);
        }
    }

    /// Carries out a group and answers each caller, after the disk has it.
    fn group(&self, jobs: Vec<Job>) {
        let mut answers = Vec::with_capacity(jobs.len());
        let head = self.write(jobs, &mut answers);
        match head {
            Ok((head, batches)) => {
                self.recent.extend(batches, head);
                self.head.send_replace(head);
                for (done, result) in answers {
                    answer(done, result);
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store could not commit"
                );
                for (done, _) in answers {
                    answer(
                        done,
                        Err(StoreError::unavailable("commit", error.to_string())),
                    );
                }
            }
        }
    }

    fn write(&self, jobs: Vec<Job>, answers: &mut Vec<Answer>) -> Result<Written, redb::Error> {
        let mut jobs = jobs.into_iter();
        let written = self.write_jobs(&mut jobs, answers);
        // After a failure of the medium nobody of the group may believe that it committed.
        for job in jobs {
            let (Job::Commit { done, .. } | Job::Compact { done, .. }) = job;
            answers.push((
                done,
                Err(StoreError::unavailable(
                    "commit",
                    "an earlier transaction of its group failed",
                )),
            ));
        }
        written
    }

    fn write_jobs(
        &self,
        jobs: &mut impl Iterator<Item = Job>,
        answers: &mut Vec<Answer>,
    ) -> Result<Written, redb::Error> {
        let txn = self.db.begin_write()?;
        let written = {
            let mut tables = Tables::open(&txn)?;
            for job in jobs {
                match job {
                    Job::Commit { parts, fence, done } => match tables.commit(parts, fence) {
                        Ok(result) => answers.push((done, result)),
                        Err(error) => {
                            answers.push((
                                done,
                                Err(StoreError::unavailable("commit", error.to_string())),
                            ));
                            return Err(error);
                        }
                    },
                    Job::Compact { upto, done } => {
                        tables.compact(upto)?;
                        answers.push((done, Ok(upto)));
                    }
                }
            }
            tables.trim(self.keep)?;
            let head = Revision(number(&tables.meta, REVISION)?);
            (head, tables.batches)
        };
        txn.commit()?;
        Ok(written)
    }
}

fn answer(
    done: oneshot::Sender<Result<Revision, StoreError>>,
    result: Result<Revision, StoreError>,
) {
    if done.send(result).is_err() {
        tracing::debug!("a caller did not wait for the answer to its transaction");
    }
}

struct Tables<'t> {
    entries: Table<'t, &'static str, (u64, u64, &'static [u8])>,
    log: Table<'t, LogKey, LogValue>,
    meta: Table<'t, &'static str, u64>,
    /// What was written so far.
    batches: Vec<Batch>,
}

impl<'t> Tables<'t> {
    fn open(txn: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            entries: txn.open_table(ENTRIES)?,
            log: txn.open_table(LOG)?,
            meta: txn.open_table(META)?,
            batches: Vec::new(),
        })
    }

    /// The outer error is the medium's and voids the whole group; the inner one concerns this transaction alone.
    fn commit(
        &mut self,
        parts: Parts,
        fence: Fence,
    ) -> Result<Result<Revision, StoreError>, redb::Error> {
        let held = number(&self.meta, TERM)?;
        if fence.0 < held {
            return Ok(Err(StoreError::Fenced {
                given: fence.0,
                held,
            }));
        }
        for check in &parts.checks {
            let found = self
                .entries
                .get(check.key.as_str())?
                .map(|value| Revision(value.value().1));
            if let Err(conflict) = check.verify(found) {
                return Ok(Err(conflict));
            }
        }
        if fence.0 > held {
            self.meta.insert(TERM, fence.0)?;
        }
        let head = Revision(number(&self.meta, REVISION)?);
        let changed = self.write(parts.writes, following(head))?;
        if !changed {
            return Ok(Ok(head));
        }
        self.meta.insert(REVISION, head.0 + 1)?;
        Ok(Ok(following(head)))
    }

    fn write(
        &mut self,
        writes: BTreeMap<String, Option<Bytes>>,
        revision: Revision,
    ) -> Result<bool, redb::Error> {
        let mut changes = Vec::with_capacity(writes.len());
        let mut index = 0_u32;
        for (key, value) in writes {
            if let Some(value) = &value {
                let created = self
                    .entries
                    .get(key.as_str())?
                    .map_or(revision.0, |old| old.value().0);
                self.entries
                    .insert(key.as_str(), (created, revision.0, value.as_ref()))?;
            } else if self.entries.remove(key.as_str())?.is_none() {
                continue;
            }
            self.log
                .insert((revision.0, index), (key.as_str(), value.as_deref()))?;
            index += 1;
            changes.push(Change { key, value });
        }
        let changed = !changes.is_empty();
        if changed {
            self.batches.push(Batch { revision, changes });
        }
        Ok(changed)
    }

    /// Keeps the last `keep` revisions of the log; works in steps so that no single commit pays for all.
    fn trim(&mut self, keep: u64) -> Result<(), redb::Error> {
        let (head, compacted) = (
            number(&self.meta, REVISION)?,
            number(&self.meta, COMPACTED)?,
        );
        if head.saturating_sub(compacted) > keep + keep / 10 {
            self.compact(Revision(head - keep))?;
        }
        Ok(())
    }

    fn compact(&mut self, upto: Revision) -> Result<(), redb::Error> {
        let upto = upto.0.min(number(&self.meta, REVISION)?);
        if upto > number(&self.meta, COMPACTED)? {
            self.log
                .retain_in((0, 0)..=(upto, u32::MAX), |_, _| false)?;
            self.meta.insert(COMPACTED, upto)?;
        }
        Ok(())
    }
}
