//! Says in the status of each topology on which port this node takes clients for its primary, so that Services lead here only then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meridian_api::crds::topology::EntryReport;
use tokio::sync::watch;
use tracing::warn;

use super::Told;
use crate::sync::authority::{Authority, AuthorityError};

/// Pause before what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells for ever.
pub(in crate::sync) async fn run(authority: Arc<dyn Authority>, mut wanted: watch::Receiver<Told>) {
    let mut told = Told::new();
    let mut failing = false;
    loop {
        let now = wanted.borrow_and_update().clone();
        let mut owed = false;
        for (database, report) in due(&told, &now) {
            match authority.entry(&database, report.as_ref()).await {
                // A topology that is gone has no status; another one of the name has another uid.
                Ok(()) | Err(AuthorityError::Gone) => {
                    told.insert(database, report);
                }
                Err(AuthorityError::Away(error)) => {
                    owed = true;
                    if !failing {
                        warn!(
                            database,
                            error, "that clients are taken here was not told; trying on"
                        );
                    }
                }
            }
        }
        failing = owed;
        told.retain(|database, report| report.is_some() || now.contains_key(database));
        let changed = if owed {
            tokio::time::timeout(AGAIN, wanted.changed())
                .await
                .unwrap_or(Ok(()))
        } else {
            wanted.changed().await
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What has to be written. Of an entry of which nothing was told yet an earlier process may have told something.
fn due(told: &Told, now: &Told) -> BTreeMap<String, Option<EntryReport>> {
    let news = now
        .iter()
        .filter(|(database, report)| told.get(*database) != Some(report));
    let gone = told
        .iter()
        .filter(|(database, report)| report.is_some() && !now.contains_key(*database));
    let shut = gone.map(|(database, _)| (database.clone(), None));
    news.map(|(database, report)| (database.clone(), report.clone()))
        .chain(shut)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_told_is_taken_back_until_this_one_listens() {
        let report = |port: i32| {
            Some(EntryReport {
                node: "n".to_owned(),
                topology_uid: "u".to_owned(),
                port,
            })
        };
        let map = |pairs: &[(&str, Option<EntryReport>)]| -> Told {
            let own = |(name, report): &(&str, _)| ((*name).to_owned(), Clone::clone(report));
            pairs.iter().map(own).collect()
        };
        let none = Told::new();
        for (told, now, expected) in [
            (none.clone(), map(&[("a", None)]), map(&[("a", None)])),
            (
                map(&[("a", None)]),
                map(&[("a", report(1))]),
                map(&[("a", report(1))]),
            ),
            (
                map(&[("a", report(1))]),
                map(&[("a", report(1))]),
                none.clone(),
            ),
            (map(&[("a", report(1))]), none.clone(), map(&[("a", None)])),
            (map(&[("a", None)]), none.clone(), none.clone()),
        ] {
            assert_eq!(due(&told, &now), expected, "{told:?} {now:?}");
        }
    }
}
