//! Calls to etcd: one member at a time, the next one when it fails, and a login where etcd demands one.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status, Streaming};

use super::proto::{
    AuthenticateRequest, CompactionRequest, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseRevokeRequest, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
    watch_client::WatchClient, watch_request,
};
use super::settings::{EtcdSettings, Login, SettingsError};

/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for an answer: etcd itself gives up after 7 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for an answer about a lease, so that several members can be asked before its life is over.
const LEASE_WITHIN: Duration = Duration::from_millis(700);
/// How often a connection is tried out while nothing is said on it, and how long its answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// With this, a member that has lost its leader ends a watch instead of keeping silent.
const HAS_LEADER: (&str, &str) = ("hasleader", "true");

type Token = MetadataValue<Ascii>;

/// The members of an etcd cluster.
#[derive(Debug)]
pub(super) struct Client {
    members: Vec<Channel>,
    current: AtomicUsize,
    login: Option<Login>,
    token: Mutex<Option<Token>>,
}

impl Client {
    /// Connects with the first call.
    ///
    /// # Errors
    /// [`SettingsError`], but for [`SettingsError::Unreachable`].
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, SettingsError> {
        let root = &settings.root;
        if !root.starts_with('/') || root.ends_with('/') {
            return Err(SettingsError::Root { root: root.clone() });
        }
        let tls = tls(settings)?;
        let members = settings
            .endpoints
            .iter()
            .map(|address| member(address, tls.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err(SettingsError::NoEndpoint);
        }
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            login: settings.login.clone(),
            token: Mutex::default(),
        })
    }

    /// Reads, from another member if this one fails.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.read(request, |channel, request| async move {
            large(KvClient::new(channel)).range(request).await
        })
        .await
    }

    /// Carries out a transaction that writes nothing, with another member if this one fails.
    pub(super) async fn range_if(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.read(request, |channel, request| async move {
            large(KvClient::new(channel)).txn(request).await
        })
        .await
    }

    async fn read<Q, A, F, Fut>(&self, request: Q, send: F) -> Result<A, Status>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut tried = 0;
        loop {
            let answer = self.call(request.clone(), &send).await;
            tried += 1;
            match answer {
                Err(status) if is_away(&status) && tried < self.members.len() => {}
                other => return other,
            }
        }
    }

    /// Carries out a transaction. It is not repeated: after an error nobody knows whether it was carried out.
    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.call(request, |channel, request| async move {
            large(KvClient::new(channel)).txn(request).await
        })
        .await
    }

    /// Forgets what is older.
    pub(super) async fn compact(&self, revision: i64) -> Result<(), Status> {
        let request = CompactionRequest { revision };
        self.call(request, |channel, request| async move {
            KvClient::new(channel).compact(request).await
        })
        .await
        .map(|_| ())
    }

    /// Reads within the time that a look at a lease may take.
    pub(super) async fn look(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        let asked = self.call(request, |channel, request| async move {
            large(KvClient::new(channel)).range(request).await
        });
        self.soon(asked).await
    }

    /// A new lease with this life, in seconds.
    pub(super) async fn grant(&self, ttl: i64) -> Result<LeaseGrantResponse, Status> {
        let request = LeaseGrantRequest { ttl, id: 0 };
        let asked = self.call(request, |channel, request| async move {
            LeaseClient::new(channel).lease_grant(request).await
        });
        self.soon(asked).await
    }

    /// Lets a lease live on; how long, in seconds, and not above 0 where there is none.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<i64, Status> {
        let request = LeaseKeepAliveRequest { id };
        let asked = async {
            let mut answers = self
                .call(request, |channel, request| async move {
                    let (metadata, extensions, request) = request.into_parts();
                    let says = stream::iter([request]);
                    let request = Request::from_parts(metadata, extensions, says);
                    LeaseClient::new(channel).lease_keep_alive(request).await
                })
                .await?;
            let answer = answers.message().await?;
            answer.ok_or_else(|| Status::unavailable("etcd ended the renewal of a lease"))
        };
        Ok(self.soon(asked).await?.ttl)
    }

    /// Ends a lease.
    pub(super) async fn revoke(&self, id: i64) -> Result<(), Status> {
        let request = LeaseRevokeRequest { id };
        let asked = self.call(request, |channel, request| async move {
            LeaseClient::new(channel).lease_revoke(request).await
        });
        self.soon(asked).await.map(|_| ())
    }

    /// Gives up early, and turns to the next member for later calls.
    async fn soon<A>(&self, asked: impl Future<Output = Result<A, Status>>) -> Result<A, Status> {
        let at = self.current.load(Ordering::Relaxed);
        let answer = tokio::time::timeout(LEASE_WITHIN, asked).await;
        answer.unwrap_or_else(|_late| {
            let what = format!("no answer within {} ms", LEASE_WITHIN.as_millis());
            let status = Status::unavailable(what);
            self.turn(at, &status);
            Err(status)
        })
    }

    /// Opens a watch. Each change of `asks` asks etcd up to where it has told everything.
    pub(super) async fn watch(
        &self,
        create: WatchCreateRequest,
        asks: Option<watch::Receiver<()>>,
    ) -> Result<Streaming<WatchResponse>, Status> {
        self.call(create, |channel, request| {
            let asks = asks.clone();
            async move {
                let (metadata, extensions, create) = request.into_parts();
                let says = |what| WatchRequest {
                    request_union: Some(what),
                };
                let create = says(watch_request::RequestUnion::CreateRequest(create));
                let asks = stream::iter(asks).flat_map(WatchStream::from_changes);
                let progress = watch_request::RequestUnion::ProgressRequest;
                let asks = asks.map(move |()| says(progress(WatchProgressRequest {})));
                // The end of what we say would end the watch.
                let says = stream::iter([create]).chain(asks).chain(stream::pending());
                let mut request = Request::from_parts(metadata, extensions, says);
                let (name, value) = HAS_LEADER;
                request
                    .metadata_mut()
                    .insert(name, MetadataValue::from_static(value));
                WatchClient::new(channel)
                    .max_decoding_message_size(usize::MAX)
                    .watch(request)
                    .await
            }
        })
        .await
    }

    async fn call<Q, A, F, Fut>(&self, request: Q, send: F) -> Result<A, Status>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let known = self.token();
        let sent = self.call_as(known.clone(), request.clone(), &send).await;
        match (&self.login, sent) {
            // Refused before anything was carried out: no token yet, or one that has run out.
            (Some(login), Err(status)) if is_login(&status) => {
                let token = self.log_in(login).await?;
                self.call_as(Some(token), request, &send).await
            }
            (_, sent) => sent,
        }
    }

    async fn call_as<Q, A, F, Fut>(
        &self,
        token: Option<Token>,
        request: Q,
        send: &F,
    ) -> Result<A, Status>
    where
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(request);
        if let Some(token) = token {
            request.metadata_mut().insert("token", token);
        }
        self.of_one_member(|channel| send(channel, request)).await
    }

    /// Asks the current member, and turns to the next one for later calls if it does not answer.
    async fn of_one_member<A, Fut>(&self, send: impl FnOnce(Channel) -> Fut) -> Result<A, Status>
    where
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let at = self.current.load(Ordering::Relaxed);
        let Some(channel) = self.members.get(at % self.members.len()) else {
            return Err(Status::unavailable("no member of etcd is known"));
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, send(channel.clone())).await;
        let answer = answer.unwrap_or_else(|_late| {
            let seconds = ANSWER_WITHIN.as_secs();
            Err(Status::unavailable(format!("no answer within {seconds} s")))
        });
        if let Some(status) = answer.as_ref().err().filter(|status| is_away(status)) {
            self.turn(at, status);
        }
        answer.map(Response::into_inner)
    }

    /// Later calls go to the member after `at`. Where another call has turned already, the member that it chose is left to
    /// show what it can.
    fn turn(&self, at: usize, status: &Status) {
        tracing::debug!(%status, "a member of etcd did not answer; the next one is asked");
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let turned = self
            .current
            .compare_exchange(at, at.wrapping_add(1), set, fetch);
        if let Err(now) = turned {
            tracing::trace!(now, "another call has turned already");
        }
    }

    async fn log_in(&self, login: &Login) -> Result<Token, Status> {
        let request = AuthenticateRequest {
            name: login.user.clone(),
            password: login.password.to_string(),
        };
        let answer = self
            .of_one_member(
                |channel| async move { AuthClient::new(channel).authenticate(request).await },
            )
            .await?;
        let token: Token = answer
            .token
            .parse()
            .map_err(|_| Status::internal("etcd gave a token that no header can carry"))?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }

    fn token(&self) -> Option<Token> {
        self.token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// etcd's values are larger than what a client takes unasked.
fn large(client: KvClient<Channel>) -> KvClient<Channel> {
    client.max_decoding_message_size(usize::MAX)
}

/// Whether another member may answer.
fn is_away(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    )
}

/// Whether a login may help: etcd says `InvalidArgument` where a name is missing altogether.
fn is_login(status: &Status) -> bool {
    let unnamed = status.message().contains("user name is empty");
    status.code() == Code::Unauthenticated || (unnamed && status.code() == Code::InvalidArgument)
}

fn tls(settings: &EtcdSettings) -> Result<ClientTlsConfig, SettingsError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|source| SettingsError::File {
            path: path.clone(),
            source,
        })
    };
    let mut tls = ClientTlsConfig::new();
    if let Some(ca) = &settings.tls.ca {
        tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
    }
    if let Some((certificate, key)) = &settings.tls.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

fn member(address: &str, tls: ClientTlsConfig) -> Result<Channel, SettingsError> {
    let wrong = |reason: &dyn std::fmt::Display| SettingsError::Endpoint {
        endpoint: address.to_owned(),
        reason: reason.to_string(),
    };
    let uri: http::Uri = address.parse().map_err(|error| wrong(&error))?;
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(other) => return Err(wrong(&format!("etcd does not speak {other}"))),
        None => return Err(wrong(&"it names no scheme")),
    };
    if uri.port().is_none() {
        return Err(wrong(&"it names no port"));
    }
    let mut endpoint = Endpoint::from(uri);
    if is_tls {
        endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
    }
    Ok(endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_lazy())
}
