//! Follows a new primary as soon as a watch shows it. A complete look waits for its turn behind those of all the databases that one
//! event woke; what follows from the last look of the database alone needs no turn.

use futures::{StreamExt as _, future::join_all};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use meridian_api::crds::DatabaseTopology;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    memo::Written,
    shortcut::{Lead, Shortcut, Way},
};
use crate::k8s::{
    apply::{ApplyError, Object, Objects},
    own::Owner,
};

/// Databases that are led to another pod at one time.
const AT_ONCE: usize = 32;
/// Topologies that wait to be followed. Where there are more, complete looks follow the rest.
const WAITING: usize = 256;

/// Writes Services and slices over what was found.
#[derive(Clone)]
pub(super) struct Follower {
    objects: Objects,
    written: Written,
    shortcut: Shortcut,
}

impl Follower {
    pub(super) fn new(objects: Objects, shortcut: Shortcut) -> Self {
        Self {
            objects,
            written: Written::default(),
            shortcut,
        }
    }

    /// What tells of topologies, and what follows them until `stop`.
    pub(super) fn start(
        self,
        stop: CancellationToken,
    ) -> (
        impl Fn(&DatabaseTopology) + Send + 'static,
        impl Future<Output = ()>,
    ) {
        let (sender, news) = mpsc::channel(WAITING);
        let shortcut = self.shortcut.clone();
        let home = self.objects.namespace().to_owned();
        let tell = move |topology: &DatabaseTopology| {
            if matches!(shortcut.way(topology, &home), Way::Lead(_)) {
                // One that finds no room is followed by its complete look.
                drop(sender.try_send(topology.clone()));
            }
        };
        let follow = async move {
            let news = ReceiverStream::new(news).take_until(stop.cancelled_owned());
            news.for_each_concurrent(AT_ONCE, |topology| self.follow(topology))
                .await;
        };
        (tell, follow)
    }

    async fn follow(&self, topology: DatabaseTopology) {
        if let Way::Lead(lead) = self.shortcut.way(&topology, self.objects.namespace()) {
            self.lead(&topology, lead).await;
        }
    }

    /// Whether a watch shows no more than what was written here.
    pub(super) fn made<K: Object>(&self, shown: &K) -> bool {
        self.written.made(shown)
    }

    /// Follows a new primary by what the last complete look found; tells whether that went well.
    pub(super) async fn lead(&self, topology: &DatabaseTopology, lead: Lead) -> bool {
        let owner = Owner::of(&topology.spec);
        let writes = lead
            .writes
            .iter()
            .map(|(wanted, found)| self.write_slice(wanted, Some(found), &owner));
        let written: Result<Vec<_>, ApplyError> = join_all(writes).await.into_iter().collect();
        let name = topology.name_any();
        match written {
            Ok(written) => {
                let written = written.into_iter().flatten().collect();
                self.shortcut.led(&name, lead, written);
                true
            }
            // Something is not as it was: the complete look finds what, and says so.
            Err(_) => {
                self.shortcut.forget(&name);
                false
            }
        }
    }

    /// Writes a slice over the very one that was found, unless it stands already. Another leader, or another look of this one,
    /// may lead clients to another pod meanwhile and know more: then this answers with a conflict. Gives what became of it.
    pub(super) async fn write_slice(
        &self,
        desired: &EndpointSlice,
        found: Option<&EndpointSlice>,
        owner: &Owner,
    ) -> Result<Option<EndpointSlice>, ApplyError> {
        let mut exactly = desired.clone();
        exactly.metadata.resource_version = found.and_then(ResourceExt::resource_version);
        self.put(desired, &exactly, found, owner).await
    }

    /// Writes `desired` over what was found, unless it stands already. Gives what became of it.
    pub(super) async fn write<K: Object>(
        &self,
        desired: &K,
        found: Option<&K>,
        owner: &Owner,
    ) -> Result<Option<K>, ApplyError> {
        self.put(desired, desired, found, owner).await
    }

    async fn put<K: Object>(
        &self,
        desired: &K,
        body: &K,
        found: Option<&K>,
        owner: &Owner,
    ) -> Result<Option<K>, ApplyError> {
        if self.written.stands(desired, found) {
            return Ok(None);
        }
        let now = self.objects.ensure_over(body, found, owner).await?;
        self.written.remember(desired, &now);
        Ok(Some(now))
    }
}
