//! The gRPC services. They read the caller's identity from TLS, translate, and hand over.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use jiff::Timestamp;
use meridian_api::ids::ClusterUid;
use meridian_api::link::negotiate;
use meridian_api::link::proto;
use meridian_api::link::proto::enroll_server::{Enroll, EnrollServer};
use meridian_api::link::proto::link_server::{Link, LinkServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::session::{self, Context, OUTGOING};
use super::wire::{self, Malformed};
use crate::app::AppError;
use crate::app::enroll::{CHALLENGE_LIFE, Finish, Recover, Renewal};
use crate::app::peers::WantedPeer;
use crate::ca::CaError;
use crate::domain::cluster::DeviceKey;
use crate::domain::denial::Speaker;
use crate::tls::PeerAddress;

/// Largest frame that is accepted from an agent.
const INCOMING_BYTES: usize = 4 * 1024 * 1024;

/// A difference of clocks that is logged: half of what certificates are back-dated by.
const SKEW: Duration = Duration::from_secs(300);

/// Both services over one set of use cases.
#[derive(Clone, Debug)]
pub struct Service {
    context: Context,
    tracker: TaskTracker,
}

/// The router of the link, to be served on the link's listener.
pub fn router(context: Context, tracker: TaskTracker) -> axum::Router {
    let service = Service { context, tracker };
    let enroll = EnrollServer::new(service.clone()).max_decoding_message_size(INCOMING_BYTES);
    let link = LinkServer::new(service).max_decoding_message_size(INCOMING_BYTES);
    Routes::new(enroll)
        .add_service(link)
        .prepare()
        .into_axum_router()
}

fn peer<T>(request: &Request<T>) -> Result<&PeerAddress, Status> {
    let info = request.extensions().get::<ConnectInfo<PeerAddress>>();
    info.map(|ConnectInfo(peer)| peer)
        .ok_or_else(|| Status::internal("the connection is unknown"))
}

fn status(error: AppError) -> Status {
    match error {
        AppError::Refused(reason) | AppError::Forbidden(reason) | AppError::Quarantined(reason) => {
            Status::permission_denied(reason)
        }
        AppError::CertificateOver(reason) => Status::unauthenticated(reason),
        // The caller comes again, and nothing is wrong with what it sends.
        AppError::AwaitsApproval(reason) => Status::aborted(reason),
        AppError::Busy(reason) => Status::resource_exhausted(reason),
        error @ AppError::Invalid { .. } => Status::invalid_argument(error.explain()),
        AppError::NotFound { .. } => Status::not_found(error.to_string()),
        AppError::Conflict(reason) | AppError::Changed(reason) => {
            Status::failed_precondition(reason)
        }
        AppError::Observing(_) | AppError::Repeated(_) => {
            Status::failed_precondition(error.to_string())
        }
        AppError::Ca(CaError::Request(_) | CaError::Algorithm(_) | CaError::Name { .. }) => {
            Status::invalid_argument(error.to_string())
        }
        AppError::Ca(_) | AppError::Store(_) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a call of the link failed"
            );
            Status::unavailable("the hub could not do it now; its log says why")
        }
    }
}

fn invalid(malformed: Malformed) -> Status {
    Status::invalid_argument(malformed.to_string())
}

impl Service {
    /// Who speaks by the certificate of the connection. A certificate of a REC's nodes is for their peers and opens nothing
    /// here.
    fn speaker<T>(&self, request: &Request<T>) -> Result<(Speaker, SocketAddr), Status> {
        let peer = peer(request)?;
        let Some(certificate) = &peer.certificate else {
            return Err(Status::unauthenticated(
                "no client certificate was presented; join with a token first",
            ));
        };
        let speaker = self.context.app.ca().speaker(certificate);
        let speaker = speaker.map_err(|error| Status::permission_denied(error.to_string()))?;
        Ok((speaker, peer.address))
    }

    /// The member that calls, if its certificate opens anything now: a connection may be older than a revocation.
    async fn caller<T: Send>(
        &self,
        call: &'static str,
        request: &Request<T>,
    ) -> Result<(ClusterUid, SocketAddr), Status> {
        let (speaker, address) = self.speaker(request)?;
        let accepted = self.context.app.must_be_accepted(&speaker).await;
        accepted.map_err(|error| audited(call, address, error))?;
        Ok((speaker.cluster, address))
    }

    fn result(&self, enrolled: &crate::app::enroll::Enrolled) -> Response<proto::EnrollResult> {
        let app = &self.context.app;
        Response::new(wire::enrolled(
            enrolled,
            app.ca(),
            &app.settings().link_addresses,
        ))
    }
}

/// How far apart the clocks are, if that is more than people should leave.
fn apart(theirs_ms: i64, now: Timestamp) -> Option<Duration> {
    let apart = now
        .as_millisecond()
        .saturating_sub(theirs_ms)
        .unsigned_abs();
    let apart = Duration::from_millis(apart);
    (theirs_ms != 0 && apart > SKEW).then_some(apart)
}

/// An address as the audit log has it.
fn shown(address: SocketAddr) -> String {
    address.ip().to_canonical().to_string()
}

/// Refusals are written down: they are what an operator looks for when a cluster does not join.
fn audited(call: &'static str, address: SocketAddr, error: AppError) -> Status {
    tracing::warn!(audit = true, call, %address, reason = error.explain(), "refused");
    status(error)
}

#[tonic::async_trait]
impl Enroll for Service {
    async fn begin(
        &self,
        request: Request<proto::EnrollBegin>,
    ) -> Result<Response<proto::EnrollChallenge>, Status> {
        let begin = request.into_inner();
        let proto = negotiate(begin.proto_min, begin.proto_max)
            .map_err(|e| Status::failed_precondition(e.to_string()))?;
        let device_key = DeviceKey::new(&begin.device_public_key)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let cluster = wire::parse("kube_system_uid", &begin.kube_system_uid).map_err(invalid)?;
        let opened = self.context.app.begin_enrolment(device_key, cluster);
        let now = self.context.app.now();
        if let Some(apart) = apart(begin.wall_ms, now) {
            let theirs = Timestamp::from_millisecond(begin.wall_ms).map(|at| at.to_string());
            tracing::warn!(%cluster, hub = %now, agent = theirs.unwrap_or_default(), apart_s = apart.as_secs(), "the clocks of hub and agent differ");
        }
        Ok(Response::new(proto::EnrollChallenge {
            challenge_id: opened.id,
            nonce: opened.nonce.to_vec().into(),
            expires_in_ms: u32::try_from(CHALLENGE_LIFE.as_millis()).unwrap_or(u32::MAX),
            proto,
            wall_ms: now.as_millisecond(),
        }))
    }

    async fn finish(
        &self,
        request: Request<proto::EnrollFinish>,
    ) -> Result<Response<proto::EnrollResult>, Status> {
        let address = peer(&request)?.address;
        let _place = self.context.sessions.place().map_err(session::busy)?;
        let (finish, caller) = (request.into_inner(), shown(address));
        wire::short("agent_version", &finish.agent_version).map_err(invalid)?;
        let enrolled = self.context.app.finish_enrolment(Finish {
            challenge_id: &finish.challenge_id,
            token: &finish.token,
            cluster_name: &finish.cluster_name,
            signature: &finish.signature,
            csr: &finish.csr_der,
            agent_version: &finish.agent_version,
            address: &caller,
        });
        Ok(self.result(
            &enrolled
                .await
                .map_err(|e| audited("Enroll.Finish", address, e))?,
        ))
    }

    async fn recover(
        &self,
        request: Request<proto::RecoverProof>,
    ) -> Result<Response<proto::EnrollResult>, Status> {
        let address = peer(&request)?.address;
        let _place = self.context.sessions.place().map_err(session::busy)?;
        let (recover, caller) = (request.into_inner(), shown(address));
        let enrolled = self.context.app.recover(Recover {
            challenge_id: &recover.challenge_id,
            signature: &recover.signature,
            csr: &recover.csr_der,
            join_state: &recover.join_state,
            cluster: &recover.cluster_uid,
            address: &caller,
        });
        Ok(self.result(
            &enrolled
                .await
                .map_err(|e| audited("Enroll.Recover", address, e))?,
        ))
    }
}

#[tonic::async_trait]
impl Link for Service {
    type SessionStream = ReceiverStream<Result<proto::HubFrame, Status>>;

    async fn session(
        &self,
        request: Request<tonic::Streaming<proto::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (speaker, address) = self.speaker(&request)?;
        tracing::info!(cluster = %speaker.cluster, serial = %speaker.serial, %address, "a session opens");
        let (outgoing, frames) = mpsc::channel(OUTGOING);
        self.tracker.spawn(session::serve(
            self.context.clone(),
            speaker,
            request.into_inner(),
            outgoing,
        ));
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    async fn renew(
        &self,
        request: Request<proto::RenewRequest>,
    ) -> Result<Response<proto::EnrollResult>, Status> {
        let (cluster, address) = self.caller("Link.Renew", &request).await?;
        let wanted = request.into_inner();
        let device_key = DeviceKey::new(&wanted.device_public_key)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let renewal = Renewal {
            device_key,
            signature: &wanted.signature,
            csr: &wanted.csr_der,
            address: &shown(address),
        };
        let enrolled = self.context.app.renew(cluster, renewal).await;
        Ok(self.result(&enrolled.map_err(|e| audited("Link.Renew", address, e))?))
    }

    async fn issue_peer(
        &self,
        request: Request<proto::PeerCertificateRequest>,
    ) -> Result<Response<proto::PeerCertificateReply>, Status> {
        let (cluster, address) = self.caller("Link.IssuePeer", &request).await?;
        let wanted = request.into_inner();
        let app = &self.context.app;
        let peer = WantedPeer {
            namespace: &wanted.rec_namespace,
            name: &wanted.rec_name,
            dns_names: &wanted.dns_names,
            csr: &wanted.csr_der,
            address: &shown(address),
        };
        let issued = app.issue_peer(cluster, peer).await;
        let issued = issued.map_err(|e| audited("Link.IssuePeer", address, e))?;
        Ok(Response::new(proto::PeerCertificateReply {
            certificate_chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
            trust: Some(wire::trust(app.ca())),
            spiffe_id: issued.identity.to_string(),
            not_before_ms: issued.not_before.as_millisecond(),
            not_after_ms: issued.not_after.as_millisecond(),
        }))
    }
}
