//! The full text of every refusal that needs other objects, of tags, of sharding and of deletion.

use super::*;
use crate::crds::RedisEnterpriseDatabaseSpec;

fn neighbour(kind: &str, name: &str, cluster: Option<&str>, ports: &[i64]) -> Neighbour {
    Neighbour {
        place: Place {
            kind: kind.to_owned(),
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        },
        cluster: cluster.map(str::to_owned),
        ports: ports.iter().copied().collect(),
    }
}

fn texts(errors: Vec<FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
pub(super) fn a_name_stands_for_one_database_of_either_kind() {
    let around = Surroundings {
        databases: vec![neighbour(
            "RedisEnterpriseActiveActiveDatabase",
            "redb",
            Some("other"),
            &[],
        )],
        ..Surroundings::default()
    };
    assert_eq!(
        texts(database_among(None, &redb(json!({})), &around)),
        [
            "metadata.name: found \"redb\", expected a name that no other database has; \
          RedisEnterpriseActiveActiveDatabase ns/redb has it; choose another name"
        ]
    );
    let old = redb(json!({}));
    assert_eq!(
        database_among(Some(&old), &redb(json!({ "memorySize": "1GB" })), &around),
        [],
        "what is there already can be changed"
    );
    let around = Surroundings {
        databases: vec![neighbour("RedisEnterpriseDatabase", "aadb", None, &[])],
        ..Surroundings::default()
    };
    let errors = active_active_database_among(None, &reaadb(json!({})), &joined(around));
    assert_eq!(
        texts(errors),
        [
            "metadata.name: found \"aadb\", expected a name that no other database has; \
          RedisEnterpriseDatabase ns/aadb has it; choose another name"
        ]
    );
}

fn joined(around: Surroundings) -> Surroundings {
    Surroundings {
        joined: true,
        ..around
    }
}

#[test]
pub(super) fn a_port_is_one_databases_in_each_cluster() {
    let around = Surroundings {
        databases: vec![
            neighbour("RedisEnterpriseDatabase", "redb", Some("rec"), &[12000]),
            neighbour("RedisEnterpriseDatabase", "second", Some("rec"), &[12001]),
            neighbour("RedisEnterpriseDatabase", "far", Some("other"), &[12002]),
            neighbour("RedisEnterpriseDatabase", "lost", None, &[12003]),
        ],
        ..Surroundings::default()
    };
    let asks = |port: i64| {
        let new =
            redb(json!({ "databasePort": port, "redisEnterpriseCluster": { "name": "rec" } }));
        texts(database_among(None, &new, &around))
    };
    let none: [&str; 0] = [];
    assert_eq!(asks(12000), none, "its own");
    assert_eq!(
        asks(12001),
        [
            "spec.databasePort: found 12001, expected a port that no other database of the cluster has; \
          RedisEnterpriseDatabase ns/second has it; choose another port from 10000 to 19999, or remove the field to be given one"
        ]
    );
    assert_eq!(asks(12002), none, "another cluster has ports of its own");
    assert_eq!(asks(12003).len(), 1, "it may be the same cluster");
    let unnamed = redb(json!({ "databasePort": 12002 }));
    assert_eq!(database_among(None, &unnamed, &around).len(), 1);
    let old = redb(json!({ "databasePort": 12001 }));
    assert_eq!(database_among(Some(&old), &old, &around), []);
    let errors = active_active_database_among(
        None,
        &reaadb(json!({ "databasePort": 12001 })),
        &joined(around),
    );
    refuses(errors, "spec.globalConfigurations.databasePort");
}

#[test]
pub(super) fn a_module_is_one_that_is_known_or_that_a_cluster_brings() {
    let around = Surroundings {
        own_modules: ["mine".to_owned()].into(),
        ..Surroundings::default()
    };
    let with = |names: &[&str]| {
        let list: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        redb(json!({ "modulesList": list }))
    };
    let known = with(&["search", "ReJSON", "rejson", "bf", "timeseries", "mine"]);
    assert_eq!(database_among(None, &known, &around), []);
    assert_eq!(
        texts(database_among(None, &with(&["bf", "serach"]), &around)),
        [
            "spec.modulesList[1].name: found \"serach\", expected one of ReJSON, bf, search, timeseries, mine; \
          correct the name, or list the module in userDefinedModules of the cluster (REC) first"
        ]
    );
    let old = with(&["gone"]);
    assert_eq!(database_among(Some(&old), &old, &around), []);
}

#[test]
pub(super) fn a_participant_and_a_secret_are_there_before_they_are_named() {
    let settings = json!({
        "databaseSecretName": "password",
        "clientAuthenticationCertificates": ["client"],
        "backup": { "s3": { "awsSecretName": "keys", "bucketName": "b" } },
    });
    let new = reaadb(settings);
    let around = Surroundings {
        remote_clusters: [("rerc1".to_owned(), true)].into(),
        secrets: ["client".to_owned()].into(),
        ..Surroundings::default()
    };
    let no_secret = "expected the name of a Secret of this namespace; create the Secret first, here and in the namespace \
                     of every other participant: Secrets are not distributed";
    let secrets = [
        format!("spec.globalConfigurations.databaseSecretName: found \"password\", {no_secret}"),
        format!("spec.globalConfigurations.backup.s3.awsSecretName: found \"keys\", {no_secret}"),
    ];
    let mut all = vec![
        "spec.participatingClusters[1].name: found \"rerc2\", expected the name of a RERC of this namespace; create that \
         RedisEnterpriseRemoteCluster first, or correct the name: `kubectl get rerc` lists them"
            .to_owned(),
    ];
    all.extend(secrets.clone());
    assert_eq!(
        texts(active_active_database_among(None, &new, &around)),
        all
    );
    assert_eq!(
        active_active_database_among_warnings(None, &new, &around),
        []
    );

    let around = joined(around);
    assert_eq!(
        texts(active_active_database_among(None, &new, &around)),
        secrets
    );
    let warnings = active_active_database_among_warnings(None, &new, &around);
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "spec.participatingClusters[1].name: no RERC \"rerc2\" here yet: the hub brings it, or refuses the database if \
          it does not know the name"
        ]
    );
    let nothing = Surroundings::default();
    assert_eq!(
        active_active_database_among(Some(&new), &new, &nothing),
        [],
        "what went away later keeps nobody from changing the rest"
    );
}

#[test]
pub(super) fn the_cluster_that_one_speaks_to_is_not_removed_by_mistake() {
    let around = joined(Surroundings {
        remote_clusters: [("a".to_owned(), true), ("b".to_owned(), false)].into(),
        ..Surroundings::default()
    });
    let old = reaadb_of(&["a", "b"], json!({}));
    let mut new = reaadb_of(&["b"], json!({}));
    assert_eq!(
        texts(active_active_database_among(Some(&old), &new, &around)),
        [
            "spec.participatingClusters: found a list without a, which is this very cluster, expected a list with it; put \
          it back, or set the annotation meridian.dev/confirm-removal to \"a\": the data of this cluster's instance is \
          deleted then"
        ]
    );
    new.metadata.annotations = Some([(CONFIRM_REMOVAL.to_owned(), "a".to_owned())].into());
    assert_eq!(active_active_database_among(Some(&old), &new, &around), []);
    let without_b = reaadb_of(&["a"], json!({}));
    assert_eq!(
        active_active_database_among(Some(&old), &without_b, &around),
        []
    );
}

#[test]
pub(super) fn more_than_one_participant_goes_only_by_name() {
    let old = reaadb_of(&["a", "b", "c"], json!({}));
    let new = reaadb_of(&["d"], json!({}));
    assert_eq!(
        texts(active_active_database_update(&old, &new)),
        [
            "spec.participatingClusters: found a list without a, b, c, expected at most one participant removed at a time; \
          list all participants that stay, or set the annotation meridian.dev/confirm-removal to \"a,b,c\""
        ]
    );
}

#[test]
pub(super) fn a_cluster_that_gives_no_roles_by_databases_lets_none_be_added() {
    let role =
        |name: &str| json!({ "role": name, "acl": "Full Access", "type": "redis-enterprise" });
    let with = |roles: &[&str]| {
        let roles: Vec<_> = roles.iter().map(|name| role(name)).collect();
        redb(json!({ "rolesPermissions": roles }))
    };
    let around = |clusters: &[(&str, bool)], serves: Option<&str>| Surroundings {
        databases: vec![neighbour("RedisEnterpriseDatabase", "redb", serves, &[])],
        gives_roles: clusters
            .iter()
            .map(|(name, gives)| ((*name).to_owned(), *gives))
            .collect(),
        ..Surroundings::default()
    };
    let closed = around(&[("rec", false)], Some("rec"));
    assert_eq!(
        texts(database_among(None, &with(&["app", "ops"]), &closed)),
        [
            "spec.rolesPermissions: found entries of the roles app, ops, expected nothing new while \
             spec.accessControl.policy.allowREDBRolesPermissions of the cluster (REC) rec is false; remove them, or have the \
             cluster's owner set allowREDBRolesPermissions to true"
        ]
    );
    let old = with(&["app"]);
    assert_eq!(
        database_among(Some(&old), &with(&["app"]), &closed),
        [],
        "what is there already does not keep the database from being changed"
    );
    refuses(
        database_among(Some(&old), &with(&["app", "ops"]), &closed),
        "spec.rolesPermissions",
    );
    let mut active = closed.clone();
    active.joined = true;
    refuses(
        active_active_database_among(
            None,
            &reaadb(json!({ "rolesPermissions": [role("app")] })),
            &active,
        ),
        "spec.globalConfigurations.rolesPermissions",
    );
    let two = [("rec", false), ("open", true)];
    for (clusters, serves, refused) in [
        (&two[..1], None, true),
        (&two[..], None, false),
        (&two[..], Some("open"), false),
        (&two[..], Some("rec"), true),
        (&[][..], None, false),
    ] {
        let errors = database_among(None, &with(&["app"]), &around(clusters, serves));
        assert_eq!(!errors.is_empty(), refused, "{clusters:?} {serves:?}");
    }
}

#[test]
pub(super) fn reserved_tags_are_the_products() {
    let tagged = |key: &str| json!({ "tags": { key: "x" } });
    let own = [
        "managed_by",
        "redb_name",
        "redb_namespace",
        "db_service_port",
        "oss_cluster_access",
    ];
    for key in own {
        assert_eq!(
            texts(database(&redb(tagged(key)))),
            [format!(
                "spec.tags[{key}]: found {key:?}, expected a key that the product does not write itself; choose another key"
            )]
        );
        refuses(
            active_active_database(&reaadb(tagged(key))),
            &format!("spec.globalConfigurations.tags[{key}]"),
        );
    }
    for key in [
        "redb_resource",
        "redb_resource_name",
        "global_configurations_spec",
        "replication_endpoint_port",
        "rerc_name",
        "redis.io/db-sec-name",
        "redis.io/db-sec-latest",
        "redis.io/certs-latest",
        "redis.io/bu-sec-name",
        "redis.io/bu-sec-latest",
    ] {
        assert_eq!(database(&redb(tagged(key))), [], "{key}");
        refuses(
            active_active_database(&reaadb(tagged(key))),
            &format!("spec.globalConfigurations.tags[{key}]"),
        );
    }
    assert_eq!(database(&redb(tagged("team"))), []);
    let long = "k".repeat(65);
    assert_eq!(
        texts(database(&redb(tagged(&long)))),
        [format!(
            "spec.tags[{long}]: found a key of 65 characters, expected a key of 1 to 64 characters; shorten the key, or remove it"
        )]
    );
}

#[test]
pub(super) fn sharding_is_decided_when_an_active_active_database_is_created() {
    assert_eq!(
        texts(database(&redb(json!({ "shardingEnabled": true })))),
        [
            "spec.shardingEnabled: found true, expected nothing; the field is for Active-Active databases only; remove it \
          and set spec.shardCount"
        ]
    );
    let both = reaadb(json!({ "shardingEnabled": false, "shardCount": 3 }));
    assert_eq!(
        texts(active_active_database(&both)),
        [
            "spec.globalConfigurations.shardCount: found 3, expected 1, for spec.globalConfigurations.shardingEnabled is \
          false; remove one of the two fields"
        ]
    );
    let change =
        |old: Value, new: Value| texts(active_active_database_update(&reaadb(old), &reaadb(new)));
    assert_eq!(
        change(json!({}), json!({ "shardingEnabled": false })),
        [
            "spec.globalConfigurations.shardingEnabled: found false, expected true as before; it is fixed at creation; \
          create another database"
        ]
    );
    assert_eq!(
        change(json!({ "shardCount": 1 }), json!({ "shardCount": 2 })),
        [
            "spec.globalConfigurations.shardCount: found 2, expected 1 as before: a database that was created with one \
          shard is never sharded; put it back, or create another database with more shards"
        ]
    );
    assert!(change(json!({ "shardCount": 2 }), json!({ "shardCount": 4 })).is_empty());
    assert!(change(json!({}), json!({ "shardingEnabled": true })).is_empty());
}

fn meta(annotations: &[(&str, &str)]) -> kube::api::ObjectMeta {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    kube::api::ObjectMeta {
        name: Some("cart".to_owned()),
        annotations: Some(annotations.iter().map(own).collect()),
        ..kube::api::ObjectMeta::default()
    }
}

#[test]
pub(super) fn a_database_of_the_hub_is_deleted_on_a_member_only_when_its_name_confirms_it() {
    let hubs = (OBJECT_ID, "00000000-0000-4000-8000-000000000001");
    assert_eq!(
        texts(active_active_database_deletion(&meta(&[hubs]))),
        [
            "metadata.annotations[meridian.dev/confirm-deletion]: found nothing, expected \"cart\" before the hub's database \
          is deleted on a member; delete it everywhere with `meridian delete activeactivedatabase cart --yes`, or set the \
          annotation and delete again to ask the hub for that"
        ]
    );
    let wrong = meta(&[hubs, (CONFIRM_DELETION, "yes")]);
    assert_eq!(active_active_database_deletion(&wrong)[0].found, "\"yes\"");
    let right = meta(&[hubs, (CONFIRM_DELETION, "cart")]);
    assert_eq!(active_active_database_deletion(&right), []);
    assert_eq!(active_active_database_deletion(&meta(&[])), []);
}

#[test]
pub(super) fn a_remote_cluster_in_use_or_of_the_hub_stays() {
    let user = neighbour("RedisEnterpriseActiveActiveDatabase", "db", None, &[]).place;
    assert_eq!(
        texts(remote_cluster_deletion(&meta(&[]), &[user])),
        [
            "metadata.name: found \"cart\" in use by RedisEnterpriseActiveActiveDatabase ns/db, expected a remote cluster \
          that no Active-Active database lists; remove it from their spec.participatingClusters first"
        ]
    );
    assert_eq!(remote_cluster_deletion(&meta(&[]), &[]), []);
    assert_eq!(
        texts(remote_cluster_deletion(&meta(&[(OBJECT_ID, "id")]), &[])),
        [
            "metadata.annotations[meridian.dev/confirm-deletion]: found nothing, expected \"cart\" before an object of the hub \
          is deleted on a member; leave it: the hub takes it away when no database needs it; or set the annotation, and \
          the hub makes it again"
        ]
    );
    let confirmed = meta(&[(OBJECT_ID, "id"), (CONFIRM_DELETION, "cart")]);
    assert_eq!(remote_cluster_deletion(&confirmed, &[]), []);
}

#[test]
pub(super) fn secrets_are_found_wherever_a_database_names_one() {
    let spec: RedisEnterpriseDatabaseSpec = serde_json::from_value(json!({
        "databaseSecretName": "", "clientAuthenticationCertificates": ["a", "b"],
        "backup": { "gcs": { "gcsSecretName": "c", "bucketName": "x" } },
    }))
    .unwrap();
    let found: Vec<_> = secrets_named("spec", &spec)
        .into_iter()
        .map(|(field, name)| format!("{field}={name}"))
        .collect();
    assert_eq!(
        found,
        [
            "spec.clientAuthenticationCertificates[0]=a",
            "spec.clientAuthenticationCertificates[1]=b",
            "spec.backup.gcs.gcsSecretName=c",
        ]
    );
}
