//! Removals that have seen effects which have not arrived here: those effects must find themselves removed.
//!
//! Effects arrive in order from each origin, so what a removal has seen is a prefix of each stream and several removals
//! merge into one clock. The part that has arrived has been removed and need not be kept.

use crate::clock::Clock;
use crate::id::Dot;
use crate::view::Kind;
use std::collections::BTreeMap;

/// What is removed before it arrives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending(Option<Box<Scopes>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    /// Removals of the whole key, of every kind.
    pub(super) key: Clock,
    /// Removals of one element of a set.
    pub(super) elements: BTreeMap<Vec<u8>, Clock>,
    /// Removals of one field of a hash.
    pub(super) fields: BTreeMap<Vec<u8>, Clock>,
    /// Generations that are smaller than the one of this kind, which has not arrived.
    pub(super) outlived: BTreeMap<Kind, Clock>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn count(&self) -> u64 {
        let all = |s: &Scopes| {
            u64::from(!s.key.is_empty())
                + (s.elements.len() + s.fields.len() + s.outlived.len()) as u64
        };
        self.0.as_deref().map_or(0, all)
    }

    pub(super) fn remove_key(&mut self, unseen: &Clock) {
        if !unseen.is_empty() {
            self.scopes_mut().key.merge(unseen);
        }
    }

    pub(super) fn remove_element(&mut self, element: &[u8], unseen: &Clock) {
        if !unseen.is_empty() {
            self.scopes_mut()
                .elements
                .entry(element.to_vec())
                .or_default()
                .merge(unseen);
        }
    }

    pub(super) fn remove_field(&mut self, field: &[u8], unseen: &Clock) {
        if !unseen.is_empty() {
            self.scopes_mut()
                .fields
                .entry(field.to_vec())
                .or_default()
                .merge(unseen);
        }
    }

    pub(super) fn outlive_others(&mut self, kind: Kind, context: &Clock) {
        self.scopes_mut()
            .outlived
            .entry(kind)
            .or_default()
            .merge(context);
    }

    /// Whether another kind is known to be greater than the generation of `kind` that `dot` made.
    pub(super) fn outlives(&self, kind: Kind, dot: Dot) -> bool {
        let outlives = |s: &Scopes| {
            s.outlived
                .iter()
                .any(|(other, clock)| *other != kind && clock.covers(dot))
        };
        self.0.as_deref().is_some_and(outlives)
    }

    pub(super) fn takes_key(&self, dot: Dot) -> bool {
        self.0.as_ref().is_some_and(|s| s.key.covers(dot))
    }

    pub(super) fn takes_element(&self, element: &[u8], dot: Dot) -> bool {
        self.takes_key(dot)
            || self
                .0
                .as_ref()
                .and_then(|s| s.elements.get(element))
                .is_some_and(|c| c.covers(dot))
    }

    pub(super) fn takes_field(&self, field: &[u8], dot: Dot) -> bool {
        self.takes_key(dot)
            || self
                .0
                .as_ref()
                .and_then(|s| s.fields.get(field))
                .is_some_and(|c| c.covers(dot))
    }

    /// Forgets what has arrived.
    pub(super) fn prune(&mut self, own: &Clock) {
        let Some(scopes) = &mut self.0 else { return };
        let prune = |clock: &mut Clock| {
            *clock = clock.beyond(own);
            !clock.is_empty()
        };
        prune(&mut scopes.key);
        scopes.elements.retain(|_, clock| prune(clock));
        scopes.fields.retain(|_, clock| prune(clock));
        scopes.outlived.retain(|_, clock| !own.includes(clock));
        if *scopes.as_ref() == Scopes::default() {
            self.0 = None;
        }
    }

    pub(super) fn scopes(&self) -> Option<&Scopes> {
        self.0.as_deref()
    }

    fn scopes_mut(&mut self) -> &mut Scopes {
        self.0.get_or_insert_default()
    }
}

impl From<Scopes> for Pending {
    fn from(scopes: Scopes) -> Self {
        Self(Some(Box::new(scopes)))
    }
}
