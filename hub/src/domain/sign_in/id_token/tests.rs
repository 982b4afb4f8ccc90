use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use jsonwebtoken::{EncodingKey, Header as TokenHeader, encode};
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;
const ACCESS: &str = "access-token";

struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: &'static str,
    /// Where the library cannot tell it of the private key.
    public: Option<Jwk>,
}

impl Signer {
    fn ec(kid: &'static str) -> Self {
        let made = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = made.to_pkcs8v1().unwrap();
        Self {
            key: EncodingKey::from_ec_der(der.as_ref()),
            algorithm: Algorithm::ES256,
            kid,
            public: None,
        }
    }

    fn ed() -> Self {
        let made = Ed25519KeyPair::generate().unwrap();
        let der = made.to_pkcs8().unwrap();
        Self {
            key: EncodingKey::from_ed_der(der.as_ref()),
            algorithm: Algorithm::EdDSA,
            kid: "ed",
            public: serde_json::from_value(json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "alg": "EdDSA",
                "x": URL_SAFE_NO_PAD.encode(made.public_key()),
            }))
            .unwrap(),
        }
    }

    fn rsa(algorithm: Algorithm) -> Self {
        let made = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = made.as_der().unwrap();
        let der: &[u8] = der.as_ref();
        // The library takes the key itself, without its PKCS#8 envelope.
        let inner = rsa_private_key(der);
        Self {
            key: EncodingKey::from_rsa_der(inner),
            algorithm,
            kid: "rsa",
            public: None,
        }
    }

    fn public(&self) -> Jwk {
        let known = self.public.clone();
        let mut key =
            known.unwrap_or_else(|| Jwk::from_encoding_key(&self.key, self.algorithm).unwrap());
        key.common.key_id = Some(self.kid.to_owned());
        key
    }

    fn hash(&self) -> &'static digest::Algorithm {
        let known = BELIEVED.iter().find(|one| one.algorithm == self.algorithm);
        known.unwrap().hash
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = TokenHeader::new(self.algorithm);
        header.kid = Some(self.kid.to_owned());
        encode(&header, claims, &self.key).unwrap()
    }
}

/// The octets of a PKCS#8 envelope (RFC 5208): what stands in its last field.
fn rsa_private_key(pkcs8: &[u8]) -> &[u8] {
    // SEQUENCE, INTEGER 0, AlgorithmIdentifier, OCTET STRING: all three lengths are of two bytes for a key of 2,048 bits.
    &pkcs8[26..]
}

fn claims() -> Value {
    json!({
        "iss": "https://idp.example.com",
        "sub": "248289761001",
        "aud": "hub",
        "exp": NOW + 300,
        "iat": NOW,
        "nonce": "n-1",
        "email": "ann@example.com",
        "groups": ["ops", "shop"],
    })
}

fn expected() -> Expected<'static> {
    Expected {
        issuer: "https://idp.example.com",
        client_id: "hub",
        nonce: "n-1",
        access_token: ACCESS,
        begun: Timestamp::from_second(NOW - 20).unwrap(),
        now: Timestamp::from_second(NOW).unwrap(),
        name_claim: "email",
        groups_claim: "groups",
    }
}

fn judged(signer: &Signer, claims: &Value) -> Result<Person, Disbelief> {
    believe(&signer.sign(claims), &[signer.public()], &expected())
}

#[test]
fn a_good_token_says_who_somebody_is() {
    for signer in [
        Signer::ec("1"),
        Signer::ed(),
        Signer::rsa(Algorithm::RS256),
        Signer::rsa(Algorithm::PS384),
    ] {
        let hash = half_hash(signer.hash(), ACCESS);
        let mut claims = claims();
        claims["at_hash"] = hash.into();
        let person = judged(&signer, &claims).unwrap();
        assert_eq!(
            (person.subject.as_str(), person.name.as_str()),
            ("248289761001", "ann@example.com")
        );
        assert_eq!(person.identity(), "https://idp.example.com 248289761001");
        assert_eq!(person.groups, ["ops".to_owned(), "shop".to_owned()].into());
    }
    let signer = Signer::ec("1");
    let mut bare = claims();
    bare["email"] = Value::Null;
    bare["groups"] = "ops".into();
    let person = judged(&signer, &bare).unwrap();
    assert_eq!(
        (person.name.as_str(), person.groups_found().as_str()),
        ("248289761001", "the groups ops")
    );
    bare["groups"] = json!({ "ops": true });
    assert_eq!(
        judged(&signer, &bare).unwrap().groups_found(),
        "no groups at all"
    );
    // The worked example of OpenID Connect Core, appendix A.3.
    let told = half_hash(&SHA256, "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
    assert_eq!(told, "77QmUPtjPfzWtF2AnpK9RQ");
}

#[test]
fn every_wrong_claim_is_refused_by_its_name() {
    let signer = Signer::ec("1");
    let late = NOW + LEEWAY + 1;
    for (claim, value, told) in [
        ("iss", json!("https://evil.example.com"), "claim `iss`"),
        ("iss", json!("https://idp.example.com/"), "to the letter"),
        ("aud", json!("other"), "claim `aud`"),
        ("aud", json!(["other", "third"]), "claim `aud`"),
        ("aud", json!([]), "claim `aud`"),
        ("aud", json!(["hub", "other"]), "claim `azp`"),
        ("azp", json!("other"), "claim `azp`"),
        ("exp", json!(NOW - LEEWAY), "claim `exp`"),
        ("nbf", json!(late), "claim `nbf`"),
        ("iat", json!(late), "claim `iat`"),
        ("iat", json!(NOW - 20 - LEEWAY - 1), "when the login began"),
        ("nonce", json!("n-2"), "that of another login"),
        (
            "nonce",
            Value::Null,
            "claim `nonce` of the ID token: found none",
        ),
        (
            "at_hash",
            json!("77QmUPtjPfzWtF2AnpK9RQ"),
            "claim `at_hash`",
        ),
        ("sub", json!(""), "claim `sub`"),
        ("sub", json!("s".repeat(256)), "claim `sub`"),
        ("sub", Value::Null, "not those of an ID token"),
        ("exp", json!("tomorrow"), "not those of an ID token"),
        ("iat", Value::Null, "not those of an ID token"),
    ] {
        let mut claims = claims();
        claims[claim] = value.clone();
        let why = judged(&signer, &claims).unwrap_err().to_string();
        assert!(why.contains(told), "{claim} {value}: {why}");
        assert!(
            !why.contains("n-1") && !why.contains("n-2"),
            "the nonce is shown: {why}"
        );
    }
    let mut both = claims();
    (both["aud"], both["azp"]) = (json!(["hub", "other"]), json!("hub"));
    assert!(judged(&signer, &both).is_ok());
}

/// A token whose header says something else than what it was signed by.
fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[test]
fn algorithms_without_a_key_of_the_provider_are_refused() {
    let signer = Signer::ec("1");
    let token = signer.sign(&claims());
    for algorithm in [
        "none", "None", "NONE", "HS256", "HS384", "HS512", "ES256K", "dir", "",
    ] {
        let changed = with_header(&token, &json!({ "alg": algorithm, "kid": "1" }));
        let why = believe(&changed, &[signer.public()], &expected()).unwrap_err();
        assert_eq!(
            why,
            Disbelief::Algorithm {
                found: algorithm.to_owned()
            }
        );
        assert!(why.to_string().contains("asymmetric"), "{why}");
    }
    // Signed by what everybody knows: the public key as a shared secret (RFC 8725, section 2.1).
    let public = serde_json::to_vec(&signer.public()).unwrap();
    let mut header = TokenHeader::new(Algorithm::HS256);
    header.kid = Some("1".to_owned());
    let forged = encode(&header, &claims(), &EncodingKey::from_secret(&public)).unwrap();
    let why = believe(&forged, &[signer.public()], &expected()).unwrap_err();
    assert_eq!(why.word(), "token-algorithm");
    // A shared secret among the keys is no key.
    let secret: Jwk =
        serde_json::from_value(json!({ "kty": "oct", "kid": "1", "k": "c2VjcmV0" })).unwrap();
    assert_eq!(
        believe(&token, &[secret], &expected()).unwrap_err().word(),
        "token-key"
    );
}

#[test]
fn a_signature_of_anybody_else_is_refused() {
    let (signer, other) = (Signer::ec("1"), Signer::ec("1"));
    let token = signer.sign(&claims());
    let refused = |token: &str, keys: &[Jwk]| believe(token, keys, &expected()).unwrap_err();
    assert_eq!(refused(&token, &[other.public()]), Disbelief::Signature);
    let (front, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = front.split_once('.').unwrap();
    let mut changed = claims();
    changed["sub"] = "admin".into();
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    let keys = [signer.public()];
    assert_eq!(
        refused(&format!("{header}.{changed}.{signature}"), &keys),
        Disbelief::Signature
    );
    assert_eq!(
        refused(&format!("{header}.{payload}."), &keys),
        Disbelief::Signature
    );
    // ES384 by a key for ES256.
    let relabelled = with_header(&token, &json!({ "alg": "ES384", "kid": "1" }));
    assert!(matches!(
        refused(&relabelled, &keys),
        Disbelief::Signature | Disbelief::UnknownKey(_)
    ));
}

#[test]
fn the_key_that_is_named_counts_and_only_for_what_it_is() {
    let (first, second) = (Signer::ec("1"), Signer::ec("2"));
    let token = second.sign(&claims());
    let keys = [first.public(), second.public()];
    assert!(believe(&token, &keys, &expected()).is_ok());
    let unknown = believe(&token, &keys[..1], &expected());
    assert_eq!(unknown, Err(Disbelief::UnknownKey("2".to_owned())));
    let mut sealing = second.public();
    sealing.common.public_key_use = Some(PublicKeyUse::Encryption);
    let why = believe(&token, &[sealing], &expected());
    assert_eq!(why.unwrap_err().word(), "token-key");
    // Without a name every key that may be it is tried.
    let mut header = TokenHeader::new(Algorithm::ES256);
    header.kid = None;
    let nameless = encode(&header, &claims(), &second.key).unwrap();
    assert!(believe(&nameless, &keys, &expected()).is_ok());
    assert_eq!(
        believe(&nameless, &keys[..1], &expected()),
        Err(Disbelief::Signature)
    );
}

#[test]
fn what_is_no_token_is_refused() {
    let signer = Signer::ec("1");
    let token = signer.sign(&claims());
    let critical = with_header(
        &token,
        &json!({ "alg": "ES256", "kid": "1", "crit": ["b64"], "b64": false }),
    );
    for text in ["", "a.b", "a.b.c.d", "!.!.!", "e30.e30.e30", &critical] {
        let why = believe(text, &[signer.public()], &expected()).unwrap_err();
        assert_eq!(why.word(), "token-unreadable", "{text}: {why}");
    }
}

#[test]
fn names_and_groups_are_bounded() {
    let signer = Signer::ec("1");
    let mut claims = claims();
    claims["email"] = format!("a\u{1b}[31m\n{}", "ä".repeat(400)).into();
    claims["groups"] = json!(vec!["g".repeat(300), "ok".to_owned(), String::new()]);
    let person = judged(&signer, &claims).unwrap();
    assert!(person.name.len() <= NAME && !person.name.contains(char::is_control));
    assert_eq!(person.groups, ["ok".to_owned()].into());
}
