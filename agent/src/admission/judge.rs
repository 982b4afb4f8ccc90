//! What is answered to a review, from the object and what is around it. Pure.

use kube::api::ObjectMeta;
use meridian_api::{
    crds::{
        RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster, RedisEnterpriseDatabase,
        RedisEnterpriseRemoteCluster,
    },
    validate::{self, FieldError, Place, Surroundings, Warning},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::review::Request;

pub(super) const DATABASE: &str = "RedisEnterpriseDatabase";
pub(super) const ACTIVE_ACTIVE: &str = "RedisEnterpriseActiveActiveDatabase";
pub(super) const REMOTE_CLUSTER: &str = "RedisEnterpriseRemoteCluster";
const CLUSTER: &str = "RedisEnterpriseCluster";

/// What was found around the object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Around {
    /// What the rules look at.
    pub(super) surroundings: Surroundings,
    /// Active-Active databases that list the remote cluster in question, or cannot be read.
    pub(super) users: Vec<Place>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why the object is not accepted, if it is not.
    pub(super) refusal: Option<Refusal>,
    /// What should be known about an object, accepted or not.
    pub(super) warnings: Vec<String>,
}

/// Why an object is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Status code of HTTP.
    pub(super) code: u16,
    /// Reason in the words of Kubernetes.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
}

impl Verdict {
    fn of(errors: &[FieldError], warnings: &[Warning]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let refusal = (!texts.is_empty()).then(|| Refusal {
            code: 403,
            reason: "Forbidden",
            message: texts.join("; "),
        });
        Self {
            refusal,
            warnings: warnings.iter().map(ToString::to_string).collect(),
        }
    }

    /// The object could not be judged: what is not known to be right is not let in.
    pub(super) fn unknown(why: String) -> Self {
        Self {
            refusal: Some(Refusal {
                code: 503,
                reason: "ServiceUnavailable",
                message: format!("the object could not be checked: {why}; try again"),
            }),
            warnings: Vec::new(),
        }
    }

    /// Word for the metric.
    pub(super) fn outcome(&self) -> &'static str {
        match &self.refusal {
            None => "allowed",
            Some(refusal) if refusal.code == 503 => "unknown",
            Some(_) => "refused",
        }
    }
}

/// The kind, from the closed set of those that are judged.
pub(super) fn kind_label(request: &Request) -> &'static str {
    [DATABASE, ACTIVE_ACTIVE, REMOTE_CLUSTER, CLUSTER]
        .into_iter()
        .find(|kind| *kind == request.kind.kind)
        .unwrap_or("other")
}

/// Judges the request.
pub(super) fn judge(request: &Request, around: &Around) -> Verdict {
    let around_it = &around.surroundings;
    match (request.kind.kind.as_str(), request.operation.as_str()) {
        (DATABASE, "CREATE" | "UPDATE") => write(request, |old, new: &RedisEnterpriseDatabase| {
            let mut errors = validate::database(new);
            errors.extend(old.map_or_else(Vec::new, |old| validate::database_update(old, new)));
            errors.extend(validate::database_among(old, new, around_it));
            (errors, validate::database_warnings(new))
        }),
        (ACTIVE_ACTIVE, "CREATE" | "UPDATE") => {
            write(request, |old, new: &RedisEnterpriseActiveActiveDatabase| {
                let mut errors = validate::active_active_database(new);
                errors.extend(old.map_or_else(Vec::new, |old| {
                    validate::active_active_database_update(old, new)
                }));
                errors.extend(validate::active_active_database_among(old, new, around_it));
                let mut warnings = validate::active_active_database_warnings(new);
                warnings.extend(validate::active_active_database_among_warnings(
                    old, new, around_it,
                ));
                (errors, warnings)
            })
        }
        (REMOTE_CLUSTER, "CREATE" | "UPDATE") => {
            write(request, |_, new: &RedisEnterpriseRemoteCluster| {
                (
                    validate::remote_cluster(new),
                    validate::remote_cluster_warnings(new),
                )
            })
        }
        (ACTIVE_ACTIVE, "DELETE") => delete(request, validate::active_active_database_deletion),
        (REMOTE_CLUSTER, "DELETE") => delete(request, |meta| {
            validate::remote_cluster_deletion(meta, &around.users)
        }),
        (CLUSTER, "CREATE" | "UPDATE") => advise(request),
        // Nothing else is asked about by our configuration; whoever asks learns that there is no rule.
        (_, _) => Verdict::default(),
    }
}

/// Judges an object that is created or changed. What it was may be unreadable: then there is nothing that must stay.
fn write<K: Serialize + DeserializeOwned>(
    request: &Request,
    rules: impl Fn(Option<&K>, &K) -> (Vec<FieldError>, Vec<Warning>),
) -> Verdict {
    let old: Option<K> = serde_json::from_value(request.old_object.clone()).ok();
    match serde_json::from_value::<K>(request.object.clone()) {
        Ok(new) => {
            let (errors, warnings) = rules(old.as_ref(), &new);
            Verdict::of(&errors, &warnings)
        }
        Err(error) => Verdict::of(&[unreadable(&request.object, &error)], &[]),
    }
}

/// A cluster is let in whatever stands in it, as users know it; what will make it Invalid is said at once.
fn advise(request: &Request) -> Verdict {
    let old: Option<RedisEnterpriseCluster> =
        serde_json::from_value(request.old_object.clone()).ok();
    let advice = match serde_json::from_value::<RedisEnterpriseCluster>(request.object.clone()) {
        Ok(new) => {
            let mut errors = validate::cluster(&new);
            errors.extend(old.map_or_else(Vec::new, |old| validate::cluster_update(&old, &new)));
            let warnings = validate::cluster_warnings(&new);
            (errors, warnings)
        }
        Err(error) => (vec![unreadable(&request.object, &error)], Vec::new()),
    };
    let invalid = advice.0.iter();
    let invalid = invalid.map(|error| format!("the cluster will be Invalid: {error}"));
    Verdict {
        refusal: None,
        warnings: invalid
            .chain(advice.1.iter().map(ToString::to_string))
            .collect(),
    }
}

/// Judges a deletion by the metadata alone: an object that nobody can read can be deleted, too.
fn delete(request: &Request, rule: impl Fn(&ObjectMeta) -> Vec<FieldError>) -> Verdict {
    match serde_json::from_value(request.old_object["metadata"].clone()) {
        Ok(meta) => Verdict::of(&rule(&meta), &[]),
        Err(error) => Verdict::of(&[unreadable(&request.old_object, &error)], &[]),
    }
}

fn unreadable(object: &Value, error: &serde_json::Error) -> FieldError {
    let kind = object["kind"].as_str().unwrap_or("no kind");
    FieldError {
        field: "spec".to_owned(),
        found: format!("a {kind} that cannot be read ({error})"),
        expected: "fields of the types that its definition gives".to_owned(),
        remedy: "correct the field; `kubectl explain` shows its type".to_owned(),
    }
}

#[cfg(test)]
mod tests;
