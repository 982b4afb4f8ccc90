//! Secrets that people carry: join tokens and the web API's bearer tokens. Only their hashes are kept.

pub mod grant;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use meridian_api::ids::ClusterUid;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::cluster::DeviceKey;
use super::sign_in::Person;
use super::sign_in::roles::Grant;
use grant::{Act, Kind, Refusal, Role, Scope, Verb};

/// Bytes of a token's secret part: too many to guess.
const SECRET: usize = 32;
/// Bytes of a token's public part, which names it in listings.
const ID: usize = 8;

/// What a token opens; its prefix, so that a leaked one is recognized and one kind is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Joins one cluster, once.
    Join,
    /// Calls the web API.
    Api,
    /// Calls the web API for a person who has signed in.
    Session,
}

impl Purpose {
    fn prefix(self) -> &'static str {
        match self {
            Self::Join => "mrdj",
            Self::Api => "mrda",
            Self::Session => "mrds",
        }
    }
}

/// SHA-256 of a token's secret part. The secret has 256 random bits, so no slow hash is needed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(String);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// A token in clear: `<prefix>.<id>.<secret>`. It is shown to a person once and kept nowhere.
pub struct Token {
    purpose: Purpose,
    id: String,
    secret: Zeroizing<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.{}.…)", self.purpose.prefix(), self.id)
    }
}

/// A text that is not a token of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}.<id>.<secret>, as it was printed when the token was made")]
pub struct NotAToken {
    expected: &'static str,
}

impl Token {
    /// Makes a token of random bytes.
    #[must_use]
    pub fn from_random(purpose: Purpose, id: [u8; ID], secret: [u8; SECRET]) -> Self {
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            purpose,
            id,
            secret: Zeroizing::new(URL_SAFE_NO_PAD.encode(secret)),
        }
    }

    /// Reads a token that somebody presents.
    ///
    /// # Errors
    /// [`NotAToken`] for any other text; the text itself is never repeated.
    pub fn parse(purpose: Purpose, text: &str) -> Result<Self, NotAToken> {
        let refused = NotAToken {
            expected: purpose.prefix(),
        };
        let mut parts = text.trim().split('.');
        let (prefix, id, secret) = (parts.next(), parts.next(), parts.next());
        let (Some(prefix), Some(id), Some(secret), None) = (prefix, id, secret, parts.next())
        else {
            return Err(refused);
        };
        let is_id = id.len() == 2 * ID
            && id
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if prefix != purpose.prefix() || !is_id || secret.is_empty() {
            return Err(refused);
        }
        Ok(Self {
            purpose,
            id: id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        })
    }

    /// What it opens.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The public part.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{}.{}.{}",
            self.purpose.prefix(),
            self.id,
            self.secret.as_str()
        ))
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        let hash = digest(&SHA256, self.secret.as_bytes());
        SecretHash(URL_SAFE_NO_PAD.encode(hash))
    }

    /// Whether this is the token whose hash was kept; takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, kept: &SecretHash) -> bool {
        let presented = self.hash();
        aws_lc_rs::constant_time::verify_slices_are_equal(presented.0.as_bytes(), kept.0.as_bytes())
            .is_ok()
    }
}

/// A join token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// Public part.
    pub id: String,
    /// Name that the cluster will have, and the only one that may use the token.
    pub cluster_name: String,
    /// Hash of the secret part.
    pub hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// Who used it; a used token works again only for the same device of the same cluster.
    pub used_by: Option<TokenUse>,
}

/// The one use of a join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUse {
    /// Device key that joined.
    pub device_key: DeviceKey,
    /// Cluster that joined.
    pub cluster: ClusterUid,
    /// When.
    pub at: Timestamp,
}

/// A bearer token of the web API as it is kept. One that was kept before there were roles is an administrator's for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiToken {
    /// Public part.
    pub id: String,
    /// Who holds it, for people.
    pub holder: String,
    /// Hash of the secret part.
    pub hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it may do.
    #[serde(default = "before_roles")]
    pub role: Role,
    /// For which projects.
    #[serde(default)]
    pub projects: Scope,
    /// From when on it is refused; never if absent.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Whose session it is, if it began with a login. Such a one is kept without any right of its own: what its person may do is
    /// asked at each use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// What the person's groups give now. It is never kept.
    #[serde(skip)]
    pub grants: Vec<Grant>,
}

fn before_roles() -> Role {
    Role::Admin
}

impl ApiToken {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether it lets somebody administer the hub now.
    #[must_use]
    pub fn administers(&self, now: Timestamp) -> bool {
        // A session ends, and its person's groups may change: neither may be the last one.
        let is_made = self.person.is_none();
        is_made && self.role == Role::Admin && self.projects == Scope::all() && !self.is_over(now)
    }

    /// With the role and the projects with which its holder does such a thing: for a person, what its groups give together for
    /// that. The role holds in all of the projects.
    #[must_use]
    pub fn narrowed(mut self, verb: Verb, kind: Kind) -> Self {
        if self.person.is_none() {
            return self;
        }
        let needed = grant::least(kind, verb).unwrap_or(Role::Admin);
        let enough = |grant: &&Grant| grant.role >= needed;
        let mut counted: Vec<&Grant> = self.grants.iter().filter(enough).collect();
        if counted.is_empty() {
            // It is refused with what there is.
            counted = self.grants.iter().collect();
        }
        let whole: Vec<&Grant> = counted
            .iter()
            .copied()
            .filter(|grant| grant.scope == Scope::all())
            .collect();
        let role = if whole.is_empty() {
            counted.iter().map(|grant| grant.role).min()
        } else {
            whole.iter().map(|grant| grant.role).max()
        };
        let projects = counted.iter().filter_map(|grant| grant.scope.projects());
        let projects = projects.flatten().cloned().collect();
        let everywhere = !whole.is_empty();
        (self.role, self.projects) = (
            role.unwrap_or(Role::Viewer),
            if everywhere {
                Scope::all()
            } else {
                Scope::only(projects)
            },
        );
        self
    }

    /// With the highest role and all projects of a person's groups, for people to read.
    #[must_use]
    pub fn at_most(&self) -> Self {
        let mut shown = self.clone();
        if shown.person.is_some() {
            let highest = shown.grants.iter().map(|grant| grant.role).max();
            shown.role = highest.unwrap_or(Role::Viewer);
            let scopes: Vec<_> = shown
                .grants
                .iter()
                .map(|grant| grant.scope.projects())
                .collect();
            let named = scopes
                .iter()
                .flatten()
                .copied()
                .flatten()
                .cloned()
                .collect();
            shown.projects = match scopes.iter().any(Option::is_none) {
                true => Scope::all(),
                false => Scope::only(named),
            };
        }
        shown
    }

    /// Whether two looks at a token found the same rights, however each was narrowed.
    #[must_use]
    pub fn has_rights_of(&self, other: &Self) -> bool {
        let same = (&self.id, &self.hash, &self.person, &self.grants)
            == (&other.id, &other.hash, &other.person, &other.grants);
        let own = |token: &Self| (token.role, token.projects.clone());
        same && (self.person.is_some() || own(self) == own(other))
    }

    /// Whether its holder may do something.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn may(&self, act: Act<'_>) -> Result<(), Refusal> {
        grant::authorize(self.role, &self.projects, act)
    }
}

/// When a bearer token was used, by the hour: kept apart from the token, which it does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUse {
    /// When.
    pub at: Timestamp,
}

/// What a request with an idempotency key made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repeat {
    /// Digest of the request.
    pub request: String,
    /// Name of the object.
    pub made: String,
    /// Its identity: another of the same name is not what was made.
    pub identity: String,
    /// From when on the key is free again.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::from_random(Purpose::Join, [7; ID], [9; SECRET])
    }

    #[test]
    fn a_revealed_token_is_read_back_and_matches_its_hash() {
        let parsed = Token::parse(Purpose::Join, &token().reveal()).unwrap();
        assert_eq!(parsed.id(), "0707070707070707");
        assert!(parsed.matches(&token().hash()));
    }

    #[test]
    fn another_secret_does_not_match() {
        let other = Token::from_random(Purpose::Join, [7; ID], [8; SECRET]);
        assert!(!other.matches(&token().hash()));
    }

    #[test]
    fn a_token_of_another_kind_or_shape_is_refused() {
        let clear = token().reveal();
        for text in [
            "",
            "mrdj",
            "mrdj.0707070707070707.",
            "mrdj.07.x",
            &clear.replace("mrdj", "mrda"),
            "a.b.c.d",
        ] {
            assert!(Token::parse(Purpose::Join, text).is_err(), "{text}");
        }
        assert!(Token::parse(Purpose::Api, &clear).is_err());
    }

    #[test]
    fn a_token_that_was_kept_before_there_were_roles_is_an_administrators_without_end() {
        let before = r#"{"id":"0707070707070707","holder":"admin","hash":"x","createdAt":"2026-11-22T12:00:00Z"}"#;
        let read: ApiToken = serde_json::from_str(before).unwrap();
        assert_eq!((read.role, read.expires_at), (Role::Admin, None));
        assert!(read.administers("2126-11-22T12:00:00Z".parse().unwrap()));
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<ApiToken>(&written).unwrap(), read);
    }

    #[test]
    fn a_session_never_administers_by_itself() {
        let now = Timestamp::UNIX_EPOCH;
        let made = ApiToken {
            id: "0707070707070707".to_owned(),
            holder: "ann".to_owned(),
            hash: token().hash(),
            created_at: now,
            role: Role::Admin,
            projects: Scope::all(),
            expires_at: None,
            person: None,
            grants: Vec::new(),
        };
        assert!(made.administers(now));
        let session = ApiToken {
            person: Some(Person {
                issuer: "https://idp".to_owned(),
                subject: "ann".to_owned(),
                name: "ann".to_owned(),
                groups: Default::default(),
            }),
            ..made
        };
        assert!(!session.administers(now));
    }

    #[test]
    fn neither_debug_nor_the_refusal_shows_the_secret() {
        let clear = token().reveal();
        let secret = clear.rsplit('.').next().unwrap();
        assert!(!format!("{:?}{:?}", token(), token().hash()).contains(secret));
        let refused = Token::parse(Purpose::Api, &clear).unwrap_err();
        assert!(!refused.to_string().contains(secret));
    }
}
