//! Certificates with which the nodes of a REC meet their peers.
//!
//! Such a certificate serves as well, so the names in it matter: they are the REC's own and never the hub's. Otherwise a
//! member could stand in for the hub, and be handed an administrator's token.

use meridian_api::identity::{RecName, SpiffeId};
use meridian_api::ids::ClusterUid;

use super::audit::{Deed, Trail};
use super::{App, AppError};
use crate::ca::Issued;
use crate::domain::cluster::Cluster;
use crate::store::{keys, records};

/// The domain in which every REC without a name of its own has one.
const INTERNAL: &str = ".meridian.internal";

/// A peer certificate that a member asks for.
#[derive(Clone, Copy, Debug)]
pub struct WantedPeer<'a> {
    /// Namespace of the REC.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Names that the certificate is to be for; none: the wildcard of each of the REC's suffixes.
    pub dns_names: &'a [String],
    /// PKCS #10 request.
    pub csr: &'a [u8],
    /// Where the caller sits.
    pub address: &'a str,
}

impl App {
    /// Signs the peer identity of a REC of a member.
    ///
    /// # Errors
    /// [`AppError::Refused`] if the registration was removed or a name is not the REC's, [`AppError::Ca`],
    /// [`AppError::Store`] if it could not be written down: then nothing is signed.
    pub async fn issue_peer(
        &self,
        cluster: ClusterUid,
        wanted: WantedPeer<'_>,
    ) -> Result<Issued, AppError> {
        let cluster = self.member(cluster).await?;
        let trail = Trail::member(
            cluster.uid.to_string(),
            cluster.name.clone(),
            wanted.address,
        );
        let deed = Deed::of_peer("issue", wanted.name);
        let issued = self.issue_told(&cluster, wanted, (&trail, &deed)).await;
        self.told(issued, &trail, &deed).await
    }

    async fn issue_told(
        &self,
        cluster: &Cluster,
        wanted: WantedPeer<'_>,
        (trail, deed): (&Trail, &Deed<'_>),
    ) -> Result<Issued, AppError> {
        let WantedPeer {
            namespace,
            name,
            dns_names,
            csr,
            address: _,
        } = wanted;
        self.must_keep_pace(cluster.uid)?;
        let rec = RecName::new(namespace, name).map_err(|e| AppError::Refused(e.to_string()))?;
        let suffixes = self.suffixes(cluster, namespace, name).await?;
        let names = match dns_names {
            [] => suffixes.iter().map(|suffix| format!("*{suffix}")).collect(),
            given => given.to_vec(),
        };
        for asked in &names {
            check(asked, &suffixes, &self.settings().names).map_err(|reason| {
                AppError::Refused(format!("REC {namespace}/{name}: name {asked:?} {reason}"))
            })?;
        }
        let identity = SpiffeId::peer(self.ca().trust_domain().clone(), cluster.uid, rec);
        let issued = self.ca().issue_peer(identity, &names, csr, self.now())?;
        self.record(trail, deed).await?;
        Ok(issued)
    }

    /// What the names of the REC's databases end with: as the member reported it, and as it is without a word about it.
    async fn suffixes(
        &self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<String>, AppError> {
        let inventory = records::get(self.store().as_ref(), &keys::recs(cluster.uid)).await?;
        let recs = inventory.map(|held| held.record.recs).unwrap_or_default();
        let reported = recs
            .into_iter()
            .filter(|rec| rec.namespace == namespace && rec.name == name)
            .map(|rec| rec.suffix)
            .filter(|suffix| suffix.starts_with(['.', '-']));
        let own = format!(".{name}.{namespace}.{}{INTERNAL}", cluster.name);
        // Below this domain the hub gives the names, and each REC has its own.
        let reported = reported
            .filter(|suffix| *suffix == own || !suffix.to_ascii_lowercase().ends_with(INTERNAL));
        let mut suffixes: Vec<_> = reported.collect();
        if suffixes.is_empty() {
            suffixes.push(own);
        }
        Ok(suffixes)
    }
}

/// One label and one of the suffixes, and none of the names of the hub.
fn check(asked: &str, suffixes: &[String], hub: &[String]) -> Result<(), String> {
    let ours = suffixes.iter().any(|suffix| {
        let label = asked.strip_suffix(suffix.as_str());
        label.is_some_and(is_label)
    });
    if !ours {
        return Err(format!(
            "is none of its databases: expected one label and the suffix {}, as its dbFqdnSuffix says and the member reports",
            suffixes.join(" or ")
        ));
    }
    if let Some(host) = hub.iter().find(|host| covers(asked, host)) {
        return Err(format!(
            "would stand for the hub, which is reached as {host:?}: give the REC a dbFqdnSuffix below which no hub is"
        ));
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    let letters = text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    text == "*" || (!text.is_empty() && letters)
}

/// Whether a certificate with this name, perhaps a wildcard, is good for a host.
fn covers(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    let Some(suffix) = name.strip_prefix('*') else {
        return name == host;
    };
    let label = host.strip_suffix(suffix);
    label.is_some_and(|label| !label.contains('.'))
}

#[cfg(test)]
mod tests {
    use meridian_api::audit::{ActorKind, Outcome};

    use super::*;
    use crate::app::testing::{LAB_1, TestHub, rec};

    fn names(issued: &Issued) -> String {
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        format!("{:?}", names.value.general_names)
    }

    fn wanted<'a>(name: &'a str, dns_names: &'a [String], csr: &'a [u8]) -> WantedPeer<'a> {
        WantedPeer {
            namespace: "db",
            name,
            dns_names,
            csr,
            address: "10.0.0.7",
        }
    }

    async fn refused(hub: &TestHub, asked: &[String]) -> String {
        let csr = crate::app::testing::Device::new(LAB_1).csr();
        let cluster = LAB_1.parse().unwrap();
        let issued = hub
            .app
            .issue_peer(cluster, wanted("rec", asked, &csr))
            .await;
        let Err(AppError::Refused(reason)) = issued else {
            panic!("{asked:?}: {issued:?}")
        };
        reason
    }

    #[tokio::test]
    async fn a_peer_certificate_carries_the_rec_and_the_wildcard_of_its_suffix() {
        let hub = TestHub::new().await;
        let device = hub.member("lab-1", LAB_1).await;
        let wildcard = "*.rec.db.lab-1.meridian.internal";
        for asked in [Vec::new(), vec![wildcard.to_owned()]] {
            let issued = hub
                .app
                .issue_peer(device.cluster, wanted("rec", &asked, &device.csr()))
                .await
                .unwrap();
            assert_eq!(
                issued.identity.to_string(),
                format!("spiffe://meridian.local/cluster/{LAB_1}/rec/db/rec")
            );
            assert!(names(&issued).contains(wildcard), "{}", names(&issued));
        }
        let csr = device.csr();
        let smuggled = WantedPeer {
            namespace: "db/x",
            ..wanted("rec", &[], &csr)
        };
        let smuggled = hub.app.issue_peer(device.cluster, smuggled).await;
        assert!(
            matches!(smuggled, Err(AppError::Refused(_))),
            "{smuggled:?}"
        );
    }

    #[tokio::test]
    async fn a_rec_that_was_not_reported_yet_has_the_suffix_that_is_everybodys() {
        let hub = TestHub::new().await;
        let device = hub.member("lab-1", LAB_1).await;
        let asked = ["*.new.db.lab-1.meridian.internal".to_owned()];
        let issued = hub
            .app
            .issue_peer(device.cluster, wanted("new", &asked, &device.csr()))
            .await
            .unwrap();
        assert!(names(&issued).contains(&asked[0]), "{}", names(&issued));
    }

    #[tokio::test]
    async fn a_name_that_is_not_below_the_recs_suffix_is_refused_with_the_suffix() {
        let hub = TestHub::new().await;
        drop(hub.member("lab-1", LAB_1).await);
        for asked in [
            "hub",
            "*",
            "",
            ".rec.db.lab-1.meridian.internal",
            "a.b.rec.db.lab-1.meridian.internal",
            "*.rec.db.lab-2.meridian.internal",
            "x-rec.db.lab-1.meridian.internal",
            "r*.rec.db.lab-1.meridian.internal",
            "x\0.rec.db.lab-1.meridian.internal",
        ] {
            let told = refused(&hub, &[asked.to_owned()]).await;
            let suffix = "the suffix .rec.db.lab-1.meridian.internal";
            assert!(
                told.contains(&format!("{asked:?}")) && told.contains(suffix),
                "{told}"
            );
        }
    }

    #[tokio::test]
    async fn no_suffix_that_a_member_reports_makes_its_certificate_good_for_another_members_rec() {
        let hub = TestHub::new().await;
        drop(hub.member("lab-1", LAB_1).await);
        for suffix in [
            ".rec.db.lab-2.meridian.internal",
            ".REC.db.lab-2.MERIDIAN.internal",
        ] {
            let reported = crate::domain::cluster::Rec {
                suffix: suffix.to_owned(),
                ..rec("lab-1")
            };
            let cluster = LAB_1.parse().unwrap();
            hub.app.inventory(cluster, vec![reported]).await.unwrap();
            let told = refused(&hub, &[format!("*{suffix}")]).await;
            assert!(
                told.contains("the suffix .rec.db.lab-1.meridian.internal"),
                "{told}"
            );
        }
    }

    #[tokio::test]
    async fn no_suffix_that_a_member_reports_makes_its_certificate_good_for_the_hub() {
        let hub = TestHub::new().await;
        drop(hub.member("lab-1", LAB_1).await);
        for (suffix, asked) in [
            (".example.com", "*.example.com"),
            (".example.com", "HUB.example.com"),
            (".EXAMPLE.com", "*.EXAMPLE.com"),
            ("-1.example.com", "*-1.example.com"),
        ] {
            let reported = crate::domain::cluster::Rec {
                suffix: suffix.to_owned(),
                ..rec("lab-1")
            };
            let cluster = LAB_1.parse().unwrap();
            hub.app.inventory(cluster, vec![reported]).await.unwrap();
            let told = refused(&hub, &[asked.to_owned()]).await;
            assert!(told.contains("would stand for the hub"), "{told}");
        }
        // Nothing that is no suffix of anything counts as reported.
        let reported = crate::domain::cluster::Rec {
            suffix: "hub".to_owned(),
            ..rec("lab-1")
        };
        let cluster = LAB_1.parse().unwrap();
        hub.app.inventory(cluster, vec![reported]).await.unwrap();
        refused(&hub, &["hub".to_owned()]).await;
    }

    #[tokio::test]
    async fn a_peer_certificate_and_its_refusal_are_written_down_as_the_members() {
        let hub = TestHub::new().await;
        let device = hub.member("lab-1", LAB_1).await;
        let csr = device.csr();
        let issued = hub.app.issue_peer(device.cluster, wanted("rec", &[], &csr));
        issued.await.unwrap();
        refused(&hub, &["hub".to_owned()]).await;
        let (_, records) = hub.app.audit_records(u64::MAX, 2).await.unwrap();
        let told = records.iter().rev().map(|record| {
            let event = &record.event;
            let actor = (event.actor.kind, event.actor.name.as_str());
            assert_eq!(event.address, "10.0.0.7");
            (
                actor,
                &*event.verb,
                &*event.kind,
                &*event.name,
                event.outcome,
            )
        });
        let of = |outcome| {
            let actor = (ActorKind::Member, "lab-1");
            (actor, "issue", "peer certificate", "rec", outcome)
        };
        let expected = [of(Outcome::Done), of(Outcome::Refused)];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
