//! Sessions of hubs that follow one another over one etcd.

use jiff::SignedDuration;
use meridian_api::identity::TrustDomain;
use tempfile::TempDir;

use super::*;
use crate::app::Settings;
use crate::app::testing::Device;
use crate::ca::{Authority, Origin};
use crate::clock::SystemClock;
use crate::domain::election::Lease;
use crate::store::StoreError;
use crate::store::etcd::EtcdStore;
use crate::store::etcd::seat::{Seat as Office, Tenure};
use crate::store::etcd::tests::server::{Access, Etcd};
use crate::tasks::deliver;

/// A hub that has the seat, with a tenure of its own that never ends: it was stopped, and has not looked at its clock yet.
struct Leader {
    app: Arc<App>,
    store: EtcdStore,
    lease: Lease,
    sessions: Sessions,
}

impl Leader {
    async fn seated(etcd: &Etcd, dir: &TempDir, name: &str) -> Self {
        let store = EtcdStore::open(&etcd.settings()).await.unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let (ca, _) = Authority::open(dir.path(), TrustDomain::default(), now).unwrap();
        let prepared = Reign::prepare(&store, &ca, Origin::Given, now).await;
        let (reign, txn) = prepared.unwrap();
        let seat = Office {
            replica: name.to_owned(),
            web_address: format!("{name}:8443"),
            term: reign.term.0,
        };
        let (lease, _) = store.grant(Duration::from_secs(60)).await.unwrap();
        let tenure = Tenure::default();
        tenure.set(Duration::MAX);
        let seated = store.claim(lease, &seat, txn, tenure).await.unwrap();
        let settings = Settings {
            audit_kept: 20_000,
            link_addresses: vec!["hub:8444".to_owned()],
            web_address: "hub:8443".to_owned(),
            approve_clusters: false,
            ca_margin: crate::domain::trust::MARGIN,
            names: ["hub"].map(str::to_owned).to_vec(),
        };
        let clock = Arc::new(SystemClock);
        let app = App::new(Arc::new(seated), Arc::new(ca), clock, settings, reign);
        Self {
            app: Arc::new(app),
            store,
            lease,
            sessions: Sessions::default(),
        }
    }

    fn context(&self) -> Context {
        Context {
            app: Arc::clone(&self.app),
            sessions: self.sessions.clone(),
            timing: Timing::default(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    async fn want(&self, object: u8) -> Revision {
        let desired = desired(object, upsert("x"));
        let key = keys::desired(uid(LAB_1), desired.object_id);
        let txn = Txn::new().put_record(&key, &desired).unwrap();
        self.app.commit(txn).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_leader_that_wakes_up_tells_its_members_nothing_of_its_successors_term() {
    let etcd = Etcd::start(Access::Open).await;
    let dir = tempfile::tempdir().unwrap();
    let former = Leader::seated(&etcd, &dir, "former").await;
    let hour = SignedDuration::from_hours(1);
    let material = former
        .app
        .create_join_token("lab-1", hour, false, &Manner::default())
        .await
        .unwrap();
    let device = Device::new(LAB_1);
    let token = material.token.as_str();
    device.join(&former.app, token, "lab-1").await.unwrap();
    let (store, stop) = (Arc::clone(former.app.store()), CancellationToken::new());
    let delivery = tokio::spawn(deliver::run(store, former.sessions.clone(), stop.clone()));
    let mut agent = Agent::of(former.context(), uid(LAB_1));
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    agent.welcome().await;
    let first = former.want(1).await;
    assert_eq!(agent.apply().await.upto.unwrap().revision, first.0);

    // Its lease ends, another takes the seat and decides something, and the watch of the former tells it.
    former.store.revoke(former.lease).await.unwrap();
    let successor = Leader::seated(&etcd, &dir, "successor").await;
    let late = successor.want(2).await;
    let (_, begun) = successor.app.line().await.unwrap().starts[&successor.app.reign().term];
    assert!(late > begun);
    let mut bye = None;
    while let Some(frame) = agent.from_hub.recv().await {
        let frame = frame.unwrap().frame;
        if let Some(Frame::Apply(apply)) = &frame {
            let upto = apply.upto.as_ref().unwrap();
            assert!(
                upto.revision < begun.0,
                "{upto:?} of a term that ended at {begun}"
            );
        }
        if let Some(Frame::Bye(said)) = frame {
            bye = Some(said);
        }
    }
    let bye = bye.expect("a goodbye");
    assert_eq!(bye.code, codes::NOT_LEADER, "{bye:?}");
    agent.served.await.unwrap();
    stop.cancel();
    delivery.await.unwrap();

    // What the member obeyed is in the successor's line.
    let mut again = Agent::of(successor.context(), uid(LAB_1));
    let obeyed = position(&former.app, first);
    again
        .say(FromAgent::Hello(hello(LAB_1, Some(obeyed))))
        .await;
    assert_eq!(again.welcome().await.mode(), SyncMode::Resume);
}

#[tokio::test]
async fn a_former_leader_reads_nothing_and_lists_nothing() {
    let etcd = Etcd::start(Access::Open).await;
    let dir = tempfile::tempdir().unwrap();
    let former = Leader::seated(&etcd, &dir, "former").await;
    let store = Arc::clone(former.app.store());
    let head = store.list(vec![String::new()]).await.unwrap();
    assert!(head.revision >= former.app.line().await.unwrap().head);
    former.store.revoke(former.lease).await.unwrap();
    let birth = keys::birth().text().to_owned();
    let refused = [
        store.get(birth).await.map(|_| ()),
        store.list(vec![String::new()]).await.map(|_| ()),
        store.list(Vec::new()).await.map(|_| ()),
    ];
    for refused in refused {
        let expected = matches!(refused, Err(StoreError::NotLeading));
        assert!(expected, "{refused:?}");
    }
}
