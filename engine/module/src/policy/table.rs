//! A table from command names to rules that costs a read almost nothing: a look at four bytes of the name and, mostly, one
//! empty bucket.

use super::Rule;

/// Number of buckets; a power of two, well above the number of rules (about 250).
const BUCKETS: usize = 2048;

/// Rules by command name, without regard to case.
#[derive(Debug)]
pub(crate) struct Table {
    buckets: Vec<Vec<(Box<[u8]>, Rule)>>,
}

impl Table {
    /// Without any rule.
    pub(crate) fn new() -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS],
        }
    }

    /// Adds or replaces the rule of `name`.
    pub(crate) fn insert(&mut self, name: &str, rule: Rule) {
        let name: Box<[u8]> = name.to_ascii_lowercase().into_bytes().into();
        let bucket = &mut self.buckets[bucket(&name)];
        bucket.retain(|(present, _)| *present != name);
        bucket.push((name, rule));
    }

    /// The rule of a command.
    pub(crate) fn get(&self, name: &[u8]) -> Option<Rule> {
        let bucket = &self.buckets[bucket(name)];
        let hit = bucket
            .iter()
            .find(|(present, _)| present.eq_ignore_ascii_case(name));
        hit.map(|(_, rule)| *rule)
    }

    /// The rule of a subcommand.
    pub(crate) fn get_sub(&self, container: &[u8], sub: &[u8]) -> Option<Rule> {
        self.get(&[container, b"|", sub].concat())
    }
}

/// The length, the first two bytes and the last tell most commands apart, reads from writes above all.
fn bucket(name: &[u8]) -> usize {
    let [first, second, .., last] = *name else {
        return 0;
    };
    let letter = |byte: u8| usize::from(byte | 0x20) & 0x1f;
    let mixed = letter(first) ^ letter(second) << 5 ^ letter(last) << 3 ^ name.len() << 7;
    mixed & (BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::{Rule, Table};

    #[test]
    fn names_of_any_length_are_found_in_any_case() {
        let names = [
            "",
            "a",
            "ab",
            "abc",
            "xgroup|create",
            "set",
            "get",
            "hset",
            "hget",
        ];
        let mut table = Table::new();
        for (place, name) in names.iter().enumerate() {
            table.insert(name, Rule::Twin(place));
            table.insert(name, Rule::Twin(place + 100));
        }
        for (place, name) in names.iter().enumerate() {
            let upper = name.to_ascii_uppercase();
            for spelling in [name.as_bytes(), upper.as_bytes()] {
                assert_eq!(table.get(spelling), Some(Rule::Twin(place + 100)), "{name}");
            }
        }
        let sub = table.get_sub(b"XGroup", b"CREATE");
        assert_eq!(sub, table.get(b"xgroup|create"));
        for stranger in ["b", "bc", "abcd", "xgroup", "sett", "[et"] {
            assert_eq!(table.get(stranger.as_bytes()), None, "{stranger}");
        }
    }
}
