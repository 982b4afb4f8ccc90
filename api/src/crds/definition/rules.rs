//! Rules (CEL) that the API server itself enforces, with or without an agent: what the schema can say about values that
//! stay, and about fields that exclude one another. The same rules stand in [`crate::validate`] for readers of YAML that
//! no API server saw.
//!
//! Few messages show the value found: the API server adds up what texts of unknown length could cost, and refuses a
//! definition that could cost too much.

use serde_json::{Value, json};

/// Settings of a database that keep the value they were created with.
pub(super) fn database_settings() -> Vec<Value> {
    vec![
        json!({
            "rule": "!has(oldSelf.databasePort) || (has(self.databasePort) && self.databasePort == oldSelf.databasePort)",
            "fieldPath": ".databasePort",
            "message": "databasePort cannot be changed or removed; put back the value that the database was created with",
        }),
        fixed(
            "type",
            "redis",
            "the protocol is fixed at creation; create another database",
        ),
        json!({
            "rule": "(has(self.isRof) && self.isRof) == (has(oldSelf.isRof) && oldSelf.isRof)",
            "fieldPath": ".isRof",
            "message": "isRof is fixed at creation; put it back, or create another database",
        }),
    ]
}

/// A database stays in its cluster.
pub(super) fn database_cluster() -> Value {
    json!({
        "rule": "!has(oldSelf.redisEnterpriseCluster) || (has(self.redisEnterpriseCluster) \
            && self.redisEnterpriseCluster.name == oldSelf.redisEnterpriseCluster.name)",
        "fieldPath": ".redisEnterpriseCluster",
        "message": "redisEnterpriseCluster cannot be changed: a database stays in its cluster; create another one there",
    })
}

/// What a cluster keeps, and its one way of entry.
pub(super) fn cluster() -> Vec<Value> {
    let class = |of: &str| {
        format!(
            "(has({of}.persistentSpec) && has({of}.persistentSpec.storageClassName) ? {of}.persistentSpec.storageClassName : '')"
        )
    };
    vec![
        json!({
            "rule": format!("{} == {}", class("self"), class("oldSelf")),
            "fieldPath": ".persistentSpec",
            "message": "storageClassName is fixed at creation; put it back, or create another cluster",
            "messageExpression": format!(
                "'storageClassName: found \"' + {} + '\", expected \"' + {} + '\" as before; it is fixed at creation, put it \
                 back or create another cluster'", class("self"), class("oldSelf")
            ),
        }),
        json!({
            "rule": "!(has(self.activeActive) && has(self.ingressOrRouteSpec))",
            "fieldPath": ".activeActive",
            "message": "found beside ingressOrRouteSpec, expected only one of them; remove activeActive, which \
                ingressOrRouteSpec replaces",
        }),
    ]
}

/// A word that stays; absent means `default`.
fn fixed(field: &str, default: &str, why: &str) -> Value {
    let word = |of: &str| format!("(has({of}.{field}) ? {of}.{field} : '{default}')");
    json!({
        "rule": format!("{} == {}", word("self"), word("oldSelf")),
        "fieldPath": format!(".{field}"),
        "message": why,
        "messageExpression": format!(
            "'found ' + {} + ', expected ' + {} + ' as before; {why}'", word("self"), word("oldSelf")
        ),
    })
}
