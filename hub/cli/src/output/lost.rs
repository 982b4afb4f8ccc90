//! Members that were declared lost, and what may be left there.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::{age, describe::line, text};

/// All of them.
pub(crate) fn lost(list: &Value, now: Timestamp) -> String {
    let lost = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    if lost.is_empty() {
        return "no cluster was declared lost\n".to_owned();
    }
    let shown: Vec<_> = lost.iter().map(|one| lost_one(one, now)).collect();
    shown.join("\n")
}

/// One that was declared lost.
pub(crate) fn lost_one(lost: &Value, now: Timestamp) -> String {
    let name = text(lost, "/name");
    let by = text(lost, "/declaredBy");
    let since = lost["declaredAt"].as_str().unwrap_or_default();
    let head = format!(
        "cluster/{name} was declared lost {} ago by {by}\n",
        age(since, now)
    );
    head + &effect(lost, now)
}

/// What would be lost.
pub(crate) fn losing(lost: &Value, now: Timestamp) -> String {
    let name = text(lost, "/name");
    format!("cluster/{name} would be declared lost\n") + &effect(lost, now)
}

fn effect(lost: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    let away = lost["awaySince"].as_str();
    let away = away.map_or_else(
        || "it never opened a session".to_owned(),
        |at| format!("{} ago", age(at, now)),
    );
    line(&mut out, "Last seen", &away);
    let databases = lost["databases"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<_> = databases.iter().filter_map(Value::as_str).collect();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    line(&mut out, "Go on without", &names);
    let residue = lost["residue"].as_array().map_or(&[][..], Vec::as_slice);
    if residue.is_empty() {
        line(&mut out, "May be left", "nothing that the hub knows of");
        return out;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "May be left there, and how it goes:");
    for one in residue {
        let what = ["/namespace", "/kind", "/name", "/holds"].map(|pointer| text(one, pointer));
        let [namespace, kind, name, holds] = what;
        let _ = writeln!(out, "  {kind} {namespace}/{name}: {holds}");
        let _ = writeln!(out, "    {}", text(one, "/remove"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lost_cluster_is_shown_with_what_goes_on_and_what_is_left() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let one = json!({
            "name": "eu-1", "declaredAt": "2026-01-01T00:05:00Z", "declaredBy": "alice",
            "awaySince": "2026-01-01T00:00:00Z", "databases": ["cart"],
            "residue": [{ "namespace": "redis", "kind": "ActiveActiveInstance", "name": "cart", "holds": "what it was told",
                          "remove": "kubectl -n redis delete activeactiveinstance cart" }],
        });
        let shown = lost(&json!({ "items": [one] }), now);
        for part in [
            "cluster/eu-1 was declared lost 5m ago by alice",
            "10m ago",
            "cart",
            "ActiveActiveInstance redis/cart: what it was told\n    kubectl -n redis delete activeactiveinstance cart",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(
            lost(&json!({ "items": [] }), now),
            "no cluster was declared lost\n"
        );
    }
}
