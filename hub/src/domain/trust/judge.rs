//! Whether a step cuts somebody off.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Bundle, MemberTrust, Step};

/// A member and what it reported.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it reported last; `None` if it never said a word about it.
    pub held: Option<&'a MemberTrust>,
}

/// What a step is judged by.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The bundle in force.
    pub bundle: &'a Bundle,
    /// Its [`meridian_api::trust::digest`] in hexadecimal digits.
    pub digest: &'a str,
    /// Every member that is not removed.
    pub members: &'a [Member<'a>],
    /// Root that signed the certificate which the hub shows now.
    pub serving: &'a str,
    /// Now.
    pub now: Timestamp,
    /// How long the last acknowledgement must be past.
    pub margin: SignedDuration,
}

/// What holds a step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The member that would be cut off; `None` if it is the hub itself, or time.
    pub member: Option<String>,
    /// Why, for people.
    pub reason: String,
}

/// Everything that holds the step back; who is named in `even_without` does not.
#[must_use]
pub fn obstacles(facts: &Facts<'_>, step: &Step, even_without: &BTreeSet<String>) -> Vec<Obstacle> {
    let departs = facts
        .bundle
        .departs(step)
        .map(|root| root.fingerprint.as_str());
    let introduces_or_signs = matches!(step, Step::Rotate(_) | Step::Advance);
    // A root that never signed is in nobody's way when it goes, and everybody trusts the one that signs again.
    let in_use = departs.is_some() && facts.bundle.incoming_signed;
    if !introduces_or_signs && !in_use {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut latest = facts.bundle.since;
    for member in facts.members {
        if even_without.contains(member.name) {
            continue;
        }
        match behind(facts, member.held, departs.filter(|_| in_use)) {
            Some(reason) => found.push(Obstacle {
                member: Some(member.name.to_owned()),
                reason,
            }),
            None => latest = latest.max(member.held.map_or(latest, |held| held.since)),
        }
    }
    if let Some(departs) = departs.filter(|departs| in_use && *departs == facts.serving) {
        found.push(Obstacle {
            member: None,
            reason: format!(
                "the hub itself still shows a certificate of {departs}; its log says why that was not renewed"
            ),
        });
    }
    let wait_until = latest + facts.margin;
    if found.is_empty() && facts.now < wait_until {
        found.push(Obstacle {
            member: None,
            reason: format!(
                "the last acknowledgement came at {latest}: not before {wait_until}, the hub's clock says {}",
                facts.now
            ),
        });
    }
    found
}

/// Why a member would be cut off.
fn behind(facts: &Facts<'_>, held: Option<&MemberTrust>, departs: Option<&str>) -> Option<String> {
    let wanted = facts.bundle.version;
    let Some(held) = held.filter(|held| held.version > 0) else {
        return Some(format!(
            "it has not said which roots it trusts, expected version {wanted}: it was not connected since, or its agent is older \
             than this hub"
        ));
    };
    if held.version > wanted {
        return Some(format!(
            "it says to hold version {}, which this hub never made; expected {wanted}: an older copy of the hub's store was put \
             back, or it speaks of another hub",
            held.version
        ));
    }
    if held.version < wanted {
        return Some(format!(
            "its agent trusts version {}, expected {wanted}",
            held.version
        ));
    }
    if held.digest != facts.digest {
        return Some(format!(
            "it holds other roots under version {wanted} than this hub; join it anew with fresh material"
        ));
    }
    if let Some(departs) = departs
        && held.signer == departs
    {
        return Some(format!(
            "its agent still uses a certificate of {departs}; it renews by itself within minutes while it is connected"
        ));
    }
    held.recs.iter().find_map(|rec| {
        if rec.version != wanted {
            let found = match rec.version {
                0 => "no known version".to_owned(),
                version => format!("version {version}"),
            };
            return Some(format!(
                "the nodes of REC {} hold {found}, expected {wanted}",
                rec.rec
            ));
        }
        let departs = departs?;
        if rec.signer == departs {
            return Some(format!(
                "the nodes of REC {} still use a certificate of {departs}",
                rec.rec
            ));
        }
        rec.signer.is_empty().then(|| {
            format!(
                "which root signed the certificate that the nodes of REC {} use is not known",
                rec.rec
            )
        })
    })
}
