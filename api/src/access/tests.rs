use proptest::prelude::*;

use super::*;

fn user(rules: &str) -> User {
    User {
        name: "app".to_owned(),
        passwords: vec!["ab".repeat(32)],
        rules: rules.to_owned(),
    }
}

#[test]
fn rules_about_commands_keys_and_channels_are_taken_and_end_without_administration() {
    let text =
        "+@read -@dangerous +SET -hgetall +xgroup|create ~cache:* %R~a %RW~b &news:* allkeys";
    let rules = Rules::parse(text).unwrap();
    assert_eq!(
        rules.as_str(),
        "resetkeys resetchannels -@all +@read -@dangerous +set -hgetall +xgroup|create ~cache:* %R~a %RW~b &news:* allkeys -@admin \
         -migrate -script|debug -client|import-source"
    );
    assert_eq!(Rules::read(rules.as_str()), Ok(rules));
}

#[test]
fn words_that_are_no_rules_or_allow_administration_are_refused_by_name() {
    for bad in [
        "on",
        "off",
        "nopass",
        "reset",
        "resetpass",
        ">secret",
        "#abc",
        "<secret",
        "!abc",
        "(+get",
        "clearselectors",
        "sanitize-payload",
        "~",
        "&",
        "%R~",
        "%X~a",
        "get",
        "+nothing",
        "+@nothing",
        "+@admin",
        "+config",
        "+CONFIG|set",
        "+acl",
        "+shutdown",
        "+replicaof",
        "+crdt.fence",
        "+get\u{e9}",
    ] {
        let error = Rules::parse(&format!("+get {bad}")).unwrap_err();
        assert!(
            error.found.contains(bad) && !error.remedy.is_empty(),
            "{bad}: {error}"
        );
    }
    assert!(Rules::parse(" \n").is_err());
    assert!(Rules::parse("-@admin -config|get +get").is_ok());
}

#[test]
fn the_three_known_lists_are_there_and_allow_no_administration() {
    assert_eq!(
        Rules::built_in_names().collect::<Vec<_>>(),
        ["Full Access", "Not Dangerous", "Read-Only"]
    );
    for name in Rules::built_in_names() {
        let rules = Rules::built_in(name).unwrap();
        assert!(rules.as_str().contains("-@admin"), "{name}");
        assert_eq!(Rules::read(rules.as_str()), Ok(rules));
    }
    assert_eq!(Rules::built_in("read-only"), None);
}

#[test]
fn the_other_side_takes_only_what_this_side_writes() {
    let good = user(Rules::parse("+@read ~*").unwrap().as_str());
    let users = Users(vec![good.clone()]);
    assert_eq!(Users::read(&users.to_string()), Ok(users));
    let bad = [
        user("~* +@all"),
        user("resetkeys resetchannels -@all +config -@admin"),
        user("on nopass ~* +@all -@admin"),
        User {
            passwords: vec![],
            ..good.clone()
        },
        User {
            passwords: vec!["secret".to_owned()],
            ..good.clone()
        },
        User {
            name: "default".to_owned(),
            ..good.clone()
        },
        User {
            name: "meridian-internal".to_owned(),
            ..good.clone()
        },
        User {
            name: "a b".to_owned(),
            ..good
        },
    ];
    for user in bad {
        let text = Users(vec![user]).to_string();
        assert!(Users::read(&text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_becomes_more_than_one_line_of_rules(text in ".{0,80}") {
        if let Ok(rules) = Rules::parse(&text) {
            prop_assert!(rules.as_str().ends_with(NEVER));
            prop_assert!(!rules.as_str().contains(['\n', '\r', '>', '(']) || text.contains(['~', '&']));
            prop_assert_eq!(Rules::read(rules.as_str()), Ok(rules));
        }
    }
}

#[test]
fn what_an_earlier_release_wrote_is_taken_and_closed_as_the_present_one_closes_it() {
    for (before, place) in BEFORE {
        let read = Rules::read(before).unwrap();
        assert_eq!(read.as_str(), BUILT_IN[*place].1);
    }
    let before = "resetkeys resetchannels -@all +@write ~* -@admin";
    let read = Rules::read(before).unwrap();
    assert_eq!(read, Rules::parse("+@write ~*").unwrap());
    for operator in OPERATOR {
        let error = Rules::parse(&format!("+{operator}")).unwrap_err();
        assert!(error.to_string().contains("administrative"), "{error}");
        for name in ["Full Access", "Not Dangerous"] {
            let rules = Rules::built_in(name).unwrap();
            let closed = rules
                .as_str()
                .split(' ')
                .any(|word| word == format!("-{operator}"));
            assert!(closed, "{operator} in {name}");
        }
    }
}

#[test]
fn agent_and_nodes_mean_the_same_by_values_that_differ_in_the_space_at_their_ends() {
    let entry = |certificates: &str| Entry {
        login: "hash".to_owned(),
        users: "[]".to_owned(),
        certificates: certificates.to_owned(),
    };
    assert_eq!(entry("PEM\n").text(), entry("PEM").text());
    assert_eq!(entry("PEM").text(), "hash\n[]\nPEM");
    assert_ne!(entry("PEM\nPEM").text(), entry("PEM").text());
}
