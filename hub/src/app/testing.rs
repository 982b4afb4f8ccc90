//! A hub in memory and devices that join it, for the tests of every layer.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::SignedDuration;
use meridian_api::crds::active_active::{
    ParticipatingCluster, RedisEnterpriseActiveActiveDatabaseSpec,
};
use meridian_api::identity::TrustDomain;
use meridian_api::ids::ClusterUid;
use meridian_api::link::enroll::{Purpose, Transcript, transcript};
use rcgen::{CertificateParams, KeyPair};

use super::databases::NewDatabase;
use super::enroll::{Enrolled, Finish, Opened, Recover, Renewal};
use super::members::Agent;
use super::reign::Reign;
use super::reports::Report;
use super::writes::Manner;
use super::{App, AppError, Settings};
use crate::ca::Authority;
use crate::clock::{Clock as _, ManualClock};
use crate::domain::cluster::{DeviceKey, Presence, Rec};
use crate::sign_in::book::RoleBook;
use crate::store::memory::MemoryStore;
use crate::store::records::{LinkReport, StoredObservation};

pub(crate) const LAB_1: &str = "11111111-3b5e-4a3e-9d57-0d9a3c1f1e11";
pub(crate) const LAB_2: &str = "22222222-3b5e-4a3e-9d57-0d9a3c1f1e11";

pub(crate) fn uid(text: &str) -> ClusterUid {
    text.parse().unwrap()
}

/// An agent that knows everything.
pub(crate) const AGENT: Agent<'static> = Agent {
    version: "1",
    lacking: None,
};

/// A hub over a store in memory, with a clock that stands.
pub(crate) struct TestHub {
    pub(crate) app: Arc<App>,
    pub(crate) store: MemoryStore,
    pub(crate) clock: ManualClock,
    /// Of the authority.
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl TestHub {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::at("2026-11-22T12:00:00Z".parse().unwrap());
        Self::start(
            MemoryStore::new(),
            clock,
            Arc::new(tempfile::tempdir().unwrap()),
        )
        .await
    }

    /// Where people sign in.
    pub(crate) async fn with_roles(roles: Arc<RoleBook>) -> Self {
        let mut hub = Self::new().await;
        let app = Arc::into_inner(hub.app).unwrap();
        hub.app = Arc::new(app.with_roles(roles));
        hub
    }

    /// The same machine, started again with this store: the same authority.
    pub(crate) async fn restarted_with(&self, store: MemoryStore) -> Self {
        Self::start(store, self.clock.clone(), Arc::clone(&self.dir)).await
    }

    async fn start(store: MemoryStore, clock: ManualClock, dir: Arc<tempfile::TempDir>) -> Self {
        let (ca, origin) =
            Authority::open(dir.path(), TrustDomain::default(), clock.now()).unwrap();
        let reign = Reign::begin(&store, &ca, origin, clock.now())
            .await
            .unwrap();
        let settings = Settings {
            audit_kept: 20_000,
            link_addresses: vec!["hub:8444".to_owned()],
            web_address: "hub:8443".to_owned(),
            approve_clusters: false,
            ca_margin: crate::domain::trust::MARGIN,
            names: ["hub", "hub.example.com", "replica-1.example.com"]
                .map(str::to_owned)
                .to_vec(),
        };
        let app = App::new(
            Arc::new(store.clone()),
            Arc::new(ca),
            Arc::new(clock.clone()),
            settings,
            reign,
        );
        Self {
            app: Arc::new(app),
            store,
            clock,
            dir,
        }
    }

    pub(crate) async fn token(&self, name: &str) -> String {
        let material = self
            .app
            .create_join_token(
                name,
                SignedDuration::from_hours(1),
                false,
                &Manner::default(),
            )
            .await
            .unwrap();
        material.token.as_str().to_owned()
    }

    /// Joins a cluster and reports one REC with an address.
    pub(crate) async fn member(&self, name: &str, cluster: &str) -> Device {
        let device = Device::new(cluster);
        let token = self.token(name).await;
        device.join(&self.app, &token, name).await.unwrap();
        self.app
            .inventory(uid(cluster), vec![rec(name)])
            .await
            .unwrap();
        device
    }

    /// Members that have sessions, and say of a database that it is active and that they read along with every instance.
    pub(crate) async fn read_along(&self, name: &str, clusters: &[&str]) {
        let object = self.app.database(name).await.unwrap().record.object_id;
        let link = |instance_id| LinkReport {
            instance_id,
            from: String::new(),
            state: "up".to_owned(),
            last_error: String::new(),
            lag_ms: Some(1),
            since: self.app.now(),
        };
        for cluster in clusters.iter().map(|cluster| uid(cluster)) {
            let connected = Presence::Connected;
            self.app.presence(cluster, connected, 1).await.unwrap();
            let told = self.app.desired_of(cluster).await.unwrap().value;
            let told = told.iter().find(|held| held.record.object_id == object);
            let seen = StoredObservation {
                for_revision: told.unwrap().modified,
                status: serde_json::json!({ "status": "active" }),
                links: (1..=9).map(link).collect(),
                as_of: self.app.now(),
            };
            let report = [(object, Report::Observation(seen))];
            self.app.report(cluster, &report).await.unwrap();
        }
    }
}

pub(crate) fn rec(cluster: &str) -> Rec {
    Rec {
        namespace: "db".to_owned(),
        name: "rec".to_owned(),
        uid: "u".to_owned(),
        replication_address: "10.77.0.1:443".to_owned(),
        suffix: format!(".rec.db.{cluster}.meridian.internal"),
        state: "Running".to_owned(),
        ..Rec::default()
    }
}

pub(crate) fn database(name: &str, participants: &[&str]) -> NewDatabase {
    let participating_clusters = participants.iter().map(|name| ParticipatingCluster {
        name: (*name).to_owned(),
        ..ParticipatingCluster::default()
    });
    NewDatabase {
        name: name.to_owned(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        annotations: std::collections::BTreeMap::new(),
        spec: RedisEnterpriseActiveActiveDatabaseSpec {
            participating_clusters: participating_clusters.collect(),
            ..RedisEnterpriseActiveActiveDatabaseSpec::default()
        },
    }
}

/// The device of a member: its Ed25519 key and the cluster that it stands in.
pub(crate) struct Device {
    pub(crate) cluster: ClusterUid,
    pub(crate) key: Ed25519KeyPair,
    pub(crate) tls: KeyPair,
}

impl Device {
    pub(crate) fn new(cluster: &str) -> Self {
        Self {
            cluster: uid(cluster),
            key: Ed25519KeyPair::generate().unwrap(),
            tls: KeyPair::generate().unwrap(),
        }
    }

    pub(crate) fn public(&self) -> DeviceKey {
        DeviceKey::new(self.key.public_key().as_ref()).unwrap()
    }

    pub(crate) fn csr(&self) -> Vec<u8> {
        CertificateParams::default()
            .serialize_request(&self.tls)
            .unwrap()
            .der()
            .to_vec()
    }

    pub(crate) fn sign(
        &self,
        purpose: Purpose,
        opened: &Opened,
        name: &str,
        credential: &[u8],
        csr: &[u8],
    ) -> Vec<u8> {
        self.sign_over(purpose, (&opened.id, &opened.nonce), name, credential, csr)
    }

    fn sign_over(
        &self,
        purpose: Purpose,
        (challenge_id, nonce): (&str, &[u8]),
        name: &str,
        credential: &[u8],
        csr: &[u8],
    ) -> Vec<u8> {
        let signed = transcript(&Transcript {
            purpose,
            challenge_id,
            nonce,
            device_public_key: self.key.public_key().as_ref(),
            kube_system_uid: &self.cluster.to_string(),
            cluster_name: name,
            credential,
            csr_der: csr,
        });
        self.key.sign(&signed).as_ref().to_vec()
    }

    pub(crate) async fn join(
        &self,
        app: &App,
        token: &str,
        name: &str,
    ) -> Result<Enrolled, AppError> {
        let opened = app.begin_enrolment(self.public(), self.cluster);
        let csr = self.csr();
        let signature = self.sign(Purpose::Finish, &opened, name, token.as_bytes(), &csr);
        app.finish_enrolment(Finish {
            challenge_id: &opened.id,
            token,
            cluster_name: name,
            signature: &signature,
            csr: &csr,
            agent_version: "1",
            address: "10.0.0.7",
        })
        .await
    }

    pub(crate) async fn renew(&self, app: &App) -> Result<Enrolled, AppError> {
        let (csr, device_key) = (self.csr(), self.public());
        let signature = self.sign_over(Purpose::Renew, ("", b""), "", b"", &csr);
        let renewal = Renewal {
            device_key,
            signature: &signature,
            csr: &csr,
            address: "10.0.0.7",
        };
        app.renew(self.cluster, renewal).await
    }

    pub(crate) async fn recover(&self, app: &App, join_state: &str) -> Result<Enrolled, AppError> {
        let opened = app.begin_enrolment(self.public(), self.cluster);
        let csr = self.csr();
        let signature = self.sign(Purpose::Recover, &opened, "", join_state.as_bytes(), &csr);
        app.recover(Recover {
            challenge_id: &opened.id,
            signature: &signature,
            csr: &csr,
            join_state: join_state.as_bytes(),
            cluster: &self.cluster.to_string(),
            address: "10.0.0.7",
        })
        .await
    }
}
