//! The roots that members trust, and how one takes the place of another: `[old]` → `[old, new]` → `[new, old]` → `[new]`.
//!
//! The first root signs. Each step is a bundle of a higher version, ordered by a person and held back while it would cut somebody
//! off: who does not hold the bundle before would not believe what the next one signs, and who still uses a certificate of a
//! root that goes would be believed by nobody. Both are known from what members report, and only from that. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

mod held;
mod judge;

#[cfg(test)]
mod tests;

pub use held::{MemberTrust, RecTrust};
pub use judge::{Facts, Member, Obstacle, obstacles};

/// A root certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// See [`meridian_api::trust::fingerprint`].
    pub fingerprint: String,
    /// The certificate, PEM.
    pub pem: String,
}

/// The roots of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Rises with each step.
    pub version: u64,
    /// The root that signs first; one or two.
    pub roots: Vec<Root>,
    /// Fingerprint of the root that is to take over, while two are trusted.
    pub incoming: Option<String>,
    /// The root that is to take over has signed, now or in a step that was taken back.
    pub incoming_signed: bool,
    /// Fingerprints of roots that were trusted once: none of them comes again.
    #[serde(default)]
    pub retired: Vec<String>,
    /// Since when.
    pub since: Timestamp,
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One root is trusted.
    Settled,
    /// A second is trusted and signs nothing.
    Introduced,
    /// The second signs, and the first is still trusted.
    Signing,
}

impl Stage {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Introduced => "introduced",
            Self::Signing => "signing",
        }
    }
}

/// What a person orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Trust this root as well.
    Rotate(Root),
    /// Let the new root sign, or after that trust the old one no more.
    Advance,
    /// Take the last step back.
    Abort,
}

/// A step that the stage does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// There are two roots already.
    #[error(
        "a rotation is under way: found two roots, expected one. Finish it with `meridian ca advance` or take it back with \
         `meridian ca abort`"
    )]
    UnderWay,
    /// There is nothing to go on with.
    #[error(
        "no rotation is under way: found one root, expected two. `meridian ca rotate` begins one"
    )]
    NotUnderWay,
    /// The new root is the old one.
    #[error("the new root has the key of the present one, expected another key")]
    SameKey,
    /// The new root was trusted before.
    #[error("the new root was trusted before and went, expected one that is new")]
    Retired,
}

impl Bundle {
    /// Of an authority that was never rotated.
    #[must_use]
    pub fn first(root: Root, now: Timestamp) -> Self {
        Self {
            version: 1,
            roots: vec![root],
            incoming: None,
            incoming_signed: false,
            retired: Vec::new(),
            since: now,
        }
    }

    /// Fingerprint of the root that signs; empty for a bundle without roots, which no hub makes.
    #[must_use]
    pub fn signer(&self) -> &str {
        self.roots.first().map_or("", |root| &root.fingerprint)
    }

    /// Whether certificates of this root are believed.
    #[must_use]
    pub fn trusts(&self, fingerprint: &str) -> bool {
        self.roots
            .iter()
            .any(|root| root.fingerprint == fingerprint)
    }

    /// Whether this root is trusted, or was.
    #[must_use]
    pub fn knew(&self, fingerprint: &str) -> bool {
        self.trusts(fingerprint) || self.retired.iter().any(|gone| gone == fingerprint)
    }

    /// How far the rotation is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match (&self.incoming, self.roots.as_slice()) {
            (Some(incoming), [first, _]) if *incoming == first.fingerprint => Stage::Signing,
            (Some(_), [_, _]) => Stage::Introduced,
            _ => Stage::Settled,
        }
    }

    /// The bundle after a step.
    ///
    /// # Errors
    /// [`Impossible`].
    pub fn after(&self, step: &Step, now: Timestamp) -> Result<Self, Impossible> {
        let mut next = self.clone();
        (next.version, next.since) = (self.version + 1, now);
        match (self.stage(), step) {
            (Stage::Settled, Step::Rotate(root)) => {
                if self.trusts(&root.fingerprint) {
                    return Err(Impossible::SameKey);
                }
                if self.retired.contains(&root.fingerprint) {
                    return Err(Impossible::Retired);
                }
                next.incoming = Some(root.fingerprint.clone());
                next.incoming_signed = false;
                next.roots.push(root.clone());
            }
            (Stage::Introduced | Stage::Signing, Step::Rotate(_)) => {
                return Err(Impossible::UnderWay);
            }
            (Stage::Settled, Step::Advance | Step::Abort) => return Err(Impossible::NotUnderWay),
            (Stage::Introduced, Step::Advance) => {
                next.roots.reverse();
                next.incoming_signed = true;
            }
            (Stage::Signing, Step::Abort) => next.roots.reverse(),
            (Stage::Signing, Step::Advance) | (Stage::Introduced, Step::Abort) => {
                let gone = next.roots.drain(1..).map(|root| root.fingerprint);
                next.retired.extend(gone);
                next.incoming = None;
                next.incoming_signed = false;
            }
        }
        Ok(next)
    }

    /// The root that is trusted no more after this step.
    #[must_use]
    pub fn departs(&self, step: &Step) -> Option<&Root> {
        match (self.stage(), step) {
            (Stage::Signing, Step::Advance) | (Stage::Introduced, Step::Abort) => self.roots.get(1),
            _ => None,
        }
    }
}

/// Names of those who are left behind that no member has.
#[must_use]
pub fn unknown(even_without: &BTreeSet<String>, members: &[Member<'_>]) -> Vec<String> {
    let known: BTreeSet<_> = members.iter().map(|member| member.name).collect();
    let unknown = even_without
        .iter()
        .filter(|name| !known.contains(name.as_str()));
    unknown.cloned().collect()
}

/// How long after the last acknowledgement a step may follow, unless told otherwise: a report was true when it was written, and a
/// handshake that had begun before takes ten seconds at most.
pub const MARGIN: SignedDuration = SignedDuration::from_secs(60);
