//! What a member has not said to be done: it is told again when a session begins, because what was said may have been lost
//! with the process that said it or with the one that heard it.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ClusterUid, ObjectId, Revision};

use super::App;
use crate::domain::desired::Desired;
use crate::store::records::{self, Held, StoredOutcome};
use crate::store::{StoreError, keys};

impl App {
    /// Which of these objects the member has not said to be as they are wanted now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unsettled(
        &self,
        uid: ClusterUid,
        desired: &[Held<Desired>],
    ) -> Result<BTreeSet<ObjectId>, StoreError> {
        let outcomes = records::list(self.store().as_ref(), &keys::outcomes_of(uid)).await?;
        let done = outcomes.value.into_iter().filter_map(|held| {
            let StoredOutcome {
                revision, result, ..
            } = held.record;
            let (_, object) = keys::cluster_and_object(&held.key)?;
            result.is_done().then_some((object, revision))
        });
        let done: BTreeMap<ObjectId, Revision> = done.collect();
        let unsettled = desired
            .iter()
            .filter(|held| done.get(&held.record.object_id) != Some(&held.modified));
        Ok(unsettled.map(|held| held.record.object_id).collect())
    }
}
