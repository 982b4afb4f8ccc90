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

use crate::arguments::Engine;
use crate::fence::Denied;

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
    /// A write that needs a permission, otherwise as it is.
    Write,
    /// The handshake of a replica: only for the internal user and the one for replication, on any connection.
    Handshake,
    /// As the handshake; begins the copy of the data.
    Copy,
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
    /// A write without a permission.
    Fenced(Denied),
    /// A write on a replica.
    Replica,
    /// A copy of a shard that may have less than the copier.
    Uncopied,
}

/// All reasons with the words that stand for them in the arguments of `crdt.refused`.
const REASONS: &[(&str, Reason)] = &[
    ("unsupported", Reason::Unsupported),
    ("administrative", Reason::Administrative),
    ("database", Reason::Database),
    ("slot", Reason::Slot),
    ("fenced-none", Reason::Fenced(Denied::None)),
    ("fenced-lapsed", Reason::Fenced(Denied::Lapsed)),
    ("fenced-revoked", Reason::Fenced(Denied::Revoked)),
    ("replica", Reason::Replica),
    ("uncopied", Reason::Uncopied),
];

impl Reason {
    /// The word that stands for the reason in the arguments of `crdt.refused`.
    pub(crate) fn word(self) -> &'static str {
        let entry = REASONS.iter().find(|(_, reason)| *reason == self);
        entry.map_or("", |(word, _)| word)
    }

    /// The reason of a word; an unknown word counts as unsupported.
    pub(crate) fn of_word(word: &[u8]) -> Self {
        let entry = REASONS.iter().find(|(known, _)| known.as_bytes() == word);
        entry.map_or(Self::Unsupported, |(_, reason)| *reason)
    }

    /// The error code that clients act upon.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Fenced(_) | Self::Replica => "READONLY",
            // A replica that reads this code asks again later, and goes on with what it has.
            Self::Uncopied => "NOMASTERLINK",
            _ => "ERR",
        }
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
            Reason::Fenced(denied) => write!(
                out,
                "'{command}' was not done: this primary may not take writes now, {}; try again, or connect anew to \
                 reach the present primary",
                match denied {
                    Denied::None => "as it has no permission yet",
                    Denied::Lapsed => "as its permission ran out and was not renewed in time",
                    Denied::Revoked =>
                        "as its permission was taken back for another shard to take over",
                }
            ),
            Reason::Replica => write!(
                out,
                "You can't write against a read only replica ('{command}')."
            ),
            Reason::Uncopied => write!(
                out,
                "'{command}': this shard has not held a permission since it started, so it may have less than its \
                 replicas; it is copied once it serves"
            ),
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
/// server for a debugger, and making it connect elsewhere.
const OPERATOR: &[&str] = &["client|import-source", "migrate", "script|debug"];

/// Commands without the `write` flag that change the value of their key.
const HIDDEN_WRITES: &[&str] = &["pfcount"];

/// Whether a command changes values without the flag that says so.
pub(crate) fn is_hidden_write(name: &[u8]) -> bool {
    HIDDEN_WRITES
        .iter()
        .any(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes()))
}

/// Writes of the module that come from the append-only file or the primary only.
const REPLAYED: &[&str] = &["crdt.e"];

/// The commands by which a replica attaches.
const HANDSHAKE: &[&str] = &["replconf"];

/// The commands by which it asks for the data.
const COPY: &[&str] = &["psync", "sync"];

/// What the module was loaded for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// Writes need merge rules.
    pub(crate) engine: Engine,
    /// Writes need a permission.
    pub(crate) fence: bool,
}

/// The rule of one command. `twin` says where the module's own command for it stands.
fn judge(
    mode: Mode,
    command: &Described,
    twin: &impl Fn(&Described) -> Option<usize>,
) -> Option<Rule> {
    let name = command.name.as_str();
    let flagged = |flag: &str| command.flags.iter().any(|given| given == flag);
    let is_write = flagged("write") || HIDDEN_WRITES.contains(&name);
    let fenced = (mode.fence && is_write).then_some(Rule::Write);
    if name.starts_with(PREFIX) {
        return fenced.filter(|_| !REPLAYED.contains(&name));
    }
    if HANDSHAKE.contains(&name) {
        return Some(Rule::Handshake);
    }
    if COPY.contains(&name) {
        return Some(Rule::Copy);
    }
    match mode.engine {
        Engine::Crdt => {
            if let Some(rule) = judge_merged(command, is_write, twin) {
                return Some(rule);
            }
        }
        Engine::None if name == "exec" && mode.fence => return Some(Rule::Exec),
        Engine::None => {}
    }
    let administrative = flagged("admin") && !HARMLESS.contains(&name);
    if administrative || OPERATOR.contains(&name) {
        return Some(Rule::Administrative);
    }
    fenced
}

/// The rule that merging asks for.
fn judge_merged(
    command: &Described,
    is_write: bool,
    twin: &impl Fn(&Described) -> Option<usize>,
) -> Option<Rule> {
    if let Some(place) = twin(command) {
        return Some(Rule::Twin(place));
    }
    match command.name.as_str() {
        "select" => Some(Rule::Select),
        "multi" => Some(Rule::Multi),
        "exec" => Some(Rule::Exec),
        "discard" | "reset" => Some(Rule::Discard),
        _ => is_write.then_some(Rule::Refused(Reason::Unsupported)),
    }
}

/// The rules of all commands.
pub(crate) fn rules(
    mode: Mode,
    commands: &[Described],
    twin: impl Fn(&Described) -> Option<usize>,
) -> Table {
    let mut table = Table::new();
    for command in commands {
        if command.subcommands.is_empty() {
            if let Some(rule) = judge(mode, command, &twin) {
                table.insert(&command.name, rule);
            }
            continue;
        }
        let judged: Vec<_> = command
            .subcommands
            .iter()
            .map(|sub| (sub, judge(mode, sub, &twin)))
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
