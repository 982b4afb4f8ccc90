//! Plans what may have become different since the last look, has the plan checked, and commits what breaks no rule of it. What is
//! committed is fenced by the term and by the revisions that were read; losing a race means planning again. What became of orders is
//! read, and waited for, only where a tombstone stands: nothing else depends on it.

mod commit;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::view::View;
use super::driver::{Awaited, Waits};
use super::{Outcome, Task, TaskError};
use crate::app::App;
use crate::domain::desired::Told;
use crate::planner::held::{self, LeftOut};
use crate::planner::{self, Changed, Input, Needs, Place, tail};
use crate::store::records::{self, Held, StoredOutcome};
use crate::store::{Revision, StoreError, keys};

/// The task.
#[derive(Debug)]
pub struct Planning {
    app: Arc<App>,
    /// For what becomes of orders.
    waits: Waits,
    /// For what members say of a database that one of them leaves.
    tails: Waits,
    /// What is known; `None` before it was read, and after it could not be kept up.
    view: Option<View>,
    needs: Needs,
    /// How long the last activation waited for its plan to be durable.
    waited: Duration,
}

/// Prefixes whose change may change the plan.
#[must_use]
pub fn prefixes() -> Vec<String> {
    vec![
        keys::databases().text().to_owned(),
        keys::remotes().text().to_owned(),
        keys::all_recs().text().to_owned(),
        keys::clusters().text().to_owned(),
        keys::all_removed().text().to_owned(),
        keys::doubts().text().to_owned(),
        keys::all_desired().text().to_owned(),
    ]
}

impl Task for Planning {
    const NAME: &'static str = "plan";

    async fn activate(&mut self) -> Result<Outcome, TaskError> {
        self.waited = Duration::ZERO;
        if !self.app.doubts().await?.is_empty() {
            return Ok(Outcome::HeldBack);
        }
        let view = refreshed(&self.app, &mut self.view).await?;
        view.input.done = done(&self.app, &view.input).await?;
        view.input.seen = self.app.tails_seen(tail::asked(&view.input)).await?;
        if commit::forget_remotes(&self.app, view).await? {
            return Ok(Outcome::Progressed);
        }
        let changed = std::mem::replace(&mut view.changed, Changed::everything());
        let mut plan = planner::plan_changed(&view.input, &mut self.needs, &changed);
        let held = held::hold_back(&view.input, &mut plan)?;
        self.app.note_unplanned(named(&held)).await;
        let deletes = self
            .waits
            .set(view.input.desired.values().any(is_tombstone));
        let begins_to_wait = self.tails.set(!view.input.seen.is_empty()) || deletes;
        if plan.is_empty() {
            commit::tell_people(&self.app, view, (&plan, &held)).await?;
            view.changed = held.again;
            return Ok(if begins_to_wait {
                Outcome::Progressed
            } else {
                Outcome::Settled
            });
        }
        tracing::info!(plan = %plan.number, "carrying out a plan:\n{plan}");
        let begun = Instant::now();
        let mut carried_out = commit::carry_out(&self.app, view, &plan).await;
        if carried_out.is_ok() {
            carried_out = commit::tell_people(&self.app, view, (&plan, &held)).await;
        }
        self.waited = begun.elapsed();
        carried_out?;
        // Until here everything counted as changed, because what a failure left out would be looked at by nobody.
        view.changed = held.again;
        Ok(Outcome::Progressed)
    }

    fn waited(&self) -> Duration {
        self.waited
    }
}

impl Planning {
    /// The planner of this hub.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            waits: Waits::default(),
            tails: Waits::default(),
            view: None,
            needs: Needs::default(),
            waited: Duration::ZERO,
        }
    }

    /// Changes that matter only while a deletion is under way, or a participant leaves.
    #[must_use]
    pub fn awaited(&self) -> Vec<Awaited> {
        let awaited = |prefix: &str, waits: &Waits| Awaited {
            prefix: prefix.to_owned(),
            waits: waits.clone(),
        };
        vec![
            awaited(keys::outcomes().text(), &self.waits),
            awaited(keys::all_observed().text(), &self.tails),
            awaited(keys::presences().text(), &self.tails),
        ]
    }
}

/// What is held back, by name. An object of no database has none but its identity.
fn named(held: &LeftOut) -> BTreeMap<String, String> {
    let objects = held.objects.iter();
    let objects = objects.map(|(object, why)| (object.to_string(), why.clone()));
    let databases = held.databases.clone().into_iter();
    databases.chain(objects).collect()
}

/// What is known, up to now. It is read anew if it cannot be kept up.
async fn refreshed<'v>(app: &App, known: &'v mut Option<View>) -> Result<&'v mut View, StoreError> {
    let view = match known.take() {
        None => View::load(app).await?,
        Some(mut view) => match view.refresh(app).await {
            Ok(()) => view,
            Err(StoreError::Compacted { .. } | StoreError::Ahead { .. }) => View::load(app).await?,
            Err(error) => return Err(error),
        },
    };
    Ok(known.insert(view))
}

/// Which tombstones are carried out. It is read after them, which does no harm: it speaks of the very revision of each, and
/// a tombstone that was replaced meanwhile makes the plan void.
async fn done(app: &App, input: &Input) -> Result<BTreeMap<Place, Revision>, StoreError> {
    let tombstones = input.desired.iter().filter(|(_, told)| is_tombstone(told));
    let keys = tombstones.map(|((cluster, object), _)| keys::outcome(*cluster, *object));
    let keys = keys.map(|key| key.text().to_owned()).collect();
    let found = app.store().get_all(keys).await?.value;
    let outcomes: Vec<Held<StoredOutcome>> = records::all(found.into_iter().flatten())?;
    let done = outcomes.iter().filter(|held| held.record.result.is_done());
    let places = done.filter_map(|held| {
        let place = keys::cluster_and_object(&held.key)?;
        Some((place, held.record.revision))
    });
    Ok(places.collect())
}

fn is_tombstone((told, _): &(Told, Revision)) -> bool {
    told.is_tombstone()
}

#[cfg(test)]
mod tests;
