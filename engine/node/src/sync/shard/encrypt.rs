//! TLS of a shard: switched on and off, and its certificates exchanged, while it runs.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Shard, ShardAddress, ShardError};
use crate::desired::DesiredShard;
use crate::secret::sha256_hex;

/// The ports on which the shard listens.
pub(super) fn ports(desired: &DesiredShard) -> [(&'static str, String); 2] {
    let plain = desired.plain_port();
    let tls = if plain == 0 { desired.port } else { 0 };
    [("port", plain.to_string()), ("tls-port", tls.to_string())]
}

/// Settings of TLS but the port.
fn settings(desired: &DesiredShard, address: &ShardAddress) -> Vec<(&'static str, String)> {
    // Replicas that follow by TLS go out by the node, see `sync::exit`.
    let mut all = vec![("tls-replication", "no".to_owned())];
    let Some(tls) = desired.tls.as_ref().filter(|tls| tls.clients) else {
        return all;
    };
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let [certificate, key] = &address.client_pair;
    let (authorities, asks) = if tls.certificates.is_empty() {
        (String::new(), "no")
    } else {
        (path(&address.trusted), "yes")
    };
    all.extend([
        ("tls-cert-file", path(certificate)),
        ("tls-key-file", path(key)),
        ("tls-ca-cert-file", authorities),
        ("tls-auth-clients", asks.to_owned()),
    ]);
    all
}

/// The hash of every file that TLS reads: another one, and the shard must read them again.
pub(super) fn files(desired: &DesiredShard, address: &ShardAddress) -> String {
    if !desired.by_tls_only() {
        return String::new();
    }
    let paths = address.client_pair.iter();
    let texts: Vec<String> = paths
        .chain([&address.trusted])
        .map(|path| std::fs::read_to_string(path).unwrap_or_default())
        .collect();
    sha256_hex(&texts.join("\n"))
}

/// Whether clients can enter, or have entered, with less than a database asks for that is entered by TLS only.
fn asks_too_little(found: &BTreeMap<String, String>, desired: &DesiredShard) -> bool {
    let is = |name: &str, value: &str| found.get(name).is_some_and(|found| found == value);
    let certificates = desired.tls.as_ref().map(|tls| tls.certificates.as_str());
    let asks = certificates.is_some_and(|pem| !pem.is_empty());
    !is("port", "0") || (asks && is("tls-auth-clients", "no"))
}

impl Shard {
    /// Makes the shard listen as it should.
    ///
    /// The port by which too little is asked for is shut before anything else is tried, and connections that entered by it are
    /// closed: whatever fails afterwards, nobody is served without TLS, or without the certificate, that the database asks for.
    ///
    /// # Errors
    /// [`ShardError`]; a refusal names the file that cannot be used.
    pub(super) async fn encrypt(
        &self,
        desired: &DesiredShard,
        address: &ShardAddress,
    ) -> Result<(), ShardError> {
        let found = self.listening().await?;
        let [plain, tls] = ports(desired);
        if !desired.by_tls_only() {
            // A server that was built without TLS has none of its settings.
            if found.contains_key("tls-port") {
                self.set(&[tls]).await?;
                self.set(&settings(desired, address)).await?;
            }
            return self.set(&[plain]).await;
        }
        if asks_too_little(&found, desired) {
            self.set(&[plain, ("tls-port", "0".to_owned())]).await?;
            self.close_clients().await?;
        }
        let mut all = settings(desired, address);
        all.push(tls);
        self.set(&all).await
    }

    async fn listening(&self) -> Result<BTreeMap<String, String>, ShardError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("port").arg("tls-port");
        command.arg("tls-auth-clients");
        self.ask("CONFIG GET", &command).await
    }

    async fn set(&self, settings: &[(&'static str, String)]) -> Result<(), ShardError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET");
        for (name, value) in settings {
            command.arg(*name).arg(value);
        }
        self.ask::<String>("CONFIG SET", &command).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Tls;
    use crate::desired::tests::shard;

    #[test]
    fn an_open_plain_port_and_clients_without_certificate_are_too_little() {
        let wanted = |certificates: &str| DesiredShard {
            tls: Some(Tls {
                clients: true,
                certificates: certificates.to_owned(),
                replicas: true,
            }),
            ..shard()
        };
        let found = |port: &str, asks: &str| {
            let pairs = [("port", port), ("tls-auth-clients", asks)];
            BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
        };
        // (port, asks for certificates, wanted certificates, too little?)
        for (port, asks, certificates, expected) in [
            ("12000", "yes", "", true),
            ("0", "no", "", false),
            ("0", "no", "PEM", true),
            ("0", "yes", "PEM", false),
        ] {
            let too_little = asks_too_little(&found(port, asks), &wanted(certificates));
            assert_eq!(too_little, expected, "{port} {asks} {certificates:?}");
        }
    }
}
