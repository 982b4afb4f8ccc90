//! Sessions of `meridian login`, by hub, in a file of their own that only its owner reads.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::{config::Secret, error::CliError};

/// Name of the file, beside the configuration.
const FILE: &str = "sessions.json";

/// A session, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// What proves it.
    pub(crate) token: Secret,
    /// Whose it is, for people.
    pub(crate) name: String,
    /// Its end, RFC 3339.
    pub(crate) expires_at: String,
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Sessions(PathBuf);

impl Sessions {
    /// The one beside the configuration file in this folder.
    pub(crate) fn beside(folder: &Path) -> Self {
        Self(folder.join(FILE))
    }

    /// The session with this hub.
    pub(crate) fn of(&self, hub: &str) -> Result<Option<Kept>, CliError> {
        Ok(self.read()?.remove(hub))
    }

    /// Keeps a session in place of one before it.
    pub(crate) fn keep(&self, hub: &str, session: &Kept) -> Result<(), CliError> {
        let mut all = self.read()?;
        all.insert(hub.to_owned(), session.clone());
        self.write(&all)
    }

    /// Forgets the session with this hub.
    pub(crate) fn forget(&self, hub: &str) -> Result<(), CliError> {
        let mut all = self.read()?;
        match all.remove(hub) {
            Some(_) => self.write(&all),
            None => Ok(()),
        }
    }

    fn read(&self) -> Result<BTreeMap<String, Kept>, CliError> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(self.failed(source)),
        };
        serde_json::from_str(&text).map_err(|error| CliError::Document {
            place: self.0.display().to_string(),
            reason: format!("it is no list of sessions ({error}); remove it and sign in again"),
        })
    }

    /// Whole or not at all, and from its first byte on readable by its owner only.
    fn write(&self, all: &BTreeMap<String, Kept>) -> Result<(), CliError> {
        let folder = self
            .0
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let written = || {
            fs::create_dir_all(folder)?;
            let mut file = NamedTempFile::new_in(folder)?;
            file.write_all(serde_json::to_string_pretty(all)?.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.0).map_err(|error| error.error)?;
            Ok(())
        };
        written().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> CliError {
        CliError::File {
            path: self.0.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn sessions_are_kept_by_hub_for_their_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("new/folder");
        let sessions = Sessions::beside(&folder);
        let session = |token: &str| Kept {
            token: Secret(token.to_owned()),
            name: "ann".to_owned(),
            expires_at: "2026-11-22T12:00:00Z".to_owned(),
        };
        assert_eq!(sessions.of("https://a").unwrap(), None);
        sessions.keep("https://a", &session("1")).unwrap();
        sessions.keep("https://b", &session("2")).unwrap();
        sessions.keep("https://a", &session("3")).unwrap();
        let mode = fs::metadata(folder.join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(sessions.of("https://a").unwrap(), Some(session("3")));
        sessions.forget("https://a").unwrap();
        sessions.forget("https://a").unwrap();
        assert_eq!(sessions.of("https://a").unwrap(), None);
        assert_eq!(sessions.of("https://b").unwrap(), Some(session("2")));
        assert!(!format!("{:?}", session("secret")).contains("secret"));
        fs::write(folder.join(FILE), "x").unwrap();
        assert!(matches!(
            sessions.of("https://a"),
            Err(CliError::Document { .. })
        ));
    }
}
