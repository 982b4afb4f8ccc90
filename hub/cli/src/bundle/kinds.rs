//! Which objects go into a bundle, and which of their fields. What is not listed here is left out, whatever it is called: a field
//! that somebody adds tomorrow, or a name that was mistyped, is not in a bundle until it is listed.

mod fields;

pub(in crate::bundle) use fields::{ANNOTATIONS, METADATA, NEVER, VARIABLES};
use fields::{
    BUDGET, CLAIM, CLASS, CONTAINER, EVENT, HOOK, INGRESS, INSTANCE, LEASE, NODE, POD, POLICY, REC,
    REDB, RERC, SERVICE, SET, TOPOLOGY,
};

/// Which objects of a kind are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// All.
    All,
    /// Those that carry a label of ours; with `--all` all of the namespace.
    Ours,
    /// Those about objects that were taken; with `--all` all of the namespace.
    About,
    /// Names and names of keys; values are not asked for.
    Names,
}

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Group and version in an address.
    pub(crate) api: &'static str,
    /// As addresses spell it.
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) take: Take,
    /// Fields that are kept, with everything below them; metadata has a list of its own.
    pub(crate) fields: Vec<String>,
}

impl Kind {
    /// The address of the list.
    pub(crate) fn address(&self, namespace: &str) -> String {
        if self.namespaced {
            format!("/{}/namespaces/{namespace}/{}", self.api, self.plural)
        } else {
            format!("/{}/{}", self.api, self.plural)
        }
    }
}

fn below(prefix: &str, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| format!("{prefix}.{name}"))
        .collect()
}

fn pod(prefix: &str) -> Vec<String> {
    let mut all = below(prefix, POD);
    for containers in ["containers", "initContainers"] {
        all.extend(below(&format!("{prefix}.{containers}"), CONTAINER));
    }
    all
}

fn workload(more: &[&str]) -> Vec<String> {
    let mut all = pod("spec.template.spec");
    all.extend(strings(&[
        "spec.replicas",
        "spec.selector",
        "spec.template.metadata.labels",
        "status",
    ]));
    all.extend(strings(more));
    all
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn with_status(mut fields: Vec<String>) -> Vec<String> {
    fields.push("status".to_owned());
    fields
}

/// Fields of an Active-Active database.
pub(super) fn active_active() -> Vec<String> {
    let mut fields = below("spec.globalConfigurations", REDB);
    fields.extend(strings(&[
        "spec.participatingClusters",
        "spec.redisEnterpriseCluster",
    ]));
    fields
}

/// Every kind, in the order in which they are read.
pub(crate) fn all() -> Vec<Kind> {
    let vendor = "apis/app.redislabs.com/v1alpha1";
    let own = "apis/meridian.dev/v1alpha1";
    let kind = |api, plural, take, fields| Kind {
        api,
        plural,
        namespaced: true,
        take,
        fields,
    };
    let mut kinds = vec![
        kind(
            "apis/app.redislabs.com/v1",
            "redisenterpriseclusters",
            Take::All,
            with_status(below("spec", REC)),
        ),
        kind(
            vendor,
            "redisenterprisedatabases",
            Take::All,
            with_status(below("spec", REDB)),
        ),
        kind(
            vendor,
            "redisenterpriseremoteclusters",
            Take::All,
            with_status(below("spec", RERC)),
        ),
        kind(
            vendor,
            "redisenterpriseactiveactivedatabases",
            Take::All,
            with_status(active_active()),
        ),
        kind(
            own,
            "databasetopologies",
            Take::All,
            with_status(below("spec", TOPOLOGY)),
        ),
        kind(
            own,
            "activeactiveinstances",
            Take::All,
            with_status(below("spec", INSTANCE)),
        ),
    ];
    kinds.extend(made(&kind));
    kinds.extend(rights_and_words(&kind));
    kinds.extend(surroundings());
    kinds
}

type Make = dyn Fn(&'static str, &'static str, Take, Vec<String>) -> Kind;

/// What runs, and what leads to it.
fn made(kind: &Make) -> Vec<Kind> {
    let (apps, network) = ("apis/apps/v1", "apis/networking.k8s.io/v1");
    let slices = strings(&["addressType", "endpoints", "ports"]);
    let claims = with_status(below("spec", CLAIM));
    let budgets = with_status(below("spec", BUDGET));
    vec![
        kind(apps, "statefulsets", Take::Ours, workload(SET)),
        kind(
            apps,
            "deployments",
            Take::Ours,
            workload(&["spec.strategy"]),
        ),
        kind("api/v1", "pods", Take::Ours, with_status(pod("spec"))),
        kind(
            "api/v1",
            "services",
            Take::Ours,
            with_status(below("spec", SERVICE)),
        ),
        kind(
            "apis/discovery.k8s.io/v1",
            "endpointslices",
            Take::Ours,
            slices,
        ),
        kind("api/v1", "persistentvolumeclaims", Take::Ours, claims),
        kind(
            "apis/policy/v1",
            "poddisruptionbudgets",
            Take::Ours,
            budgets,
        ),
        kind(
            network,
            "networkpolicies",
            Take::Ours,
            below("spec", POLICY),
        ),
        kind(
            network,
            "ingresses",
            Take::Ours,
            with_status(below("spec", INGRESS)),
        ),
    ]
}

/// Who may do what, who leads, and what was said. Events come last: they are about what was taken before.
fn rights_and_words(kind: &Make) -> Vec<Kind> {
    let access = "apis/rbac.authorization.k8s.io/v1";
    let bindings = strings(&["roleRef", "subjects"]);
    let leases = below("spec", LEASE);
    vec![
        kind("api/v1", "serviceaccounts", Take::Ours, Vec::new()),
        kind(access, "roles", Take::Ours, strings(&["rules"])),
        kind(access, "rolebindings", Take::Ours, bindings),
        kind("apis/coordination.k8s.io/v1", "leases", Take::All, leases),
        kind("api/v1", "secrets", Take::Names, Vec::new()),
        kind("api/v1", "configmaps", Take::Names, Vec::new()),
        kind(
            "apis/events.k8s.io/v1",
            "events",
            Take::About,
            strings(EVENT),
        ),
    ]
}

/// What they stand on, outside the namespace.
fn surroundings() -> Vec<Kind> {
    let kind = |api, plural, take, fields| Kind {
        api,
        plural,
        namespaced: false,
        take,
        fields,
    };
    let (hooks, hook) = ("validatingwebhookconfigurations", below("webhooks", HOOK));
    let (definitions, none) = ("customresourcedefinitions", Vec::new());
    vec![
        kind("api/v1", "nodes", Take::All, strings(NODE)),
        kind(
            "apis/storage.k8s.io/v1",
            "storageclasses",
            Take::All,
            strings(CLASS),
        ),
        kind(
            "apis/admissionregistration.k8s.io/v1",
            hooks,
            Take::Ours,
            hook,
        ),
        kind(
            "apis/apiextensions.k8s.io/v1",
            definitions,
            Take::Names,
            none,
        ),
    ]
}
