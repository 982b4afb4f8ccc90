//! The text of a shard's `valkey.conf` and ACL file. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use meridian_api::access::{DEFAULT_USER_RULES, User};

use crate::desired::{DesiredShard, Engine, Password, Persistence, Role};
use crate::layout::ShardLayout;
use crate::secret::{INTERNAL_USER, REPLICATION_USER, sha256_hex};

/// What a configuration names besides the shard itself.
#[derive(Clone, Copy, Debug)]
pub struct ShardFiles<'a> {
    /// The shard's own files.
    pub layout: &'a ShardLayout,
    /// The module for Active-Active shards.
    pub module: &'a Path,
    /// `true`: Valkey logs into a file of the shard; `false`: to the output of the node.
    pub log_to_file: bool,
    /// With which replicas log in at their primary; `None`: nobody can.
    pub replication_password: Option<&'a str>,
}

/// `true` if the shard cannot be started without the module.
#[must_use]
pub fn needs_module(shard: &DesiredShard) -> bool {
    shard.engine == Engine::ActiveActive || shard.replication.is_some()
}

/// The content of `valkey.conf`.
#[must_use]
pub fn render_config(shard: &DesiredShard, files: &ShardFiles<'_>) -> String {
    let mut text = String::from("# Written at every start; edits are lost.\n");
    let mut line = |words: &[&str]| {
        for (index, word) in words.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{separator}{}", quoted(word));
        }
        text.push('\n');
    };
    let path = |path: &Path| path.to_string_lossy().into_owned();
    line(&["bind", &shard.bind]);
    line(&["port", &shard.plain_port().to_string()]);
    line(&["unixsocket", &path(&files.layout.socket)]);
    line(&["unixsocketperm", "700"]);
    line(&["dir", &path(&files.layout.directory)]);
    line(&["aclfile", &path(&files.layout.acl())]);
    line(&[
        "protected-mode",
        if protected(shard) { "yes" } else { "no" },
    ]);
    line(&["databases", "1"]);
    line(&["daemonize", "no"]);
    line(&["loglevel", "notice"]);
    line(&[
        "logfile",
        &if files.log_to_file {
            path(&files.layout.log())
        } else {
            String::new()
        },
    ]);
    line(&["enable-debug-command", "no"]);
    line(&["enable-module-command", "no"]);
    line(&["enable-protected-configs", "no"]);
    for (name, value) in managed(shard) {
        line(&[name, &value]);
    }
    line(&["aof-use-rdb-preamble", "yes"]);
    line(&["aof-load-truncated", "yes"]);
    if shard.engine == Engine::ActiveActive {
        line(&["import-mode", "yes"]);
    }
    if needs_module(shard) {
        let library = path(files.module);
        let mut words = vec!["loadmodule", &library, "internal-user", INTERNAL_USER];
        if shard.engine == Engine::Plain {
            words.extend(["engine", "none"]);
        }
        if shard.replication.is_some() {
            words.extend(["fence", "on", "replication-user", REPLICATION_USER]);
        }
        line(&words);
    }
    if let Some(replication) = &shard.replication {
        // By this name the primary tells its replicas apart.
        line(&["replica-announce-ip", &replication.me]);
        line(&["repl-diskless-sync-delay", "0"]);
        line(&["repl-ping-replica-period", "1"]);
        line(&["repl-timeout", REPLICATION_TIMEOUT_S]);
        line(&["primaryuser", REPLICATION_USER]);
        if let Some(password) = files.replication_password {
            line(&["primaryauth", password]);
        }
    }
    if let Role::Replica { host } = &shard.role {
        let (host, port) = shard.followed_at_start(host);
        line(&["replicaof", &host, &port.to_string()]);
    }
    text
}

/// A primary, or a replica, that has been silent for this long counts as gone, seconds.
const REPLICATION_TIMEOUT_S: &str = "5";

/// The settings that may change while a shard runs, in the form of `valkey.conf`, `CONFIG SET` and `CONFIG GET` alike.
#[must_use]
pub(crate) fn managed(shard: &DesiredShard) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("maxmemory", shard.max_memory_bytes.to_string()),
        ("maxmemory-policy", shard.eviction_policy.clone()),
    ];
    settings.extend(persistence(shard.persistence));
    settings
}

fn persistence(persistence: Persistence) -> Vec<(&'static str, String)> {
    let (appendfsync, save) = match persistence {
        Persistence::Disabled | Persistence::AofEverySecond => ("everysec", String::new()),
        Persistence::AofAlways => ("always", String::new()),
        Persistence::SnapshotEveryHours(hours) => {
            ("everysec", format!("{} 1", u32::from(hours) * 3600))
        }
    };
    let appendonly = if persistence.appends() { "yes" } else { "no" };
    vec![
        ("appendfsync", appendfsync.to_owned()),
        ("save", save),
        ("appendonly", appendonly.to_owned()),
        // Whoever keeps nothing on disk is saved all the same when it is stopped in order, for the next start alone.
        (
            "shutdown-on-sigterm",
            match persistence {
                Persistence::Disabled => "save",
                Persistence::AofEverySecond
                | Persistence::AofAlways
                | Persistence::SnapshotEveryHours(_) => "default",
            }
            .to_owned(),
        ),
    ]
}

/// Writes that the module carries out in the place of the server's own (`crdt.` before the name): an access list that names one of
/// them means both.
const TWINS: &[&str] = &[
    "append",
    "decr",
    "decrby",
    "del",
    "getdel",
    "getset",
    "hdel",
    "hincrby",
    "hincrbyfloat",
    "hmset",
    "hset",
    "hsetnx",
    "incr",
    "incrby",
    "incrbyfloat",
    "mset",
    "sadd",
    "set",
    "setnx",
    "setrange",
    "smove",
    "spop",
    "srem",
    "unlink",
];

/// The rules of a user for this shard.
fn rules(user: &User, shard: &DesiredShard) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in user.rules.split_ascii_whitespace() {
        words.push(word.to_owned());
        if shard.engine == Engine::ActiveActive
            && let Some((sign @ ("+" | "-"), name)) = word.split_at_checked(1)
            && TWINS.contains(&name)
        {
            words.push(format!("{sign}crdt.{name}"));
        }
    }
    if needs_module(shard) {
        // How the module says no.
        words.push("+crdt.refused".to_owned());
    }
    words.join(" ")
}

/// The content of the ACL file: the default user (the database's clients), the database's other users, the node's own, and that of
/// replicas, who log in with a password that has one of the hashes `replicas`.
#[must_use]
pub fn render_acl(shard: &DesiredShard, internal_secret: &str, replicas: &[String]) -> String {
    let login = match &shard.password {
        Password::Sha256(hash) => format!("on #{hash}"),
        Password::None | Password::NoneOnLoopback => "on nopass".to_owned(),
        Password::Off => "off resetpass".to_owned(),
    };
    let mut text = format!(
        "user default {login} {DEFAULT_USER_RULES}\n\
         user {INTERNAL_USER} on #{} ~* &* +@all\n",
        sha256_hex(internal_secret)
    );
    for user in &shard.users {
        let passwords: Vec<String> = user
            .passwords
            .iter()
            .map(|hash| format!("#{hash}"))
            .collect();
        let (passwords, rules) = (passwords.join(" "), rules(user, shard));
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "user {} on {passwords} {rules}", user.name);
    }
    if shard.replication.is_some() && !replicas.is_empty() {
        let passwords: Vec<String> = replicas.iter().map(|hash| format!("#{hash}")).collect();
        // `crdt.refused` is how the module says no: a replica that reads why waits a second before it asks again, one that may not
        // hear it asks a thousand times a second. Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "user {REPLICATION_USER} on {} resetchannels -@all +psync +replconf +ping +sync +crdt.refused",
            passwords.join(" ")
        );
    }
    text
}

/// Only a shard that nobody gave a password to, and that was not declared open, is kept to this machine.
fn protected(shard: &DesiredShard) -> bool {
    match shard.password {
        Password::NoneOnLoopback => shard
            .bind
            .parse::<IpAddr>()
            .map_or(true, |ip| !ip.is_loopback()),
        Password::Sha256(_) | Password::None | Password::Off => false,
    }
}

fn quoted(word: &str) -> String {
    if !word.is_empty()
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b))
    {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Replication;
    use crate::desired::tests::shard;
    use crate::layout::Layout;

    fn config(shard: &DesiredShard) -> String {
        let layout = Layout::new(Path::new("/data dir"), Some(Path::new("/run/m"))).shard("db-1");
        render_config(
            shard,
            &ShardFiles {
                layout: &layout,
                module: Path::new("/lib/libcrdt.so"),
                log_to_file: false,
                replication_password: Some("secret"),
            },
        )
    }

    #[test]
    fn a_plain_shard_has_no_module_and_no_import_mode() {
        let text = config(&shard());
        assert!(
            !text.contains("loadmodule") && !text.contains("import-mode"),
            "{text}"
        );
        assert!(text.contains("\ndir \"/data dir/shards/db-1\"\n"), "{text}");
        assert!(
            text.contains("\nlogfile \"\"\n") && text.contains("\nsave \"\"\n"),
            "{text}"
        );
        assert!(text.contains("\nenable-debug-command no\n"), "{text}");
    }

    #[test]
    fn an_active_active_shard_loads_the_module_with_the_internal_user() {
        let text = config(&DesiredShard {
            engine: Engine::ActiveActive,
            ..shard()
        });
        assert!(text.contains("\nimport-mode yes\n"), "{text}");
        assert!(
            text.contains("\nloadmodule /lib/libcrdt.so internal-user meridian-internal\n"),
            "{text}"
        );
    }

    #[test]
    fn a_shared_shard_is_guarded_and_its_replicas_may_do_nothing_else() {
        let replica = DesiredShard {
            role: Role::Replica {
                host: "rec-1.rec.ns.svc".to_owned(),
            },
            replication: Some(Replication {
                me: "rec-0".to_owned(),
                ..Replication::default()
            }),
            ..shard()
        };
        let text = config(&replica);
        for line in [
            "loadmodule /lib/libcrdt.so internal-user meridian-internal engine none fence on \
             replication-user meridian-replication",
            "replicaof rec-1.rec.ns.svc 12000",
            "replica-announce-ip rec-0",
            "primaryuser meridian-replication",
            "primaryauth secret",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
        let both = config(&DesiredShard {
            engine: Engine::ActiveActive,
            ..replica.clone()
        });
        assert!(
            both.contains(" fence on ") && !both.contains(" engine none"),
            "{both}"
        );
        let passwords = [sha256_hex("secret"), sha256_hex("before")];
        let acl = render_acl(&replica, "internal", &passwords);
        let user = format!(
            "user {REPLICATION_USER} on #{} #{} resetchannels -@all +psync +replconf +ping +sync +crdt.refused",
            passwords[0], passwords[1]
        );
        assert!(acl.lines().any(|l| l == user), "{acl}");
        assert!(!render_acl(&replica, "internal", &[]).contains(REPLICATION_USER));
    }

    #[test]
    fn each_persistence_has_its_settings() {
        let cases = [
            (Persistence::Disabled, "appendonly no", "save \"\""),
            (
                Persistence::AofEverySecond,
                "appendonly yes",
                "appendfsync everysec",
            ),
            (
                Persistence::AofAlways,
                "appendonly yes",
                "appendfsync always",
            ),
            (
                Persistence::SnapshotEveryHours(6),
                "appendonly no",
                "save \"21600 1\"",
            ),
        ];
        for (persistence, one, two) in cases {
            let text = config(&DesiredShard {
                persistence,
                ..shard()
            });
            assert!(
                text.contains(one) && text.contains(two),
                "{persistence:?}: {text}"
            );
        }
    }

    #[test]
    fn a_shard_without_password_is_open_only_on_loopback_or_on_request() {
        let open = "protected-mode no";
        assert!(!config(&shard()).contains(open));
        assert!(
            config(&DesiredShard {
                bind: "127.0.0.1".to_owned(),
                ..shard()
            })
            .contains(open)
        );
        assert!(
            config(&DesiredShard {
                password: Password::None,
                ..shard()
            })
            .contains(open)
        );
        assert!(
            config(&DesiredShard {
                password: Password::Sha256("0".repeat(64)),
                ..shard()
            })
            .contains(open)
        );
    }

    #[test]
    fn users_are_hashes_and_clients_cannot_administer() {
        let acl = render_acl(
            &DesiredShard {
                password: Password::Sha256("ab".repeat(32)),
                ..shard()
            },
            "internal",
            &[sha256_hex("secret")],
        );
        assert!(
            !acl.contains(REPLICATION_USER),
            "nobody replicates it: {acl}"
        );
        assert!(
            acl.contains(&format!("user default on #{} ", "ab".repeat(32))),
            "{acl}"
        );
        assert!(acl.contains(" -@admin "), "{acl}");
        assert!(
            acl.contains(&format!(
                "user {INTERNAL_USER} on #{} ",
                sha256_hex("internal")
            )),
            "{acl}"
        );
        assert!(!acl.contains(" internal "), "{acl}");
    }

    #[test]
    fn without_a_default_user_there_are_only_the_others_each_with_its_rules() {
        let rules = |text| {
            meridian_api::access::Rules::parse(text)
                .unwrap()
                .as_str()
                .to_owned()
        };
        let user = |name: &str, rules| User {
            name: name.to_owned(),
            passwords: vec!["ab".repeat(32), "cd".repeat(32)],
            rules,
        };
        let mut wanted = DesiredShard {
            password: Password::Off,
            users: vec![
                user("reader", rules("+@read ~a:*")),
                user("writer", rules("+set -del ~*")),
            ],
            ..shard()
        };
        let acl = render_acl(&wanted, "internal", &[]);
        assert!(acl.starts_with("user default off resetpass "), "{acl}");
        let line = |name: &str, acl: &str| {
            let found = acl
                .lines()
                .find(|l| l.starts_with(&format!("user {name} ")));
            found.unwrap().to_owned()
        };
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        assert_eq!(
            line("reader", &acl),
            format!(
                "user reader on #{one} #{other} resetkeys resetchannels -@all +@read ~a:* -@admin -migrate -script|debug -client|import-source"
            )
        );
        wanted.engine = Engine::ActiveActive;
        assert!(
            line("writer", &render_acl(&wanted, "internal", &[]))
                .ends_with(" +set +crdt.set -del -crdt.del ~* -@admin -migrate -script|debug -client|import-source +crdt.refused"),
            "{acl}"
        );
    }
}
