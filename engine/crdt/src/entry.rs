//! Metadata of one key.

use crate::hlc::Stamp;
use crate::view::Kind;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) generations: Generations,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations(Vec<(Kind, Stamp)>);

impl Generations {
    pub(crate) fn of(&self, kind: Kind) -> Option<Stamp> {
        self.0
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, stamp)| *stamp)
    }
}

impl Entry {
    pub(crate) fn waiting(&self) -> u64 {
        0
    }
}
