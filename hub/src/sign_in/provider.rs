//! The OpenID provider: what it says of itself, its keys, and the exchange of a code. What it says is kept for an hour; its keys are
//! asked for again when a token names one that is not among them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use jsonwebtoken::jwk::Jwk;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::Settings;
use super::http::{Http, place};
use crate::clock::since_boot;
use crate::domain::sign_in::Person;
use crate::domain::sign_in::id_token::{self, Disbelief, Expected};

/// How long what the provider says of itself is believed without asking again.
const KEPT: Duration = Duration::from_secs(3600);
/// Where a provider describes itself (OpenID Connect Discovery, section 4).
const DESCRIPTION: &str = "/.well-known/openid-configuration";

/// Why the provider did not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The hub's settings are wrong.
    #[error("{0}")]
    Settings(String),
    /// It did not answer.
    #[error("the OpenID provider did not answer at {url}: {reason}")]
    Unreachable {
        /// Where it was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// Its answer cannot be used.
    #[error("the OpenID provider's answer at {url} cannot be used: {reason}")]
    Unusable {
        /// Where it was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// It refused.
    #[error("the OpenID provider refused at {url} with status {status}: {error}")]
    Refused {
        /// Where it was asked.
        url: String,
        /// The status.
        status: u16,
        /// Its word for the reason.
        error: String,
    },
    /// What it says of somebody is not believed.
    #[error(transparent)]
    Disbelief(#[from] Disbelief),
}

/// What a provider says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Description {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    code_challenge_methods_supported: Option<Vec<String>>,
    /// Whether it names itself where it sends the browser back (RFC 9207).
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    id_token: Option<String>,
}

/// Something that was fetched, and when by the monotonic clock.
type Fetched<T> = Option<(T, Duration)>;

#[derive(Debug, Default)]
struct Cache {
    description: Fetched<Description>,
    keys: Fetched<Vec<Jwk>>,
}

/// A code that the provider gave, and what belongs to it.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) code: &'a str,
    pub(super) verifier: &'a str,
    pub(super) nonce: &'a str,
    pub(super) begun: jiff::Timestamp,
    pub(super) now: jiff::Timestamp,
}

/// The provider of this hub.
#[derive(Debug)]
pub(super) struct Provider {
    http: Http,
    // Held while the provider is asked: many logins at one time ask once.
    cache: Mutex<Cache>,
}

impl Provider {
    pub(super) fn new(settings: &Settings) -> Result<Self, ProviderError> {
        let issuer = &settings.issuer;
        let wrong = |why: &str| ProviderError::Settings(format!("--oidc-issuer {issuer:?}: {why}"));
        let uri: Uri = issuer.parse().map_err(|_| wrong("found no address"))?;
        if place(&uri).is_none() {
            return Err(wrong("expected https://HOST, as the provider calls itself"));
        }
        if uri.query().is_some() || issuer.contains('#') {
            return Err(wrong("expected an address without `?` and `#`"));
        }
        Ok(Self {
            http: Http::new(settings.ca_file.as_deref())?,
            cache: Mutex::default(),
        })
    }

    /// What it says of itself.
    pub(super) async fn description(
        &self,
        settings: &Settings,
    ) -> Result<Description, ProviderError> {
        let mut cache = self.cache.lock().await;
        if let Some((known, at)) = &cache.description
            && since_boot().saturating_sub(*at) < KEPT
        {
            return Ok(known.clone());
        }
        let url = format!("{}{DESCRIPTION}", settings.issuer.trim_end_matches('/'));
        let description: Description = self.http.get(&url).await?;
        description.check(settings, &url)?;
        cache.description = Some((description.clone(), since_boot()));
        Ok(description)
    }

    /// Its keys, with `again` those that it has now. Tokens come from the provider itself, so that nobody else makes the hub ask.
    async fn keys(&self, url: &str, again: bool) -> Result<Vec<Jwk>, ProviderError> {
        let mut cache = self.cache.lock().await;
        if let Some((keys, at)) = &cache.keys
            && !again
            && since_boot().saturating_sub(*at) < KEPT
        {
            return Ok(keys.clone());
        }
        let set: KeySet = self.http.get(url).await?;
        // One that cannot be read is of a kind that is not believed anyway.
        let keys = set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok());
        let keys: Vec<Jwk> = keys.collect();
        cache.keys = Some((keys.clone(), since_boot()));
        Ok(keys)
    }

    /// Who a code stands for.
    pub(super) async fn exchange(
        &self,
        settings: &Settings,
        exchange: &Exchange<'_>,
    ) -> Result<Person, ProviderError> {
        let description = self.description(settings).await?;
        let url = &description.token_endpoint;
        let (form, authorization) = description.asked(settings, exchange)?;
        let tokens: Tokens = self.http.post(url, form, authorization).await?;
        let id_token = tokens.id_token.ok_or_else(|| ProviderError::Unusable {
            url: url.clone(),
            reason: "it has no id_token: let --oidc-scopes contain openid".to_owned(),
        })?;
        let expected = Expected {
            issuer: &settings.issuer,
            client_id: &settings.client_id,
            nonce: exchange.nonce,
            access_token: &tokens.access_token,
            begun: exchange.begun,
            now: exchange.now,
            name_claim: &settings.name_claim,
            groups_claim: &settings.groups_claim,
        };
        let keys = self.keys(&description.jwks_uri, false).await?;
        match id_token::believe(&id_token, &keys, &expected) {
            // It may have a new key since.
            Err(Disbelief::UnknownKey(_)) => {
                let keys = self.keys(&description.jwks_uri, true).await?;
                Ok(id_token::believe(&id_token, &keys, &expected)?)
            }
            judged => Ok(judged?),
        }
    }
}

impl Description {
    fn check(&self, settings: &Settings, url: &str) -> Result<(), ProviderError> {
        let unusable = |reason: String| {
            Err(ProviderError::Unusable {
                url: url.to_owned(),
                reason,
            })
        };
        if self.issuer != settings.issuer {
            return unusable(format!(
                "found the issuer {:?}, expected {:?}: give --oidc-issuer as the provider calls itself, to the letter",
                self.issuer, settings.issuer
            ));
        }
        for endpoint in [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.jwks_uri,
        ] {
            if endpoint.parse().ok().and_then(|uri| place(&uri)).is_none() {
                return unusable(format!(
                    "found the address {endpoint:?}, expected one that begins with https://"
                ));
            }
        }
        let methods = self.code_challenge_methods_supported.as_ref();
        if methods.is_some_and(|methods| !methods.iter().any(|one| one == "S256")) {
            return unusable(format!(
                "found the PKCE methods {methods:?}, expected S256 among them"
            ));
        }
        Ok(())
    }

    /// The form by which a code is exchanged, and the header that proves who exchanges it.
    fn asked(
        &self,
        settings: &Settings,
        exchange: &Exchange<'_>,
    ) -> Result<(String, Option<HeaderValue>), ProviderError> {
        let redirect_uri = settings.redirect_uri();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", exchange.code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", exchange.verifier),
        ];
        let (id, secret) = (&settings.client_id, settings.client_secret.as_ref());
        let offered = self.token_endpoint_auth_methods_supported.as_ref();
        // Left out, it means Basic (OpenID Connect Discovery, section 3).
        let basic =
            offered.is_none_or(|offered| offered.iter().any(|one| one == "client_secret_basic"));
        let mut authorization = None;
        match secret {
            Some(secret) if basic => {
                let both = format!("{}:{}", encoded(id), encoded(secret));
                let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(both)));
                let mut value = value.map_err(|e| ProviderError::Settings(e.to_string()))?;
                value.set_sensitive(true);
                authorization = Some(value);
            }
            Some(secret) => form.extend([
                ("client_id", id.as_str()),
                ("client_secret", secret.as_str()),
            ]),
            None => form.push(("client_id", id)),
        }
        Ok((query(&form), authorization))
    }
}

/// Pairs as a query or a form writes them.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings(secret: Option<&str>) -> Settings {
        Settings {
            issuer: "https://idp.example.com".to_owned(),
            client_id: "hub".to_owned(),
            client_secret: secret.map(|secret| secret.to_owned().into()),
            scopes: vec!["openid".to_owned()],
            name_claim: "email".to_owned(),
            groups_claim: "groups".to_owned(),
            ca_file: None,
            session_life: jiff::SignedDuration::from_hours(8),
            origin: "https://hub.example.com:8443".to_owned(),
        }
    }

    fn described(change: impl FnOnce(&mut Value)) -> Description {
        let mut document = serde_json::json!({
            "issuer": "https://idp.example.com",
            "authorization_endpoint": "https://idp.example.com/auth",
            "token_endpoint": "https://idp.example.com/token",
            "jwks_uri": "https://idp.example.com/keys",
        });
        change(&mut document);
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_provider_that_is_another_or_speaks_in_clear_is_refused() {
        let settings = settings(None);
        let check = |change: fn(&mut Value)| {
            described(change)
                .check(&settings, "u")
                .map_err(|e| e.to_string())
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(
            check(|it| it["code_challenge_methods_supported"] = ["plain", "S256"].into()),
            Ok(())
        );
        for (change, told) in [
            (
                (|it| it["issuer"] = "https://idp.example.com/".into()) as fn(&mut Value),
                "to the letter",
            ),
            (
                |it| it["authorization_endpoint"] = "http://idp.example.com/auth".into(),
                "https://",
            ),
            (
                |it| it["token_endpoint"] = "javascript:1".into(),
                "https://",
            ),
            (
                |it| it["jwks_uri"] = "http://idp.example.com/keys".into(),
                "https://",
            ),
            (
                |it| it["code_challenge_methods_supported"] = ["plain"].into(),
                "S256",
            ),
        ] {
            let error = check(change).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn who_exchanges_a_code_is_said_as_the_provider_wants_it() {
        let exchange = Exchange {
            code: "c&d",
            verifier: "v",
            nonce: "n",
            begun: jiff::Timestamp::UNIX_EPOCH,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let asked = |secret, methods: &[&str]| {
            let methods: Vec<_> = methods.iter().map(|&one| one.to_owned()).collect();
            let methods = (!methods.is_empty()).then_some(methods);
            let known = described(|it| {
                it["token_endpoint_auth_methods_supported"] = serde_json::json!(methods)
            });
            let (form, header) = known.asked(&settings(secret), &exchange).unwrap();
            (
                form,
                header.map(|header| header.to_str().unwrap().to_owned()),
            )
        };
        let (form, header) = asked(None, &[]);
        assert!(
            form.contains("code=c%26d&") && form.ends_with("&client_id=hub"),
            "{form}"
        );
        assert_eq!(header, None);
        let (form, header) = asked(Some("s:t"), &[]);
        assert!(!form.contains("client_"), "{form}");
        assert_eq!(
            header.unwrap(),
            format!("Basic {}", STANDARD.encode("hub:s%3At"))
        );
        let (form, header) = asked(Some("s:t"), &["client_secret_post"]);
        assert!(
            form.ends_with("&client_id=hub&client_secret=s%3At"),
            "{form}"
        );
        assert_eq!(header, None);
    }

    #[test]
    fn an_issuer_that_is_no_address_is_refused_at_the_start() {
        for issuer in ["idp", "http://idp", "https://idp?x", "https://idp#x"] {
            let settings = Settings {
                issuer: issuer.to_owned(),
                ..settings(None)
            };
            let error = Provider::new(&settings).map(drop).unwrap_err().to_string();
            assert!(error.contains("--oidc-issuer"), "{error}");
        }
    }
}
