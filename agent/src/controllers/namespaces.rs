//! Runs the controller of databases in every namespace that the agent operates: its own, and those that are wished for
//! ([`crate::namespaces`]).
//!
//! Each namespace stands for itself. One that does not exist, may not be entered or is another agent's keeps none of the
//! others from being operated; it is said in `/readyz`, the metric `namespaces` and an Event of each cluster, and looked
//! at again. A namespace that is not wished for any more loses nothing: its databases are served on, unmanaged.

mod claim;
mod rights;
mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::{coordination::v1::Lease, rbac::v1::RoleBinding};
use kube::runtime::{WatchStreamExt as _, watcher};
use meridian_api::crds::DatabaseTopology;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    claim::{CLAIM, Trouble},
    show::{Shown, State},
};
use super::{Context, database};
use crate::{
    k8s::{apply::Objects, retry},
    namespaces::Selection,
    probes::Board,
};

/// Pause before a namespace that could not be entered is looked at again.
const AGAIN: Duration = Duration::from_secs(10);
/// Pause between two looks at a namespace that is being deleted.
const GOING: Duration = Duration::from_secs(2);

/// Operates the namespaces until the context stops.
pub(super) async fn run(context: Context, mut selection: watch::Receiver<Selection>, board: Board) {
    let shown = Arc::new(Shown::new(&context, board));
    let mut running: BTreeMap<String, CancellationToken> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wished = selection.borrow_and_update().clone();
        shown.problems(wished.problems).await;
        let mut wanted: BTreeSet<String> = wished.consumers;
        wanted.insert(context.objects.namespace().to_owned());
        for (namespace, dropped) in &running {
            if !wanted.contains(namespace) {
                dropped.cancel();
            }
        }
        for namespace in wanted {
            if running.contains_key(&namespace) {
                continue;
            }
            let dropped = context.stop.child_token();
            running.insert(namespace.clone(), dropped.clone());
            let one = Namespace {
                context: context.clone(),
                objects: context.objects.within(&namespace),
                shown: Arc::clone(&shown),
                dropped,
            };
            tasks.spawn(one.keep());
        }
        tokio::select! {
            () = context.stop.cancelled() => break,
            changed = selection.changed() => if changed.is_err() { break },
            // One that is wished for again before it has ended begins anew then.
            Some(Ok(ended)) = tasks.join_next() => { running.remove(&ended); }
        }
    }
    // Looks that have begun are finished.
    while tasks.join_next().await.is_some() {}
}

/// One namespace.
struct Namespace {
    context: Context,
    objects: Objects,
    shown: Arc<Shown>,
    /// Ends it: it is not wished for any more, or everything stops.
    dropped: CancellationToken,
}

impl Namespace {
    fn name(&self) -> &str {
        self.objects.namespace()
    }

    fn is_home(&self) -> bool {
        self.name() == self.context.objects.namespace()
    }

    /// Enters the namespace as soon as that is possible, and operates it until it is dropped.
    async fn keep(self) -> String {
        while !self.dropped.is_cancelled() {
            match self.enter().await {
                Err(trouble) if !(self.is_home() && trouble.is_ours_to_bear()) => {
                    let state = State::NotOperated(trouble);
                    self.shown.namespace(self.name(), state).await;
                }
                Ok(()) | Err(_) => {
                    self.shown.namespace(self.name(), State::Operated).await;
                    self.operate().await;
                }
            }
            tokio::select! {
                () = self.dropped.cancelled() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
        if !self.context.stop.is_cancelled() {
            self.let_go().await;
        }
        self.name().to_owned()
    }

    async fn enter(&self) -> Result<(), Trouble> {
        // The vendor's operator of another namespace cannot be seen from here.
        if self.is_home() {
            claim::refuse_vendor(&self.objects).await?;
        }
        claim::enter(&self.objects, self.context.objects.namespace()).await
    }

    /// Runs the controller until the namespace is lost or dropped.
    async fn operate(&self) {
        let stop = self.dropped.child_token();
        let work = database::run(self.context.clone(), self.name(), stop.clone());
        let mut work = pin!(work);
        tokio::select! {
            () = &mut work => {}
            () = self.guard() => {
                stop.cancel();
                work.await;
            }
        }
    }

    /// Ends when the namespace is not ours to operate any more. Until then the rights that its deletion needs are kept.
    async fn guard(&self) {
        let home = self.context.objects.namespace();
        let mut claims =
            pin!(watcher::watch_object(self.objects.api::<Lease>(), CLAIM).backoff(retry::alone()));
        let bindings =
            watcher::watch_object(self.objects.api::<RoleBinding>(), &rights::binding(home));
        let mut bindings = pin!(bindings.backoff(retry::alone()));
        let mut going = None;
        loop {
            tokio::select! {
                Some(event) = claims.next() => {
                    let ours = matches!(&event, Ok(Some(lease)) if claim::holder(lease) == Some(home));
                    // Whatever else was shown is looked at: a claim that was deleted is made again.
                    if !ours && claim::enter(&self.objects, home).await.is_err_and(|trouble| trouble.is_lost()) {
                        return;
                    }
                }
                Some(event) = bindings.next(), if !self.is_home() => match event {
                    Ok(Some(binding)) if binding.metadata.deletion_timestamp.is_some() => going = Some(binding),
                    Ok(Some(binding)) => rights::hold(&self.objects, &binding).await,
                    Ok(None) => going = None,
                    Err(error) => tracing::debug!(%error, namespace = self.name(), "its RoleBinding cannot be watched"),
                },
                () = tokio::time::sleep(GOING), if going.is_some() => {
                    if rights::release(&self.objects, home).await {
                        going = None;
                    }
                }
            }
        }
    }

    /// Leaves the namespace to others, unless databases of it are served here.
    async fn let_go(&self) {
        let topologies = self.context.objects.list::<DatabaseTopology>("").await;
        let served = topologies.map(|all| {
            let own = all
                .into_iter()
                .filter(|topology| topology.spec.database.namespace == self.name());
            own.map(|topology| topology.spec.database.name)
                .collect::<Vec<_>>()
        });
        match served {
            Ok(served) if served.is_empty() => {
                rights::release(&self.objects, self.context.objects.namespace()).await;
                claim::leave(&self.objects, self.context.objects.namespace()).await;
                self.shown.forget(self.name()).await;
            }
            Ok(served) => {
                let state = State::Left(served);
                self.shown.namespace(self.name(), state).await;
            }
            Err(error) => {
                let trouble = Trouble::Unavailable(error.to_string());
                self.shown
                    .namespace(self.name(), State::NotOperated(trouble))
                    .await;
            }
        }
    }
}
