//! The arguments of the `loadmodule` line.

/// What values mean in this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Active-Active: writes are renamed to the module's own commands.
    Crdt,
    /// Native commands, untouched.
    None,
}

/// How the module was asked to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The user that may administrate, on the Unix socket.
    pub(crate) internal_user: Vec<u8>,
    /// The user by which replicas attach, besides the internal one.
    pub(crate) replication_user: Option<Vec<u8>>,
    /// What values mean.
    pub(crate) engine: Engine,
    /// Writes need a permission.
    pub(crate) fence: bool,
}

/// What is wrong with the arguments.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error(
        "unknown module argument '{0}'; known: internal-user NAME [replication-user NAME] [engine crdt|none] [fence on|off]"
    )]
    Unknown(String),
    #[error("module argument {0}: given twice")]
    Twice(&'static str),
    #[error("module argument {name}: found '{found}', expected {expected}")]
    Value {
        name: &'static str,
        found: String,
        expected: &'static str,
    },
}

impl Arguments {
    /// Reads pairs of a name and a value, in any order.
    pub(crate) fn parse(given: &[&[u8]]) -> Result<Self, ArgumentError> {
        let (mut internal, mut replication, mut engine, mut fence) = (None, None, None, None);
        for pair in given.chunks(2) {
            let value = pair.get(1).copied().unwrap_or_default();
            match pair[0] {
                b"internal-user" => once("internal-user", &mut internal, user, value)?,
                b"replication-user" => once("replication-user", &mut replication, user, value)?,
                b"engine" => once("engine", &mut engine, engine_of, value)?,
                b"fence" => once("fence", &mut fence, switch, value)?,
                other => return Err(ArgumentError::Unknown(lossy(other))),
            }
        }
        Ok(Self {
            internal_user: internal.ok_or(ArgumentError::Value {
                name: "internal-user",
                found: String::new(),
                expected: "the name of a user",
            })?,
            replication_user: replication,
            engine: engine.unwrap_or(Engine::Crdt),
            fence: fence.unwrap_or(false),
        })
    }
}

/// The value, or what was expected instead.
type Read<T> = fn(&[u8]) -> Result<T, &'static str>;

fn once<T>(
    name: &'static str,
    place: &mut Option<T>,
    read: Read<T>,
    value: &[u8],
) -> Result<(), ArgumentError> {
    if place.is_some() {
        return Err(ArgumentError::Twice(name));
    }
    let found = || lossy(value);
    *place = Some(read(value).map_err(|expected| ArgumentError::Value {
        name,
        found: found(),
        expected,
    })?);
    Ok(())
}

fn user(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.is_empty() {
        return Err("the name of a user");
    }
    Ok(value.to_vec())
}

fn engine_of(value: &[u8]) -> Result<Engine, &'static str> {
    match value {
        b"crdt" => Ok(Engine::Crdt),
        b"none" => Ok(Engine::None),
        _ => Err("crdt or none"),
    }
}

fn switch(value: &[u8]) -> Result<bool, &'static str> {
    match value {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err("on or off"),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Engine};

    fn parse(line: &str) -> Result<Arguments, String> {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        Arguments::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_come_in_any_order_and_have_defaults() {
        let short = parse("internal-user i").unwrap();
        assert_eq!((short.engine, short.fence), (Engine::Crdt, false));
        assert_eq!(short.replication_user, None);
        let all = parse("fence on engine none replication-user r internal-user i").unwrap();
        let expected = Arguments {
            internal_user: b"i".to_vec(),
            replication_user: Some(b"r".to_vec()),
            engine: Engine::None,
            fence: true,
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("internal-user", "internal-user: found ''"),
            ("fence on", "internal-user: found ''"),
            ("internal-user i fence", "fence: found ''"),
            ("internal-user i fence yes", "'yes', expected on or off"),
            ("internal-user i engine x", "'x', expected crdt or none"),
            ("internal-user i internal-user j", "given twice"),
            (
                "internal-user i fenced on",
                "unknown module argument 'fenced'",
            ),
        ] {
            let words = parse(line).unwrap_err();
            assert!(words.contains(part), "{line}: {words}");
        }
    }
}
