//! Who may replicate with whom.

use serde_json::Value;

use crate::group::{Group, node};

#[tokio::test]
async fn a_region_of_another_authority_is_refused() {
    let mut group = Group::prepare(2);
    let foreign = group.path("foreign");
    assert!(
        node(&["certs", "--regions", "2", "--dir", &foreign])
            .status
            .success()
    );
    let right = group.path("right");
    std::fs::create_dir(&right).unwrap();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        std::fs::copy(
            group.path(&format!("certs/region-2/{name}")),
            format!("{right}/{name}"),
        )
        .unwrap();
    }
    group.launch(1, |_| {});
    replace_certificates(&group, 2, &format!("{foreign}/region-2"));
    group.launch(2, |_| {});
    refused_for(&group, &["not signed by the authority"]).await;
    nothing_passes(&group).await;
    right_certificates_mend_it(&group, &right).await;
}

#[tokio::test]
async fn a_region_with_the_right_authority_but_anothers_identity_is_refused() {
    let mut group = Group::prepare(2);
    let spare = group.path("spare");
    assert!(
        node(&["certs", "--regions", "3", "--dir", &spare])
            .status
            .success()
    );
    for id in [1, 2] {
        replace_certificates(&group, id, &format!("{spare}/region-{id}"));
    }
    replace_certificates(&group, 2, &format!("{spare}/region-3"));
    group.launch(1, |_| {});
    group.launch(2, |_| {});
    // Region 1 dials and finds region 3 where region 2 should be.
    refused_for(&group, &["region/3", "region/2"]).await;
    // Region 2 dials with the certificate of region 3 and is not let in.
    group
        .region(2)
        .link(1, "down", |link| link["state"] == "down")
        .await;
    nothing_passes(&group).await;
    right_certificates_mend_it(&group, &format!("{spare}/region-2")).await;
}

#[tokio::test]
async fn plain_text_is_loud_and_works() {
    let mut group = Group::prepare(2);
    for id in [1, 2] {
        let plain = plain_text(&group.command(id));
        group.launch(id, |command| *command = plain);
    }
    group.region(1).links_up().await;
    let _: i64 = group.region(1).ask(&["INCR", "counter"]).await.unwrap();
    group
        .region(2)
        .replies(&["GET", "counter"], "1".to_owned())
        .await;
    let warning = group.region(1).sync(&["status"]).unwrap()["warning"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        warning.contains("--insecure") && warning.contains("plain text"),
        "{warning}"
    );
    let log = std::fs::read_to_string(group.path("r1.log")).unwrap();
    assert!(log.contains("WARNING: --insecure"), "{log}");
}

/// Region 1 does not pull from region 2, and its status says why. (At first it may only say that nobody listens yet.)
async fn refused_for(group: &Group, words: &[&str]) {
    let says = |link: &Value| {
        let reason = link["lastError"].as_str().unwrap_or_default();
        link["state"] == "down" && words.iter().all(|word| reason.contains(word))
    };
    group
        .region(1)
        .link(2, &format!("is down for {words:?}"), says)
        .await;
}

/// The command without its certificates.
fn plain_text(command: &std::process::Command) -> std::process::Command {
    let mut plain = std::process::Command::new(command.get_program());
    let mut args = command.get_args();
    while let Some(arg) = args.next() {
        if arg == "--certs" {
            args.next();
            plain.arg("--insecure");
        } else {
            plain.arg(arg);
        }
    }
    plain
}

fn replace_certificates(group: &Group, id: u32, from: &str) {
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        std::fs::copy(
            format!("{from}/{name}"),
            group.path(&format!("certs/region-{id}/{name}")),
        )
        .unwrap();
    }
}

/// Writes on both sides stay where they are.
async fn nothing_passes(group: &Group) {
    for id in [1, 2] {
        let _: i64 = group
            .region(id)
            .ask(&["SADD", "set", &format!("from-{id}")])
            .await
            .unwrap();
    }
    for (id, other) in [(1, 2), (2, 1)] {
        group
            .region(id)
            .link(other, "down", |link| {
                link["state"] == "down" && link["effects"] == 0
            })
            .await;
        group
            .region(id)
            .replies(&["SMEMBERS", "set"], vec![format!("from-{id}")])
            .await;
    }
}

/// With the right certificates everything passes, without a restart: nothing else kept the regions apart.
async fn right_certificates_mend_it(group: &Group, right: &str) {
    replace_certificates(group, 2, right);
    for id in [1, 2] {
        group.region(id).links_up().await;
        group.region(id).replies(&["SCARD", "set"], 2_i64).await;
    }
}
