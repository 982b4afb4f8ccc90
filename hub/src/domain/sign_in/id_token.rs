//! Whether an ID token is what the provider says to this hub, now, in answer to this very login. Rules: OpenID Connect Core,
//! section 3.1.3.7; RFC 8725 for what must not be believed of a token's own header.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily as Family, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Person;

/// An algorithm that is believed.
struct Believed {
    /// Its name in a token.
    name: &'static str,
    algorithm: Algorithm,
    /// Of its keys.
    family: Family,
    /// Of what stands beside the token (OpenID Connect Core, section 3.1.3.6).
    hash: &'static digest::Algorithm,
}

const fn believed(
    name: &'static str,
    algorithm: Algorithm,
    family: Family,
    hash: &'static digest::Algorithm,
) -> Believed {
    Believed {
        name,
        algorithm,
        family,
        hash,
    }
}

/// Algorithms that are believed: those whose keys only the provider has. None with a shared secret, and not `none`.
static BELIEVED: [Believed; 9] = [
    believed("RS256", Algorithm::RS256, Family::Rsa, &SHA256),
    believed("RS384", Algorithm::RS384, Family::Rsa, &SHA384),
    believed("RS512", Algorithm::RS512, Family::Rsa, &SHA512),
    believed("PS256", Algorithm::PS256, Family::Rsa, &SHA256),
    believed("PS384", Algorithm::PS384, Family::Rsa, &SHA384),
    believed("PS512", Algorithm::PS512, Family::Rsa, &SHA512),
    believed("ES256", Algorithm::ES256, Family::Ec, &SHA256),
    believed("ES384", Algorithm::ES384, Family::Ec, &SHA384),
    believed("EdDSA", Algorithm::EdDSA, Family::Ed, &SHA512),
];
/// What the clocks of provider and hub may differ by, seconds.
pub const LEEWAY: i64 = 60;
/// Longest subject, bytes (OpenID Connect Core, section 2).
const SUBJECT: usize = 255;
/// Longest name and group that are kept, bytes.
const NAME: usize = 256;
/// Most groups that are kept.
const GROUPS: usize = 2_000;

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// This hub, as the provider knows it.
    pub client_id: &'a str,
    /// What was drawn for this login.
    pub nonce: &'a str,
    /// The access token that came beside it.
    pub access_token: &'a str,
    /// When the login began.
    pub begun: Timestamp,
    /// The present moment.
    pub now: Timestamp,
    /// Claim with the name for people.
    pub name_claim: &'a str,
    /// Claim with the groups.
    pub groups_claim: &'a str,
}

/// Why a token says nothing of who somebody is. None of them repeats a part of the token but what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// It is none.
    #[error("the ID token cannot be read: {0}")]
    Unreadable(String),
    /// The algorithm is not believed.
    #[error(
        "the ID token is signed by {found:?}, expected an asymmetric algorithm (RS, PS or ES with 256, 384 or 512 bits, or EdDSA): \
         set it for this client at the provider"
    )]
    Algorithm {
        /// As the token says.
        found: String,
    },
    /// No key fits.
    #[error("the provider publishes no key {0:?} that an ID token may be signed by")]
    UnknownKey(String),
    /// The signature is of somebody else, or the token was changed.
    #[error("the signature of the ID token is not the provider's")]
    Signature,
    /// A claim is not what it must be.
    #[error("claim `{claim}` of the ID token: found {found}, expected {expected}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: String,
    },
}

impl Disbelief {
    /// In one word, for the audit log.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "token-unreadable",
            Self::Algorithm { .. } => "token-algorithm",
            Self::UnknownKey(_) => "token-key",
            Self::Signature => "token-signature",
            Self::Claim { .. } => "token-claim",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    azp: Option<String>,
    nonce: Option<String>,
    at_hash: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Believes a token or says why not.
///
/// # Errors
/// [`Disbelief`].
pub fn believe(token: &str, keys: &[Jwk], expected: &Expected<'_>) -> Result<Person, Disbelief> {
    let header = header(token)?;
    let by = algorithm(&header)?;
    let claims = signed(token, &header, by, keys)?;
    from_whom(&claims, expected)?;
    when(&claims, expected)?;
    if claims.nonce.as_deref() != Some(expected.nonce) {
        // Neither is shown: one of them is a secret of this login.
        let found = if claims.nonce.is_some() {
            "that of another login"
        } else {
            "none"
        };
        return wrong("nonce", found, "that of this login; begin again");
    }
    if let Some(found) = &claims.at_hash
        && *found != half_hash(by.hash, expected.access_token)
    {
        return wrong(
            "at_hash",
            format!("{found:?}"),
            "the hash of the access token that came with it",
        );
    }
    let name = claims
        .others
        .get(expected.name_claim)
        .and_then(Value::as_str);
    let name = name.map(shortened).filter(|name| !name.trim().is_empty());
    Ok(Person {
        issuer: claims.iss,
        name: name.unwrap_or_else(|| shortened(&claims.sub)),
        subject: claims.sub,
        groups: groups(claims.others.get(expected.groups_claim)),
    })
}

fn wrong<T>(
    claim: &'static str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Result<T, Disbelief> {
    Err(Disbelief::Claim {
        claim,
        found: found.into(),
        expected: expected.into(),
    })
}

fn header(token: &str) -> Result<Header, Disbelief> {
    let unreadable = |why: &str| Disbelief::Unreadable(why.to_owned());
    let mut parts = token.split('.');
    let (Some(first), Some(_), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(unreadable("found no three parts with dots between them"));
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(first)
        .map_err(|_| unreadable("its header is no base64"))?;
    let header: Header = serde_json::from_slice(&bytes)
        .map_err(|_| unreadable("its header is no JSON with `alg`"))?;
    if header.crit.is_some() {
        return Err(unreadable(
            "its header has extensions that must be understood (`crit`), and none is",
        ));
    }
    Ok(header)
}

fn algorithm(header: &Header) -> Result<&'static Believed, Disbelief> {
    let known = BELIEVED.iter().find(|one| one.name == header.alg);
    known.ok_or_else(|| Disbelief::Algorithm {
        found: header.alg.chars().take(16).collect(),
    })
}

/// The claims, if one of the provider's keys signed them.
fn signed(token: &str, header: &Header, by: &Believed, keys: &[Jwk]) -> Result<Claims, Disbelief> {
    let mut rules = Validation::new(by.algorithm);
    // They are judged below, each with its own words.
    rules.required_spec_claims.clear();
    (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
    let fits = |key: &&Jwk| {
        let common = &key.common;
        let is_named = header.kid.is_none() || common.key_id == header.kid;
        let signs =
            !matches!(&common.public_key_use, Some(other) if *other != PublicKeyUse::Signature);
        let for_it = common
            .key_algorithm
            .as_ref()
            .is_none_or(|known| known.to_string() == header.alg);
        is_named && signs && for_it
    };
    let mut found = None;
    for key in keys.iter().filter(fits) {
        let Ok(key) = DecodingKey::from_jwk(key) else {
            continue;
        };
        if key.family() != by.family {
            continue;
        }
        match jsonwebtoken::decode::<Value>(token, &key, &rules) {
            Ok(data) => {
                let claims = serde_json::from_value(data.claims);
                return claims.map_err(|e| {
                    Disbelief::Unreadable(format!("its claims are not those of an ID token: {e}"))
                });
            }
            Err(_) => found = Some(Disbelief::Signature),
        }
    }
    let kid = header.kid.as_deref().unwrap_or_default();
    Err(found.unwrap_or_else(|| Disbelief::UnknownKey(kid.chars().take(64).collect())))
}

/// Issuer, audience, authorized party, subject.
fn from_whom(claims: &Claims, expected: &Expected<'_>) -> Result<(), Disbelief> {
    if claims.iss != expected.issuer {
        return wrong(
            "iss",
            format!("{:?}", claims.iss),
            format!(
                "{:?}, as --oidc-issuer says, to the letter",
                expected.issuer
            ),
        );
    }
    let client = expected.client_id;
    let audience = match &claims.aud {
        OneOrMany::One(one) => std::slice::from_ref(one),
        OneOrMany::Many(many) => many,
    };
    if !audience.iter().any(|one| one == client) {
        return wrong(
            "aud",
            format!("{audience:?}"),
            format!("{client:?}, as --oidc-client-id says"),
        );
    }
    let is_mine = |party: &String| party == client;
    let party = claims.azp.as_ref();
    if !party.is_none_or(is_mine) || (party.is_none() && audience.len() > 1) {
        return wrong(
            "azp",
            format!("{party:?} beside the audience {audience:?}"),
            format!("{client:?}"),
        );
    }
    if claims.sub.is_empty() || claims.sub.len() > SUBJECT {
        return wrong(
            "sub",
            format!("{} bytes", claims.sub.len()),
            format!("1 to {SUBJECT} bytes"),
        );
    }
    Ok(())
}

/// From when until when, and that it was made for this login and not before.
fn when(claims: &Claims, expected: &Expected<'_>) -> Result<(), Disbelief> {
    // Seconds since 1970 are exact in a double for longer than anybody will ask.
    #[expect(
        clippy::cast_precision_loss,
        reason = "whole seconds of this age are exact"
    )]
    let (now, begun, leeway) = (
        expected.now.as_second() as f64,
        expected.begun.as_second() as f64,
        LEEWAY as f64,
    );
    let clocks = "compare the clocks of provider and hub";
    if claims.exp <= now - leeway {
        return wrong(
            "exp",
            claims.exp.to_string(),
            format!("a moment after {now}: it is over; {clocks}"),
        );
    }
    if claims.nbf.is_some_and(|from| from > now + leeway) {
        let from = claims.nbf.unwrap_or_default();
        return wrong(
            "nbf",
            from.to_string(),
            format!("a moment before {now}: it does not count yet; {clocks}"),
        );
    }
    if claims.iat > now + leeway || claims.iat < begun - leeway {
        return wrong(
            "iat",
            claims.iat.to_string(),
            format!("a moment between {begun}, when the login began, and {now}; {clocks}"),
        );
    }
    Ok(())
}

/// The left half of a hash.
fn half_hash(by: &'static digest::Algorithm, text: &str) -> String {
    let hash = digest::digest(by, text.as_bytes());
    let (half, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    URL_SAFE_NO_PAD.encode(half)
}

fn groups(claim: Option<&Value>) -> BTreeSet<String> {
    let listed = claim.and_then(|claim| OneOrMany::deserialize(claim).ok());
    let listed = listed.map(OneOrMany::into_vec).unwrap_or_default();
    let listed = listed
        .into_iter()
        .filter(|group| !group.is_empty() && group.len() <= NAME);
    listed.take(GROUPS).collect()
}

/// A text of the provider's as it may stand in a log and on a screen.
fn shortened(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > NAME {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests;
