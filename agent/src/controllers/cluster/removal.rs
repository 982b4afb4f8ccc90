//! The end of a REC: after its databases, or without them where a person says so. Pure.

/// Annotation by which a person lets a cluster go although databases are left: their names, as the condition lists them.
pub(super) const ABANDON: &str = "meridian.dev/abandon-databases";

/// What to do about a REC that shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removal {
    /// No database is left.
    Go,
    /// Databases are left: what to say.
    Wait(String),
    /// Databases are left, and a person named each of them: what stays behind.
    Abandon(String),
}

/// Decides for the REC `name`; `databases` are those that it still serves, `word` is the annotation.
pub(super) fn decide(name: &str, databases: &[String], word: Option<&str>) -> Removal {
    if databases.is_empty() {
        return Removal::Go;
    }
    let named: Vec<&str> = word.unwrap_or_default().split(',').map(str::trim).collect();
    let list = databases.join(",");
    if databases
        .iter()
        .all(|database| named.contains(&database.as_str()))
    {
        return Removal::Abandon(format!(
            "the cluster goes without its databases {list}, as the annotation {ABANDON} says. These stay behind: their \
             objects, their Secrets and DatabaseTopologies, and the volumes redis-enterprise-storage-{name}-<n> with their \
             data. A cluster of the same name serves them again; otherwise delete them yourself"
        ));
    }
    Removal::Wait(format!(
        "the deletion waits until these databases are deleted: {list}. To let the cluster go without them: \
         kubectl annotate rec {name} {ABANDON}={list} (clients lose them at once; their objects, Secrets, \
         DatabaseTopologies and volumes stay behind)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_waited_for_unless_a_person_names_each_of_them() {
        let two = ["redb/a".to_owned(), "reaadb/b".to_owned()];
        let cases = [
            (&[][..], None, "go"),
            (&two[..], None, "wait"),
            (&two[..], Some("true"), "wait"),
            (&two[..], Some("redb/a"), "wait"),
            (&two[..], Some("redb/a, reaadb/b"), "abandon"),
            (&two[..1], Some("redb/a,reaadb/b"), "abandon"),
        ];
        for (databases, word, expected) in cases {
            let found = match decide("rec", databases, word) {
                Removal::Go => "go",
                Removal::Wait(text) => {
                    let command =
                        format!("kubectl annotate rec rec {ABANDON}={}", databases.join(","));
                    assert!(text.contains(&command), "{text}");
                    "wait"
                }
                Removal::Abandon(text) => {
                    assert!(
                        text.contains("stay behind") && text.contains("redb/a"),
                        "{text}"
                    );
                    "abandon"
                }
            };
            assert_eq!(found, expected, "{databases:?} {word:?}");
        }
    }
}
