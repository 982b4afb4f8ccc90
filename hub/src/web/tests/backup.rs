//! The backup of a hub that runs.

use meridian_api::backup::{CONTENT_TYPE, Decoder};

use super::*;
use crate::store::Store as _;

#[tokio::test]
async fn a_backup_holds_every_record_of_one_revision_and_names_where_it_comes_from() {
    let web = Web::with_members().await;
    for n in 0..50 {
        let txn = crate::store::Txn::new().put(format!("/outcome/{n}"), vec![7; 5_000]);
        web.hub.app.commit(txn).await.unwrap();
    }
    let path = "/api/v1/hub/backup";
    let answer = web.ask("GET", path, Some(&web.token), None).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
    let bytes = bytes.unwrap();
    let mut decoder = Decoder::default();
    let mut records = Vec::new();
    let read = decoder.read(&bytes, |record| records.push((record.key, record.value)));
    read.unwrap();
    let header = decoder.end().unwrap().header;
    let now = web.hub.store.list(vec!["/".to_owned()]).await.unwrap();
    let expected = now.value.into_iter().flatten();
    let expected: Vec<_> = expected.map(|it| (it.key, it.value.to_vec())).collect();
    assert!(records == expected, "{} records", records.len());
    let reign = web.hub.app.reign();
    assert_eq!(
        (header.store_id, header.term, header.revision),
        (reign.store_id, reign.term, now.revision)
    );
    assert_eq!(header.authority, web.hub.app.ca().fingerprint());
}
