//! Identifiers that cross borders: of clusters, objects, stores, and of points in the hub's history.
//!
//! Each is a type of its own, so that a revision is never taken for a plan number. All have one text form (`Display`,
//! `FromStr`, serde) and are ordered.

use std::{borrow::Cow, fmt, num::ParseIntError, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// A text that is not the identifier it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID in its hyphenated form.
    #[error(
        "{what}: found {found:?}, expected a UUID such as 6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11"
    )]
    NotUuid {
        /// Name of the identifier's type.
        what: &'static str,
        /// The text.
        found: String,
    },
    /// The UUID of all zeros, which stands for nothing.
    #[error("{what}: found the nil UUID, expected one that names something")]
    Nil {
        /// Name of the identifier's type.
        what: &'static str,
    },
    /// Not a whole number from 0 to 2^64 − 1.
    #[error("{what}: found {found:?}, expected a whole number: {source}")]
    NotNumber {
        /// Name of the identifier's type.
        what: &'static str,
        /// The text.
        found: String,
        /// Why it is none.
        source: ParseIntError,
    },
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID; the nil UUID is refused.
            pub fn new(uuid: Uuid) -> Result<Self, IdError> {
                if uuid.is_nil() {
                    return Err(IdError::Nil { what: stringify!($name) });
                }
                Ok(Self(uuid))
            }

            /// The UUID.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // Only the hyphenated form: two spellings of one identifier would be two keys in a store.
                let not_uuid = || IdError::NotUuid { what: stringify!($name), found: text.to_owned() };
                if text.len() != 36 {
                    return Err(not_uuid());
                }
                Self::new(Uuid::try_parse(text).map_err(|_| not_uuid())?)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": "uuid" })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one, or `None` at the end of the range.
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self).map_err(|source| IdError::NotNumber {
                    what: stringify!($name),
                    found: text.to_owned(),
                    source,
                })
            }
        }
    };
}

uuid_id! {
    /// Identity of a member cluster: the UID of its namespace `kube-system`.
    ClusterUid
}
uuid_id! {
    /// The hub's identity of an object, given once and never used again. Not `metadata.uid`, which differs per cluster.
    ObjectId
}
uuid_id! {
    /// Identity of a hub's store, drawn when the store is made.
    StoreId
}
number_id! {
    /// Number of a hub leader's reign. An agent never obeys a lower one than it obeyed before.
    Term
}
number_id! {
    /// The store's own counter of committed transactions.
    Revision
}
number_id! {
    /// Number of a plan; decisions are fenced by (term, plan number).
    PlanNumber
}

/// Random number of one start or election of the hub within its term. It tells two hubs apart that both believe in the
/// same term, for instance after a volume snapshot was put back. Equality is all that may be asked of two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|source| IdError::NotNumber {
                what: "Incarnation",
                found: text.to_owned(),
                source,
            })
    }
}

// As text, because readers of JSON lose the low bits of numbers above 2^53.
impl Serialize for Incarnation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Incarnation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
