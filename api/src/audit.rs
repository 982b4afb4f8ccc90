//! The audit log: who did what, in a chain of hashes that shows whether a record was changed, removed, inserted or moved.
//!
//! The hub writes it, and whoever has it verifies it by the same code, also without the hub. The hash of a record is
//!
//! ```text
//! SHA-256( "MERIDIAN-AUDIT 1\n"  number (u64, big endian)  hash of the record before (32 bytes)  the event as JSON )
//! ```
//!
//! where the JSON is [`Event`] as this module writes it: its fields in their order, nothing that is left out by default. A
//! field that is added later is therefore left out while it is empty. The first record of all follows [`Place::BEGIN`].
//!
//! Whoever can write into the store can make a chain anew. That shows against a place that was noted elsewhere: every
//! verification prints one, and takes some that were noted before.
//!
//! An exported log is JSON, one value a line: an [`Opening`], the records in their order, a [`Closing`].

mod place;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::ids::{Revision, StoreId};
use crate::trace::TraceId;

pub use place::{Hash, Place};

/// What an event's hash begins with.
const DOMAIN: &[u8] = b"MERIDIAN-AUDIT 1\n";
/// Number of the form of an exported log. One of a higher number is refused.
pub const FORMAT: u32 = 1;
/// Media type of an exported log.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// What kind of actor it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// The holder of a token of the web API.
    Token,
    /// A member, by its certificate or device key.
    Member,
    /// A person who has signed in.
    Person,
    /// The hub itself.
    Hub,
    /// Somebody who did not prove who it is.
    Unknown,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What kind.
    pub kind: ActorKind,
    /// Public part of the token, UID of the member, or the person's issuer and subject with a space between them; empty if there
    /// is none.
    pub id: String,
    /// Holder of the token, or name of the member or person; empty if there is none.
    pub name: String,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, and nothing was done.
    Refused,
    /// It failed; whether it was done is unknown.
    Failed,
}

impl Outcome {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What happened. It holds no secret and no free text of a request but names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When, RFC 3339, by the hub's clock.
    pub at: String,
    /// Who.
    pub actor: Actor,
    /// Address of the peer; empty if there is none.
    pub address: String,
    /// What a replica said of who asked it, where it handed the request on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
    /// Number of the request; empty if there is none.
    pub request: String,
    /// Trace of the request; the same may be of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// What was done or wanted, as one word.
    pub verb: String,
    /// Kind of the object.
    pub kind: String,
    /// Its name; empty for none.
    pub name: String,
    /// Its project; empty for none, or if it was not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// What may be left where the hub has no hand any more, as `namespace/kind/name`; empty for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was not done, as one word; empty if it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Revision of the store in which it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Refusals since the last record of one that are not recorded one by one, because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unrecorded: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number; the first has 1, and each has one more than the one before.
    pub number: u64,
    /// Hash of the one before.
    pub previous: Hash,
    /// What happened.
    pub event: Event,
    /// Its hash.
    pub hash: Hash,
}

impl Record {
    /// The record of an event that follows a place.
    pub fn after(last: Place, event: Event) -> Self {
        let number = last.number + 1;
        Self {
            number,
            previous: last.hash,
            hash: hash(number, last.hash, &event),
            event,
        }
    }

    /// Its place.
    pub fn place(&self) -> Place {
        Place {
            number: self.number,
            hash: self.hash,
        }
    }
}

fn hash(number: u64, previous: Hash, event: &Event) -> Hash {
    // Texts and numbers only: there is nothing that JSON could not say.
    let event = serde_json::to_vec(event).unwrap_or_default();
    let mut context = Context::new(&SHA256);
    for part in [DOMAIN, &number.to_be_bytes(), &previous.0, &event] {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Hash(hash)
}

/// The first line of an exported log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Opening {
    /// [`FORMAT`].
    pub meridian_audit: u32,
    /// Identity of the store.
    pub store_id: StoreId,
    /// When it was exported, RFC 3339.
    pub exported_at: String,
    /// The records begin after this place: those up to it are kept no more.
    pub after: Place,
}

/// The last line of an exported log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Closing {
    /// The newest record.
    pub head: Place,
}

/// Why a log is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A line is not what it should be.
    #[error("line {line}: {reason}")]
    Line {
        /// The line.
        line: u64,
        /// What was found and expected.
        reason: String,
    },
    /// The content of a record does not have its hash.
    #[error("record {number} was changed: its content has the hash {found}, expected {expected}")]
    Changed {
        /// Its number.
        number: u64,
        /// Of its content.
        found: Hash,
        /// As it says.
        expected: Hash,
    },
    /// Records are missing.
    #[error(
        "{what} between record {after} and record {found}, expected record {next} after record {after}",
        what = missing(*.after, *.found),
        next = .after + 1
    )]
    Removed {
        /// The record before.
        after: u64,
        /// The record that was found instead.
        found: u64,
    },
    /// A record stands where it does not belong.
    #[error(
        "record {found} was inserted or moved: it stands after record {after}, expected record {next} there",
        next = .after + 1
    )]
    Misplaced {
        /// The record before.
        after: u64,
        /// The record that was found.
        found: u64,
    },
    /// A record follows another record of that number than the one that stands there.
    #[error(
        "record {number} does not follow the record {before} that stands before it: one of both was replaced, or one inserted",
        before = .number - 1
    )]
    Unlinked {
        /// Its number.
        number: u64,
    },
    /// The last records are missing.
    #[error("the log ends with record {found}, expected record {expected}: its end was removed")]
    Cut {
        /// The last record.
        found: u64,
        /// What should be the last.
        expected: u64,
    },
    /// The record at a place that was noted is another.
    #[error(
        "record {number} has the hash {found}, expected {expected} as it was noted: the log was made anew"
    )]
    Anew {
        /// Its number.
        number: u64,
        /// The hash that it has.
        found: Hash,
        /// The hash that was noted.
        expected: Hash,
    },
    /// A place that was noted is not in it.
    #[error(
        "record {number}, as it was noted, is not in this log, which holds records {first} to {last}"
    )]
    NotHeld {
        /// What was noted.
        number: u64,
        /// The first that there is.
        first: u64,
        /// The last that there is.
        last: u64,
    },
}

fn missing(after: u64, found: u64) -> String {
    match found - after - 1 {
        1 => format!("record {} was removed", after + 1),
        more => format!("{more} records were removed"),
    }
}

/// What a log that was verified holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Place after which it begins.
    pub after: Place,
    /// Its newest record: to be noted elsewhere, and given to a later verification.
    pub head: Place,
}

/// Verifies records one by one.
#[derive(Clone, Debug)]
pub struct Verifier {
    after: Place,
    last: Place,
    noted: Vec<(Place, bool)>,
}

impl Verifier {
    /// For records that begin after a place, with places that were noted before.
    pub fn new(after: Place, noted: &[Place]) -> Self {
        let mut verifier = Self {
            after,
            last: after,
            noted: noted.iter().map(|place| (*place, false)).collect(),
        };
        // What was noted may be the last one that is kept no more.
        for (place, met) in &mut verifier.noted {
            *met = *place == after;
        }
        verifier
    }

    /// Verifies the next record.
    ///
    /// # Errors
    /// [`Broken`], which names it.
    pub fn next(&mut self, record: &Record) -> Result<(), Broken> {
        let (after, found) = (self.last.number, record.number);
        if found > after + 1 {
            return Err(Broken::Removed { after, found });
        }
        if found <= after {
            return Err(Broken::Misplaced { after, found });
        }
        let number = found;
        let content = hash(number, record.previous, &record.event);
        if content != record.hash {
            return Err(Broken::Changed {
                number,
                found: content,
                expected: record.hash,
            });
        }
        if record.previous != self.last.hash {
            return Err(Broken::Unlinked { number });
        }
        for (place, met) in &mut self.noted {
            if place.number == number && place.hash != record.hash {
                return Err(Broken::Anew {
                    number,
                    found: record.hash,
                    expected: place.hash,
                });
            }
            *met |= place.number == number;
        }
        self.last = record.place();
        Ok(())
    }

    /// Verifies the end against what is said to be the newest record.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn end(self, head: Place) -> Result<Verified, Broken> {
        let Self { after, last, noted } = self;
        if last.number < head.number {
            return Err(Broken::Cut {
                found: last.number,
                expected: head.number,
            });
        }
        if last != head {
            return Err(Broken::Anew {
                number: last.number,
                found: last.hash,
                expected: head.hash,
            });
        }
        if let Some((place, _)) = noted.iter().find(|(_, met)| !met) {
            return Err(Broken::NotHeld {
                number: place.number,
                first: after.number + 1,
                last: last.number,
            });
        }
        Ok(Verified { after, head })
    }
}

/// Verifies an exported log line by line.
///
/// # Errors
/// [`Broken`], which names the line or the record.
pub fn verify<'a>(
    lines: impl Iterator<Item = &'a str>,
    noted: &[Place],
) -> Result<Verified, Broken> {
    let wrong = |line: usize, reason: String| Broken::Line {
        line: line as u64,
        reason,
    };
    let mut lines = lines.enumerate().map(|(at, text)| (at + 1, text));
    let (_, first) = lines
        .next()
        .ok_or_else(|| wrong(1, "found nothing, expected an exported log".to_owned()))?;
    let opening: Opening = serde_json::from_str(first)
        .map_err(|e| wrong(1, format!("this is no exported audit log: {e}")))?;
    if opening.meridian_audit != FORMAT {
        let found = opening.meridian_audit;
        let reason = format!("found form {found}, expected {FORMAT}: use the newer program");
        return Err(wrong(1, reason));
    }
    let mut verifier = Verifier::new(opening.after, noted);
    let mut pending: Option<(usize, &str)> = None;
    for (at, text) in lines {
        if let Some((at, text)) = pending.replace((at, text)) {
            let record: Record =
                serde_json::from_str(text).map_err(|e| wrong(at, format!("no record: {e}")))?;
            verifier.next(&record)?;
        }
    }
    let (at, text) = pending.unwrap_or((2, ""));
    let closing: Closing = serde_json::from_str(text)
        .map_err(|e| wrong(at, format!("no end of a log, it was cut off: {e}")))?;
    verifier.end(closing.head)
}

#[cfg(test)]
mod tests;
