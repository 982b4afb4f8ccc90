use proptest::prelude::*;

use super::*;

const UID: &str = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";

#[test]
fn agents_and_recs_have_the_agreed_spelling() {
    let cluster: ClusterUid = UID.parse().unwrap();
    let agent = SpiffeId::agent(TrustDomain::default(), cluster);
    assert_eq!(
        agent.to_string(),
        format!("spiffe://meridian.local/cluster/{UID}")
    );
    let peer = SpiffeId::peer(
        TrustDomain::default(),
        cluster,
        RecName::new("prod", "rec-1").unwrap(),
    );
    assert_eq!(
        peer.to_string(),
        format!("spiffe://meridian.local/cluster/{UID}/rec/prod/rec-1")
    );
    assert_eq!(peer.to_string().parse(), Ok(peer));
    assert_eq!(agent.to_string().parse(), Ok(agent));
}

#[test]
fn anything_but_an_exact_identity_is_refused() {
    for wrong in [
        String::new(),
        format!("http://meridian.local/cluster/{UID}"),
        format!("spiffe:///cluster/{UID}"),
        format!("spiffe://Meridian.local/cluster/{UID}"),
        format!("spiffe://meridian.local:8443/cluster/{UID}"),
        format!("spiffe://meridian.local/cluster/{UID}/"),
        format!("spiffe://meridian.local/cluster/{}", UID.to_uppercase()),
        format!("spiffe://meridian.local/cluster/{UID}/rec/prod"),
        format!("spiffe://meridian.local/cluster/{UID}/rec/prod/"),
        format!("spiffe://meridian.local/cluster/{UID}/rec/prod/../x"),
        format!("spiffe://meridian.local/cluster/{UID}/rec/prod/rec/more"),
        format!("spiffe://meridian.local/cluster/{UID}/rec/a.b/rec"),
        format!("spiffe://meridian.local/cluster/{UID}?x=1"),
        "spiffe://meridian.local/cluster/00000000-0000-0000-0000-000000000000".to_owned(),
    ] {
        assert!(wrong.parse::<SpiffeId>().is_err(), "{wrong} was taken");
    }
}

#[test]
fn a_name_cannot_smuggle_segments_in() {
    assert!(RecName::new("prod", "a/rec/other/b").is_err());
    assert!(RecName::new("prod/x", "a").is_err());
    assert!(RecName::new("", "a").is_err());
}

#[test]
fn a_long_text_is_shortened_in_the_error() {
    let error = "ä"
        .repeat(100_000)
        .parse::<SpiffeId>()
        .unwrap_err()
        .to_string();
    assert!(error.len() < 1_000, "{}", error.len());
}

proptest! {
    #[test]
    fn parsing_never_panics_and_has_one_spelling(text in "(spiffe://)?[a-zA-Z0-9/.:%-]{0,120}") {
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
