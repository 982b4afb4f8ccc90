//! The kinds of objects that the hub serves.

use std::str::FromStr;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A member cluster.
    Cluster,
    /// A join token.
    Token,
    /// A token of the web API.
    ApiToken,
    /// A remote cluster (RERC).
    RemoteCluster,
    /// An Active-Active database (REAADB).
    ActiveActiveDatabase,
}

const ALL: [Kind; 5] = [
    Kind::Cluster,
    Kind::Token,
    Kind::ApiToken,
    Kind::RemoteCluster,
    Kind::ActiveActiveDatabase,
];

impl Kind {
    /// Path of its collection below `/api/v1/`.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Cluster => "clusters",
            Self::Token => "tokens",
            Self::ApiToken => "apitokens",
            Self::RemoteCluster => "remoteclusters",
            Self::ActiveActiveDatabase => "activeactivedatabases",
        }
    }

    /// How a sentence names it.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Token => "token",
            Self::ApiToken => "apitoken",
            Self::RemoteCluster => "remotecluster",
            Self::ActiveActiveDatabase => "activeactivedatabase",
        }
    }

    /// What its deletion means, for the question before it.
    pub(crate) fn deletion(self) -> &'static str {
        match self {
            Self::Cluster => {
                "removes its registration; its databases go on serving without the hub"
            }
            Self::Token | Self::ApiToken => "makes it useless",
            Self::RemoteCluster => "removes it from every member",
            Self::ActiveActiveDatabase => "deletes all its data in every participating cluster",
        }
    }

    /// The kind of a YAML document, by its `kind`.
    pub(crate) fn of_document(kind: &str) -> Option<Self> {
        match kind {
            "RedisEnterpriseRemoteCluster" => Some(Self::RemoteCluster),
            "RedisEnterpriseActiveActiveDatabase" => Some(Self::ActiveActiveDatabase),
            _ => None,
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["cluster", "clusters"],
            Self::Token => &["token", "tokens"],
            Self::ApiToken => &["apitoken", "apitokens", "api-token", "api-tokens"],
            Self::RemoteCluster => &[
                "remotecluster",
                "remoteclusters",
                "rerc",
                "redisenterpriseremotecluster",
                "redisenterpriseremoteclusters",
            ],
            Self::ActiveActiveDatabase => &[
                "activeactivedatabase",
                "activeactivedatabases",
                "aadb",
                "reaadb",
                "redisenterpriseactiveactivedatabase",
                "redisenterpriseactiveactivedatabases",
            ],
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        ALL.into_iter()
            .find(|kind| kind.names().contains(&name.as_str()))
            .ok_or_else(|| format!("expected one of {}", ALL.map(Self::path).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_for_one_kind() {
        for kind in ALL {
            for name in kind.names() {
                assert_eq!(name.parse(), Ok(kind), "{name}");
                assert_eq!(name.to_uppercase().parse(), Ok(kind), "{name}");
            }
            assert_eq!(kind.path().parse(), Ok(kind));
            assert_eq!(kind.noun().parse(), Ok(kind));
        }
    }
}
