use super::{Described, Mode, REASONS, Reason, Refusal, Rule, rules};
use crate::arguments::Engine;

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
        command("replconf", &["admin"]),
        command("select", &["fast"]),
        command("exec", &["noscript"]),
        command("newwrite", &["write"]),
        command("crdt.e", &["write"]),
        command("crdt.apply", &["write"]),
        command("migrate", &["write"]),
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
    in_mode(Engine::Crdt, false)
}

fn in_mode(engine: Engine, fence: bool) -> super::Table {
    let mode = Mode { engine, fence };
    rules(mode, &sample(), |command| {
        (command.name == "set" && engine == Engine::Crdt).then_some(7)
    })
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
    assert_eq!(table().get(b"psync"), Some(Rule::Copy));
    assert_eq!(table().get(b"replconf"), Some(Rule::Handshake));
    assert_eq!(table().get(b"select"), Some(Rule::Select));
    assert_eq!(table().get(b"exec"), Some(Rule::Exec));
}

#[test]
fn a_refusal_names_the_command() {
    for (word, reason) in REASONS {
        let reason = *reason;
        let command = "zadd";
        let refusal = Refusal { command, reason };
        assert!(refusal.to_string().contains("'zadd'"));
        assert_eq!(reason.word(), *word);
        assert_eq!(Reason::of_word(word.as_bytes()), reason);
    }
}

#[test]
fn with_a_fence_every_write_needs_a_permission() {
    let table = in_mode(Engine::None, true);
    for name in ["set", "zadd", "pfcount", "newwrite", "crdt.apply"] {
        assert_eq!(table.get(name.as_bytes()), Some(Rule::Write), "{name}");
    }
    assert_eq!(table.get(b"exec"), Some(Rule::Exec));
    assert_eq!(table.get(b"migrate"), Some(Rule::Administrative));
    assert_eq!(table.get(b"crdt.e"), None);
    for name in ["get", "select", "multi"] {
        assert_eq!(table.get(name.as_bytes()), None, "{name}");
    }
    let merged = in_mode(Engine::Crdt, true);
    assert_eq!(merged.get(b"set"), Some(Rule::Twin(7)));
    assert_eq!(merged.get(b"crdt.apply"), Some(Rule::Write));
}

#[test]
fn without_engine_and_fence_only_administration_is_kept_back() {
    let table = in_mode(Engine::None, false);
    for name in ["set", "zadd", "pfcount", "exec", "select", "get", "crdt.e"] {
        assert_eq!(table.get(name.as_bytes()), None, "{name}");
    }
    assert_eq!(table.get(b"monitor"), Some(Rule::Administrative));
    assert_eq!(table.get_sub(b"config", b"set"), Some(Rule::Administrative));
    assert_eq!(table.get(b"psync"), Some(Rule::Copy));
}
