//! What a member is told.

use std::collections::BTreeSet;

use meridian_api::ids::{ClusterUid, ObjectId};

use super::App;
use crate::domain::desired::Desired;
use crate::store::records::{self, Held};
use crate::store::{Read, StoreError, keys};

impl App {
    /// What a member is to make true now, with the revision of each and of the whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn desired_of(
        &self,
        uid: ClusterUid,
    ) -> Result<Read<Vec<Held<Desired>>>, StoreError> {
        records::list(self.store().as_ref(), &keys::desired_of(uid)).await
    }

    /// The newest state of some of these objects, all at one revision; what is wanted no more is left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn desired_objects(
        &self,
        uid: ClusterUid,
        objects: &BTreeSet<ObjectId>,
    ) -> Result<Vec<Held<Desired>>, StoreError> {
        let keys = objects
            .iter()
            .map(|object| keys::desired(uid, *object).text().to_owned());
        let found = self.store().get_all(keys.collect()).await?.value;
        records::all(found.into_iter().flatten())
    }
}
