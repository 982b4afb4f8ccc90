//! String values that are open in Rust, and closed in the schema where the public definition closes them.

/// Declares an enum of known words (`closed enum`: the schema lists them; `open enum`: it lists none) with an `Other` variant for words that this build does not know.
///
/// An object that another version stored must stay readable, so an unknown word is kept, not refused; the schema lists the
/// known words, so that the API server refuses a new object with an unknown one.
macro_rules! open_enum {
    (
        $(#[$doc:meta])*
        pub $listed:ident enum $name:ident {
            $( $(#[$variant_doc:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $( #[doc = concat!("`", $word, "`. ")] $(#[$variant_doc])* $variant, )+
            /// A word that this build does not know, kept as it is.
            Other(String),
        }

        impl $name {
            /// The known words.
            pub const WORDS: &[&str] = &[$($word),+];

            /// The word as it stands in the object.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $word, )+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $( $word => Self::$variant, )+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)
                    .map(|word| Self::from(word.as_ref()))
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::crds::open_enum::word_schema!($listed)
            }
        }
    };
}

/// Schema of an enum's words.
macro_rules! word_schema {
    (closed) => {
        schemars::json_schema!({ "type": "string", "enum": Self::WORDS })
    };
    (open) => {
        schemars::json_schema!({ "type": "string" })
    };
}

pub(crate) use {open_enum, word_schema};
