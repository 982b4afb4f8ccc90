use super::{Described, Reason, Refusal, Rule, rules};

fn command(name: &str, flags: &[&str]) -> Described {
    Described {
        name: name.into(),
        arity: -1,
        flags: flags.iter().map(ToString::to_string).collect(),
        subcommands: Vec::new(),
    }
}

fn sample() -> Vec<Described> {
    vec![
        command("get", &["readonly", "fast"]),
        command("set", &["write", "denyoom"]),
        command("zadd", &["write", "denyoom", "fast"]),
        command("pfcount", &["readonly", "may_replicate"]),
        command("monitor", &["admin"]),
        command("psync", &["admin"]),
        command("select", &["fast"]),
        command("exec", &["noscript"]),
        command("newwrite", &["write"]),
        command("crdt.e", &["write"]),
        Described {
            subcommands: vec![
                command("config|set", &["admin"]),
                command("config|help", &[]),
            ],
            ..command("config", &[])
        },
        Described {
            subcommands: vec![command("client|list", &["admin"])],
            ..command("client", &[])
        },
    ]
}

fn table() -> super::Table {
    rules(&sample(), |command| (command.name == "set").then_some(7))
}

#[test]
fn reads_and_own_commands_have_no_rule() {
    assert_eq!(table().get(b"get"), None);
    assert_eq!(table().get(b"crdt.e"), None);
    assert_eq!(table().get(b"no such command"), None);
}

#[test]
fn a_write_is_renamed_if_it_has_a_twin_and_refused_otherwise() {
    assert_eq!(table().get(b"SeT"), Some(Rule::Twin(7)));
    assert_eq!(
        table().get(b"ZADD"),
        Some(Rule::Refused(Reason::Unsupported))
    );
    assert_eq!(
        table().get(b"newwrite"),
        Some(Rule::Refused(Reason::Unsupported))
    );
    assert_eq!(
        table().get(b"pfcount"),
        Some(Rule::Refused(Reason::Unsupported))
    );
}

#[test]
fn subcommands_are_judged_one_by_one() {
    assert_eq!(table().get(b"CONFIG"), Some(Rule::Container));
    assert_eq!(
        table().get_sub(b"Config", b"SET"),
        Some(Rule::Administrative)
    );
    assert_eq!(table().get_sub(b"config", b"help"), None);
    assert_eq!(table().get(b"client"), None);
}

#[test]
fn administrative_commands_and_the_handshake_of_a_replica_differ() {
    assert_eq!(table().get(b"monitor"), Some(Rule::Administrative));
    assert_eq!(table().get(b"psync"), Some(Rule::Handshake));
    assert_eq!(table().get(b"select"), Some(Rule::Select));
    assert_eq!(table().get(b"exec"), Some(Rule::Exec));
}

#[test]
fn a_refusal_names_the_command() {
    for reason in [
        Reason::Unsupported,
        Reason::Administrative,
        Reason::Database,
        Reason::Slot,
    ] {
        assert!(
            Refusal {
                command: "zadd",
                reason
            }
            .to_string()
            .contains("'zadd'")
        );
        assert_eq!(Reason::of_word(reason.word().as_bytes()), reason);
    }
}
