use super::*;

const TEXT: &str = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";

#[test]
fn uuid_identifiers_have_one_text_form() {
    let id: ClusterUid = TEXT.parse().unwrap();
    assert_eq!(id.to_string(), TEXT);
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{TEXT}\""));
    assert_eq!(
        serde_json::from_str::<ClusterUid>(&format!("\"{TEXT}\"")).unwrap(),
        id
    );
    for wrong in [
        "",
        "6f0c2a523b5e4a3e9d570d9a3c1f1e11",
        "{6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11}",
        "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e1g",
    ] {
        assert!(
            matches!(wrong.parse::<ClusterUid>(), Err(IdError::NotUuid { .. })),
            "{wrong:?} was taken"
        );
    }
}

#[test]
fn the_nil_uuid_names_nothing() {
    assert_eq!(
        "00000000-0000-0000-0000-000000000000".parse::<ObjectId>(),
        Err(IdError::Nil { what: "ObjectId" })
    );
}

#[test]
fn errors_name_the_identifier_and_what_was_found() {
    let error = "eu-1".parse::<StoreId>().unwrap_err().to_string();
    assert!(
        error.contains("StoreId") && error.contains("\"eu-1\"") && error.contains("expected"),
        "{error}"
    );
    let error = "-1".parse::<PlanNumber>().unwrap_err().to_string();
    assert!(
        error.contains("PlanNumber") && error.contains("\"-1\""),
        "{error}"
    );
}

#[test]
fn an_incarnation_survives_json_with_all_its_bits() {
    let incarnation = Incarnation(u64::MAX - 1);
    let json = serde_json::to_string(&incarnation).unwrap();
    assert_eq!(json, "\"fffffffffffffffe\"");
    assert_eq!(
        serde_json::from_str::<Incarnation>(&json).unwrap(),
        incarnation
    );
}

#[test]
fn counters_end_instead_of_wrapping() {
    assert_eq!(Revision(7).next(), Some(Revision(8)));
    assert_eq!(Term(u64::MAX).next(), None);
}
