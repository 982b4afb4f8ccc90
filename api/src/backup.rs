//! The file into which a hub's state is backed up. It is the same for every store, so that a backup of a hub on a file can be
//! restored into etcd and the other way round.
//!
//! ```text
//! "MERIDIAN-BACKUP\n"            16 bytes
//! format                         1 byte, FORMAT
//! frame*                         kind (1 byte), length of the rest (u32), the rest; numbers are big-endian
//!   'H'  once, first             JSON of Header
//!   'R'  each record             length of the key (u16), key (UTF-8), value (as the store holds it)
//!   'E'  once, last              number of records (u64), SHA-256 of every byte before it (32 bytes)
//! ```
//!
//! Records come in the order of their keys, all of one revision. Everything of the store is in it, hence no secret in clear:
//! of tokens the store has hashes only. The private key of the certificate authority is not, because no store has it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::ids::{Revision, StoreId, Term};

/// What the first bytes are.
const MAGIC: &[u8; 16] = b"MERIDIAN-BACKUP\n";
/// Number of the layout above. A file of a higher one is refused, never guessed at.
pub const FORMAT: u8 = 1;
/// Media type of a backup.
pub const CONTENT_TYPE: &str = "application/vnd.meridian.backup";
/// Longest frame, bytes: a store takes no more than 1 MiB at once. What claims to be longer is damaged.
const LONGEST: usize = 2 << 20;
/// Kind and length of a frame.
const FRAME_HEAD: usize = 5;
const CHECKSUM: usize = 32;

const HEADER: u8 = b'H';
const RECORD: u8 = b'R';
const END: u8 = b'E';

/// Where a backup comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Its newest term.
    pub term: Term,
    /// The revision of which all records are.
    pub revision: Revision,
    /// When it was taken, RFC 3339.
    pub taken_at: String,
    /// Version of the hub that took it.
    pub hub_version: String,
    /// Fingerprint of the certificate authority that the members trust.
    pub authority: String,
    /// Trust domain of the members' identities.
    pub trust_domain: String,
}

/// One record of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// What is known of a backup that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where it comes from.
    pub header: Header,
    /// How many records it has.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of the whole file in hex, as `sha256sum` prints it.
    pub sha256: String,
}

/// Why bytes are no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something else.
    #[error("found {found:?} at its beginning, expected {expected:?}: this is no backup of a hub", expected = String::from_utf8_lossy(MAGIC))]
    NoBackup {
        /// The first bytes.
        found: String,
    },
    /// A newer program wrote it.
    #[error(
        "found backup format {found}, this program reads up to {supported}: use the newer program"
    )]
    Format {
        /// The format.
        found: u8,
        /// Highest that is known.
        supported: u8,
    },
    /// It ends too early.
    #[error(
        "it ends after {bytes} bytes and {records} records without its checksum: it was cut off; take the backup again or \
         use another copy"
    )]
    Truncated {
        /// Bytes that were found.
        bytes: u64,
        /// Whole records that were found.
        records: u64,
    },
    /// A part is not what it should be.
    #[error("at byte {at}: {what}: it is damaged; use another copy")]
    Damaged {
        /// Where.
        at: u64,
        /// What was found and expected.
        what: String,
    },
    /// Some byte is not as it was written.
    #[error(
        "its checksum says {expected}, found {found}: a byte was changed since it was taken; use another copy"
    )]
    Checksum {
        /// Of the bytes that were read.
        found: String,
        /// As it was written.
        expected: String,
    },
    /// A record that the format cannot hold.
    #[error("record {key}: found {found} bytes, expected at most {LONGEST}")]
    TooLong {
        /// Its key.
        key: String,
        /// Its length.
        found: usize,
    },
}

/// Writes a backup.
pub struct Encoder {
    checksum: Context,
    records: u64,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Begins, and gives the first bytes.
    #[must_use]
    pub fn begin(header: &Header) -> (Self, Vec<u8>) {
        // A header has only texts and numbers, which have a JSON form always.
        let json = serde_json::to_vec(header).unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        bytes.push(FORMAT);
        frame(&mut bytes, HEADER, &[&json]);
        let mut encoder = Self {
            checksum: Context::new(&SHA256),
            records: 0,
        };
        encoder.checksum.update(&bytes);
        (encoder, bytes)
    }

    /// Appends a record to `bytes`.
    ///
    /// # Errors
    /// [`BackupError::TooLong`]; nothing was appended.
    pub fn record(
        &mut self,
        key: &str,
        value: &[u8],
        bytes: &mut Vec<u8>,
    ) -> Result<(), BackupError> {
        let found = 2 + key.len() + value.len();
        let length = u16::try_from(key.len());
        let (Ok(length), true) = (length, found <= LONGEST) else {
            let key = key.to_owned();
            return Err(BackupError::TooLong { key, found });
        };
        let begun = bytes.len();
        let parts = [&length.to_be_bytes()[..], key.as_bytes(), value];
        frame(bytes, RECORD, &parts);
        self.checksum.update(bytes.get(begun..).unwrap_or_default());
        self.records += 1;
        Ok(())
    }

    /// The last bytes.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let records = self.records.to_be_bytes();
        frame(&mut bytes, END, &[&records[..], &[0; CHECKSUM]]);
        bytes.truncate(bytes.len() - CHECKSUM);
        self.checksum.update(&bytes);
        bytes.extend_from_slice(self.checksum.finish().as_ref());
        bytes
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    bytes.push(kind);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

/// Reads a backup as its bytes come. Nothing of it may be believed before [`Decoder::end`] has said so.
pub struct Decoder {
    pending: Vec<u8>,
    /// Of what was taken out of `pending`.
    checksum: Context,
    whole: Context,
    header: Option<Header>,
    magic: bool,
    records: u64,
    bytes: u64,
    taken: u64,
    ended: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
            checksum: Context::new(&SHA256),
            whole: Context::new(&SHA256),
            header: None,
            magic: false,
            records: 0,
            bytes: 0,
            taken: 0,
            ended: false,
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("records", &self.records)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Reads the next bytes and hands out each record that is whole.
    ///
    /// # Errors
    /// [`BackupError`]; the rest of the bytes is not read then.
    pub fn read(&mut self, bytes: &[u8], mut each: impl FnMut(Record)) -> Result<(), BackupError> {
        self.whole.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or_default();
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        let read = loop {
            match self.step(at) {
                Ok(Some((record, length))) => {
                    at += length;
                    self.taken += u64::try_from(length).unwrap_or_default();
                    record.into_iter().for_each(&mut each);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..at);
        read
    }

    /// Says what was read, once everything was.
    ///
    /// # Errors
    /// [`BackupError::Truncated`] if the end is missing.
    pub fn end(self) -> Result<Summary, BackupError> {
        match self.header {
            Some(header) if self.ended => Ok(Summary {
                header,
                records: self.records,
                bytes: self.bytes,
                sha256: hex(self.whole.finish().as_ref()),
            }),
            _ => Err(BackupError::Truncated {
                bytes: self.bytes,
                records: self.records,
            }),
        }
    }

    /// Bytes and records so far.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.bytes, self.records)
    }

    /// The next part of what is pending from `at` on, and its length; `None` where it is not whole yet.
    fn step(&mut self, at: usize) -> Result<Option<(Option<Record>, usize)>, BackupError> {
        let pending = self.pending.get(at..).unwrap_or_default();
        if !self.magic {
            let length = magic(pending)?;
            if length > 0 {
                self.magic = true;
                self.checksum
                    .update(pending.get(..length).unwrap_or_default());
                return Ok(Some((None, length)));
            }
            return Ok(None);
        }
        let damaged = |what: String| BackupError::Damaged {
            at: self.taken,
            what,
        };
        if self.ended && !pending.is_empty() {
            return Err(damaged(
                "found more bytes after the checksum, expected its end".to_owned(),
            ));
        }
        let Some((&[kind, a, b, c, d], rest)) = pending.split_first_chunk::<FRAME_HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > LONGEST {
            let what = format!("found a part of {length} bytes, expected at most {LONGEST}");
            return Err(damaged(what));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let whole = pending.get(..FRAME_HEAD + length).unwrap_or_default();
        let mut record = None;
        match (kind, self.header.is_some()) {
            (HEADER, false) => {
                let header = serde_json::from_slice(body);
                self.header = Some(header.map_err(|e| damaged(format!("in its header: {e}")))?);
            }
            (RECORD, true) => record = Some(parse(body).map_err(damaged)?),
            (END, true) => {
                let (told, counted) = (checked(&mut self.checksum, whole), self.records);
                told.verify(counted).map_err(|wrong| match wrong {
                    Wrong::Part(what) => damaged(what),
                    Wrong::Checksum { found, expected } => {
                        BackupError::Checksum { found, expected }
                    }
                })?;
                self.ended = true;
                return Ok(Some((None, whole.len())));
            }
            (other, _) => {
                let what = format!(
                    "found a part of kind {other:#04x}, expected the header, a record or the end"
                );
                return Err(damaged(what));
            }
        }
        self.checksum.update(whole);
        self.records += u64::from(record.is_some());
        Ok(Some((record, whole.len())))
    }
}

/// Length of what precedes the frames, 0 while it is not whole yet.
fn magic(pending: &[u8]) -> Result<usize, BackupError> {
    let begun = pending.get(..MAGIC.len().min(pending.len()));
    let begun = begun.unwrap_or_default();
    if !MAGIC.starts_with(begun) {
        let found = String::from_utf8_lossy(begun).into_owned();
        return Err(BackupError::NoBackup { found });
    }
    match pending.get(MAGIC.len()) {
        Some(&FORMAT) => Ok(MAGIC.len() + 1),
        Some(&found) => Err(BackupError::Format {
            found,
            supported: FORMAT,
        }),
        None => Ok(0),
    }
}

fn parse(body: &[u8]) -> Result<Record, String> {
    let cut = || "found a record without a whole key".to_owned();
    let (length, rest) = body.split_first_chunk::<2>().ok_or_else(cut)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (key, value) = rest.split_at_checked(length).ok_or_else(cut)?;
    let key = std::str::from_utf8(key).map_err(|e| format!("found a key that is no text: {e}"))?;
    Ok(Record {
        key: key.to_owned(),
        value: value.to_vec(),
    })
}

/// What the end says, and what was read.
struct Told {
    records: Option<u64>,
    expected: Vec<u8>,
    found: Vec<u8>,
}

enum Wrong {
    Part(String),
    Checksum { found: String, expected: String },
}

fn checked(checksum: &mut Context, whole: &[u8]) -> Told {
    let covered = whole.len().saturating_sub(CHECKSUM);
    let (before, expected) = whole.split_at(covered);
    checksum.update(before);
    let count = before.get(FRAME_HEAD..).and_then(|it| it.try_into().ok());
    Told {
        records: count.map(u64::from_be_bytes),
        expected: expected.to_vec(),
        found: checksum.clone().finish().as_ref().to_vec(),
    }
}

impl Told {
    fn verify(&self, counted: u64) -> Result<(), Wrong> {
        let Some(records) = self.records else {
            return Err(Wrong::Part("found an end of another length".to_owned()));
        };
        if self.found != self.expected {
            return Err(Wrong::Checksum {
                found: hex(&self.found),
                expected: hex(&self.expected),
            });
        }
        if records != counted {
            return Err(Wrong::Part(format!(
                "found {counted} records, expected {records}"
            )));
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
