//! The root of a hub that runs is exchanged, while its members stay connected.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use meridian_agent::link::dial::{DialError, Dialer};
use meridian_agent::link::enroll::{self, HubRegistrar};
use meridian_agent::link::identity::{Identity, Trust, certificate_request, new_session_key};
use meridian_agent::link::peers::{self, Need, PeerState, Wanted};
use meridian_api::link::codes;
use meridian_api::link::proto::{
    self, PeerCertificateRequest, SyncMode, agent_frame::Frame as Say, hub_frame::Frame,
    link_client::LinkClient,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::hub::{Hub, PATIENCE, Ran};
use super::joining::{facts, join};
use super::member::{Member, Session};
use super::{EU, US};

const AP: &str = "0e0e0e0e-0000-4000-8000-000000000003";

/// A member that follows the roots as an agent does, with one REC. Whatever ends its session but its own move is a panic.
struct Follower {
    member: Member,
    name: &'static str,
    session: Session,
    secret: Option<Secret>,
    /// Its session moved to a connection with another certificate so often.
    moves: usize,
}

fn trust(identity: &Identity) -> &Trust {
    &identity.membership.as_ref().unwrap().trust
}

fn dialer(identity: &Identity) -> Dialer {
    let membership = identity.membership.as_ref().unwrap();
    Dialer {
        addresses: membership.addresses.clone(),
        roots_pem: membership.trust.roots_pem.clone(),
        ..Dialer::default()
    }
}

async fn connect(identity: &Identity) -> Channel {
    let connected = dialer(identity).connect(Some(identity), || 0.5).await;
    connected.unwrap().channel
}

impl Follower {
    async fn of(hub: &Hub, name: &'static str, uid: &str) -> Self {
        let member = hub.joined(name, uid).await;
        let (session, _) = member.session(None).await;
        let mut follower = Self {
            member,
            name,
            session,
            secret: None,
            moves: 0,
        };
        follower.refresh().await;
        follower
    }

    /// Follows until `stop`.
    fn follow(mut self, stop: &CancellationToken) -> JoinHandle<Self> {
        let stop = stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return self,
                    frame = self.session.hear() => self.obey(frame).await,
                }
            }
        })
    }

    async fn obey(&mut self, frame: Frame) {
        match frame {
            Frame::Bye(bye) => panic!("the session of {} was ended: {bye:?}", self.name),
            Frame::Beat(_) => self.session.say(Say::Beat(proto::Beat::default())).await,
            Frame::Trust(bundle) => {
                let membership = self.member.identity.membership.as_mut().unwrap();
                let offered = Trust::of(&bundle).unwrap();
                membership.trust = membership.trust.clone().newer(offered);
                self.refresh().await;
            }
            Frame::Welcome(_)
            | Frame::Apply(_)
            | Frame::Confirm(_)
            | Frame::DigestAsk(_)
            | Frame::Drain(_)
            | Frame::Freeze(_) => {}
        }
    }

    /// Renews what is of an old root, and reports.
    async fn refresh(&mut self) {
        let membership = self.member.identity.membership.as_ref().unwrap();
        if membership.is_of_an_old_root() {
            self.renew().await;
        }
        let wanted = Wanted {
            namespace: "db".to_owned(),
            rec: "rec".to_owned(),
            spiffe_id: format!(
                "spiffe://meridian.local/cluster/{}/rec/db/rec",
                self.member.uid
            ),
            dns_names: vec![format!("*.rec.db.{}.meridian.internal", self.name)],
            trust: trust(&self.member.identity).clone(),
        };
        loop {
            let now = jiff::Timestamp::now().as_millisecond();
            match peers::need(self.secret.as_ref(), &wanted, now) {
                Need::Nothing { .. } => break,
                Need::Roots => {
                    self.secret = peers::with_roots(self.secret.as_ref().unwrap(), &wanted)
                }
                Need::Issue(_) => self.secret = Some(self.issued(&wanted).await),
            }
        }
        self.report(&wanted).await;
    }

    async fn renew(&mut self) {
        let known = &self.member.identity;
        let mut renewed = known.with_new_session_key().unwrap();
        let request = enroll::renewal(&renewed, &self.member.uid).unwrap();
        let reply = LinkClient::new(connect(known).await).renew(request).await;
        let joined_with = known.membership.as_ref().unwrap().joined_with.clone();
        renewed
            .accept(reply.unwrap().get_ref(), &joined_with)
            .unwrap();
        self.member.identity = renewed;
        // A connection with the new certificate stands before the old session ends.
        let stands = connect(&self.member.identity).await;
        let bye = proto::Bye {
            code: codes::RECONNECT.to_owned(),
            message: String::new(),
        };
        self.session.say(Say::Bye(bye)).await;
        (self.session, _) = self.member.session(None).await;
        drop(stands);
        self.moves += 1;
    }

    async fn issued(&self, wanted: &Wanted) -> Secret {
        let key = new_session_key().unwrap();
        let request = PeerCertificateRequest {
            rec_namespace: wanted.namespace.clone(),
            rec_name: wanted.rec.clone(),
            csr_der: certificate_request(&key, &[]).unwrap().into(),
            dns_names: wanted.dns_names.clone(),
        };
        let channel = connect(&self.member.identity).await;
        let reply = LinkClient::new(channel).issue_peer(request).await.unwrap();
        peers::secret(wanted, &key, reply.get_ref()).unwrap().0
    }

    async fn report(&self, wanted: &Wanted) {
        let peer = PeerState::of(self.secret.as_ref().unwrap(), &wanted.trust).unwrap();
        let rec = proto::Rec {
            namespace: wanted.namespace.clone(),
            name: wanted.rec.clone(),
            uid: "u".to_owned(),
            replication_address: "10.77.0.1:443".to_owned(),
            suffix: format!(".rec.db.{}.meridian.internal", self.name),
            state: "Running".to_owned(),
            peer_trust_version: peer.trust_version,
            peer_signer: peer.signer,
            ..proto::Rec::default()
        };
        let inventory = proto::RecInventory {
            recs: vec![rec],
            trust_version: wanted.trust.version,
            trust_digest: wanted.trust.digest().into(),
            ..proto::RecInventory::default()
        };
        self.session.say(Say::Recs(inventory)).await;
    }
}

/// Orders a step until nothing holds it up.
async fn takes(hub: &Hub, step: &[&str]) -> Ran {
    let begun = Instant::now();
    loop {
        let ran = hub.cli(&[&["ca"], step].concat());
        if ran.success {
            return ran;
        }
        assert!(ran.stderr.contains("nothing was done"), "{ran:?}");
        assert!(begun.elapsed() < PATIENCE, "{ran:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn stage(hub: &Hub) -> (String, u64) {
    let ran = hub.cli(&["ca", "status", "-o", "json"]);
    assert!(ran.success, "{ran:?}");
    let ca: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let stage = ca["stage"].as_str().unwrap().to_owned();
    (stage, ca["version"].as_u64().unwrap())
}

/// Why the hub does not let this certificate in, or why this member does not believe the hub.
async fn refusal(identity: &Identity) -> DialError {
    let connection = match dialer(identity).connect(Some(identity), || 0.5).await {
        Ok(connection) => connection,
        Err(refused) => return refused,
    };
    let request = enroll::renewal(&identity.with_new_session_key().unwrap(), EU).unwrap();
    let mut link = LinkClient::new(connection.channel.clone());
    connection.explain(&link.renew(request).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_exchanged_under_live_sessions_of_which_none_ends() {
    let hub = Hub::start().await;
    let stop = CancellationToken::new();
    let eu = Follower::of(&hub, "eu-1", EU).await;
    let us = Follower::of(&hub, "us-1", US).await;
    let old = eu.member.identity.clone();
    let mut following = vec![eu.follow(&stop), us.follow(&stop)];

    let early = hub.cli(&["ca", "advance"]);
    assert!(
        early.stderr.contains("no rotation is under way"),
        "{early:?}"
    );
    takes(&hub, &["rotate"]).await;
    assert_eq!(stage(&hub), ("introduced".to_owned(), 2));
    hub.prints_its_roots();

    // Who joins now pins both roots.
    let ap = Follower::of(&hub, "ap-1", AP).await;
    assert_eq!(trust(&ap.member.identity).roots().len(), 2);
    following.push(ap.follow(&stop));

    takes(&hub, &["advance"]).await;
    assert_eq!(stage(&hub), ("signing".to_owned(), 3));
    takes(&hub, &["advance"]).await;
    assert_eq!(stage(&hub), ("settled".to_owned(), 4));
    hub.prints_its_roots();

    stop.cancel();
    for follower in following {
        let follower = follower.await.unwrap();
        let identity = &follower.member.identity;
        assert_eq!(follower.moves, 1, "{}", follower.name);
        assert!(!identity.membership.as_ref().unwrap().is_of_an_old_root());
        drop(follower.member.session(None).await);
    }
    // A certificate of the old root opens nothing any more, and the device key gets another.
    let mut stale = old;
    stale.membership.as_mut().unwrap().trust = Trust {
        roots_pem: std::fs::read_to_string(hub.roots_file()).unwrap(),
        ..trust(&stale).clone()
    };
    let refused = refusal(&stale).await;
    assert!(matches!(refused, DialError::Unwelcome { .. }), "{refused}");
    let stranger = dialer(&stale).connect(None, || 0.5).await.unwrap();
    let mut recovered = stale.with_new_session_key().unwrap();
    enroll::recover(
        &mut HubRegistrar::new(stranger.channel),
        &mut recovered,
        &facts(EU),
    )
    .await
    .unwrap();
    let member = Member {
        identity: recovered,
        uid: EU.to_owned(),
    };
    drop(member.session(None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_left_behind_comes_back_by_new_join_material_and_keeps_its_device() {
    let hub = Hub::start().await;
    let stop = CancellationToken::new();
    let us = hub.joined("us-1", US).await;
    let eu = Follower::of(&hub, "eu-1", EU).await.follow(&stop);
    let refused = hub.cli(&["ca", "rotate"]);
    assert!(
        !refused.success && refused.stderr.contains("us-1"),
        "{refused:?}"
    );
    for step in ["rotate", "advance", "advance"] {
        takes(&hub, &[step, "--even-without", "us-1"]).await;
        hub.prints_its_roots();
    }
    stop.cancel();
    eu.await.unwrap();

    let refused = refusal(&us.identity).await;
    assert!(
        matches!(refused, DialError::WrongAuthority { .. }),
        "{refused}"
    );
    let material = hub.material("us-1", false).await;
    let mut back = us.identity.clone();
    join(&mut back, &material, US).await.unwrap();
    assert_eq!(
        back.device_public_key().unwrap(),
        us.identity.device_public_key().unwrap()
    );
    let back = Member {
        identity: back,
        uid: US.to_owned(),
    };
    drop(back.session(None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_between_two_steps_goes_on_where_it_was() {
    let mut hub = Hub::start().await;
    for (step, before, after) in [
        ("rotate", "settled", "introduced"),
        ("advance", "introduced", "signing"),
        ("advance", "signing", "settled"),
    ] {
        assert_eq!(stage(&hub).0, before);
        let ran = hub.cli(&["ca", step, "--dry-run"]);
        assert!(ran.success, "{ran:?}");
        assert_eq!(stage(&hub).0, before);
        takes(&hub, &[step]).await;
        let was = stage(&hub);
        assert_eq!(was.0, after);
        hub.prints_its_roots();
        hub.kill();
        hub.again().await;
        assert_eq!(stage(&hub), was);
    }
    // Nobody joined yet, and whoever joins now pins the new root alone.
    let member = hub.joined("eu-1", EU).await;
    assert_eq!(trust(&member.identity).version, 4);
    drop(member.session(None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_before_a_rotation_takes_back_no_root() {
    let mut hub = Hub::start().await;
    let stop = CancellationToken::new();
    let eu = Follower::of(&hub, "eu-1", EU).await.follow(&stop);
    let backup = hub.backup();
    for step in ["rotate", "advance", "advance"] {
        takes(&hub, &[step]).await;
        hub.prints_its_roots();
    }
    stop.cancel();
    let eu = eu.await.unwrap();
    hub.stop().await;

    let ca = hub.data().join("ca");
    let folder = |hub: &Hub, files: &[&str]| {
        let to = hub.data().join("ca");
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(&ca).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if files.is_empty() || files.contains(&name) {
                std::fs::copy(&path, to.join(name)).unwrap();
            }
        }
        std::fs::copy(
            ca.parent().unwrap().join("admin-token"),
            hub.data().join("admin-token"),
        )
        .unwrap();
    };
    let mut restored = Hub::stopped();
    restored.listens_as(&hub);
    folder(&restored, &[]);
    let ran = restored.restore(&backup, &[]);
    assert!(ran.success, "{ran:?}");
    std::fs::copy(hub.roots_file(), restored.dir.path().join("roots.crt")).unwrap();
    restored.again().await;
    assert_eq!(stage(&restored), ("settled".to_owned(), 4));
    // Who trusts the new root alone believes it, and the hub only observes.
    let (_, welcome) = eu.member.session(None).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
}
