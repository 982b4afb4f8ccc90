//! What happens to each command of the server: pure tables, no server calls.
//!
//! The list of commands and their flags comes from the server at load and again whenever a module comes or goes, so that a
//! command the module does not know is judged by its flags: a write without a twin is refused, an administrative command is
//! for the internal user.

mod table;
#[cfg(test)]
mod tests;

pub(crate) use table::Table;

use std::fmt;

/// Prefix of every command of the module.
pub(crate) const PREFIX: &str = "crdt.";

/// What the filter does with a command. Commands without a rule pass as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Renamed to the module's own command at this place in the list of commands.
    Twin(usize),
    /// Refused, for the reason.
    Refused(Reason),
    /// Only for the internal user on the Unix socket.
    Administrative,
    /// The handshake of a replica: only for the internal user, on any connection.
    Handshake,
    /// SELECT: only database 0.
    Select,
    /// MULTI: the writes that follow are queued and lie in one slot.
    Multi,
    /// EXEC: the writes that it runs belong together.
    Exec,
    /// DISCARD and RESET: nothing is queued any more.
    Discard,
    /// Judged by the first argument.
    Container,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A write (or a read that may rewrite its key) without merge rules so far.
    Unsupported,
    /// Reserved for the internal user.
    Administrative,
    /// Another database than 0.
    Database,
    /// Keys outside the slot of the transaction.
    Slot,
}

impl Reason {
    /// The word that stands for the reason in the arguments of `crdt.refused`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unsupported => "unsupported",
            Self::Administrative => "administrative",
            Self::Database => "database",
            Self::Slot => "slot",
        }
    }

    /// The reason of a word; an unknown word counts as unsupported.
    pub(crate) fn of_word(word: &[u8]) -> Self {
        [Self::Administrative, Self::Database, Self::Slot]
            .into_iter()
            .find(|reason| reason.word().as_bytes() == word)
            .unwrap_or(Self::Unsupported)
    }
}

/// A refusal as the client reads it, without the error code.
#[derive(Clone, Debug)]
pub(crate) struct Refusal<'a> {
    /// The command as the client wrote it.
    pub(crate) command: &'a str,
    /// Why.
    pub(crate) reason: Reason,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, reason } = self;
        match reason {
            Reason::Unsupported => write!(
                out,
                "'{command}' is not supported in an Active-Active database yet"
            ),
            Reason::Administrative => write!(
                out,
                "'{command}' is reserved for the operator of this database"
            ),
            Reason::Slot => write!(
                out,
                "'{command}': CROSSSLOT keys of one transaction must hash to the same slot"
            ),
            Reason::Database => {
                write!(
                    out,
                    "'{command}': an Active-Active database has the one logical database 0"
                )
            }
        }
    }
}

/// A command as the server describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    /// Full name; of a subcommand `container|name`.
    pub(crate) name: String,
    /// Number of arguments with the name; negative: at least so many.
    pub(crate) arity: i64,
    /// Flags, as in the reply of COMMAND.
    pub(crate) flags: Vec<String>,
    /// Subcommands, if it is a container.
    pub(crate) subcommands: Vec<Described>,
}

/// Commands with the `admin` flag that serve ordinary users: they show, and change nothing that others depend on.
const HARMLESS: &[&str] = &[
    "client|help",
    "client|info",
    "client|list",
    "commandlog|get",
    "commandlog|help",
    "commandlog|len",
    "latency|doctor",
    "latency|graph",
    "latency|help",
    "latency|histogram",
    "latency|history",
    "latency|latest",
    "slowlog|get",
    "slowlog|help",
    "slowlog|len",
];

/// Commands without the `admin` flag that are for the operator all the same: reading keys that have expired, and stopping the
/// server for a debugger.
const OPERATOR: &[&str] = &["client|import-source", "script|debug"];

/// Commands without the `write` flag that change the value of their key.
const HIDDEN_WRITES: &[&str] = &["pfcount"];

/// The commands by which a replica attaches.
const HANDSHAKE: &[&str] = &["psync", "replconf", "sync"];

/// The rule of one command. `twin` says where the module's own command for it stands.
fn judge(command: &Described, twin: &impl Fn(&Described) -> Option<usize>) -> Option<Rule> {
    let name = command.name.as_str();
    let flagged = |flag: &str| command.flags.iter().any(|given| given == flag);
    if name.starts_with(PREFIX) {
        return None;
    }
    if let Some(place) = twin(command) {
        return Some(Rule::Twin(place));
    }
    match name {
        "select" => return Some(Rule::Select),
        "multi" => return Some(Rule::Multi),
        "exec" => return Some(Rule::Exec),
        "discard" | "reset" => return Some(Rule::Discard),
        _ => {}
    }
    if HANDSHAKE.contains(&name) {
        return Some(Rule::Handshake);
    }
    if flagged("write") || HIDDEN_WRITES.contains(&name) {
        return Some(Rule::Refused(Reason::Unsupported));
    }
    let administrative = flagged("admin") && !HARMLESS.contains(&name);
    if administrative || OPERATOR.contains(&name) {
        return Some(Rule::Administrative);
    }
    None
}

/// The rules of all commands.
pub(crate) fn rules(commands: &[Described], twin: impl Fn(&Described) -> Option<usize>) -> Table {
    let mut table = Table::new();
    for command in commands {
        if command.subcommands.is_empty() {
            if let Some(rule) = judge(command, &twin) {
                table.insert(&command.name, rule);
            }
            continue;
        }
        let judged: Vec<_> = command
            .subcommands
            .iter()
            .map(|sub| (sub, judge(sub, &twin)))
            .collect();
        if judged.iter().any(|(_, rule)| rule.is_some()) {
            table.insert(&command.name, Rule::Container);
        }
        for (sub, rule) in judged {
            if let Some(rule) = rule {
                table.insert(&sub.name, rule);
            }
        }
    }
    table
}
