//! How often one member gets certificates. Each is written down: a member that asks without end would fill the store and push out
//! of the audit log what others did.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use meridian_api::ids::ClusterUid;

use crate::app::{App, AppError};
use crate::clock::since_boot;
use crate::domain::limits::{Buckets, Rate};

/// Certificates of one member: an agent asks for one of its own in days and for one of each REC in weeks. As many at once as a
/// cluster of many RECs needs after its agent was made anew.
pub(super) const EACH: Rate = Rate {
    every: Duration::from_secs(60),
    burst: 64,
};
/// Members that are counted one by one.
const MEMBERS: usize = 8192;

/// Who got how many lately, in this process.
#[derive(Debug)]
pub struct Pace(Mutex<Buckets<ClusterUid>>);

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Buckets::new(EACH, MEMBERS)))
    }
}

impl App {
    /// Refuses a member that proved who it is and asks for more certificates than any needs.
    ///
    /// # Errors
    /// [`AppError::Busy`].
    pub(in crate::app) fn must_keep_pace(&self, cluster: ClusterUid) -> Result<(), AppError> {
        let mut pace = self.pace.0.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(cluster, since_boot()).map_err(|wait| {
            AppError::Busy(format!(
                "cluster {cluster} asked for more than {} certificates at once; there is another in {} s",
                EACH.burst,
                wait.as_secs() + 1
            ))
        })
    }
}
