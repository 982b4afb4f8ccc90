//! The bundles of the hub give it what it needs and nothing more, and name no setting that it does not have.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stop at what they did not expect"
)]

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use meridian_hub::args::Cli;
use serde_json::{Value, json};

const ALONE: &str = include_str!("../../deploy/bundle/hub.yaml");
const REPLICAS: &str = include_str!("../../deploy/bundle/hub-replicas.yaml");
const BOTH: [&str; 2] = [ALONE, REPLICAS];

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}")))
        .collect()
}

/// The one object of a kind, or the one that has this name among several.
fn object(bundle: &str, kind: &str, name: &str) -> Value {
    let found = documents(bundle).into_iter();
    let mut found = found.filter(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.next().unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn stateful_set(bundle: &str) -> Value {
    object(bundle, "StatefulSet", "meridian-hub")["spec"].take()
}

fn pod(bundle: &str) -> Value {
    stateful_set(bundle)["template"]["spec"].take()
}

fn container(bundle: &str) -> Value {
    let mut pod = pod(bundle);
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    pod["containers"][0].take()
}

fn named<'a>(list: &'a Value, field: &str, name: &str) -> &'a Value {
    let mut found = list.as_array().unwrap().iter();
    let found = found.find(|it| it[field] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

fn names(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|it| it["name"].as_str().unwrap()).collect()
}

#[test]
fn the_hub_runs_without_any_privilege_and_without_a_right_in_its_cluster() {
    for bundle in BOTH {
        let pod = pod(bundle);
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false);
        let rights = &pod["securityContext"];
        assert_eq!(rights["runAsNonRoot"], true);
        assert_eq!(rights["runAsUser"], 1001);
        assert_eq!(rights["seccompProfile"]["type"], "RuntimeDefault");
        let container = container(bundle);
        let rights = &container["securityContext"];
        assert_eq!(rights["allowPrivilegeEscalation"], false);
        assert_eq!(rights["readOnlyRootFilesystem"], true);
        assert_eq!(rights["capabilities"], json!({"drop": ["ALL"]}));
        assert!(container["resources"]["limits"]["memory"].is_string());

        let account = object(bundle, "ServiceAccount", "meridian-hub");
        assert_eq!(account["automountServiceAccountToken"], false);
        for object in documents(bundle) {
            let kind = object["kind"].as_str().unwrap();
            assert!(!kind.contains("Role"), "{kind} gives the hub a right");
        }
    }
}

#[test]
fn no_object_names_a_namespace_so_that_the_bundles_fit_any() {
    for object in BOTH.into_iter().flat_map(documents) {
        let kind = &object["kind"];
        assert_eq!(object["metadata"]["namespace"], Value::Null, "{kind}");
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], "meridian-hub", "{kind}");
        assert_eq!(labels["app.kubernetes.io/part-of"], "meridian", "{kind}");
    }
}

#[test]
fn every_setting_is_one_that_the_hub_or_the_command_line_reads() {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    let known: BTreeSet<&str> = serve
        .get_arguments()
        .filter_map(|it| it.get_env()?.to_str())
        .collect();
    let others = [
        "POD_NAME",
        "POD_NAMESPACE",
        "_RJEM_MALLOC_CONF",
        "MERIDIAN_HUB",
        "MERIDIAN_TOKEN_FILE",
        "MERIDIAN_CA_FILE",
    ];
    for bundle in BOTH {
        let container = container(bundle);
        assert_eq!(container["args"], json!(["serve"]));
        for name in names(&container["env"]) {
            let read = known.contains(name) || others.contains(&name);
            assert!(read, "nobody reads {name}");
        }
    }
}

#[test]
fn every_service_and_probe_leads_to_a_port_of_the_pod() {
    for bundle in BOTH {
        let (set, container) = (stateful_set(bundle), container(bundle));
        let ports = names(&container["ports"]);
        assert_eq!(ports, BTreeSet::from(["web", "link"]), "judge a new port");
        let pods = &set["selector"]["matchLabels"];
        assert_eq!(pods["app.kubernetes.io/name"], "meridian-hub");
        for object in documents(bundle) {
            let spec = &object["spec"];
            if object["kind"] == "Service" {
                assert_eq!(&spec["selector"], pods);
                for port in spec["ports"].as_array().unwrap() {
                    let target = port["targetPort"].as_str().unwrap();
                    assert!(ports.contains(target), "{port}");
                    let opened = named(&container["ports"], "name", target);
                    assert_eq!(port["port"], opened["containerPort"]);
                }
            }
            if object["kind"] == "NetworkPolicy" {
                assert_eq!(&spec["podSelector"]["matchLabels"], pods);
                assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
                let let_in = spec["ingress"][0]["ports"].as_array().unwrap();
                let let_in: BTreeSet<&str> = let_in
                    .iter()
                    .map(|it| it["port"].as_str().unwrap())
                    .collect();
                assert_eq!(let_in, ports);
            }
        }
        for (probe, path) in [
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ] {
            let asked = &container[probe]["httpGet"];
            let expected = json!({"path": path, "port": "web", "scheme": "HTTPS"});
            assert_eq!(asked, &expected, "{probe}");
        }
    }
}

#[test]
fn what_a_hub_alone_writes_is_on_its_volume_and_stays_when_the_hub_is_removed() {
    let (set, container) = (stateful_set(ALONE), container(ALONE));
    assert_eq!(set["replicas"], 1, "a file has one hub");
    let folder = &named(&container["env"], "name", "MERIDIAN_HUB_DATA_DIR")["value"];
    let mount = named(
        &container["volumeMounts"],
        "mountPath",
        folder.as_str().unwrap(),
    );
    let claim = &set["volumeClaimTemplates"][0]["metadata"]["name"];
    assert_eq!(&mount["name"], claim);
    let kept = &set["persistentVolumeClaimRetentionPolicy"];
    assert_eq!(
        kept,
        &json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    // Otherwise each mount gives the group the right to read the key of the authority, and the hub refuses such a key.
    let rights = &pod(ALONE)["securityContext"];
    assert_eq!(rights["fsGroupChangePolicy"], "OnRootMismatch");
}

#[test]
fn replicas_share_an_authority_and_an_etcd_and_each_has_an_address_of_its_own() {
    let (set, container) = (stateful_set(REPLICAS), container(REPLICAS));
    assert_eq!(set["replicas"], 3);
    assert_eq!(set["podManagementPolicy"], "Parallel");
    let value = |name: &str| {
        let found = &named(&container["env"], "name", name)["value"];
        found.as_str().unwrap().to_owned()
    };
    let governing = set["serviceName"].as_str().unwrap();
    let own = format!("$(POD_NAME).{governing}.$(POD_NAMESPACE).svc:8443");
    assert_eq!(value("MERIDIAN_HUB_REPLICA_WEB"), own);
    let governing = object(REPLICAS, "Service", governing);
    assert_eq!(governing["spec"]["publishNotReadyAddresses"], true);

    // Agents try every replica's address: the Service has none of its own, behind which a follower would be met.
    let link = value("MERIDIAN_HUB_ADVERTISE_LINK");
    let (service, rest) = link.split_once('.').unwrap();
    assert_eq!(rest, "$(POD_NAMESPACE).svc:8444");
    assert_eq!(
        object(REPLICAS, "Service", service)["spec"]["clusterIP"],
        "None"
    );

    let volumes = pod(REPLICAS)["volumes"].take();
    for (folder, secret) in [
        ("authority", "meridian-hub-authority"),
        ("etcd", "meridian-hub-etcd"),
    ] {
        let volume = &named(&volumes, "name", folder)["secret"];
        assert_eq!(volume["secretName"], secret);
        assert_eq!(volume["defaultMode"], 0o440);
        let mount = named(&container["volumeMounts"], "name", folder);
        assert_eq!(mount["readOnly"], true);
        let place = mount["mountPath"].as_str().unwrap();
        let used = container["env"].as_array().unwrap().iter();
        let mut used = used.filter_map(|it| it["value"].as_str());
        assert!(used.any(|it| it.starts_with(place)), "{place}");
    }
    let budget = object(REPLICAS, "PodDisruptionBudget", "meridian-hub");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
}
