//! What the nodes learn for their API and status page, in one Secret: a slow hash of the administrator's password, and what
//! the cluster is. The clear password never leaves its own Secret.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use aws_lc_rs::{pbkdf2, rand};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt as _;
use meridian_api::login::{
    ClusterFacts, FACTS_KEY, HASH_BYTES, LOGIN_KEY, LOGIN_ROUNDS, Login, SALT_BYTES, from_hex,
    to_hex,
};
use meridian_api::validate::SPOKEN_VERSION;

use super::validate::Cluster;
use crate::{
    controllers::secrets::{NoRandomness, value},
    k8s::quantity,
};

/// Annotation of the Secret: which state of the credentials the hash was made of, so that it is not made at each look.
const ORIGIN: &str = "meridian.dev/credentials";

/// The administrator, as the credentials Secret has them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Administrator {
    /// Name.
    pub username: String,
    /// Password.
    pub password: String,
    /// The state of the Secret that they were read from; empty if it is not written yet.
    pub origin: String,
}

impl fmt::Debug for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Administrator")
            .field("username", &self.username)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Administrator {
    /// Name and password in a Secret that a person made.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn read(secret: &Secret) -> Result<Self, String> {
        let text = |key: &str| {
            let bytes = value(secret, key).filter(|bytes| !bytes.is_empty());
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
            text.ok_or_else(|| {
                format!(
                    "spec.clusterCredentialSecretName: Secret {:?}: found no text under the key {key:?}, expected the \
                     administrator's; add it. Until then the login before stays",
                    secret.name_any()
                )
            })
        };
        Ok(Self {
            username: text("username")?,
            password: text("password")?,
            origin: origin(secret),
        })
    }
}

/// Names one state of a Secret.
pub(super) fn origin(secret: &Secret) -> String {
    let version = secret.resource_version().unwrap_or_default();
    format!("{}/{version}", secret.uid().unwrap_or_default())
}

/// The entries of the Secret for the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiSecret {
    login: Option<Login>,
    origin: String,
    facts: ClusterFacts,
}

impl ApiSecret {
    /// The entries as the Secret carries them.
    ///
    /// # Errors
    /// They have no JSON form: a defect of the agent.
    pub(super) fn data(&self) -> Result<BTreeMap<String, ByteString>, serde_json::Error> {
        let mut data = BTreeMap::new();
        if let Some(login) = &self.login {
            let bytes = serde_json::to_vec(login)?;
            data.insert(LOGIN_KEY.to_owned(), ByteString(bytes));
        }
        let bytes = serde_json::to_vec(&self.facts)?;
        data.insert(FACTS_KEY.to_owned(), ByteString(bytes));
        Ok(data)
    }

    /// Its annotations.
    #[must_use]
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(ORIGIN.to_owned(), self.origin.clone())])
    }
}

/// Decides what the nodes learn. `before` is the Secret as it stands; without an administrator its login stays. Slow: it may
/// hash the password.
///
/// # Errors
/// [`NoRandomness`].
pub(super) fn decide(
    cluster: &Cluster,
    before: Option<&Secret>,
    administrator: Option<&Administrator>,
) -> Result<ApiSecret, NoRandomness> {
    let kept = before.and_then(|secret| serde_json::from_slice(value(secret, LOGIN_KEY)?).ok());
    let of = before.and_then(|secret| secret.annotations().get(ORIGIN).cloned());
    let of = of.unwrap_or_default();
    let facts = facts(cluster);
    let Some(administrator) = administrator else {
        return Ok(ApiSecret {
            login: kept,
            origin: of,
            facts,
        });
    };
    let origin = administrator.origin.clone();
    let login = match kept {
        Some(kept) if !origin.is_empty() && of == origin => kept,
        Some(kept) if is_of(&kept, administrator) => kept,
        _ => login(administrator)?,
    };
    Ok(ApiSecret {
        login: Some(login),
        origin,
        facts,
    })
}

/// A new hash with a new salt.
fn login(administrator: &Administrator) -> Result<Login, NoRandomness> {
    let mut salt = [0_u8; SALT_BYTES];
    rand::fill(&mut salt).map_err(|_| NoRandomness)?;
    let mut hash = [0_u8; HASH_BYTES];
    let rounds = NonZeroU32::new(LOGIN_ROUNDS).unwrap_or(NonZeroU32::MIN);
    let password = administrator.password.as_bytes();
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
    pbkdf2::derive(algorithm, rounds, &salt, password, &mut hash);
    Ok(Login {
        username: administrator.username.clone(),
        rounds: rounds.get(),
        salt: to_hex(&salt),
        hash: to_hex(&hash),
    })
}

fn is_of(login: &Login, administrator: &Administrator) -> bool {
    let parts = from_hex(&login.salt).zip(from_hex(&login.hash));
    let (Some((salt, hash)), Some(rounds)) = (parts, NonZeroU32::new(login.rounds)) else {
        return false;
    };
    let password = administrator.password.as_bytes();
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
    login.username == administrator.username
        && login.rounds >= LOGIN_ROUNDS
        && hash.len() == HASH_BYTES
        && pbkdf2::verify(algorithm, rounds, &salt, password, &hash).is_ok()
}

fn facts(cluster: &Cluster) -> ClusterFacts {
    let memory = cluster.limits.get("memory");
    let memory = memory.and_then(|memory| quantity::bytes(&memory.0));
    ClusterFacts {
        host: format!("{}.{}.svc.cluster.local", cluster.name, cluster.namespace),
        created: cluster.created.clone(),
        nodes: u32::try_from(cluster.nodes).unwrap_or(0),
        release: cluster.release.clone(),
        database_version: SPOKEN_VERSION.to_owned(),
        memory_bytes: memory
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(0),
        rack_aware: cluster.scheduling.rack_label.is_some(),
        scrapes: cluster.scrapes.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::cluster::{validate::validate, version::Choice};

    fn cluster() -> Cluster {
        cluster_of(&json!({}))
    }

    fn cluster_of(spec: &serde_json::Value) -> Cluster {
        let rec = json!({"metadata": {"name": "rec", "namespace": "ns"}, "spec": spec});
        let rec = serde_json::from_value(rec).unwrap();
        let choice = Choice {
            image: "i".to_owned(),
            release: "0.2.0".to_owned(),
            suspended: None,
        };
        validate(&rec, &choice).unwrap()
    }

    fn administrator(password: &str, origin: &str) -> Administrator {
        Administrator {
            username: "admin".to_owned(),
            password: password.to_owned(),
            origin: origin.to_owned(),
        }
    }

    fn written(decided: &ApiSecret) -> Secret {
        Secret {
            metadata: kube::api::ObjectMeta {
                annotations: Some(decided.annotations()),
                ..kube::api::ObjectMeta::default()
            },
            data: Some(decided.data().unwrap()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_hash_is_kept_while_the_password_is_the_same_and_made_anew_when_it_is_another() {
        let cluster = cluster();
        let decide = |before: Option<&ApiSecret>, administrator: &Administrator| {
            let before = before.map(written);
            decide(&cluster, before.as_ref(), Some(administrator)).unwrap()
        };
        let first = decide(None, &administrator("one", "u/1"));
        let login = first.login.clone().unwrap();
        assert!(is_of(&login, &administrator("one", "")));
        assert!(!is_of(&login, &administrator("two", "")));
        assert_eq!(decide(Some(&first), &administrator("one", "u/1")), first);
        let touched = decide(Some(&first), &administrator("one", "u/2"));
        assert_eq!(touched.login, first.login);
        assert_eq!(touched.origin, "u/2");
        let rotated = decide(Some(&first), &administrator("two", "u/3"));
        assert!(is_of(&rotated.login.unwrap(), &administrator("two", "")));
    }

    #[test]
    fn the_login_before_stays_while_the_credentials_cannot_be_read() {
        let cluster = cluster();
        let first = decide(&cluster, None, Some(&administrator("one", "u/1"))).unwrap();
        let kept = decide(&cluster, Some(&written(&first)), None).unwrap();
        assert_eq!(kept, first);
        assert_eq!(decide(&cluster, None, None).unwrap().login, None);
    }

    #[test]
    fn nodes_learn_how_many_scrapes_the_cluster_answers_at_once() {
        for (spec, scrapes) in [
            (json!({}), 2),
            (json!({"metricsConfig": {}}), 2),
            (json!({"metricsConfig": {"maxRequestsInFlight": 9}}), 9),
            (json!({"metricsConfig": {"maxRequestsInFlight": 0}}), 0),
        ] {
            let told = decide(&cluster_of(&spec), None, None).unwrap();
            assert_eq!(told.facts.scrapes, scrapes, "{spec}");
        }
    }

    #[test]
    fn neither_the_secret_nor_a_log_shows_the_password() {
        let administrator = administrator("canary-of-the-secret", "u/1");
        let decided = decide(&cluster(), None, Some(&administrator)).unwrap();
        let shown = format!("{administrator:?} {decided:?} {:?}", written(&decided));
        let data = decided.data().unwrap();
        let data: Vec<_> = data
            .values()
            .map(|bytes| String::from_utf8_lossy(&bytes.0))
            .collect();
        assert!(!shown.contains("canary") && !data.concat().contains("canary"));
    }

    #[test]
    fn what_a_secret_of_a_person_lacks_is_named() {
        let secret = |data: serde_json::Value| -> Secret {
            serde_json::from_value(json!({"metadata": {"name": "admin"}, "data": data})).unwrap()
        };
        let text = Administrator::read(&secret(json!({"username": "YQ=="}))).unwrap_err();
        assert!(
            text.starts_with("spec.clusterCredentialSecretName: Secret \"admin\": found no text under the key \"password\""),
            "{text}"
        );
        let whole = secret(json!({"username": "YQ==", "password": "Yg=="}));
        let read = Administrator::read(&whole).unwrap();
        assert_eq!((read.username.as_str(), read.password.as_str()), ("a", "b"));
    }
}
