//! The store in etcd, for hubs of several replicas.
//!
//! Revisions are etcd's own: one counter for everything that the etcd cluster holds, so that they rise and need not be
//! without gaps. Every transaction compares the term under `<root>/term` beside its own checks, and raises it in the same
//! transaction: a hub whose term is over can write nothing, whatever it still believes. The replica that leads writes
//! and reads through a store that compares its seat as well ([`seat`]), which ends with its lease. Reads are linearizable.
//!
//! Needs etcd 3.6: earlier versions can lose the deletion at a compacted revision.

mod client;
pub mod mirror;
mod points;
pub mod seat;
mod settings;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tonic::Code;

use self::client::Client;
use self::proto::{RangeRequest, RangeResponse, TxnRequest, compare, request_op, response_op};
pub use self::settings::{EtcdSettings, Login, SettingsError, Tls};
use super::txn::Parts;
use super::{Check, Entry, Expect, Fence, Read, Revision, Store, StoreError, Txn, Watch};

/// Messages and clients generated from `proto/etcd.proto`.
#[expect(
    unused_qualifications,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated code, not ours to shape"
)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

/// Entries that are read together: bounds an answer to about this many times the largest value.
const PAGE: i64 = 128;
/// How often a listing begins anew because its revision was compacted meanwhile.
const LISTINGS: usize = 5;

/// The term as etcd holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct HeldTerm {
    term: u64,
    /// Revision of its key, 0 if there is none.
    revision: i64,
}

/// A store in etcd below a root that is its own.
#[derive(Debug)]
pub struct EtcdStore {
    client: Arc<Client>,
    root: String,
    held: Arc<Mutex<HeldTerm>>,
    /// The seat that every transaction demands, if it is the store of a leader.
    seat: Option<seat::Held>,
}

impl EtcdStore {
    /// Opens the store and reads its term, so that wrong settings show at once.
    ///
    /// # Errors
    /// [`SettingsError`] in the settings, or [`StoreError::Unavailable`] if no endpoint answers.
    pub async fn open(settings: &EtcdSettings) -> Result<Self, SettingsError> {
        let store = Self {
            client: Arc::new(Client::new(settings)?),
            root: settings.root.clone(),
            held: Arc::default(),
            seat: None,
        };
        let answered = store.term().await;
        answered.map_err(|source| SettingsError::Unreachable {
            endpoints: settings.endpoints.clone(),
            source,
        })?;
        Ok(store)
    }

    fn term_key(&self) -> Vec<u8> {
        format!("{}/term", self.root).into_bytes()
    }

    /// Where the hub's keys lie, which begin with a slash.
    fn data(&self) -> String {
        format!("{}/hub", self.root)
    }

    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.data()).into_bytes()
    }

    fn held(&self) -> HeldTerm {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read last counts, also if it is lower: an older copy of etcd may have been put back. A reading that is
    /// overtaken does no harm, because every transaction compares it and reads it anew if it is wrong.
    fn learn(&self, held: HeldTerm) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    async fn read_term(&self) -> Result<(HeldTerm, Revision), StoreError> {
        let request = RangeRequest {
            key: self.term_key().into(),
            ..RangeRequest::default()
        };
        let response = self.read(request).await?;
        let held = term_of(response.kvs.first())?;
        self.learn(held);
        Ok((held, head_of(&response)))
    }

    /// The store's revision, soon or not at all.
    async fn head(&self) -> Result<Revision, StoreError> {
        let request = RangeRequest {
            key: self.term_key().into(),
            ..RangeRequest::default()
        };
        let answer = self.client.look(request).await;
        let answer = answer.map_err(|status| StoreError::unavailable("read from etcd", status))?;
        Ok(head_of(&answer))
    }

    fn entry(&self, found: proto::KeyValue) -> Result<Entry, StoreError> {
        Ok(Entry {
            key: relative(&self.data(), &found.key)?,
            value: found.value,
            created: revision(found.create_revision),
            modified: revision(found.mod_revision),
        })
    }

    async fn list_at_one_revision(
        &self,
        prefixes: &[String],
    ) -> Result<Read<Vec<Vec<Entry>>>, Listing> {
        let mut at = 0;
        let mut value = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            value.push(self.list_prefix(prefix, &mut at).await?);
        }
        if at == 0 {
            let (_, head) = self.read_term().await.map_err(Listing::Failed)?;
            return Ok(Read {
                value,
                revision: head,
            });
        }
        Ok(Read {
            value,
            revision: revision(at),
        })
    }

    /// All pages of one prefix at the revision `at`; the first page that is read at all sets it.
    async fn list_prefix(&self, prefix: &str, at: &mut i64) -> Result<Vec<Entry>, Listing> {
        let mut entries = Vec::new();
        let mut from = self.key(prefix);
        let end = after(&from);
        loop {
            let request = RangeRequest {
                key: from.into(),
                range_end: end.clone().into(),
                limit: PAGE,
                revision: *at,
            };
            let page = match *at {
                0 => self.read(request).await.map_err(Listing::Failed)?,
                // What the first page was read under holds for the others: they are of its revision.
                _ => self.client.range(request).await.map_err(Listing::of)?,
            };
            if *at == 0 {
                *at = page.header.unwrap_or_default().revision;
            }
            let Some(last) = page.kvs.last().map(|found| found.key.clone()) else {
                return Ok(entries);
            };
            for found in page.kvs {
                entries.push(self.entry(found).map_err(Listing::Failed)?);
            }
            if !page.more {
                return Ok(entries);
            }
            from = [&last[..], &[0]].concat();
        }
    }

    fn request(&self, parts: &Parts, fence: Fence, held: HeldTerm) -> TxnRequest {
        let mut compare = vec![at_revision(self.term_key(), held.revision)];
        let mut failure = vec![get(self.term_key()), get(self.seat_key())];
        if let Some(seat) = &self.seat {
            compare.push(at_revision(self.seat_key(), seat.revision));
        }
        for Check { key, expect } in &parts.checks {
            let expected = match expect {
                Expect::Absent => 0,
                Expect::At(revision) => signed(*revision),
            };
            compare.push(at_revision(self.key(key), expected));
            failure.push(get(self.key(key)));
        }
        let mut success: Vec<_> = parts
            .writes
            .iter()
            .map(|(key, value)| write(self.key(key), value.as_ref()))
            .collect();
        if fence.0 > held.term {
            let term = Bytes::from(fence.0.to_string());
            success.push(write(self.term_key(), Some(&term)));
        }
        TxnRequest {
            compare,
            success,
            failure,
        }
    }

    async fn commit_parts(&self, parts: Parts, fence: Fence) -> Result<Revision, StoreError> {
        loop {
            if self.seat.as_ref().is_some_and(|seat| !seat.tenure.holds()) {
                return Err(StoreError::NotLeading);
            }
            let held = self.held();
            fenced(fence, held)?;
            let request = self.request(&parts, fence, held);
            let response = self
                .client
                .txn(request)
                .await
                .map_err(|status| StoreError::unavailable("commit to etcd", status))?;
            let head = response.header.unwrap_or_default().revision;
            if response.succeeded {
                if fence.0 > held.term {
                    self.learn(HeldTerm {
                        term: fence.0,
                        revision: head,
                    });
                }
                if let Some(seat) = &self.seat {
                    seat.tenure.reached(fence.0);
                }
                return Ok(revision(head));
            }
            let found = ranges(response);
            let now = term_of(found.first().and_then(|it| it.kvs.first()))?;
            self.learn(now);
            fenced(fence, now)?;
            self.seated(found.get(1))?;
            for (check, found) in parts.checks.iter().zip(found.iter().skip(2)) {
                check.verify(found.kvs.first().map(|found| revision(found.mod_revision)))?;
            }
            if now == held {
                let what = "etcd refused a transaction although all that it checks holds";
                return Err(StoreError::unavailable("commit to etcd", what));
            }
        }
    }

    async fn compact_upto(&self, upto: Revision) -> Result<(), StoreError> {
        let (_, head) = self.read_term().await?;
        match self.client.compact(signed(upto.min(head))).await {
            // Somebody else has compacted further already.
            Err(status) if status.code() == Code::OutOfRange => Ok(()),
            other => other.map_err(|status| StoreError::unavailable("compact etcd", status)),
        }
    }
}

/// Why a listing ended.
enum Listing {
    /// Its revision was compacted between two pages.
    Compacted,
    Failed(StoreError),
}

impl Listing {
    fn of(status: tonic::Status) -> Self {
        if status.code() == Code::OutOfRange {
            return Self::Compacted;
        }
        Self::Failed(StoreError::unavailable("list from etcd", status))
    }
}

fn fenced(fence: Fence, held: HeldTerm) -> Result<(), StoreError> {
    if fence.0 < held.term {
        return Err(StoreError::Fenced {
            given: fence.0,
            held: held.term,
        });
    }
    Ok(())
}

fn term_of(found: Option<&proto::KeyValue>) -> Result<HeldTerm, StoreError> {
    let Some(found) = found else {
        return Ok(HeldTerm::default());
    };
    let text = String::from_utf8_lossy(&found.value);
    let term = text.parse().map_err(|_| StoreError::Record {
        key: String::from_utf8_lossy(&found.key).into_owned(),
        reason: format!("found {text:?}, expected the number of a term"),
    })?;
    Ok(HeldTerm {
        term,
        revision: found.mod_revision,
    })
}

fn ranges(response: proto::TxnResponse) -> Vec<RangeResponse> {
    let ranges = response
        .responses
        .into_iter()
        .map(|one| match one.response {
            Some(response_op::Response::Range(range)) => range,
            _ => RangeResponse::default(),
        });
    ranges.collect()
}

fn at_revision(key: Vec<u8>, revision: i64) -> proto::Compare {
    proto::Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(compare::TargetUnion::ModRevision(revision)),
    }
}

fn get(key: Vec<u8>) -> proto::RequestOp {
    range(RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    })
}

fn range(request: RangeRequest) -> proto::RequestOp {
    proto::RequestOp {
        request: Some(request_op::Request::Range(request)),
    }
}

fn write(key: Vec<u8>, value: Option<&Bytes>) -> proto::RequestOp {
    let key = key.into();
    let request = match value {
        Some(value) => request_op::Request::Put(proto::PutRequest {
            key,
            value: value.clone(),
            lease: 0,
        }),
        None => request_op::Request::DeleteRange(proto::DeleteRangeRequest {
            key,
            range_end: Bytes::new(),
        }),
    };
    proto::RequestOp {
        request: Some(request),
    }
}

/// The key as the hub spells it.
fn relative(data: &str, key: &[u8]) -> Result<String, StoreError> {
    let below = std::str::from_utf8(key)
        .ok()
        .and_then(|key| key.strip_prefix(data));
    below.map(str::to_owned).ok_or_else(|| StoreError::Record {
        key: String::from_utf8_lossy(key).into_owned(),
        reason: format!("found a key that is no text below {data}"),
    })
}

/// The first key above all that begin with `prefix`. Text has no byte 255, so that the last byte can be raised.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

fn head_of(response: &RangeResponse) -> Revision {
    revision(response.header.unwrap_or_default().revision)
}

/// etcd counts from 1 upwards.
fn revision(etcd: i64) -> Revision {
    Revision(u64::try_from(etcd).unwrap_or_default())
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

impl Store for EtcdStore {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Read<Option<Entry>>, StoreError>> {
        async move {
            let request = RangeRequest {
                key: self.key(&key).into(),
                ..RangeRequest::default()
            };
            let mut response = self.read(request).await?;
            let revision = head_of(&response);
            let found = response.kvs.pop().map(|found| self.entry(found));
            Ok(Read {
                value: found.transpose()?,
                revision,
            })
        }
        .boxed()
    }

    fn get_all(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Option<Entry>>>, StoreError>> {
        self.points(keys).boxed()
    }

    fn list(
        &self,
        prefixes: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Vec<Entry>>>, StoreError>> {
        async move {
            for _ in 0..LISTINGS {
                match self.list_at_one_revision(&prefixes).await {
                    Ok(read) => return Ok(read),
                    Err(Listing::Compacted) => {}
                    Err(Listing::Failed(error)) => return Err(error),
                }
            }
            let what = format!("{LISTINGS} listings in a row were overtaken by a compaction");
            Err(StoreError::unavailable("list from etcd", what))
        }
        .boxed()
    }

    fn watch(&self, prefix: String, after: Revision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        async move {
            let (_, head) = self.read_term().await?;
            if after > head {
                return Err(StoreError::Ahead { asked: after, head });
            }
            watch::open(&self.client, self.data(), &prefix, after, head).await
        }
        .boxed()
    }

    fn history(
        &self,
        prefix: String,
        after: Revision,
        upto: Revision,
    ) -> BoxFuture<'_, Result<Watch, StoreError>> {
        async move {
            let (_, head) = self.read_term().await?;
            if after > head {
                return Err(StoreError::Ahead { asked: after, head });
            }
            let between = (after, upto.min(head));
            watch::past(&self.client, self.data(), &prefix, between, head).await
        }
        .boxed()
    }

    fn commit(&self, txn: Txn, fence: Fence) -> BoxFuture<'_, Result<Revision, StoreError>> {
        async move { self.commit_parts(txn.into_parts()?, fence).await }.boxed()
    }

    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        self.compact_upto(upto).boxed()
    }

    fn term(&self) -> BoxFuture<'_, Result<Fence, StoreError>> {
        async move { Ok(Fence(self.read_term().await?.0.term)) }.boxed()
    }
}

#[cfg(test)]
#[cfg(feature = "lab")]
pub(crate) mod tests;
