//! A point in the history of one store, as a domain type and on the wire.

use super::proto;
use crate::ids::{IdError, Incarnation, Revision, StoreId, Term};

/// A point in the history of one store.
///
/// Two positions compare only within one store; within it by term, then by revision. The incarnation says whether two hubs
/// that name the same term are the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The store.
    pub store: StoreId,
    /// Term of the leader that wrote.
    pub term: Term,
    /// Its start or election.
    pub incarnation: Incarnation,
    /// The store's counter.
    pub revision: Revision,
}

/// A position on the wire that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// The message lacks the position that it must have.
    #[error("{field}: found nothing, expected a store position")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// The store's identity is not one.
    #[error("{field}.store_id: {source}")]
    Store {
        /// Name of the field.
        field: &'static str,
        /// Why not.
        source: IdError,
    },
}

impl Position {
    /// Reads a position that must be there; `field` names it in the error.
    pub fn required(
        field: &'static str,
        wire: Option<&proto::StorePosition>,
    ) -> Result<Self, PositionError> {
        Self::optional(field, wire)?.ok_or(PositionError::Missing { field })
    }

    /// Reads a position that may be absent; `field` names it in the error.
    pub fn optional(
        field: &'static str,
        wire: Option<&proto::StorePosition>,
    ) -> Result<Option<Self>, PositionError> {
        wire.map(|wire| {
            Ok(Self {
                store: wire
                    .store_id
                    .parse()
                    .map_err(|source| PositionError::Store { field, source })?,
                term: Term(wire.term),
                incarnation: Incarnation(wire.incarnation),
                revision: Revision(wire.revision),
            })
        })
        .transpose()
    }
}

impl From<Position> for proto::StorePosition {
    fn from(position: Position) -> Self {
        Self {
            store_id: position.store.to_string(),
            term: position.term.0,
            incarnation: position.incarnation.0,
            revision: position.revision.0,
        }
    }
}
