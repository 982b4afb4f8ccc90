//! The embedded store: one redb file, one writer thread with group commit, readers on their own snapshots.
//!
//! Tables: `entries` (key → created, modified, value), `log` ((revision, index) → key, new value; what watches read)
//! and `meta` (format, revision, compacted, term). The log keeps the last [`LOG_KEEP`] revisions.

mod recent;
mod writer;

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable, TableDefinition};
use tokio::sync::watch;

use super::{Batch, Change, Entry, FOR_EVER, Fence, Read, Revision, Store, StoreError, Txn, Watch};
use recent::Recent;
use writer::Writer;

/// Revision, and the change's place in its transaction.
type LogKey = (u64, u32);
/// The changed key, and its new value unless it was deleted.
type LogValue = (&'static str, Option<&'static [u8]>);

const ENTRIES: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("entries");
const LOG: TableDefinition<'_, LogKey, LogValue> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT: &str = "format";
const REVISION: &str = "revision";
const COMPACTED: &str = "compacted";
const TERM: &str = "term";
/// Number of the layout above; a file with a higher one is refused.
const FORMAT_NOW: u64 = 1;
/// Revisions that stay in the log. A reader further behind lists again, which costs one read of what it watches.
const LOG_KEEP: u64 = 10_000;
/// Rows of the log that a watch reads in one go, so that one reader holds no large copy.
const WATCH_ROWS: usize = 512;
/// Keys that are looked at together without another thread.
const FEW: usize = 128;
/// Page cache. The hub's whole state is a few megabytes; the default of 1 GiB would let it grow without use.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// A store in one file, made with mode 0600. Clones share it; the file is closed when the last clone is dropped.
#[derive(Clone)]
pub struct RedbStore {
    db: Arc<Database>,
    writer: Arc<Writer>,
    head: watch::Receiver<Revision>,
    recent: Recent,
    path: Arc<Path>,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("head", &*self.head.borrow())
            .finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens the file, making it if it is not there. Blocks on the disk: call it before serving.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened (another hub holds it, no permission, damage) and
    /// [`StoreError::Format`] if a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_keeping(path, LOG_KEEP)
    }

    fn open_keeping(path: &Path, keep: u64) -> Result<Self, StoreError> {
        let open = |source: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("open its file", source)
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| open(e.into()))?;
        let backend = FileBackend::new(file).map_err(|e| open(e.into()))?;
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|e| open(e.into()))?;
        let head = prepare(&db, path)?;
        let db = Arc::new(db);
        let (sender, receiver) = watch::channel(head);
        let recent = Recent::after_revision(head);
        let writer = Writer::start(Arc::clone(&db), (sender, recent.clone()), keep)
            .map_err(|e| StoreError::unavailable("start its writer", e))?;
        Ok(Self {
            db,
            writer: Arc::new(writer),
            head: receiver,
            recent,
            path: path.into(),
        })
    }

    /// A look at a few keys. They lie in the cache of pages, or in the kernel's: it takes less than handing it to another thread.
    fn look<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let looked = self.db.begin_read().map_err(redb::Error::from);
        let looked = looked.and_then(|txn| read(&txn));
        looked.map_err(|e| StoreError::unavailable("read", e))
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    {
        let db = Arc::clone(&self.db);
        tokio::task::spawn_blocking(move || {
            let txn = db.begin_read().map_err(redb::Error::from)?;
            read(&txn)
        })
        .await
        .map_err(|e| StoreError::unavailable("finish a read", e))?
        .map_err(|e| StoreError::unavailable("read", e))
    }
}

/// Makes the tables and checks the format; returns the revision that the file stands at.
fn prepare(db: &Database, path: &Path) -> Result<Revision, StoreError> {
    let prepared = || -> Result<(u64, u64), redb::Error> {
        let txn = db.begin_write()?;
        let (format, head) = {
            txn.open_table(ENTRIES)?;
            txn.open_table(LOG)?;
            let mut meta = txn.open_table(META)?;
            let format = number(&meta, FORMAT)?;
            if format == 0 {
                meta.insert(FORMAT, FORMAT_NOW)?;
            }
            (format, number(&meta, REVISION)?)
        };
        txn.commit()?;
        Ok((format, head))
    };
    let (format, head) = prepared().map_err(|e| StoreError::unavailable("prepare its file", e))?;
    if format > FORMAT_NOW {
        let path = path.display().to_string();
        return Err(StoreError::Format {
            path,
            found: format,
            supported: FORMAT_NOW,
        });
    }
    Ok(Revision(head))
}

/// A counter of the `meta` table, 0 if it was never written.
fn number(
    meta: &impl ReadableTable<&'static str, u64>,
    name: &str,
) -> Result<u64, redb::StorageError> {
    Ok(meta.get(name)?.map_or(0, |value| value.value()))
}

fn entry(key: &str, (created, modified, value): (u64, u64, &[u8])) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value),
        created: Revision(created),
        modified: Revision(modified),
    }
}

fn below(
    table: &impl ReadableTable<&'static str, (u64, u64, &'static [u8])>,
    prefix: &str,
) -> Result<Vec<Entry>, redb::Error> {
    let mut found = Vec::new();
    for row in table.range(prefix..)? {
        let (key, value) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.push(entry(key.value(), value.value()));
    }
    Ok(found)
}

/// What a look into the log found.
enum Found {
    Batches {
        batches: Vec<Batch>,
        searched: Revision,
    },
    Compacted {
        oldest: Revision,
    },
}

/// Reads whole transactions above `after` from the log, as many as [`WATCH_ROWS`] rows hold but at least one.
fn log_after(
    txn: &redb::ReadTransaction,
    prefix: &str,
    after: Revision,
) -> Result<Found, redb::Error> {
    let meta = txn.open_table(META)?;
    let oldest = Revision(number(&meta, COMPACTED)?);
    if after < oldest {
        return Ok(Found::Compacted { oldest });
    }
    let mut batches: Vec<Batch> = Vec::new();
    let mut searched = Revision(number(&meta, REVISION)?);
    let mut last = after;
    for (rows, row) in txn.open_table(LOG)?.range((after.0 + 1, 0)..)?.enumerate() {
        let (key, value) = row?;
        let revision = Revision(key.value().0);
        if rows >= WATCH_ROWS && revision != last {
            searched = last;
            break;
        }
        last = revision;
        let (key, value) = value.value();
        if !key.starts_with(prefix) {
            continue;
        }
        let change = Change {
            key: key.to_owned(),
            value: value.map(Bytes::copy_from_slice),
        };
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.changes.push(change),
            _ => batches.push(Batch {
                revision,
                changes: vec![change],
            }),
        }
    }
    Ok(Found::Batches { batches, searched })
}

/// A watch's place in the log. It holds no writer: a store that is dropped ends its watches.
struct Cursor {
    db: Arc<Database>,
    head: watch::Receiver<Revision>,
    recent: Recent,
    prefix: String,
    after: Revision,
    upto: Revision,
    over: bool,
}

impl Cursor {
    async fn look(&self) -> Result<Found, StoreError> {
        if let Some(found) = self.recent.below(&self.prefix, self.after) {
            return Ok(found);
        }
        let (db, prefix, after) = (Arc::clone(&self.db), self.prefix.clone(), self.after);
        tokio::task::spawn_blocking(move || {
            let txn = db.begin_read().map_err(redb::Error::from)?;
            log_after(&txn, &prefix, after)
        })
        .await
        .map_err(|e| StoreError::unavailable("finish a watch's read", e))?
        .map_err(|e| StoreError::unavailable("read its log", e))
    }

    async fn advance(mut self) -> Option<(Vec<Result<Batch, StoreError>>, Self)> {
        while !self.over {
            let head = *self.head.borrow_and_update();
            match self.look().await {
                Err(error) => {
                    self.over = true;
                    return Some((vec![Err(error)], self));
                }
                Ok(Found::Compacted { oldest }) => {
                    self.over = true;
                    let error = StoreError::Compacted {
                        asked: self.after,
                        oldest,
                    };
                    return Some((vec![Err(error)], self));
                }
                Ok(Found::Batches {
                    mut batches,
                    searched,
                }) => {
                    self.after = searched;
                    self.over = searched >= self.upto;
                    batches.retain(|batch| batch.revision <= self.upto);
                    if !batches.is_empty() {
                        return Some((batches.into_iter().map(Ok).collect(), self));
                    }
                }
            }
            if self.after >= head && !self.over {
                self.over = self.head.changed().await.is_err();
            }
        }
        None
    }
}

impl Store for RedbStore {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Read<Option<Entry>>, StoreError>> {
        let read = self.look(|txn| {
            let entries = txn.open_table(ENTRIES)?;
            let value = entries
                .get(key.as_str())?
                .map(|value| entry(&key, value.value()));
            Ok(Read {
                value,
                revision: Revision(number(&txn.open_table(META)?, REVISION)?),
            })
        });
        std::future::ready(read).boxed()
    }

    fn get_all(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Option<Entry>>>, StoreError>> {
        let is_few = keys.len() <= FEW;
        let read = move |txn: &redb::ReadTransaction| {
            let entries = txn.open_table(ENTRIES)?;
            let found = keys.iter().map(|key| {
                let found = entries.get(key.as_str())?;
                Ok::<_, redb::Error>(found.map(|value| entry(key, value.value())))
            });
            let value = found.collect::<Result<_, _>>()?;
            Ok(Read {
                value,
                revision: Revision(number(&txn.open_table(META)?, REVISION)?),
            })
        };
        if is_few {
            return std::future::ready(self.look(read)).boxed();
        }
        self.read(read).boxed()
    }

    fn list(
        &self,
        prefixes: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Vec<Entry>>>, StoreError>> {
        self.read(move |txn| {
            let entries = txn.open_table(ENTRIES)?;
            let value = prefixes
                .iter()
                .map(|prefix| below(&entries, prefix))
                .collect::<Result<_, _>>()?;
            Ok(Read {
                value,
                revision: Revision(number(&txn.open_table(META)?, REVISION)?),
            })
        })
        .boxed()
    }

    fn watch(&self, prefix: String, after: Revision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.history(prefix, after, FOR_EVER)
    }

    fn history(
        &self,
        prefix: String,
        after: Revision,
        upto: Revision,
    ) -> BoxFuture<'_, Result<Watch, StoreError>> {
        async move {
            let (head, oldest) = self.look(|txn| {
                let meta = txn.open_table(META)?;
                Ok((
                    Revision(number(&meta, REVISION)?),
                    Revision(number(&meta, COMPACTED)?),
                ))
            })?;
            if after > head {
                return Err(StoreError::Ahead { asked: after, head });
            }
            if after < oldest {
                return Err(StoreError::Compacted {
                    asked: after,
                    oldest,
                });
            }
            let cursor = Cursor {
                db: Arc::clone(&self.db),
                head: self.head.clone(),
                recent: self.recent.clone(),
                prefix,
                after,
                upto,
                over: false,
            };
            Ok(stream::unfold(cursor, Cursor::advance)
                .flat_map(stream::iter)
                .boxed())
        }
        .boxed()
    }

    fn commit(&self, txn: Txn, fence: Fence) -> BoxFuture<'_, Result<Revision, StoreError>> {
        async move { self.writer.commit(txn.into_parts()?, fence).await }.boxed()
    }

    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        self.writer.compact(upto).boxed()
    }

    fn term(&self) -> BoxFuture<'_, Result<Fence, StoreError>> {
        let term = self.look(|txn| Ok(Fence(number(&txn.open_table(META)?, TERM)?)));
        std::future::ready(term).boxed()
    }

    fn file_bytes(&self) -> Option<u64> {
        let found = std::fs::metadata(&self.path);
        found.ok().map(|file| file.len())
    }
}

#[cfg(test)]
mod tests;
