//! Databases for which nothing is planned now, because their plan breaks a rule or their records cannot be read. Each is told once,
//! when that begins or its reason changes, however often it is tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meridian_api::audit::Outcome;

use super::App;
use super::audit::{Deed, Trail};
use crate::domain::access::grant::Kind;

/// What is held back, by name, and why.
#[derive(Debug, Default)]
pub(super) struct Unplanned(Mutex<BTreeMap<String, String>>);

impl Unplanned {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Databases, and objects of none, that are held back.
    #[must_use]
    pub fn unplanned(&self) -> usize {
        self.unplanned.lock().len()
    }

    /// Notes what is held back now, by name; what is new is logged, and written into the audit log.
    pub async fn note_unplanned(&self, held: BTreeMap<String, String>) {
        let before = std::mem::replace(&mut *self.unplanned.lock(), held.clone());
        for name in before.keys().filter(|name| !held.contains_key(*name)) {
            tracing::info!(
                name,
                "nothing holds it back any more, and it is planned again"
            );
        }
        for (name, reason) in held {
            if before.get(&name) == Some(&reason) {
                continue;
            }
            tracing::error!(
                name,
                reason,
                "it is held back: nothing is planned for it, and the others go on"
            );
            let deed = Deed {
                verb: "plan",
                kind: Kind::Database.word(),
                name: &name,
                project: "",
                left: &[],
            };
            let refused = (Outcome::Refused, reason.as_str());
            self.record_failure(&Trail::default(), &deed, refused).await;
        }
    }
}
