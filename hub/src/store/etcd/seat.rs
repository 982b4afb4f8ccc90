//! The seat of the replica that leads: one record, bound to a lease. It is taken in one transaction with the next term,
//! and every transaction and every read of a leader demands that it still stands.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    EtcdStore, RangeRequest, RangeResponse, TxnRequest, at_revision, fenced, proto, range, ranges,
    request_op, term_of,
};
use crate::clock::since_boot;
use crate::domain::election::{Lease, Moment};
use crate::store::txn::Parts;
use crate::store::{Fence, StoreError, Txn};

/// Who has the seat, as it is stored for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seat {
    /// The replica: random for each process.
    pub replica: String,
    /// `host:port` of its web API, as the other replicas reach it.
    pub web_address: String,
    /// The term that was taken with the seat.
    pub term: u64,
}

/// Until when a leader may act, by [`since_boot`], and the term that it has reached. Clones share it.
#[derive(Clone, Default)]
pub struct Tenure {
    /// Milliseconds.
    until: Arc<AtomicU64>,
    term: Arc<AtomicU64>,
}

impl Tenure {
    /// Sets its end; zero ends it at once.
    pub fn set(&self, until: Moment) {
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Release);
    }

    /// Whether it stands now.
    #[must_use]
    pub fn holds(&self) -> bool {
        since_boot() < Duration::from_millis(self.until.load(Ordering::Acquire))
    }

    /// The highest term that was written in it: that of the seat, or a later one that a person let begin.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// A seat was taken. Its term may be lower than one before, if an older copy of etcd was put back.
    fn begins(&self, term: u64) {
        self.term.store(term, Ordering::Release);
    }

    pub(super) fn reached(&self, term: u64) {
        self.term.fetch_max(term, Ordering::AcqRel);
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure")
            .field("holds", &self.holds())
            .field("term", &self.term())
            .finish_non_exhaustive()
    }
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Who has the seat.
    pub seat: Option<(Lease, Seat)>,
    /// The highest term that has written.
    pub term: u64,
}

/// A seat that was taken.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Revision at which it was taken. It is never written again.
    pub(super) revision: i64,
    pub(super) tenure: Tenure,
}

impl EtcdStore {
    pub(super) fn seat_key(&self) -> Vec<u8> {
        format!("{}/seat", self.root).into_bytes()
    }

    /// Who has the seat.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], and soon: a failed look is repeated.
    pub async fn seat(&self) -> Result<Option<(Lease, Seat)>, StoreError> {
        Ok(self.look().await?.seat)
    }

    /// Who has the seat, and the term, of one moment.
    ///
    /// # Errors
    /// As [`EtcdStore::seat`].
    pub async fn look(&self) -> Result<Looked, StoreError> {
        // No other key of ours lies between the two.
        let request = RangeRequest {
            key: self.seat_key().into(),
            range_end: super::after(&self.term_key()).into(),
            ..RangeRequest::default()
        };
        let answer = self.client.look(request).await;
        let answer = answer.map_err(|e| StoreError::unavailable("look who leads", e))?;
        let of = |key: Vec<u8>| answer.kvs.iter().find(move |found| found.key == key);
        let held = term_of(of(self.term_key()))?;
        let seat = of(self.seat_key()).map(|found| {
            let seat = serde_json::from_slice(&found.value).map_err(|e| StoreError::Record {
                key: String::from_utf8_lossy(&found.key).into_owned(),
                reason: e.to_string(),
            });
            Ok((Lease(found.lease), seat?))
        });
        Ok(Looked {
            seat: seat.transpose()?,
            term: held.term,
        })
    }

    /// A new lease, and the life that etcd gives it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn grant(&self, life: Duration) -> Result<(Lease, Duration), StoreError> {
        let ttl = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        let granted = self.client.grant(ttl).await;
        let granted = granted.map_err(|e| StoreError::unavailable("grant a lease", e))?;
        if !granted.error.is_empty() {
            return Err(StoreError::unavailable("grant a lease", granted.error));
        }
        Ok((Lease(granted.id), seconds(granted.ttl)))
    }

    /// Lets a lease live on, and says how long; `None` if there is no such lease.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn renew(&self, lease: Lease) -> Result<Option<Duration>, StoreError> {
        let ttl = self.client.keep_alive(lease.0).await;
        let ttl = ttl.map_err(|e| StoreError::unavailable("renew a lease", e))?;
        Ok((ttl > 0).then(|| seconds(ttl)))
    }

    /// Ends a lease, and with it the seat that is bound to it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; it then ends by itself.
    pub async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        let revoked = self.client.revoke(lease.0).await;
        revoked.map_err(|e| StoreError::unavailable("revoke a lease", e))
    }

    /// Takes the seat if it is empty, raises the term to that of the fence and carries out the transaction: all or nothing.
    /// The result is the store of the leader, which reads and writes as long as the seat and the tenure stand.
    ///
    /// # Errors
    /// [`StoreError::NotLeading`] if somebody has the seat, [`StoreError::Fenced`] if the term is not above every other, and
    /// those of a commit. After [`StoreError::Unavailable`] nobody knows whether it was carried out: revoke the lease.
    pub async fn claim(
        &self,
        lease: Lease,
        seat: &Seat,
        txn: Txn,
        tenure: Tenure,
    ) -> Result<Self, StoreError> {
        let fence = Fence(seat.term);
        let held = self.held();
        if fence.0 <= held.term {
            fenced(fence, held)?;
            return Err(StoreError::NotLeading);
        }
        let parts = txn.into_parts()?;
        let request = self.claiming(&parts, fence, lease, seat)?;
        let answer = self.client.txn(request).await;
        let answer = answer.map_err(|e| StoreError::unavailable("claim the seat", e))?;
        let revision = answer.header.unwrap_or_default().revision;
        if !answer.succeeded {
            return Err(self.refused(&parts, fence, &ranges(answer))?);
        }
        self.learn(super::HeldTerm {
            term: fence.0,
            revision,
        });
        tenure.begins(fence.0);
        Ok(Self {
            client: Arc::clone(&self.client),
            root: self.root.clone(),
            held: Arc::clone(&self.held),
            seat: Some(Held { revision, tenure }),
        })
    }

    fn claiming(
        &self,
        parts: &Parts,
        fence: Fence,
        lease: Lease,
        seat: &Seat,
    ) -> Result<TxnRequest, StoreError> {
        let record = serde_json::to_vec(seat).map_err(|e| StoreError::Record {
            key: String::from_utf8_lossy(&self.seat_key()).into_owned(),
            reason: e.to_string(),
        })?;
        let mut request = self.request(parts, fence, self.held());
        request.compare.push(at_revision(self.seat_key(), 0));
        request.success.push(proto::RequestOp {
            request: Some(request_op::Request::Put(proto::PutRequest {
                key: self.seat_key().into(),
                value: Bytes::from(record),
                lease: lease.0,
            })),
        });
        Ok(request)
    }

    /// Why a claim was refused.
    fn refused(
        &self,
        parts: &Parts,
        fence: Fence,
        found: &[RangeResponse],
    ) -> Result<StoreError, StoreError> {
        let now = term_of(found.first().and_then(|it| it.kvs.first()))?;
        self.learn(now);
        fenced(fence, now)?;
        for (check, found) in parts.checks.iter().zip(found.iter().skip(2)) {
            check.verify(found.kvs.first().map(|it| super::revision(it.mod_revision)))?;
        }
        Ok(StoreError::NotLeading)
    }

    /// Reads, in the store of a leader only while it leads.
    ///
    /// This is what a leader's words to its members rest on. All that it had heard before the read is of a revision that
    /// the store had reached by then, and a successor's term begins above that: a leader that was stopped and wakes up
    /// late can tell nobody of anything beyond its own term.
    pub(super) async fn read(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let failed = |status| StoreError::unavailable("read from etcd", status);
        let Some(seat) = &self.seat else {
            return self.client.range(request).await.map_err(failed);
        };
        if !seat.tenure.holds() {
            return Err(StoreError::NotLeading);
        }
        let request = TxnRequest {
            compare: vec![at_revision(self.seat_key(), seat.revision)],
            success: vec![range(request)],
            failure: Vec::new(),
        };
        let answer = self.client.range_if(request).await.map_err(failed)?;
        if !answer.succeeded {
            return Err(StoreError::NotLeading);
        }
        let header = answer.header;
        let found = ranges(answer).into_iter().next().unwrap_or_default();
        Ok(RangeResponse { header, ..found })
    }

    /// Whether the seat stands, after a transaction that demands it was refused.
    pub(super) fn seated(&self, found: Option<&RangeResponse>) -> Result<(), StoreError> {
        let Some(seat) = &self.seat else {
            return Ok(());
        };
        let now = found.and_then(|found| found.kvs.first());
        if now.is_some_and(|now| now.mod_revision == seat.revision) {
            return Ok(());
        }
        Err(StoreError::NotLeading)
    }
}

fn seconds(etcd: i64) -> Duration {
    Duration::from_secs(u64::try_from(etcd).unwrap_or_default())
}
