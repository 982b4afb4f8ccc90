//! How often a token may ask, and how often an address may show what is no token. A good token is never held back by what
//! others show from the same address. The link has no such limits: a session reads a frame when the one before is stored.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use meridian_api::fault::Fault;

use crate::domain::limits::{Buckets, Rate};
use crate::metrics::Limited;
use crate::tls::PeerAddress;

/// Tokens, and addresses, that are counted apart at one time.
const MOST: usize = 4096;
/// Seconds' worth of requests that may come at once.
const REQUESTS_AT_ONCE: u32 = 2;
/// And of refused tokens: somebody who runs a script with an old token is told so, and not that he is too quick.
const REFUSALS_AT_ONCE: u32 = 30;

/// The buckets of this process.
#[derive(Debug)]
pub struct Limits {
    requests: Option<Mutex<Buckets<String>>>,
    refusals: Option<Mutex<Buckets<Option<IpAddr>>>>,
}

impl Default for Limits {
    /// None.
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Limits {
    /// So many requests a second of each token, and refused tokens of each address; 0 sets no limit.
    #[must_use]
    pub fn new(requests: u32, refusals: u32) -> Self {
        let (at_once, refused) = (
            requests.saturating_mul(REQUESTS_AT_ONCE),
            refusals.saturating_mul(REFUSALS_AT_ONCE),
        );
        let (requests, refusals) = (
            Rate::per_second(requests, at_once),
            Rate::per_second(refusals, refused),
        );
        Self {
            requests: requests.map(|rate| Mutex::new(Buckets::new(rate, MOST))),
            refusals: refusals.map(|rate| Mutex::new(Buckets::new(rate, MOST))),
        }
    }

    /// One more request with this token.
    pub(super) fn request(&self, token: &str, now: Duration) -> Result<(), (Limited, Fault)> {
        take(&self.requests, token.to_owned(), now).map_err(|wait| {
            let what = format!("token {token:?} asks more often than this hub answers one token");
            (Limited::Token, fault(&what, wait))
        })
    }

    /// One more that showed no good token.
    pub(super) fn refusal(
        &self,
        origin: Option<IpAddr>,
        now: Duration,
    ) -> Result<(), (Limited, Fault)> {
        take(&self.refusals, origin, now).map_err(|wait| {
            let what = "tokens that this hub does not know were shown too often from this address";
            (Limited::Address, fault(what, wait))
        })
    }
}

fn take<K: Ord>(
    buckets: &Option<Mutex<Buckets<K>>>,
    key: K,
    now: Duration,
) -> Result<(), Duration> {
    let Some(buckets) = buckets else {
        return Ok(());
    };
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    buckets.take(key, now)
}

fn fault(what: &str, wait: Duration) -> Fault {
    let retry_after_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    Fault::TooManyRequests {
        detail: format!("{what}, and nothing was done; try again in {retry_after_ms} ms"),
        retry_after_ms,
    }
}

/// Where somebody sits: an address, or in IPv6 the network of one customer (64 bits).
pub(super) fn origin(extensions: &Extensions) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<PeerAddress>>()?;
    match peer.address.ip().to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
        }
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}
