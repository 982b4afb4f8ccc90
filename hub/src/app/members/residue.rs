//! What may be left on a lost member, as it is stored: as many records as it needs, each small enough for a transaction. The parts
//! are written before the declaration that counts them, so that it is declared whole or not at all; parts that no declaration counts
//! are nothing, and are written over by the next one.

use meridian_api::ids::ClusterUid;

use super::App;
use crate::domain::cluster::RemovedCluster;
use crate::domain::lost::Residue;
use crate::store::records::{self, TxnExt as _};
use crate::store::{MAX_BYTES, StoreError, Txn, keys};

/// Most bytes of one part: the transaction of the declaration writes one, and other things.
const PART: usize = MAX_BYTES / 4;
/// What is left behind, as the audit log names it: most entries. The rest is counted there, and named by the declaration.
const NAMED: usize = 200;

/// Cuts into parts. There is one at least.
fn parts(residue: Vec<Residue>) -> Vec<Vec<Residue>> {
    let (mut parts, mut room) = (vec![Vec::new()], PART);
    for one in residue {
        let bytes = serde_json::to_vec(&one).map_or(PART, |json| json.len() + 1);
        if bytes > room {
            parts.push(Vec::new());
            room = PART;
        }
        room = room.saturating_sub(bytes);
        if let Some(last) = parts.last_mut() {
            last.push(one);
        }
    }
    parts
}

/// What the audit log says is left: `namespace/kind/name`.
pub(super) fn named(removed: &RemovedCluster) -> Vec<String> {
    let left = removed.lost.iter().flat_map(|lost| &lost.residue);
    let all = left.clone().count();
    let left = left.map(|one| format!("{}/{}/{}", one.namespace, one.kind, one.name));
    let mut named: Vec<_> = left.take(NAMED).collect();
    if all > NAMED {
        named.push(format!("and {} more: meridian cluster lost", all - NAMED));
    }
    named
}

impl App {
    /// Stores what one record does not hold; returns the declaration as it is to be stored.
    pub(super) async fn store_residue(
        &self,
        removed: &RemovedCluster,
    ) -> Result<RemovedCluster, StoreError> {
        let mut stored = removed.clone();
        let Some(lost) = &mut stored.lost else {
            return Ok(stored);
        };
        let mut parts = parts(std::mem::take(&mut lost.residue)).into_iter();
        lost.residue = parts.next().unwrap_or_default();
        for part in parts {
            let key = keys::residue(removed.uid, lost.parts);
            lost.parts += 1;
            let known = records::get(self.store().as_ref(), &key).await?;
            if known.is_none_or(|known| known.record != part) {
                self.commit(Txn::new().put_record(&key, &part)?).await?;
            }
        }
        Ok(stored)
    }

    /// A declaration with all that it counts.
    pub(super) async fn whole(
        &self,
        mut removed: RemovedCluster,
    ) -> Result<RemovedCluster, StoreError> {
        let Some(lost) = &mut removed.lost else {
            return Ok(removed);
        };
        for part in 0..std::mem::take(&mut lost.parts) {
            let key = keys::residue(removed.uid, part);
            let held = records::get(self.store().as_ref(), &key).await?;
            lost.residue
                .extend(held.into_iter().flat_map(|held| held.record));
        }
        Ok(removed)
    }

    /// Adds to a transaction that lets a member in again that nothing of it is left to be told.
    pub(in crate::app) async fn forget_removed(
        &self,
        uid: ClusterUid,
        mut txn: Txn,
    ) -> Result<Txn, StoreError> {
        let key = keys::removed(uid);
        let removed = records::get(self.store().as_ref(), &key).await?;
        let lost = removed.and_then(|held| held.record.lost);
        for part in 0..lost.map_or(0, |lost| lost.parts) {
            txn = txn.delete(keys::residue(uid, part).text());
        }
        Ok(txn.delete(key.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_small_and_together_all_of_it_in_its_order() {
        let one = |n: usize| Residue {
            namespace: "db".to_owned(),
            kind: "Secret".to_owned(),
            name: format!("name-{n}"),
            holds: "x".repeat(300),
            remove: "y".repeat(300),
        };
        for count in [0, 1, 3000] {
            let all: Vec<_> = (0..count).map(one).collect();
            let parts = parts(all.clone());
            let bytes = |part: &Vec<Residue>| serde_json::to_vec(part).unwrap().len();
            assert!(parts.iter().all(|part| bytes(part) <= PART + 2), "{count}");
            assert_eq!(parts.concat(), all);
        }
    }
}
