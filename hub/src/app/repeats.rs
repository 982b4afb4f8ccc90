//! Requests that may be sent again: what one with an idempotency key made is remembered in the transaction that made it,
//! so that neither a lost answer nor a crash makes it twice.

use jiff::SignedDuration;
use meridian_api::validate::FieldError;

use super::writes::Manner;
use super::{App, AppError};
use crate::domain::access::Repeat;
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{Txn, keys};

/// How long a key is remembered.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// Keys that are remembered at one time.
pub const MOST: usize = 4096;
/// Keys whose time is over that one transaction forgets.
const FORGOTTEN: usize = 32;

/// A request that is carried out once, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// The key: a digest of who sent it and of what was sent as such.
    pub key: String,
    /// A digest of the request.
    pub request: String,
}

/// What is known before a request with a key is carried out for the first time.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The same key, whose time is over.
    mine: Option<Held<Repeat>>,
    over: Vec<Held<Repeat>>,
}

impl App {
    /// Refuses what was carried out before.
    ///
    /// # Errors
    /// [`AppError::Repeated`], [`AppError::Invalid`] for the key of another request, [`AppError::Busy`] if too many keys
    /// are remembered.
    pub(super) async fn first_time(&self, manner: &Manner) -> Result<Memory, AppError> {
        let Some(once) = &manner.once else {
            return Ok(Memory::default());
        };
        let now = self.now();
        let all = records::list(self.store().as_ref(), &keys::repeats()).await?;
        let (mut over, live): (Vec<_>, Vec<_>) = all
            .value
            .into_iter()
            .partition(|held| held.record.expires_at <= now);
        let key = keys::repeat(&once.key);
        if let Some(before) = live.iter().find(|held| held.key == key.text()) {
            if before.record.request == once.request {
                return Err(AppError::Repeated(before.record.clone()));
            }
            return Err(other_request(&before.record));
        }
        if live.len() >= MOST {
            return Err(AppError::Busy(format!(
                "{MOST} idempotency keys are remembered, each for {} hours, and nothing was done; send the request without \
                 one, or later",
                REMEMBERED.as_hours()
            )));
        }
        let mine = over.iter().position(|held| held.key == key.text());
        let mine = mine.map(|at| over.swap_remove(at));
        over.truncate(FORGOTTEN);
        Ok(Memory { mine, over })
    }

    /// Remembers what this transaction makes.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub(super) fn remember(
        &self,
        mut txn: Txn,
        manner: &Manner,
        memory: &Memory,
        (made, identity): (&str, &str),
    ) -> Result<Txn, AppError> {
        let Some(once) = &manner.once else {
            return Ok(txn);
        };
        for held in &memory.over {
            txn = txn.delete(held.key.clone());
        }
        let repeat = Repeat {
            request: once.request.clone(),
            made: made.to_owned(),
            identity: identity.to_owned(),
            expires_at: self.now() + REMEMBERED,
        };
        Ok(txn.upsert(&keys::repeat(&once.key), memory.mine.as_ref(), &repeat)?)
    }
}

fn other_request(before: &Repeat) -> AppError {
    AppError::Invalid {
        summary: "the idempotency key is taken".to_owned(),
        fields: vec![FieldError {
            field: "Idempotency-Key".to_owned(),
            found: format!("the key of another request, which made {:?}", before.made),
            expected: "a new key for each request, and the same body where it is sent again"
                .to_owned(),
            remedy: "send this request with a key of its own".to_owned(),
        }],
    }
}
