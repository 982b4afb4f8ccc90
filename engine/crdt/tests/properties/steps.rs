//! Random steps over few keys, elements and fields, so that conflicts are frequent.

use crate::world::{Intent, Step};
use proptest::collection::vec;
use proptest::prelude::*;

const KEYS: u8 = 2;
const NAMES: u8 = 2;

/// How steps are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Weight of crashes, among about 110.
    pub(crate) crashes: u32,
    /// Weight of rounds after which much is stable.
    pub(crate) gossip: u32,
}

pub(crate) fn intent() -> impl Strategy<Value = Intent> {
    let amount = prop_oneof![4 => (-3_i64..=3).prop_map(|n| n * 100), 1 => -150_i64..=150];
    let names = || vec(0..NAMES, 1..=2);
    prop_oneof![
        4 => (0..KEYS, any::<u8>()).prop_map(|(k, t)| Intent::Set(k, t)),
        4 => (0..KEYS, amount.clone()).prop_map(|(k, by)| Intent::Count(k, by)),
        4 => (0..KEYS, names()).prop_map(|(k, e)| Intent::Add(k, e)),
        3 => (0..KEYS, names()).prop_map(|(k, e)| Intent::Remove(k, e)),
        4 => (0..KEYS, vec((0..NAMES, any::<u8>()), 1..=2)).prop_map(|(k, f)| Intent::Fill(k, f)),
        3 => (0..KEYS, names()).prop_map(|(k, f)| Intent::Clear(k, f)),
        4 => (0..KEYS, 0..NAMES, amount).prop_map(|(k, f, by)| Intent::CountIn(k, f, by)),
        4 => vec(0..KEYS, 1..=2).prop_map(Intent::Delete),
    ]
}

fn step(mix: Mix) -> impl Strategy<Value = Step> {
    let region = || 0..5_usize;
    prop_oneof![
        30 => (region(), intent()).prop_map(|(region, write)| Step::Write { region, write }),
        3 => (region(), vec(intent(), 1..4)).prop_map(|(region, writes)| Step::Together { region, writes }),
        30 => (region(), region(), 1..7_usize).prop_map(|(from, to, transactions)| Step::Fetch { from, to, transactions }),
        12 => (region(), region()).prop_map(|(from, to)| Step::Deliver { from, to }),
        10 => region().prop_map(|region| Step::Persist { region }),
        12 => region().prop_map(|region| Step::Report { region }),
        12 => (region(), 1..4_usize).prop_map(|(region, budget)| Step::Collect { region, budget }),
        mix.crashes => region().prop_map(|region| Step::Crash { region }),
        mix.gossip => region().prop_map(|without| Step::Gossip { without }),
        4 => (region(), 0..5_000_u64).prop_map(|(region, ms)| Step::Time { region, ms }),
    ]
}

pub(crate) fn steps(mix: Mix, longest: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(mix), 1..longest)
}
