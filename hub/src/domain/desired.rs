//! What one member is to make true of one object. The newest state of an object replaces every older one.

use aws_lc_rs::digest::{SHA256, digest};
use meridian_api::ids::{ObjectId, PlanNumber};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One object for one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The hub's identity of the object.
    pub object_id: ObjectId,
    /// `group/version`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace on the member.
    pub namespace: String,
    /// Name on the member.
    pub name: String,
    /// Whether its deletion would lose data: then it is prepared, and carried out only after the hub confirmed it.
    pub data_bearing: bool,
    /// Objects that must be applied (or gone, for a deletion) before this one.
    pub after: Vec<ObjectId>,
    /// Plan that decided this.
    pub plan_number: PlanNumber,
    /// What is to happen.
    pub action: Action,
}

/// What is to happen to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Action {
    /// It is to be there with this body.
    Upsert {
        /// The whole object.
        body: Value,
    },
    /// A tombstone: the only thing that ever deletes on a member.
    Delete {
        /// Who approved; never empty for a data-bearing object.
        approval: String,
        /// Why, for people.
        reason: String,
    },
}

impl Desired {
    /// SHA-256 of the body; empty for a tombstone.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        match &self.action {
            // serde_json keeps object keys sorted, so equal bodies have equal text.
            Action::Upsert { body } => digest(&SHA256, body.to_string().as_bytes())
                .as_ref()
                .to_vec(),
            Action::Delete { .. } => Vec::new(),
        }
    }

    /// Whether this is a tombstone.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        matches!(self.action, Action::Delete { .. })
    }

    /// Whether a member that was told this needs not be told `other`: the plan's number alone is no difference.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let Self {
            object_id,
            api_version,
            kind,
            namespace,
            name,
            data_bearing,
            after,
            plan_number: _,
            action,
        } = other;
        (self.object_id, self.data_bearing) == (*object_id, *data_bearing)
            && (&self.api_version, &self.kind) == (api_version, kind)
            && (&self.namespace, &self.name) == (namespace, name)
            && &self.after == after
            && &self.action == action
    }

    /// The approval of a tombstone.
    #[must_use]
    pub fn approval(&self) -> Option<&str> {
        match &self.action {
            Action::Delete { approval, .. } => Some(approval),
            Action::Upsert { .. } => None,
        }
    }
}
