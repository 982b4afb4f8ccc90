//! What a REC shows: the classic words and conditions. Pure.

use kube::ResourceExt as _;
use meridian_api::crds::{
    RedisEnterpriseCluster, RedisEnterpriseClusterStatus, SpecStatus,
    cluster::{ClusterState, LicenseStatus, ModuleStatus, PersistenceStatus},
};
use meridian_api::version::Bundle;

use super::{
    certificates::Certificates, observe::Shard, rollout::Progress, state::View, validate::Cluster,
    version::Refused,
};
use crate::{
    controllers::inert,
    k8s::{
        apply::ApplyError,
        conditions::{Finding, conditions},
        fault::Fault,
        lacks::Lacks,
        own::BOOTSTRAPPED,
    },
};

/// What a look ended with.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// The spec cannot be used; what was there stays as it is.
    Invalid(&'a [String]),
    /// The way to the version that the spec names is not allowed.
    InvalidUpgrade(&'a Refused),
    /// It could not be written.
    Failed(&'a ApplyError),
    /// Something that only a person can bring is missing: reason and text.
    Blocked(&'static str, &'a str),
    /// Everything is written, or nothing had to be.
    Seen(&'a Sight<'a>),
    /// It goes: reason and text.
    Deleting(&'static str, &'a str),
}

/// What was found of a valid REC.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    /// The REC.
    pub cluster: &'a Cluster,
    /// Its pods, counted.
    pub view: View,
    /// Why nothing of it is changed now, if so.
    pub suspended: Option<&'a str>,
    /// What the rollout does or waits for.
    pub rollout: Option<String>,
    /// Its databases' shards.
    pub shards: &'a [Shard],
    /// Names of pods that do not serve, with what is known about it.
    pub troubles: Vec<String>,
    /// Databases that nobody serves now, because they have no replica.
    pub away: Vec<String>,
    /// Its volumes, and what is wrong with them.
    pub persistence: Option<(PersistenceStatus, Option<String>)>,
    /// Its pods' racks, if it has any.
    pub racks: Option<String>,
    /// What is told of the licence that the spec names.
    pub licence: Option<Finding>,
    /// What its nodes show to people and clients.
    pub certificates: Option<&'a Certificates>,
    /// What is wrong with the administrator's credentials.
    pub credentials: Option<String>,
    /// What its nodes bring to run databases with, if that is known now.
    pub bundle: Option<Bundle>,
}

/// What is said of `rec` whatever a look ends with: fields that have no effect, and fields that nobody will ever see.
pub(super) fn standing(rec: &RedisEnterpriseCluster, lacks: &Lacks) -> Vec<Finding> {
    let mut all = vec![inert::finding(&inert::cluster(rec))];
    let lacks = lacks.text();
    all.extend(lacks.map(|text| Finding::no("FieldsKept", "DefinitionsDiffer", text)));
    all
}

/// The status of `rec` after `outcome`, with what is `standing`.
#[must_use]
pub(super) fn status(
    rec: &RedisEnterpriseCluster,
    outcome: &Outcome<'_>,
    standing: &[Finding],
    now: &str,
) -> RedisEnterpriseClusterStatus {
    let before = rec.status.clone().unwrap_or_default();
    let mut findings = standing.to_vec();
    let (state, told) = match outcome {
        Outcome::Invalid(problems) => {
            let text = format!("{}. What was there stays as it is", problems.join("; "));
            (
                ClusterState::Invalid,
                vec![Finding::no("Ready", "Invalid", text)],
            )
        }
        Outcome::InvalidUpgrade(refused) => {
            let text = format!("{refused}. What runs goes on as it is");
            let word = ClusterState::InvalidUpgrade;
            (word, vec![Finding::no("Ready", refused.reason(), text)])
        }
        Outcome::Failed(error) => failed(error, before.state.as_ref()),
        Outcome::Blocked(reason, text) => {
            let finding = Finding::no("Ready", reason, *text);
            (ClusterState::Error, vec![finding])
        }
        Outcome::Seen(sight) => (sight.view.word(), findings_of(sight)),
        Outcome::Deleting(reason, text) => {
            let finding = Finding::no("Ready", reason, *text);
            (ClusterState::Deleting, vec![finding])
        }
    };
    findings.extend(told);
    findings.push(bootstrap(
        matches!(outcome, Outcome::Seen(sight) if sight.view.ready >= sight.view.nodes)
            || bootstrapped(rec),
    ));
    let invalid = matches!(outcome, Outcome::Invalid(_) | Outcome::InvalidUpgrade(_));
    let mut shown = RedisEnterpriseClusterStatus {
        state: Some(state),
        spec_status: Some(if invalid {
            SpecStatus::Invalid
        } else {
            SpecStatus::Valid
        }),
        conditions: conditions(&before.conditions, &findings, rec.metadata.generation, now),
        ..before
    };
    if let Outcome::Seen(sight) = outcome {
        let entry = rec.spec.ingress_or_route_spec.as_ref();
        shown.ingress_or_route_method_status = entry.map(|entry| entry.method.to_string());
        shown.cluster_credential_secret_name = Some(sight.cluster.credentials.secret.clone());
        if let Some(bundle) = &sight.bundle {
            shown.bundled_database_versions = bundle.show();
        }
        shown.modules = vec![merging(&sight.cluster.release)];
        shown.license_status = Some(licence(sight));
        if let Some(certificates) = sight.certificates {
            shown.certificates_status = Some(certificates.status());
        }
        shown.persistence_status = sight.persistence.as_ref().map(|(status, _)| status.clone());
    }
    shown
}

/// Whether all nodes of the REC served at once before. Kept on the REC itself and as a condition, because nothing else
/// outlives the pods.
pub(super) fn bootstrapped(rec: &RedisEnterpriseCluster) -> bool {
    let ran = |status: &RedisEnterpriseClusterStatus| {
        matches!(
            status.state,
            Some(
                ClusterState::Running | ClusterState::RunningRollingUpdate | ClusterState::Upgrade
            )
        )
    };
    let shown = |status| ran(status) || says_bootstrapped(status);
    is_marked(rec) || rec.status.as_ref().is_some_and(shown)
}

/// Whether the REC carries the mark that it has served. One that was copied with its annotations has not.
pub(super) fn is_marked(rec: &RedisEnterpriseCluster) -> bool {
    let mark = rec.annotations().get(BOOTSTRAPPED);
    mark.is_some() && mark == rec.metadata.uid.as_ref()
}

/// Whether a status says that all nodes have served at once.
pub(super) fn says_bootstrapped(status: &RedisEnterpriseClusterStatus) -> bool {
    let told = |condition: &meridian_api::crds::Condition| {
        condition.type_ == "Bootstrapped" && condition.status == "True"
    };
    status.conditions.iter().any(told)
}

fn bootstrap(done: bool) -> Finding {
    if done {
        Finding::yes("Bootstrapped", "AllServed", "all nodes have served at once")
    } else {
        Finding::no(
            "Bootstrapped",
            "NotYet",
            "not all nodes have served at once yet",
        )
    }
}

fn failed(error: &ApplyError, before: Option<&ClusterState>) -> (ClusterState, Vec<Finding>) {
    let fault = error.fault();
    let mut findings = vec![Finding::no("Ready", fault.reason(), error.to_string())];
    if fault == Fault::Foreign {
        findings.push(Finding::yes(
            "ForeignObject",
            "NameTaken",
            error.to_string(),
        ));
    }
    let word = match fault {
        Fault::Foreign | Fault::Refused | Fault::Invalid => ClusterState::Error,
        Fault::Waiting | Fault::Conflict | Fault::Unavailable => {
            before.cloned().unwrap_or(ClusterState::PendingCreation)
        }
    };
    (word, findings)
}

fn findings_of(sight: &Sight<'_>) -> Vec<Finding> {
    let mut all = vec![
        ready(sight),
        majority(sight),
        up_to_date(sight),
        suspended(sight),
        served(sight),
    ];
    all.extend(volumes(sight));
    all.extend(sight.certificates.map(certificates));
    let credentials = sight.credentials.as_deref();
    all.extend(credentials.map(|text| Finding::no("CredentialsUsable", "SecretUnusable", text)));
    let racks = sight.racks.as_deref();
    all.extend(racks.map(|text| Finding::yes("RackAware", "Labelled", text)));
    all.extend(sight.licence.clone());
    all
}

fn ready(sight: &Sight<'_>) -> Finding {
    let View { nodes, ready, .. } = sight.view;
    let mut text = format!("{ready} of {nodes} nodes are ready");
    if ready >= nodes {
        return Finding::yes("Ready", "AllReady", text);
    }
    if !sight.troubles.is_empty() {
        text = format!("{text}; {}", sight.troubles.join("; "));
    }
    Finding::no("Ready", "NodesNotReady", text)
}

fn majority(sight: &Sight<'_>) -> Finding {
    let View { nodes, ready, .. } = sight.view;
    if sight.view.majority() {
        let text = format!("{ready} of {nodes} nodes serve: more than half");
        return Finding::yes("Quorum", "MajorityServes", text);
    }
    let text = format!(
        "{ready} of {nodes} nodes serve: not more than half. If they do not come back by themselves, set \
         spec.clusterRecovery to true: nodes that do not serve are then made anew from their volumes"
    );
    Finding::no("Quorum", "MajorityLost", text)
}

fn up_to_date(sight: &Sight<'_>) -> Finding {
    if sight.suspended.is_some() {
        let text = "changes of the spec wait while agent and cluster are of different releases";
        return Finding::unknown("UpToDate", "Suspended", text);
    }
    let (left, what, reason) = match sight.view.progress {
        Progress::Current => {
            let text = "every pod runs with the present spec";
            return Finding::yes("UpToDate", "AllCurrent", text);
        }
        Progress::Update { left } => (left, "an older spec", "RollingUpdate"),
        Progress::Upgrade { left } => (left, "another image", "Upgrade"),
    };
    let step = sight
        .rollout
        .as_deref()
        .map(|step| format!(": {step}"))
        .unwrap_or_default();
    let text = match left {
        0 => format!(
            "every pod has the present spec, and {} of {} serve",
            sight.view.ready, sight.view.nodes
        ),
        _ => format!("{left} of {} pods run with {what}{step}", sight.view.nodes),
    };
    Finding::no("UpToDate", reason, text)
}

fn suspended(sight: &Sight<'_>) -> Finding {
    match sight.suspended {
        Some(text) => Finding::yes("Suspended", "VersionsDiffer", text),
        None => {
            let text = format!("agent and cluster are of release {}", sight.cluster.release);
            Finding::no("Suspended", "SameRelease", text)
        }
    }
}

fn served(sight: &Sight<'_>) -> Finding {
    if sight.away.is_empty() {
        let text = "the primary of every database is in a pod that serves";
        return Finding::yes("DatabasesServed", "AllServed", text);
    }
    let text = format!(
        "these databases are away until their pod serves again, because they have no replica: {}. \
         spec.replication of a database gives it one",
        sight.away.join(", ")
    );
    Finding::no("DatabasesServed", "PodAway", text)
}

fn volumes(sight: &Sight<'_>) -> Option<Finding> {
    let (status, problem) = sight.persistence.as_ref()?;
    let word = status.status.as_deref().unwrap_or_default();
    let succeeded = status.succeeded.as_deref().unwrap_or_default();
    Some(match (word, problem) {
        (_, Some(problem)) => Finding::no("VolumesReady", "ResizeFailed", problem.clone()),
        ("Provisioned", None) => {
            let text = format!("{succeeded} volumes have their size");
            Finding::yes("VolumesReady", "Provisioned", text)
        }
        ("Resizing", None) => {
            let text = format!("{succeeded} volumes have their new size; no pod is restarted");
            Finding::no("VolumesReady", "Resizing", text)
        }
        (_, None) => {
            let text = format!("{succeeded} volumes are provisioned");
            Finding::no("VolumesReady", "Provisioning", text)
        }
    })
}

fn certificates(found: &Certificates) -> Finding {
    if !found.troubles.is_empty() {
        let all: Vec<String> = found.troubles.iter().map(ToString::to_string).collect();
        return Finding::no("CertificatesUsable", "SecretUnusable", all.join("; "));
    }
    let mut text = found.origins();
    for note in &found.notes {
        text = format!("{text}; {note}");
    }
    Finding::yes("CertificatesUsable", "InUse", text)
}

/// The one module that the nodes contain: they load it by themselves where a database needs it, and no other.
fn merging(release: &str) -> ModuleStatus {
    ModuleStatus {
        name: Some("crdt".to_owned()),
        display_name: Some("Active-Active data types and the guard of writes".to_owned()),
        versions: vec![release.to_owned()],
    }
}

/// There are no licences, so whatever was given counts as valid and nothing is limited.
fn licence(sight: &Sight<'_>) -> LicenseStatus {
    let copies = |shard: &Shard| shard.replicas.len() + usize::from(shard.primary.is_some());
    let used: usize = sight.shards.iter().map(copies).sum();
    LicenseStatus {
        license_state: Some("Valid".to_owned()),
        shards_usage: Some(format!("{used}/unlimited")),
        ram_shards: i32::try_from(used).ok(),
        ..LicenseStatus::default()
    }
}

#[cfg(test)]
mod tests;
