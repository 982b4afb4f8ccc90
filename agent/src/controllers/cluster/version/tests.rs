use super::*;

const IMAGE: &str = "local:5000/node:0.2.0-3";

fn tag(tag: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        version_tag: Some(tag.to_owned()),
        ..ImageSpec::default()
    })
}

fn running(image: &str) -> Option<Running> {
    Some(Running {
        image: image.to_owned(),
        release: None,
    })
}

/// What the choice says in one word, and the image.
fn word(spec: Option<ImageSpec>, follow: bool, running: Option<Running>) -> (&'static str, String) {
    let own = Own::new(IMAGE, "9.9.9");
    match choose(spec.as_ref(), follow, running.as_ref(), &own) {
        Ok(choice) if choice.suspended.is_some() => ("suspended", choice.image),
        Ok(choice) => ("runs", choice.image),
        Err(refused) => (refused.reason(), String::new()),
    }
}

/// What is asked for | tag | follows the agent | running image | word | chosen image. The agent's own is [`IMAGE`].
const TABLE: &str = "
    a first cluster gets the agent's image           |         | no  |                       | runs           | own:0.2.0-3
    a first cluster may name another build           | 0.2.0-1 | no  |                       | runs           | own:0.2.0-1
    but no other release                             | 0.1.0   | no  |                       | UnknownVersion |
    and nothing that is no version                   | latest  | no  |                       | UnknownVersion |
    without a tag what runs stays                    |         | no  | x/node:0.2.0-1        | runs           | x/node:0.2.0-1
    a tag that runs stays where it came from         | 0.2.0-1 | no  | x/node:0.2.0-1        | runs           | x/node:0.2.0-1
    a higher build is an upgrade                     | 0.2.0-4 | no  | x/node:0.2.0-1        | runs           | own:0.2.0-4
    a lower build is none                            | 0.2.0-1 | no  | x/node:0.2.0-2        | Downgrade      |
    an older release stays and is not changed        |         | no  | x/node:0.1.0          | suspended      | x/node:0.1.0
    also if its tag is written out                   | 0.1.0   | no  | x/node:0.1.0          | suspended      | x/node:0.1.0
    until its version is raised                      | 0.2.0   | no  | x/node:0.1.0          | runs           | own:0.2.0
    or follows the agent's                           |         | yes | x/node:0.1.0          | runs           | own:0.2.0-3
    another build of an older release is not known   | 0.1.0-9 | no  | x/node:0.1.0          | UnknownVersion |
    a lower release is a downgrade                   | 0.1.0   | no  | x/node:0.2.0          | Downgrade      |
    a release above the agent's is not known         | 0.3.0   | no  | x/node:0.2.0          | UnknownVersion |
    a cluster above the agent waits for it           |         | no  | x/node:0.3.0          | suspended      | x/node:0.3.0
    and never goes back with the agent               |         | yes | x/node:0.3.0          | Downgrade      |";

#[test]
fn the_table_of_ways_from_what_runs_to_what_is_asked_for() {
    for row in TABLE.lines().skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let named = Some(cells[1]).filter(|tag| !tag.is_empty()).and_then(tag);
        let now = Some(cells[3])
            .filter(|image| !image.is_empty())
            .and_then(running);
        let (found, image) = word(named, cells[2] == "yes", now);
        let image = image.replace("local:5000/node", "own");
        assert_eq!([found, image.as_str()], cells[4..6], "{row}");
    }
}

#[test]
fn a_tag_that_is_no_version_is_known_as_the_agents_own_only() {
    let own = Own::new("localhost/node:dev", "0.2.0");
    let first = choose(None, false, None, &own).unwrap();
    assert_eq!(
        (first.image.as_str(), first.release.as_str()),
        ("localhost/node:dev", "0.2.0")
    );
    let named = choose(tag("dev").as_ref(), false, None, &own).unwrap();
    assert_eq!(named.image, "localhost/node:dev");
    // The release that is written on the template tells what such an image is.
    let before = Running {
        image: "localhost/node:dev".to_owned(),
        release: Some("0.1.0".to_owned()),
    };
    let kept = choose(None, false, Some(&before), &own).unwrap();
    assert!(kept.suspended.is_some(), "{kept:?}");
}

#[test]
fn a_digest_counts_as_the_agents_release_and_another_repository_keeps_the_tag() {
    let own = Own::new(IMAGE, "0");
    let digest = ImageSpec {
        digest_hash: Some("sha256:abc".to_owned()),
        ..ImageSpec::default()
    };
    let chosen = choose(Some(&digest), false, None, &own).unwrap();
    assert_eq!(chosen.image, "local:5000/node@sha256:abc");
    let mirror = ImageSpec {
        repository: Some("mirror/node".to_owned()),
        ..ImageSpec::default()
    };
    let chosen = choose(
        Some(&mirror),
        false,
        running("x/node:0.2.0-1").as_ref(),
        &own,
    )
    .unwrap();
    assert_eq!(chosen.image, "mirror/node:0.2.0-1");
}

#[test]
fn versions_are_read_strictly() {
    for text in [
        "", "1", "1.2", "1.2.x", "1.2.3.4", "1.2.3-", "1.2.3-a", "dev",
    ] {
        assert_eq!(Version::parse(text), None, "{text}");
    }
    assert_eq!(Version::parse("v1.2.3-4").unwrap().to_string(), "1.2.3-4");
}
