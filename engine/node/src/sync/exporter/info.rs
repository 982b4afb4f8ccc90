//! What a shard's `INFO` says, by field. Pure.

use std::collections::BTreeMap;

/// The sections that metrics are made of. None holds a key, a value or a password.
pub(super) const SECTIONS: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "keyspace",
    "crdt",
];

/// Fields and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    pub(super) fn parse(text: &str) -> Self {
        let fields = text
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'));
        Self(
            fields
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that is a number.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite())
    }

    /// 1 if the field says `wanted`, 0 if it says something else.
    pub(super) fn says(&self, name: &str, wanted: &str) -> Option<f64> {
        Some(f64::from(u8::from(self.text(name)? == wanted)))
    }

    /// The sum of `part` over all databases of the shard, such as the `keys` of `db0:keys=3,expires=1,avg_ttl=0`.
    pub(super) fn keyspace(&self, part: &str) -> f64 {
        let of = |value: &String| -> Option<f64> {
            let mut parts = value.split(',').filter_map(|p| p.split_once('='));
            parts.find(|(name, _)| *name == part)?.1.parse().ok()
        };
        let databases = self.0.iter().filter(|(name, _)| is_database(name));
        // The sum of no floats is -0, which people would see.
        databases
            .filter_map(|(_, value)| of(value))
            .fold(0.0, |all, number| all + number)
    }
}

fn is_database(name: &str) -> bool {
    name.strip_prefix("db")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_without_keys_has_none_and_not_minus_none() {
        let none = Info::parse("# Keyspace\r\n").keyspace("keys");
        assert_eq!(format!("{none}"), "0");
    }

    #[test]
    fn fields_are_found_by_name_and_keys_are_summed() {
        let info = Info::parse(
            "# Memory\r\nused_memory:12\r\nmaxmemory_policy:noeviction\r\n\r\n# Keyspace\r\n\
             db0:keys=3,expires=1,avg_ttl=0\r\ndb7:keys=4,expires=0,avg_ttl=0\r\ndbx:keys=9\r\n",
        );
        assert_eq!(info.number("used_memory"), Some(12.0));
        assert_eq!(info.number("maxmemory_policy"), None);
        assert_eq!(info.says("maxmemory_policy", "noeviction"), Some(1.0));
        assert_eq!(info.says("absent", "x"), None);
        assert_eq!(
            (info.keyspace("keys"), info.keyspace("expires")),
            (7.0, 1.0)
        );
    }
}
