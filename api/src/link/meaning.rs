//! What an observation says, without what only moves with time: agents tell an edge of it at once, hubs store nothing else.

use serde_json::Value;

/// Fields that move although nothing has happened.
const MOVES: [&str; 5] = [
    "asOf",
    "lagMs",
    "lastTransitionTime",
    "lastUpdated",
    "lastUpdate",
];

/// A status without the fields that move although nothing has happened, however deep they lie.
#[must_use]
pub fn lasting(mut status: Value) -> Value {
    strip(&mut status);
    status
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !MOVES.contains(&key.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_moves_with_time_is_left_out_at_any_depth_and_nothing_else() {
        let status = json!({
            "asOf": "now", "status": "active", "lastUpdated": "now",
            "links": [{ "lagMs": 3, "state": "up", "at": { "lastUpdate": 1 } }],
            "conditions": [{ "type": "Ready", "lastTransitionTime": "then" }],
        });
        let expected = json!({
            "status": "active", "links": [{ "state": "up", "at": {} }], "conditions": [{ "type": "Ready" }],
        });
        assert_eq!(lasting(status), expected);
    }
}
