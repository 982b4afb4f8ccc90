//! Reads of several keys at one revision. The first is read under the leader's seat and sets the revision, and the others, which
//! it vouches for, are read beside one another.

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::proto::RangeRequest;
use super::{Entry, EtcdStore, LISTINGS, Listing, Read, StoreError, head_of};

/// Keys that are asked for at the same time.
const AT_ONCE: usize = 16;

impl EtcdStore {
    /// Each of the keys; tried again where a compaction came between.
    pub(super) async fn points(
        &self,
        keys: Vec<String>,
    ) -> Result<Read<Vec<Option<Entry>>>, StoreError> {
        for _ in 0..LISTINGS {
            match self.points_at_one_revision(&keys).await {
                Ok(read) => return Ok(read),
                Err(Listing::Compacted) => {}
                Err(Listing::Failed(error)) => return Err(error),
            }
        }
        let what = format!("{LISTINGS} readings in a row were overtaken by a compaction");
        Err(StoreError::unavailable("read from etcd", what))
    }

    async fn points_at_one_revision(
        &self,
        keys: &[String],
    ) -> Result<Read<Vec<Option<Entry>>>, Listing> {
        let Some((first, rest)) = keys.split_first() else {
            let (_, revision) = self.read_term().await.map_err(Listing::Failed)?;
            return Ok(Read {
                value: Vec::new(),
                revision,
            });
        };
        let request = |key: &String, revision: i64| RangeRequest {
            key: self.key(key).into(),
            revision,
            ..RangeRequest::default()
        };
        let mut page = self
            .read(request(first, 0))
            .await
            .map_err(Listing::Failed)?;
        let revision = head_of(&page);
        let at = page.header.take().unwrap_or_default().revision;
        let found = page.kvs.pop().map(|found| self.entry(found)).transpose();
        let mut value = vec![found.map_err(Listing::Failed)?];
        let requests: Vec<_> = rest.iter().map(|key| request(key, at)).collect();
        let others = stream::iter(requests).map(|request| async {
            let mut page = self.client.range(request).await.map_err(Listing::of)?;
            let found = page.kvs.pop().map(|found| self.entry(found)).transpose();
            found.map_err(Listing::Failed)
        });
        let others: Vec<_> = others.buffered(AT_ONCE).try_collect().await?;
        value.extend(others);
        Ok(Read { value, revision })
    }
}
