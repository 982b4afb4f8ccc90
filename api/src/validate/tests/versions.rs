use super::*;

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
