//! What the certificates of a REC are for. The agent writes a pair for each role into the Secret `<rec>-tls`, the nodes read it.

use std::fmt;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The API on 9443.
    Api,
    /// The status page on 8443.
    Cm,
    /// The metrics on 8070.
    Metrics,
    /// Clients of databases.
    Proxy,
    /// Replication between clusters.
    Syncer,
    /// What the nodes of one cluster ask each other on 8445.
    CpInternode,
    /// What replicas and primaries show each other, where replicas follow by TLS.
    DpInternode,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [
        Self::Api,
        Self::Cm,
        Self::Metrics,
        Self::Proxy,
        Self::Syncer,
        Self::CpInternode,
        Self::DpInternode,
    ];

    /// The name in keys of the Secret and in files of the nodes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Cm => "cm",
            Self::Metrics => "metrics",
            Self::Proxy => "proxy",
            Self::Syncer => "syncer",
            Self::CpInternode => "cp-internode",
            Self::DpInternode => "dp-internode",
        }
    }

    /// Whether there is always one in the Secret. Where there is none of the others, nodes show the certificate of `<rec>-internal`.
    #[must_use]
    pub fn is_always_there(self) -> bool {
        !matches!(self, Self::CpInternode | Self::DpInternode)
    }

    /// Key of its certificate in the Secret.
    #[must_use]
    pub fn certificate_key(self) -> String {
        format!("{self}.crt")
    }

    /// Key of its private key in the Secret.
    #[must_use]
    pub fn private_key(self) -> String {
        format!("{self}.key")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_contract_do_not_change() {
        let words = Role::ALL.map(|role| (role.certificate_key(), role.private_key()));
        let roles = [
            "api",
            "cm",
            "metrics",
            "proxy",
            "syncer",
            "cp-internode",
            "dp-internode",
        ];
        let expected = roles.map(|role| (format!("{role}.crt"), format!("{role}.key")));
        assert_eq!(words, expected);
    }
}
