//! Use cases: the only door to the store for `web` and `link`. They read, check and commit; the tasks react to what they
//! wrote. A use case that loses a race reads again and decides again.

pub mod api_tokens;
pub mod approvals;
pub mod audit;
pub mod backup;
pub mod breaker;
pub mod clocks;
pub mod conditions;
pub mod databases;
pub mod denials;
pub mod enroll;
pub mod members;
pub mod observed;
pub mod peers;
pub mod reads;
pub mod reign;
pub mod repeats;
pub mod reports;
pub mod restore;
pub mod sessions;
mod tail;
pub mod tokens;
pub mod trust;
mod unplanned;
pub mod unsettled;
pub mod writes;

#[cfg(test)]
pub(crate) mod testing;

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use meridian_api::fault::Fault;
use meridian_api::ids::Revision;
use meridian_api::validate::FieldError;
use tokio::sync::broadcast;

use crate::ca::{Authority, CaError};
use crate::clock::Clock;
use crate::domain::access::Repeat;
use crate::random::{Random, SystemRandom};
use crate::sign_in::book::RoleBook;
use crate::store::{Fence, Store, StoreError, Txn};
use api_tokens::Uses;
use audit::Refusals;
use enroll::{Challenges, Pace};
use reign::Reign;

/// Why a use case did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The request breaks rules.
    #[error("{summary}")]
    Invalid {
        /// For people.
        summary: String,
        /// Field by field.
        fields: Vec<FieldError>,
    },
    /// There is no such thing.
    #[error("{kind} {name:?} does not exist{hint}")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What exists instead, or an empty text.
        hint: String,
    },
    /// The state of the hub does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The object is not as the caller saw it.
    #[error("{0}")]
    Changed(String),
    /// It was carried out before.
    #[error("{:?} was made by a request with this idempotency key before", .0.made)]
    Repeated(Repeat),
    /// The caller is not who may do this; the reason is safe to tell.
    #[error("{0}")]
    Refused(String),
    /// The caller is known and may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The caller's certificate is accepted no more, but its device key may get another.
    #[error("{0}")]
    CertificateOver(String),
    /// A person has to approve the caller first.
    #[error("{0}")]
    AwaitsApproval(String),
    /// Two devices may hold the caller's identity.
    #[error("{0}")]
    Quarantined(String),
    /// The hub applies nothing until a person decides.
    #[error(
        "the hub only observes: {0}; look at the members, then let it go on with `meridian hub adopt` (POST /api/v1/hub/adopt)"
    )]
    Observing(String),
    /// Too much is waiting.
    #[error("{0}")]
    Busy(String),
    /// A certificate could not be made; the request's fault or the authority's.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppError {
    /// The whole reason in one line, field by field.
    #[must_use]
    pub fn explain(&self) -> String {
        let Self::Invalid { summary, fields } = self else {
            return self.to_string();
        };
        let fields: Vec<_> = fields.iter().map(ToString::to_string).collect();
        format!("{summary}: {}", fields.join("; "))
    }
}

impl From<AppError> for Fault {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Invalid { summary, fields } => Self::invalid(&summary, fields),
            AppError::NotFound { kind, name, hint } => Self::NotFound {
                kind: kind.to_owned(),
                name,
                hint,
            },
            AppError::Conflict(detail) => Self::Conflict { detail },
            AppError::Changed(detail) => Self::PreconditionFailed { detail },
            AppError::Store(
                StoreError::Compacted { asked, .. } | StoreError::Ahead { asked, .. },
            ) => Self::Expired {
                detail: format!(
                    "what changed since revision {asked} is not kept here; list again and go on from the list's metadata.resourceVersion"
                ),
            },
            AppError::Observing(_) | AppError::Repeated(_) => Self::Conflict {
                detail: error.to_string(),
            },
            AppError::Forbidden(detail) => Self::Forbidden { detail },
            AppError::Refused(detail) | AppError::CertificateOver(detail) => {
                Self::Unauthorized { detail }
            }
            AppError::Quarantined(detail) | AppError::AwaitsApproval(detail) => {
                Self::Conflict { detail }
            }
            AppError::Busy(detail) => Self::Unavailable {
                detail,
                retry_after_ms: 1000,
            },
            AppError::Store(StoreError::NotLeading | StoreError::Fenced { .. }) => {
                Self::Unavailable {
                    detail: error.to_string(),
                    retry_after_ms: 1000,
                }
            }
            AppError::Ca(_) | AppError::Store(_) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                Self::Internal {
                    detail: format!("{error}{}", source.unwrap_or_default()),
                }
            }
        }
    }
}

/// What is said to members about this hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses of the link, `host:port`, as members reach them.
    pub link_addresses: Vec<String>,
    /// Address of the web API, `host:port`, as people reach it.
    pub web_address: String,
    /// Whether every join must be approved, whatever its token says.
    pub approve_clusters: bool,
    /// Hosts that the hub's own certificate is for: no member is given one for any of them.
    pub names: Vec<String>,
    /// Records of the audit log that are kept.
    pub audit_kept: u64,
    /// How long after the last acknowledgement a rotation of the authority may go on.
    pub ca_margin: SignedDuration,
}

/// The hub's use cases over one store.
#[derive(Debug)]
pub struct App {
    store: Arc<dyn Store>,
    ca: Arc<Authority>,
    clock: Arc<dyn Clock>,
    began_at: Timestamp,
    settings: Settings,
    reign: ArcSwap<Reign>,
    reign_changed: broadcast::Sender<()>,
    random: Arc<dyn Random>,
    challenges: Challenges,
    pace: Pace,
    uses: Uses,
    refusals: Refusals,
    clocks: clocks::Clocks,
    observations: observed::Observations,
    unplanned: unplanned::Unplanned,
    roles: Arc<RoleBook>,
}

impl App {
    /// Opens the use cases under a reign that [`Reign::begin`] began.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        ca: Arc<Authority>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        reign: Reign,
    ) -> Self {
        Self {
            store,
            ca,
            began_at: clock.now(),
            clock,
            settings,
            reign: ArcSwap::from_pointee(reign),
            reign_changed: broadcast::Sender::new(1),
            random: Arc::new(SystemRandom),
            challenges: Challenges::default(),
            pace: Pace::default(),
            uses: Uses::default(),
            refusals: Refusals::default(),
            clocks: clocks::Clocks::default(),
            observations: observed::Observations::default(),
            unplanned: unplanned::Unplanned::default(),
            roles: Arc::default(),
        }
    }

    /// The same, with random numbers of another source than the operating system.
    #[must_use]
    pub fn with_random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// The same, where people sign in and their groups give them roles.
    #[must_use]
    pub fn with_roles(mut self, roles: Arc<RoleBook>) -> Self {
        self.roles = roles;
        self
    }

    /// The store, for the tasks.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The certificate authority.
    #[must_use]
    pub fn ca(&self) -> &Authority {
        &self.ca
    }

    /// The same, to be shared.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.ca
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where the present moment comes from.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where random numbers come from that decide an order.
    #[must_use]
    pub fn random(&self) -> &dyn Random {
        self.random.as_ref()
    }

    /// What members are told about this hub.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The reign under which the hub decides now.
    #[must_use]
    pub fn reign(&self) -> Reign {
        **self.reign.load()
    }

    /// Tells when a new reign begins in this process, or when a doubt holds the present one back: every session must
    /// say Hello again.
    #[must_use]
    pub fn reign_changes(&self) -> broadcast::Receiver<()> {
        self.reign_changed.subscribe()
    }

    /// Commits under the present reign.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.store.commit(txn, Fence(self.reign().term.0)).await
    }
}

/// Runs a read-check-commit cycle until nobody else's commit came between. Each turn that loses means that another
/// writer made progress, so this ends.
async fn until_uncontended<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, AppError>
where
    F: Future<Output = Result<T, AppError>>,
{
    loop {
        match attempt().await {
            Err(AppError::Store(StoreError::Conflict { key, .. })) => {
                tracing::debug!(key, "another writer came between, deciding again");
            }
            other => return other,
        }
    }
}
