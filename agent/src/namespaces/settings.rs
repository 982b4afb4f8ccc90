//! What the ConfigMap and the command line ask for. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;

use super::CONFIG;

/// Namespaces by name, with commas (the product's name).
const LIST: &str = "REDB_NAMESPACES";
/// Namespaces by label (the product's name).
const LABEL: &str = "REDB_NAMESPACES_LABEL";
/// Where passwords come from (the product's name); other sources than Kubernetes are not known here.
const CREDENTIALS: &str = "CREDENTIAL_TYPE";

/// What the command line says; a key of the ConfigMap wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Names with commas.
    pub list: Option<String>,
    /// A label, or a label and its value.
    pub label: Option<String>,
}

/// What is wished for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// By name.
    pub(super) list: BTreeSet<String>,
    /// By label.
    pub(super) label: Option<String>,
    /// What cannot be followed.
    pub(super) problems: Vec<String>,
}

/// Reads the wishes of the agent of `home`. Where both a list and a label are given, both count.
pub(super) fn read(flags: &Flags, config: Option<&ConfigMap>, home: &str) -> Wishes {
    let data = config.and_then(|config| config.data.as_ref());
    let value = |key: &str, flag: Option<&String>| {
        let text = data.and_then(|data| data.get(key)).or(flag);
        let text = text.map(|text| text.trim().to_owned());
        text.filter(|text| !text.is_empty())
    };
    let mut wishes = Wishes {
        label: value(LABEL, flags.label.as_ref()),
        ..Wishes::default()
    };
    let list = value(LIST, flags.list.as_ref()).unwrap_or_default();
    for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        if !is_name(name) {
            wishes.problems.push(format!(
                "{LIST}: {name:?} is no name of a namespace: expected at most 63 small letters, digits and hyphens; \
                 correct it in the ConfigMap {CONFIG}"
            ));
        } else if name != home {
            wishes.list.insert(name.to_owned());
        }
    }
    let others = data.into_iter().flatten();
    let others = others.filter(|(key, _)| ![LIST, LABEL].contains(&key.as_str()));
    for (key, _) in others.filter(|(key, value)| !is_harmless(key, value)) {
        wishes.problems.push(format!(
            "{key} in the ConfigMap {CONFIG} has no effect: passwords and settings come from Kubernetes objects only; \
             remove the key"
        ));
    }
    wishes
}

/// A setting that asks for what is done anyway.
fn is_harmless(key: &str, value: &str) -> bool {
    key == CREDENTIALS && value == "kubernetes"
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(data: &Value) -> ConfigMap {
        serde_json::from_value(json!({ "data": data })).unwrap()
    }

    fn names(wishes: &Wishes) -> Vec<&str> {
        wishes.list.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_list_is_read_with_blanks_and_without_the_agents_own_namespace() {
        let wishes = read(
            &Flags::default(),
            Some(&config(
                &json!({"REDB_NAMESPACES": " team-b, team-a ,,home,team-a"}),
            )),
            "home",
        );
        assert_eq!(names(&wishes), ["team-a", "team-b"]);
        assert_eq!((wishes.label, wishes.problems), (None, Vec::new()));
    }

    #[test]
    fn a_key_of_the_config_map_wins_over_the_command_line() {
        let flags = Flags {
            list: Some("a".to_owned()),
            label: Some("x=y".to_owned()),
        };
        let wishes = read(&flags, Some(&config(&json!({"REDB_NAMESPACES": ""}))), "h");
        assert_eq!(names(&wishes), Vec::<&str>::new(), "an empty key is a key");
        assert_eq!(wishes.label.as_deref(), Some("x=y"));
        assert_eq!(names(&read(&flags, None, "h")), ["a"]);
    }

    #[test]
    fn a_list_and_a_label_count_both() {
        let data = json!({"REDB_NAMESPACES": "a", "REDB_NAMESPACES_LABEL": " team=x "});
        let wishes = read(&Flags::default(), Some(&config(&data)), "h");
        assert_eq!(names(&wishes), ["a"]);
        assert_eq!(wishes.label.as_deref(), Some("team=x"));
        assert_eq!(wishes.problems, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_followed_is_said_with_the_key() {
        let data =
            json!({"REDB_NAMESPACES": "Team_A,b", "CREDENTIAL_TYPE": "vault", "VAULT_ROLE": "r"});
        let wishes = read(&Flags::default(), Some(&config(&data)), "h");
        assert_eq!(names(&wishes), ["b"]);
        let [name, credentials, vault] = wishes.problems.as_slice() else {
            panic!("{:?}", wishes.problems);
        };
        assert!(name.contains("REDB_NAMESPACES: \"Team_A\""), "{name}");
        assert!(credentials.starts_with("CREDENTIAL_TYPE in the ConfigMap"));
        assert!(vault.starts_with("VAULT_ROLE in the ConfigMap"), "{vault}");
        let harmless = config(&json!({"CREDENTIAL_TYPE": "kubernetes"}));
        assert!(
            read(&Flags::default(), Some(&harmless), "h")
                .problems
                .is_empty()
        );
    }
}
