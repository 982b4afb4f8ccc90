//! By what the nodes of one cluster know each other: the certificate that they share, and one that a person chose for their
//! listeners, which the agent puts into the Secret `<rec>-tls`.
//!
//! Nodes hear of a chosen certificate at different times, and must never lose each other over it. So it is believed for its very
//! bytes, whoever signed it and whatever its dates say; and who dials names in the server name the one that it knows. A listener
//! that has another shows the shared one, and so it does to whoever names none, such as a node of an older release. Strangers, who
//! ask by the name of a Service or pod, are shown the chosen one.

use std::sync::Arc;

use meridian_api::certificates::Role;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};

use super::{Certificates, Material, TlsError};
use crate::secret::sha256_hex_of;
use crate::sync::certificates::Own;

/// How many characters of a certificate's hash name it. They choose between two certificates and identify nobody.
const NAMED_BY: usize = 32;

/// How every name of a node ends by which only other nodes call it.
const NODES: &str = ".meridian.internal";

/// By what this node and the others of its cluster know each other.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Between {
    shared: Arc<Certificates>,
    own: Arc<Own>,
    role: Role,
}

impl Between {
    /// What the nodes share, with what is chosen for `role`.
    pub(in crate::sync) fn new(shared: Arc<Certificates>, own: Arc<Own>, role: Role) -> Self {
        Self { shared, own, role }
    }

    /// For accepting another node: every certificate of the cluster's own authority is a node of this cluster.
    ///
    /// # Errors
    /// [`TlsError`] while there is nothing that nodes share.
    pub(in crate::sync) fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let material = self.shared.current()?;
        let Some(chosen) = self.own.chosen(self.role) else {
            return Ok(material.server());
        };
        let mut server = (*material.server()).clone();
        server.cert_resolver = Arc::new(Either {
            known_as: known_as(&chosen),
            chosen,
            shared: Arc::clone(&server.cert_resolver),
        });
        Ok(Arc::new(server))
    }

    /// For dialling another node, whose shared certificate is for `name`; and the name to ask it for.
    ///
    /// # Errors
    /// [`TlsError`] while there is nothing that nodes share, or if `name` is none.
    pub(in crate::sync) fn client(
        &self,
        name: &ServerName<'static>,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
        let material = self.shared.current()?;
        let client = material.client_by_name()?;
        let Some(chosen) = self.own.chosen(self.role) else {
            return Ok((client, name.clone()));
        };
        let asked = format!("{}.{}", known_as(&chosen), name.to_str());
        let Ok(asked) = ServerName::try_from(asked) else {
            // Too long for a name: the shared one is shown and believed.
            return Ok((client, name.clone()));
        };
        let mut client = (*client).clone();
        client
            .dangerous()
            .set_certificate_verifier(Arc::new(ChosenOr {
                chosen,
                shared: by_name(&material)?,
                name: name.clone(),
            }));
        Ok((Arc::new(client), asked))
    }
}

fn by_name(material: &Material) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let roots = Arc::clone(&material.roots);
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&material.provider))
        .build()
        .map_err(|source| TlsError::Verifier {
            directory: material.directory.clone(),
            source,
        })
}

/// The first label of the name by which who knows `certificate` asks for it.
fn known_as(certificate: &CertifiedKey) -> String {
    let mut hash = certificate
        .cert
        .first()
        .map(|leaf| sha256_hex_of(leaf))
        .unwrap_or_default();
    hash.truncate(NAMED_BY);
    hash
}

/// Shows one of two certificates.
#[derive(Debug)]
struct Either {
    chosen: Arc<CertifiedKey>,
    known_as: String,
    shared: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for Either {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if shows_chosen(hello.server_name(), &self.known_as) {
            Some(Arc::clone(&self.chosen))
        } else {
            self.shared.resolve(hello)
        }
    }
}

fn shows_chosen(asked: Option<&str>, known_as: &str) -> bool {
    match asked {
        Some(name) if name.ends_with(NODES) => name
            .split_once('.')
            .is_some_and(|(first, _)| first == known_as),
        Some(_stranger) => true,
        None => false,
    }
}

/// Accepts the very certificate that was chosen, and otherwise what the nodes share.
#[derive(Debug)]
struct ChosenOr {
    chosen: Arc<CertifiedKey>,
    shared: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for ChosenOr {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _routing_only: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.chosen.cert.first() == Some(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.shared
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.shared
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.shared
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.shared.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_it_and_strangers_are_shown_the_chosen_one() {
        let table = [
            (None, false),
            (Some("nodes.rec.ns.meridian.internal"), false),
            (Some("ab.nodes.rec.ns.meridian.internal"), true),
            (Some("ba.nodes.rec.ns.meridian.internal"), false),
            (Some("rec-0.rec.ns.svc"), true),
        ];
        for (asked, expected) in table {
            assert_eq!(shows_chosen(asked, "ab"), expected, "{asked:?}");
        }
    }
}
