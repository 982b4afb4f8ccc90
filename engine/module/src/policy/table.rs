//! A table from command names to rules that costs a read almost nothing: one hash of the name and, mostly, one empty bucket.

use super::Rule;

/// Number of buckets; a power of two, well above the number of rules (about 250).
const BUCKETS: usize = 1024;

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
        let bucket = &mut self.buckets[bucket(name.iter().copied())];
        bucket.retain(|(present, _)| *present != name);
        bucket.push((name, rule));
    }

    /// The rule of a command.
    pub(crate) fn get(&self, name: &[u8]) -> Option<Rule> {
        self.find(|| name.iter().copied())
    }

    /// The rule of a subcommand.
    pub(crate) fn get_sub(&self, container: &[u8], sub: &[u8]) -> Option<Rule> {
        self.find(|| {
            container
                .iter()
                .copied()
                .chain([b'|'])
                .chain(sub.iter().copied())
        })
    }

    fn find<I: Iterator<Item = u8>>(&self, name: impl Fn() -> I) -> Option<Rule> {
        let bucket = &self.buckets[bucket(name())];
        let hit = bucket.iter().find(|(present, _)| {
            present
                .iter()
                .copied()
                .eq(name().map(|byte| byte.to_ascii_lowercase()))
        });
        hit.map(|(_, rule)| *rule)
    }
}

/// FNV-1a over the lower-case name.
fn bucket(name: impl Iterator<Item = u8>) -> usize {
    let hash = name.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    });
    (hash as usize ^ (hash >> 16) as usize) & (BUCKETS - 1)
}
