//! A backup of the state while the hub runs: every record, all of one revision, from a leader or a replica that follows.

use bytes::Bytes;
use meridian_api::backup::{BackupError, Encoder, Header};
use meridian_api::ids::Term;

use super::{App, AppError};
use crate::store::records::{self, Held};
use crate::store::{Entry, Read, StoreError, keys};

/// Bytes that are sent in one piece.
const PIECE: usize = 64 * 1024;

/// Everything that the store held at one revision.
#[derive(Clone, Debug)]
pub struct Backup {
    header: Header,
    entries: Vec<Entry>,
}

impl App {
    /// Reads all records of one revision.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn backup(&self) -> Result<Backup, AppError> {
        // Every key of the hub begins so.
        let Read { value, revision } = self.store().list(vec!["/".to_owned()]).await?;
        let entries: Vec<Entry> = value.into_iter().flatten().collect();
        let birth = only(&entries, &keys::birth())?;
        let anchor = only(&entries, &keys::anchor())?;
        let starts = entries.iter().map(|entry| &entry.key);
        let starts = starts.filter_map(|key| key.strip_prefix(keys::starts().text()));
        let newest = starts.filter_map(|term| term.parse().ok()).max();
        let header = Header {
            store_id: birth.store_id,
            term: Term(newest.unwrap_or_default()),
            revision,
            taken_at: self.now().to_string(),
            hub_version: env!("CARGO_PKG_VERSION").to_owned(),
            authority: anchor.fingerprint,
            trust_domain: anchor
                .trust_domain
                .unwrap_or_else(|| self.ca().trust_domain().to_string()),
        };
        Ok(Backup { header, entries })
    }
}

/// The one record of a key, out of everything.
fn only<R: serde::de::DeserializeOwned>(
    entries: &[Entry],
    key: &keys::Key<R>,
) -> Result<R, StoreError> {
    let found = entries.iter().filter(|entry| entry.key == key.text());
    let mut found: Vec<Held<R>> = records::all(found.cloned())?;
    let found = found.pop().ok_or_else(|| StoreError::Record {
        key: key.text().to_owned(),
        reason: "found none, expected one since the first start of the hub".to_owned(),
    })?;
    Ok(found.record)
}

impl Backup {
    /// The file, piece by piece.
    pub fn pieces(self) -> impl Iterator<Item = Result<Bytes, BackupError>> + Send {
        let Self { header, entries } = self;
        let (encoder, begun) = Encoder::begin(&header);
        let mut entries = entries.into_iter();
        let mut encoder = Some((encoder, begun));
        std::iter::from_fn(move || {
            let (mut writing, mut piece) = encoder.take()?;
            while piece.len() < PIECE {
                let Some(entry) = entries.next() else {
                    piece.extend(writing.end());
                    return Some(Ok(piece.into()));
                };
                if let Err(error) = writing.record(&entry.key, &entry.value, &mut piece) {
                    return Some(Err(error));
                }
            }
            encoder = Some((writing, Vec::new()));
            Some(Ok(piece.into()))
        })
    }
}
