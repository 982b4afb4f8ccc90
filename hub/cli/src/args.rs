//! What can be typed.

mod ca;
mod cluster;
mod debug;
mod member;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use meridian_api::audit::Place;

use crate::kinds::Kind;

pub(crate) use ca::CaCommand;
pub(crate) use cluster::ClusterCommand;
pub(crate) use debug::DebugCommand;
pub(crate) use member::{BundleArgs, PreflightArgs};

const EXAMPLES: &str = "\
Examples:
  meridian token create eu-1 | kubectl apply -n meridian -f -   let a cluster join
  meridian cluster list                                         see who has joined
  meridian login                                                sign in through the hub's OpenID provider
  meridian api-token create alice --role operator > token       let somebody ask the hub
  meridian apply -f reaadb.yaml                                 create an Active-Active database
  meridian get activeactivedatabases                            list them
  meridian get activeactivedatabases --watch                    and see what changes
  meridian describe activeactivedatabase cart                   see every participant and link
  meridian delete activeactivedatabase cart --wait              delete it everywhere
  meridian hub status                                           see whether the hub decides
  meridian hub backup --file hub.backup                         back up the hub's state while it runs
  meridian ca status                                            see which roots members trust
  meridian preflight -n redis                                   see what another operator has in a cluster
  meridian support-bundle -n redis                              collect what support needs, of one cluster

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused by the hub, 5 hub or cluster not reachable.
The hub is named by --hub, MERIDIAN_HUB or `hub:` in ~/.config/meridian/config.yaml, in this order;
tokenFile and caFile likewise. A session of `meridian login` goes before tokenFile, and --token-file before both.";

/// The command line of Meridian.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Where the hub is.
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the hub is, and how to prove who asks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hub")]
pub(crate) struct HubArgs {
    /// Address of the hub, such as https://hub.example.com:8443
    #[arg(long, env = "MERIDIAN_HUB", global = true, value_name = "URL")]
    pub(crate) hub: Option<String>,
    /// File with the bearer token (the hub writes its first one to DATA-DIR/admin-token)
    #[arg(long, env = "MERIDIAN_TOKEN_FILE", global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the hub's root certificates, PEM (DATA-DIR/ca/root.crt, or `meridian ca roots`); nothing else is trusted
    #[arg(long, env = "MERIDIAN_CA_FILE", global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Configuration file
    #[arg(long, env = "MERIDIAN_CONFIG", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Longest time for one request
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) request_timeout: Duration,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask the hub.
    #[command(flatten)]
    Ask(Ask),
    /// Sign in to the hub with a browser; what is asked afterwards is asked as this person
    #[command(
        after_help = "Examples:\n  meridian login\n  meridian login --no-browser    where no browser can be started; open the printed address on this machine\n\n\
                      The browser comes back to an address of this machine (127.0.0.1), so it must run here, or the port be forwarded. \
                      The session is kept in sessions.json beside the configuration file, which only you can read, until `meridian \
                      logout` or its end."
    )]
    Login {
        /// Print the address instead of starting a browser
        #[arg(long)]
        no_browser: bool,
        /// Port of 127.0.0.1 to come back to; a free one if left out
        #[arg(long, value_name = "PORT", default_value_t = 0)]
        port: u16,
        /// Longest time to wait for the browser
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
        timeout: Duration,
    },
    /// End the session of `meridian login`, at the hub and here
    Logout,
    /// Collect what is needed to find a fault in one cluster, without secrets
    #[command(
        after_help = "Examples:\n  meridian support-bundle --namespace redis\n  \
                      meridian support-bundle --kubeconfig eu-1.yaml --context admin --since 2h -o eu-1.tar.gz\n\n\
                      Reads with the rights of the kubeconfig: get and list on the namespace, pods/log, pods/proxy, and nodes. \
                      Values of Secrets and ConfigMaps are never asked for; of other objects only listed fields are kept. \
                      What could not be read stands in manifest.json. No hub is needed."
    )]
    SupportBundle(BundleArgs),
    /// Look whether Meridian can be installed into a cluster without touching what is another operator's
    #[command(after_help = member::PREFLIGHT)]
    Preflight(PreflightArgs),
}

/// What the hub is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Make, list or forget the tokens with which clusters join
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make, list or delete the tokens with which people and programs ask the hub
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// List, approve, deny, release or remove member clusters
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show the roots that members trust, or exchange them step by step
    #[command(subcommand)]
    Ca(CaCommand),
    /// Show, export or verify who did what
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show the hub itself, or let it go on after it only observed
    #[command(subcommand)]
    Hub(HubCommand),
    /// Look into the hub while it runs: sessions, tasks, and its log
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Create or change what a YAML file describes
    #[command(
        after_help = "Examples:\n  meridian apply -f reaadb.yaml\n  meridian apply -f reaadb.yaml --dry-run\n  \
                      generate | meridian apply -f -"
    )]
    Apply {
        /// File, or - for standard input
        #[arg(short, long, value_name = "FILE")]
        filename: PathBuf,
        /// Let the hub check everything and store nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show one object or all of a kind
    #[command(
        after_help = "Examples:\n  meridian get clusters\n  meridian get activeactivedatabase cart -o yaml\n  \
                      meridian get activeactivedatabases --watch\n  meridian get clusters --watch -o json\n\n\
                      With --watch, -o json prints what happened, one event in each line, with its type (ADDED, MODIFIED, DELETED) \
                      and its object. A watch that breaks off goes on where it was."
    )]
    Get {
        /// Kind: clusters, tokens, apitokens, remoteclusters, activeactivedatabases (or rerc, reaadb)
        kind: Kind,
        /// Name; all objects if left out
        name: Option<String>,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
        /// Go on and print what changes
        #[arg(short, long)]
        watch: bool,
    },
    /// Show all that is known of one object, with the age of each observation
    #[command(after_help = "Example:\n  meridian describe activeactivedatabase cart")]
    Describe {
        /// Kind: cluster, token, apitoken, remotecluster, activeactivedatabase (or rerc, reaadb)
        kind: Kind,
        /// Name
        name: String,
    },
    /// Delete an object; a database with all its data in every participant
    #[command(after_help = "Example:\n  meridian delete activeactivedatabase cart --yes --wait")]
    Delete(DeleteArgs),
}
/// Which object to delete, and how.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Kind: cluster, token, apitoken, remotecluster, activeactivedatabase (or rerc, reaadb)
    pub(crate) kind: Kind,
    /// Name
    pub(crate) name: String,
    /// How to delete.
    #[command(flatten)]
    pub(crate) how: Deletion,
}

/// How to delete.
#[derive(Debug, Args)]
pub(crate) struct Deletion {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Return only when it is gone
    #[arg(long)]
    pub(crate) wait: bool,
    /// Longest time to wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration, requires = "wait")]
    pub(crate) timeout: Duration,
}

/// About join tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; prints the Secret that the cluster's agent joins with
    #[command(
        after_help = "Example:\n  meridian token create eu-1 --ttl 1h | kubectl apply -n meridian -f -\n\n\
                      The token can be used once, under this name only, and is shown now and never again.\n\n\
                      A cluster whose registration was removed joins again with a new token in the same way: its agent \
                      keeps its keys, and its databases are not touched."
    )]
    Create {
        /// Name that the cluster will be known by
        name: String,
        /// Life of the token, such as 30m or 1h; the hub's default if left out
        #[arg(long, value_name = "TIME", value_parser = duration)]
        ttl: Option<Duration>,
        /// Give no certificate before `meridian cluster approve` was called with the words that the agent shows
        #[arg(long)]
        require_approval: bool,
    },
    /// List the tokens, without their secrets
    List {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Forget a token; nobody can join with it any more
    Delete {
        /// Name, as listed
        name: String,
    },
}

/// About tokens of the web API.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiTokenCommand {
    /// Make a token; prints it, now and never again
    #[command(
        after_help = "Examples:\n  meridian api-token create alice --role admin > alice.token\n  \
                      meridian api-token create ci --role operator --project shop --expires-in 720h > ci.token\n\n\
                      viewer    reads what holds no secret\n\
                      operator  also makes, changes and deletes databases\n\
                      admin     also decides who takes part: members, tokens, the hub itself, its backups\n\n\
                      A token that is limited to projects sees only databases with such a label meridian.dev/project, and \
                      those without the label in the project default."
    )]
    Create {
        /// Who will hold it
        holder: String,
        /// What it may do
        #[arg(long, value_enum)]
        role: RoleArg,
        /// Limit it to this project; may be given several times [default: all projects]
        #[arg(long = "project", value_name = "NAME")]
        projects: Vec<String>,
        /// Life of the token, such as 720h, or `never` for the role admin; 90 days if left out
        #[arg(long, value_name = "TIME", value_parser = life)]
        expires_in: Option<Life>,
    },
    /// List the tokens, without their secrets
    List {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Delete a token; it opens nothing any more, at once
    Delete {
        /// Name, as listed
        name: String,
    },
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Reads.
    Viewer,
    /// Makes, changes and deletes databases.
    Operator,
    /// Decides about all else.
    Admin,
}

/// How long a token lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// So long.
    For(Duration),
    /// Without end.
    Never,
}

/// A time, or `never`.
fn life(text: &str) -> Result<Life, String> {
    if text == "never" {
        return Ok(Life::Never);
    }
    let time = duration(text).map_err(|reason| format!("{reason}, or never"))?;
    Ok(Life::For(time))
}

/// About the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the newest records
    List {
        /// As many of them
        #[arg(long, value_name = "RECORDS", default_value_t = 50)]
        limit: u32,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Write the whole log into a file, as lines of JSON, and verify it
    #[command(
        after_help = "Example:\n  meridian audit export --file audit-$(date +%F).jsonl\n\n\
                      The hub keeps a bounded number of records (--audit-keep of `meridian-hub serve`): export them before, where all \
                      are to be kept."
    )]
    Export {
        /// File to write, readable by its owner only. It is whole or not there
        #[arg(long, value_name = "PATH")]
        file: PathBuf,
        /// Replace a file of that name
        #[arg(long)]
        force: bool,
    },
    /// Verify that no record was changed, removed, inserted or moved
    #[command(
        after_help = "Examples:\n  meridian audit verify\n  meridian audit verify --noted 512:9f86d0…\n  \
                      meridian audit verify --file audit-2026-11-22.jsonl\n\n\
                      Prints the place NUMBER:HASH of the newest record. Whoever can write into the hub's store could make the \
                      whole log anew: note a place where they cannot write, and give it to a later verification with --noted."
    )]
    Verify {
        /// Exported file; no hub is asked [default: the log of the hub]
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
        /// Place that was printed before; may be given several times
        #[arg(long, value_name = "NUMBER:HASH")]
        noted: Vec<Place>,
    },
}

/// About the hub itself.
#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    /// Show whether it decides or only observes, and why
    Status {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Back up the state of the hub while it runs
    #[command(
        after_help = "Examples:\n  meridian hub backup --file hub-$(date +%F).backup\n  \
                      meridian hub backup --file hub.backup --force -o json\n\n\
                      The file holds every record of the store, all of one revision, and a checksum; it does not matter whether the \
                      store is a file or etcd. Tokens are in it as hashes only. It does not contain the private key of the \
                      certificate authority: keep a copy of its folder apart (ca in the hub's data directory, or --ca-dir), \
                      without which no backup can be used.\n\n\
                      `meridian-hub restore` puts it into an empty store."
    )]
    Backup {
        /// File to write, readable by its owner only. It is whole or not there
        #[arg(long, value_name = "PATH")]
        file: PathBuf,
        /// Replace a file of that name
        #[arg(long)]
        force: bool,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Collect what is needed to find a fault of the hub, without secrets
    #[command(
        after_help = "Example:\n  meridian hub support-bundle -o hub.tar.gz\n\n\
                      Needs a token with the role admin. Of what the hub answers listed fields are written, and the newest lines of its \
                      log; tokens, keys and certificates are not asked for. What could not be read stands in manifest.json. For one \
                      cluster: meridian support-bundle."
    )]
    SupportBundle {
        /// File to write [default: meridian-hub-support-TIME.tar.gz]
        #[arg(short, long, value_name = "FILE.tar.gz")]
        output: Option<PathBuf>,
    },
    /// Let a hub that only observes go on with the store that it has: promote a restored one
    #[command(
        visible_alias = "promote",
        after_help = "Examples:\n  meridian hub promote\n  meridian hub adopt --yes\n\n\
                      Promote and adopt are two names of one decision: the hub's present store becomes the truth.\n\n\
                      A hub observes after its store was restored from a backup, and when a member has obeyed something that is not in its store: the store was lost, or an \
                      older copy was put back. Wait until all members are connected: what they report raises the \
                      numbers that the hub gives. While it observes, nothing is applied and nothing deleted. If the newest \
                      store can be found, start the hub with that one instead: then nothing needs to be adopted."
    )]
    Adopt {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// List deletions that are frozen because there were too many of them
    #[command(after_help = "Example:\n  meridian hub freezes\n\n\
                      More than 3 databases, and more than one in ten, that are to go from one cluster or from the whole fleet \
                      within an hour stop all deletions there, also those that somebody confirmed by name: a script confirms by \
                      name as well. Nothing else stops.")]
    Freezes {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Let the frozen deletions of one list go on
    #[command(
        after_help = "Examples:\n  meridian hub freezes\n  meridian hub release 5f3a9c0d1e2b4a68 --dry-run\n  \
                      meridian hub release 5f3a9c0d1e2b4a68\n\n\
                      A list is named by what is in it. If a deletion is added after you looked, the list has another name, and \
                      nothing is released by the old one."
    )]
    Release {
        /// Name of the list, as `meridian hub freezes` shows it
        list: String,
        /// Show what would go, and release nothing
        #[arg(long)]
        dry_run: bool,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// As the hub sent it.
    Json,
    /// As the hub sent it, as YAML.
    Yaml,
}

/// A time such as `90s`, `30m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "expected a time such as 90s, 30m or 1h";
    let time: SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    match Duration::try_from(time) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(wanted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declarations_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit_and_are_not_zero() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3_600)));
        for wrong in ["", "1", "-1h", "0s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_life_is_a_time_or_the_word_never() {
        assert_eq!(life("never"), Ok(Life::Never));
        assert_eq!(life("24h"), Ok(Life::For(Duration::from_secs(86_400))));
        for wrong in ["", "Never", "0s", "ever"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_of_a_kind_that_does_not_exist_is_refused_with_the_names_that_do() {
        let error = Cli::try_parse_from(["meridian", "get", "pods"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("activeactivedatabases"), "{error}");
    }
}
