use super::*;
use crate::version::{Bundle, Bundled};

#[test]
pub(super) fn a_version_is_one_and_is_only_raised() {
    let version = |old: &str, new: &str| {
        let one = |version| redb(json!({ "redisVersion": version }));
        database_update(&one(old), &one(new))
    };
    for (old, new) in [
        ("7.2", "7.4"),
        ("7.4", "7.4"),
        ("latest", "7.2"),
        ("7.4", "major"),
    ] {
        assert_eq!(version(old, new), [], "{old} {new}");
    }
    refuses(version("8.0", "7.4"), "spec.redisVersion");
    refuses(version("7.10", "7.9"), "spec.redisVersion");
    for wrong in ["7", "", "new", "7.x", "7.2.z"] {
        refuses(
            database(&redb(json!({ "redisVersion": wrong }))),
            "spec.redisVersion",
        );
    }
}

#[test]
pub(super) fn a_version_above_what_a_cluster_brings_is_refused_with_what_it_brings() {
    let node: Vec<Bundled> = [("8.1.1", true), ("9.1.2", true), ("9.5.0", false)]
        .iter()
        .map(|(version, active_active)| Bundled {
            version: (*version).to_owned(),
            active_active: *active_active,
        })
        .collect();
    let around = |bundles: &[(&str, &[Bundled])]| Surroundings {
        bundles: bundles
            .iter()
            .map(|(name, node)| ((*name).to_owned(), Bundle::of(node)))
            .collect(),
        joined: true,
        ..Surroundings::default()
    };
    let with = |version: &str| redb(json!({ "redisVersion": version }));
    let one = around(&[("rec", &node)]);
    for version in ["7.2", "8.2", "9.2", "9.5", "latest", "major"] {
        assert_eq!(database_among(None, &with(version), &one), [], "{version}");
    }
    let refused = database_among(None, &with("10.0"), &one);
    assert_eq!(
        refused[0].to_string(),
        "spec.redisVersion: found \"10.0\", expected one that the nodes of the cluster bring (8.1, 9.1, 9.5), or a lower one; \
         choose one of these, or raise the version of the cluster (REC) first"
    );
    refuses(
        active_active_database_among(None, &reaadb(json!({ "redisVersion": "9.5" })), &one),
        "spec.globalConfigurations.redisVersion",
    );
    // What is there already keeps nobody from changing something else, and of an unknown cluster nothing is known.
    assert_eq!(database_among(Some(&with("10.0")), &with("10.0"), &one), []);
    for unknown in [
        around(&[]),
        around(&[("rec", &[])]),
        around(&[("a", &node), ("b", &[])]),
    ] {
        assert_eq!(database_among(None, &with("10.0"), &unknown), []);
    }
}
