//! What one member is to make true of one object. The newest state of an object replaces every older one.

use aws_lc_rs::digest::{SHA256, digest};
use meridian_api::ids::{ObjectId, PlanNumber};
use meridian_api::trace::TraceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One object for one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired<Body = Value> {
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
    /// Trace of the request that wrote the intent behind this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// What is to happen.
    pub action: Action<Body>,
}

/// What a member was told of an object. Its body, which is most of it, is known by its hash.
pub type Told = Desired<BodyHash>;

/// SHA-256 of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash([u8; 32]);

impl BodyHash {
    fn of(body: &Value) -> Self {
        let mut hash = [0; 32];
        // serde_json keeps object keys sorted, so equal bodies have equal text.
        hash.copy_from_slice(digest(&SHA256, body.to_string().as_bytes()).as_ref());
        Self(hash)
    }
}

/// What is to happen to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Action<Body = Value> {
    /// It is to be there with this body.
    Upsert {
        /// The whole object.
        body: Body,
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
            Action::Upsert { body } => BodyHash::of(body).0.to_vec(),
            Action::Delete { .. } => Vec::new(),
        }
    }

    /// This with the hash of its body.
    #[must_use]
    pub fn told(&self) -> Told {
        self.with(match &self.action {
            Action::Upsert { body } => Action::Upsert {
                body: BodyHash::of(body),
            },
            Action::Delete { approval, reason } => Action::Delete {
                approval: approval.clone(),
                reason: reason.clone(),
            },
        })
    }
}

impl<Body> Desired<Body> {
    /// The same object with something else that is to happen to it.
    #[must_use]
    pub fn with<Other>(&self, action: Action<Other>) -> Desired<Other> {
        let Self {
            object_id,
            api_version,
            kind,
            namespace,
            name,
            data_bearing,
            after,
            plan_number,
            trace,
            action: _,
        } = self;
        Desired {
            object_id: *object_id,
            api_version: api_version.clone(),
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            data_bearing: *data_bearing,
            after: after.clone(),
            plan_number: *plan_number,
            trace: *trace,
            action,
        }
    }

    /// Whether this is a tombstone.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        matches!(self.action, Action::Delete { .. })
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

impl Told {
    /// Whether a member that was told this needs not be told `other`: the plan's number and the trace alone are no difference.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Desired) -> bool {
        let Desired {
            object_id,
            api_version,
            kind,
            namespace,
            name,
            data_bearing,
            after,
            plan_number: _,
            trace: _,
            action,
        } = other;
        (self.object_id, self.data_bearing) == (*object_id, *data_bearing)
            && (&self.api_version, &self.kind) == (api_version, kind)
            && (&self.namespace, &self.name) == (namespace, name)
            && &self.after == after
            && self.does(action)
    }

    fn does(&self, action: &Action) -> bool {
        match (&self.action, action) {
            (Action::Upsert { body: told }, Action::Upsert { body }) => *told == BodyHash::of(body),
            (
                Action::Delete { approval, reason },
                Action::Delete {
                    approval: wanted,
                    reason: why,
                },
            ) => (approval, reason) == (wanted, why),
            (Action::Upsert { .. }, Action::Delete { .. })
            | (Action::Delete { .. }, Action::Upsert { .. }) => false,
        }
    }
}
