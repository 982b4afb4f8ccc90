//! Where the hub is: flags and environment first, then the configuration file.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{args::HubArgs, error::CliError, session::Sessions};

/// The configuration file. Paths in it are relative to its folder.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    hub: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// Where the hub is, and how to prove who asks.
#[derive(Debug)]
pub(crate) struct Target {
    /// `https://host:port`, without a slash at the end.
    pub(crate) hub: String,
    /// What proves who asks.
    pub(crate) credential: Credential,
    /// File with the roots that the hub's certificate must chain to, PEM.
    pub(crate) ca_file: PathBuf,
    /// Longest time for one request.
    pub(crate) request_timeout: Duration,
}

/// What proves who asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A file with a bearer token.
    File(PathBuf),
    /// The session of a person who has signed in.
    Session(Secret),
    /// Nothing: for what needs no proof.
    Nobody,
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A hub, and the file in which sessions with hubs are kept.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where the hub is; nobody asks yet.
    pub(crate) target: Target,
    /// The sessions.
    pub(crate) sessions: Sessions,
    /// Whether --token-file goes before them.
    pub(crate) is_overruled: bool,
}

impl Target {
    /// Where the hub is, for those who have still to prove who they are.
    pub(crate) fn place(args: HubArgs, home: Option<&Path>) -> Result<Place, CliError> {
        let is_overruled = args.token_file.is_some();
        let (file, folder) = read(&args, home)?;
        let sessions = Sessions::beside(&folder);
        let target = Self::assemble(args, file, &folder, |_| Ok(Credential::Nobody))?;
        Ok(Place {
            target,
            sessions,
            is_overruled,
        })
    }

    /// Puts flags, environment (which clap has read) and file together.
    pub(crate) fn resolve(args: HubArgs, home: Option<&Path>) -> Result<Self, CliError> {
        let (file, folder) = read(&args, home)?;
        let (given, kept) = (args.token_file.clone(), file.token_file.clone());
        let sessions = Sessions::beside(&folder);
        Self::assemble(args, file, &folder, |hub| {
            if let Some(given) = given {
                return Ok(Credential::File(given));
            }
            if let Some(session) = sessions.of(hub)? {
                return Ok(Credential::Session(session.token));
            }
            let kept = kept.map(|path| folder.join(path));
            kept.map(Credential::File).ok_or_else(|| {
                let hint = "or sign in with `meridian login`; the hub writes its first token to DATA-DIR/admin-token";
                missing(
                    "token",
                    "--token-file",
                    "MERIDIAN_TOKEN_FILE",
                    "tokenFile",
                    hint,
                )
            })
        })
    }

    fn assemble(
        args: HubArgs,
        file: File,
        folder: &Path,
        credential: impl FnOnce(&str) -> Result<Credential, CliError>,
    ) -> Result<Self, CliError> {
        let below = |path: PathBuf| folder.join(path);
        let hub = args.hub.or(file.hub).ok_or_else(|| {
            let hint = "it is an address such as https://hub.example.com:8443";
            missing("hub", "--hub", "MERIDIAN_HUB", "hub", hint)
        })?;
        if !hub.starts_with("https://") {
            return Err(CliError::Usage(format!(
                "hub: found {hub:?}, expected an address that begins with https://; the token is not sent in clear"
            )));
        }
        let hub = hub.trim_end_matches('/').to_owned();
        Ok(Self {
            credential: credential(&hub)?,
            hub,
            ca_file: args.ca_file.or(file.ca_file.map(below)).ok_or_else(|| {
                let hint = "the hub writes it to DATA-DIR/ca/root.crt";
                missing(
                    "root certificate",
                    "--ca-file",
                    "MERIDIAN_CA_FILE",
                    "caFile",
                    hint,
                )
            })?,
            request_timeout: args.request_timeout,
        })
    }
}

fn missing(what: &str, flag: &str, variable: &str, key: &str, hint: &str) -> CliError {
    CliError::Usage(format!(
        "no {what} is known: give {flag}, set {variable}, or write `{key}:` into the configuration file; {hint}"
    ))
}

/// The configuration and its folder. Only a file that was asked for must exist.
fn read(args: &HubArgs, home: Option<&Path>) -> Result<(File, PathBuf), CliError> {
    let default = || home.map(|home| home.join(".config/meridian/config.yaml"));
    let Some(path) = args.config.clone().or_else(default) else {
        return Ok(Default::default());
    };
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.config.is_none() => {
            return Ok((File::default(), folder));
        }
        Err(source) => return Err(CliError::File { path, source }),
    };
    let file = serde_saphyr::from_str(&text).map_err(|error| CliError::Document {
        place: path.display().to_string(),
        reason: error.to_string(),
    })?;
    Ok((file, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> HubArgs {
        HubArgs {
            hub: None,
            token_file: None,
            ca_file: None,
            config: None,
            request_timeout: Duration::from_secs(1),
        }
    }

    fn home_with(text: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".config/meridian");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.yaml"), text).unwrap();
        home
    }

    #[test]
    fn flags_win_over_the_file_and_paths_in_it_are_beside_it() {
        let home = home_with("hub: https://file:1/\ntokenFile: token\ncaFile: /abs/ca.crt\n");
        let target = Target::resolve(args(), Some(home.path())).unwrap();
        assert_eq!(target.hub, "https://file:1");
        assert_eq!(
            target.credential,
            Credential::File(home.path().join(".config/meridian/token"))
        );
        assert_eq!(target.ca_file, Path::new("/abs/ca.crt"));

        let flags = HubArgs {
            hub: Some("https://flag:2".into()),
            token_file: Some("t".into()),
            ..args()
        };
        let target = Target::resolve(flags, Some(home.path())).unwrap();
        assert_eq!(target.hub, "https://flag:2");
        assert_eq!(target.credential, Credential::File("t".into()));
    }

    #[test]
    fn a_session_goes_before_the_configured_token_and_a_flag_before_both() {
        let home = home_with("hub: https://file:1\ntokenFile: token\ncaFile: ca.crt\n");
        let place = Target::place(args(), Some(home.path())).unwrap();
        assert_eq!(place.target.credential, Credential::Nobody);
        let session = crate::session::Kept {
            token: Secret("mrds.1.x".to_owned()),
            name: "ann".to_owned(),
            expires_at: String::new(),
        };
        place.sessions.keep("https://file:1", &session).unwrap();
        let asked = |args: HubArgs| {
            let target = Target::resolve(args, Some(home.path())).unwrap();
            target.credential
        };
        assert_eq!(asked(args()), Credential::Session(session.token));
        let flag = HubArgs {
            token_file: Some("t".into()),
            ..args()
        };
        assert_eq!(asked(flag), Credential::File("t".into()));
        let other = HubArgs {
            hub: Some("https://other:1".into()),
            ..args()
        };
        assert!(
            matches!(asked(other), Credential::File(_)),
            "a session goes to its hub only"
        );
    }

    #[test]
    fn what_is_missing_is_said_with_every_way_to_give_it() {
        let error = Target::resolve(args(), None).unwrap_err().to_string();
        for part in ["--hub", "MERIDIAN_HUB", "`hub:`"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_token_is_never_sent_in_clear() {
        let flags = HubArgs {
            hub: Some("http://hub:8443".into()),
            ..args()
        };
        let error = Target::resolve(flags, None).unwrap_err();
        assert!(
            matches!(&error, CliError::Usage(text) if text.contains("https://")),
            "{error}"
        );
    }

    #[test]
    fn a_misspelled_key_or_a_missing_file_that_was_asked_for_is_an_error() {
        let home = home_with("hubb: https://file:1\n");
        assert!(matches!(
            Target::resolve(args(), Some(home.path())),
            Err(CliError::Document { .. })
        ));
        let flags = HubArgs {
            config: Some("/nonexistent/config.yaml".into()),
            ..args()
        };
        assert!(matches!(
            Target::resolve(flags, None),
            Err(CliError::File { .. })
        ));
    }
}
