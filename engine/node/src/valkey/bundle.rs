//! The servers that this node brings, of which each shard runs by one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use meridian_api::version::{Bundled, Series};
use tracing::warn;

/// The series with which the tests of the module are run, so that Active-Active databases may run with them.
const MERGES: &[Series] = &[Series { major: 8, minor: 1 }, Series { major: 9, minor: 1 }];

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    path: PathBuf,
    version: String,
}

/// The servers of this node by series. Of one series there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers(BTreeMap<Series, Server>);

/// Why a shard has no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Everything that the node brings is older.
    #[error(
        "Valkey {wanted} or higher is to serve it ({why}), and this node brings {brings}: give the node the image of before, or a newer one"
    )]
    TooNew {
        /// What is to serve it.
        wanted: String,
        /// Who says so.
        why: &'static str,
        /// What there is.
        brings: String,
    },
}

impl Servers {
    /// Asks each program of `paths` for its version. One that cannot be run is told and left out.
    #[must_use]
    pub fn look(paths: &[PathBuf]) -> Self {
        let mut all = BTreeMap::new();
        for path in paths {
            match version(path) {
                Ok(version) => {
                    if let Ok(series) = version.parse() {
                        all.insert(
                            series,
                            Server {
                                path: path.clone(),
                                version,
                            },
                        );
                    }
                }
                Err(error) => warn!(program = %path.display(), error, "this Valkey cannot be used"),
            }
        }
        Self(all)
    }

    /// The server for a shard that is ordered to run by `ordered` at least and whose files `ran` has written: the lowest that is
    /// neither below the one nor below the other. Valkey reads the files of older servers, and not those of newer ones.
    ///
    /// # Errors
    /// [`ServerError`]: there is none.
    pub fn choose(
        &self,
        ordered: Option<Series>,
        ran: Option<Series>,
    ) -> Result<(Series, &Path), ServerError> {
        let found = match ordered.max(ran) {
            Some(least) => self.0.range(least..).next(),
            None => self.0.iter().next(),
        };
        found
            .map(|(series, server)| (*series, server.path.as_path()))
            .ok_or_else(|| ServerError::TooNew {
                wanted: ordered
                    .max(ran)
                    .map_or_else(|| "of any version".to_owned(), |s| s.to_string()),
                why: if ran > ordered {
                    "its files are of that version"
                } else {
                    "its order says so"
                },
                brings: self.text(),
            })
    }

    /// What the agent is told.
    #[must_use]
    pub fn bundled(&self) -> Vec<Bundled> {
        let one = |(series, server): (&Series, &Server)| Bundled {
            version: server.version.clone(),
            active_active: MERGES.contains(series),
        };
        self.0.iter().map(one).collect()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn text(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let all: Vec<&str> = self
            .0
            .values()
            .map(|server| server.version.as_str())
            .collect();
        all.join(", ")
    }

    /// Servers that are not there, for tests of what is made of them.
    #[cfg(test)]
    pub(crate) fn of(versions: &[&str]) -> Self {
        let one = |version: &&str| {
            let server = Server {
                path: PathBuf::from(format!("valkey-{version}")),
                version: (*version).to_owned(),
            };
            (version.parse().unwrap(), server)
        };
        Self(versions.iter().map(one).collect())
    }
}

fn version(program: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    read(&text).ok_or_else(|| format!("it says {:?} of its version, expected v=8.1.1", text.trim()))
}

/// Reads `Valkey server v=8.1.1 sha=…`.
fn read(text: &str) -> Option<String> {
    let version = text
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("v="))?;
    version.parse::<Series>().ok().map(|_| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> Series {
        text.parse().unwrap()
    }

    #[test]
    fn a_server_says_its_version() {
        let text = "Valkey server v=9.1.2 sha=00000000:0 malloc=jemalloc-5.3.1 bits=64 build=9108e8f1788612b";
        assert_eq!(read(text), Some("9.1.2".to_owned()));
        assert_eq!(read("Valkey server v=new"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_shard_runs_by_the_lowest_server_that_is_ordered_and_never_goes_back() {
        let servers = Servers::of(&["8.1.1", "9.1.2"]);
        // (ordered, ran, runs)
        let cases = [
            (None, None, Some("8.1")),
            (Some("8.1"), None, Some("8.1")),
            (Some("9.1"), None, Some("9.1")),
            (Some("8.2"), Some("8.1"), Some("9.1")),
            (Some("8.1"), Some("9.1"), Some("9.1")),
            (None, Some("9.1"), Some("9.1")),
            (None, Some("9.2"), None),
            (Some("9.2"), Some("8.1"), None),
        ];
        for (ordered, ran, runs) in cases {
            let chosen = servers.choose(ordered.map(series), ran.map(series));
            let found = chosen.as_ref().ok().map(|(series, _)| series.to_string());
            assert_eq!(found.as_deref(), runs, "{ordered:?} {ran:?}");
        }
        let words = servers.choose(None, Some(series("9.2"))).unwrap_err();
        assert!(words.to_string().contains("8.1.1, 9.1.2"), "{words}");
    }
}
