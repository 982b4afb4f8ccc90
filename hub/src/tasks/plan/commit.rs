//! How a plan is written: in as few transactions as the store's limits allow, each of which is sound by itself.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use meridian_api::ids::{ObjectId, Revision};
use meridian_api::trace::TraceId;

use super::view::View;
use crate::app::App;
use crate::domain::database::Waits;
use crate::domain::desired::Desired;
use crate::domain::remote::Remote;
use crate::planner::held::LeftOut;
use crate::planner::{Place, Plan};
use crate::store::records::{self, Counters, Held, TxnExt as _};
use crate::store::{MAX_BYTES, MAX_OPERATIONS, StoreError, Txn, keys};

/// Objects in one transaction at most. Each takes a check and a write, so this stays below the store's limit.
const STEP: usize = 40;
/// Transactions of one plan that are under way at the same time. They are of different databases.
const AT_ONCE: usize = 8;

/// Transactions that have to follow one another.
type Chain = Vec<Txn>;

/// Writes the plan in an order in which every part of it is sound: first its number, then for each database what was allocated
/// and, not before that is durable, what members are told, last what is forgotten. What a crash leaves out is planned again.
pub(super) async fn carry_out(app: &App, view: &View, plan: &Plan) -> Result<(), StoreError> {
    tell_road(plan);
    let number = Counters {
        plan_number: plan.number,
        ..view
            .counters
            .as_ref()
            .map_or_else(Counters::default, |(counters, _)| counters.clone())
    };
    let key = keys::counters();
    let txn = at(
        Txn::new(),
        key.text(),
        view.counters.as_ref().map(|it| it.1),
    );
    let mut chains = packed(txn.put_record(&key, &number)?, chains(view, plan)?).into_iter();
    if let Some(first) = chains.next() {
        commit(app, first).await?;
    }
    let rest = stream::iter(chains).map(|chain| commit(app, chain));
    rest.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    forget(app, view, plan).await
}

/// Says for which requests this is planned.
fn tell_road(plan: &Plan) {
    let mut roads: BTreeMap<(TraceId, &str), u32> = BTreeMap::new();
    for desired in plan.tell.values() {
        if let Some(trace) = desired.trace {
            *roads.entry((trace, &desired.name)).or_default() += 1;
        }
    }
    for ((trace, name), objects) in roads {
        tracing::info!(%trace, name, objects, plan = %plan.number, "a plan carries out a request");
    }
}

async fn commit(app: &App, chain: Chain) -> Result<(), StoreError> {
    for txn in chain {
        app.commit(txn).await?;
    }
    Ok(())
}

/// Demands that a key is as it was read.
fn at(txn: Txn, key: &str, read: Option<Revision>) -> Txn {
    match read {
        Some(revision) => txn.at(key, revision),
        None => txn.absent(key),
    }
}

/// Remote clusters first, because databases wait for them, then each database by itself.
fn chains(view: &View, plan: &Plan) -> Result<Vec<Chain>, StoreError> {
    let mut of_databases: BTreeMap<&str, Vec<(&Place, &Desired)>> = BTreeMap::new();
    let mut of_none = Vec::new();
    for one in &plan.tell {
        match view.owners.get(&one.0.1) {
            Some(owner) => of_databases.entry(owner).or_default().push(one),
            None => of_none.push(one),
        }
    }
    for object in plan.memberships.keys() {
        if let Some(owner) = view.owners.get(object) {
            of_databases.entry(owner).or_default();
        }
    }
    let mut chains = Vec::new();
    for step in of_none.chunks(STEP) {
        chains.push(vec![tell(view, Txn::new(), step)?]);
    }
    for (name, told) in of_databases {
        chains.push(of_database(view, plan, name, &told)?);
    }
    Ok(chains)
}

/// A confirmed deletion, or a change of intent, that came between makes the plan void.
fn of_database(
    view: &View,
    plan: &Plan,
    name: &str,
    told: &[(&Place, &Desired)],
) -> Result<Chain, StoreError> {
    let unchanged = || {
        let key = keys::database(name);
        at(Txn::new(), key.text(), view.databases.get(name).copied())
    };
    let object: Option<ObjectId> = view.input.databases.get(name).map(|it| it.object_id);
    let mut chain = Vec::new();
    if let Some((object, membership)) = object
        .as_ref()
        .and_then(|object| plan.memberships.get_key_value(object))
    {
        let key = keys::membership(*object);
        let txn = at(
            unchanged(),
            key.text(),
            view.memberships.get(object).copied(),
        );
        chain.push(txn.put_record(&key, membership)?);
    }
    for step in told.chunks(STEP) {
        let told = tell(view, Txn::new(), step)?;
        match chain.pop() {
            Some(last) if fit(&last, &told) => chain.push(last.and(told)),
            last => {
                chain.extend(last);
                chain.push(unchanged().and(told));
            }
        }
    }
    Ok(chain)
}

fn tell(view: &View, mut txn: Txn, told: &[(&Place, &Desired)]) -> Result<Txn, StoreError> {
    for (place, desired) in told {
        let (cluster, object) = **place;
        let key = keys::desired(cluster, object);
        let read = view.input.desired.get(place).map(|(_, revision)| *revision);
        txn = at(txn, key.text(), read).put_record(&key, *desired)?;
    }
    Ok(txn)
}

/// Whether both are one transaction within the limits.
fn fit(one: &Txn, other: &Txn) -> bool {
    one.operations() + other.operations() <= MAX_OPERATIONS
        && one.bytes() + other.bytes() <= MAX_BYTES
}

/// The chains, of which short ones share a transaction, after this transaction. It comes first.
fn packed(first: Txn, chains: Vec<Chain>) -> Vec<Chain> {
    let mut packed = vec![vec![first]];
    for mut chain in chains {
        match (packed.last_mut(), chain.as_slice()) {
            (Some(last), [only]) if last.len() == 1 && fit(&last[0], only) => {
                let both = last.pop().map(|txn| chain.drain(..).fold(txn, Txn::and));
                last.extend(both);
            }
            _ => packed.push(chain),
        }
    }
    packed
}

async fn forget(app: &App, view: &View, plan: &Plan) -> Result<(), StoreError> {
    let places: Vec<_> = plan.forget.iter().collect();
    for step in places.chunks(STEP / 2) {
        let mut txn = Txn::new();
        for (cluster, object) in step.iter().copied() {
            let key = keys::desired(*cluster, *object);
            if let Some((_, revision)) = view.input.desired.get(&(*cluster, *object)) {
                txn = txn.at(key.text(), *revision);
            }
            txn = txn
                .delete(key.text())
                .delete(keys::outcome(*cluster, *object).text())
                .delete(keys::observed(*cluster, *object).text());
        }
        app.commit(txn).await?;
    }
    for name in &plan.finished {
        let Some(gone) = view.input.databases.get(name) else {
            continue;
        };
        let key = keys::database(name);
        let txn = at(Txn::new(), key.text(), view.databases.get(name).copied());
        let txn = txn.delete(key.text());
        let txn = txn.delete(keys::transitions(gone.object_id).text());
        let txn = txn.delete(keys::waits(gone.object_id).text());
        app.commit(txn.delete(keys::membership(gone.object_id).text()))
            .await?;
        tracing::info!(database = name, "a database is gone from every participant");
    }
    Ok(())
}

/// Forgets remote clusters whose members were removed, where these were too many for the transaction that removed their member;
/// whether there were any. A crash in between leaves the rest to the next look.
pub(super) async fn forget_remotes(app: &App, view: &View) -> Result<bool, StoreError> {
    let remotes = view.input.remotes.values();
    let gone = remotes.filter(|remote| view.input.is_removed(remote.cluster));
    let gone: Vec<_> = gone.map(|remote| keys::remote(&remote.name)).collect();
    for step in gone.chunks(STEP) {
        let texts: Vec<_> = step.iter().map(|key| key.text().to_owned()).collect();
        let found = app.store().get_all(texts).await?.value;
        let held: Vec<Held<Remote>> = records::all(found.into_iter().flatten())?;
        let mut txn = Txn::new();
        // Another member may have the name by now.
        for held in held
            .iter()
            .filter(|held| view.input.is_removed(held.record.cluster))
        {
            txn = txn.unchanged(held).delete(held.key.clone());
        }
        if !txn.writes_nothing() {
            app.commit(txn).await?;
        }
    }
    Ok(!gone.is_empty())
}

/// Writes down for people what each database that was looked at waits for, where that is other than what they are told.
pub(super) async fn tell_people(
    app: &App,
    view: &View,
    (plan, held): (&Plan, &LeftOut),
) -> Result<(), StoreError> {
    let standing = plan.report.iter();
    let standing = standing.filter(|(name, _)| !plan.finished.contains(*name));
    let mut txn = Txn::new();
    for (name, lines) in standing {
        let Some(database) = view.input.databases.get(name) else {
            continue;
        };
        let key = keys::waits(database.object_id);
        let known = view.waits.get(&database.object_id);
        let held_back = held.databases.contains_key(name);
        let told = match known {
            None => lines.is_empty(),
            Some((known, _)) => known
                .as_ref()
                .is_some_and(|known| known.lines == *lines && known.held_back == held_back),
        };
        if told {
            continue;
        }
        // A database that went meanwhile leaves nothing behind.
        let exists = keys::database(name);
        txn = at(txn, exists.text(), view.databases.get(name).copied());
        txn = at(txn, key.text(), known.map(|(_, revision)| *revision));
        txn = if lines.is_empty() {
            txn.delete(key.text())
        } else {
            let waits = Waits {
                lines: lines.clone(),
                since: app.now(),
                held_back,
            };
            txn.put_record(&key, &waits)?
        };
        if txn.operations() > STEP {
            app.commit(std::mem::take(&mut txn)).await?;
        }
    }
    if !txn.writes_nothing() {
        app.commit(txn).await?;
    }
    Ok(())
}
