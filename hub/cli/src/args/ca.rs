//! What can be typed about the certificate authority.

use clap::{Args, Subcommand};

use super::Format;

/// About the certificate authority.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Show the roots, who acknowledged them, and whom the next step waits for
    Status {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Print the roots as PEM, for --ca-file of people and programs that ask the hub
    #[command(after_help = "Example:\n  meridian ca roots > hub-ca.crt\n\n\
                      During a rotation there are two. Give the file to everybody who asks the hub before the new root signs: the hub's own \
                      certificate is of that root from then on.")]
    Roots,
    /// Begin to exchange the root: let everybody trust a new one as well
    #[command(
        after_help = "Examples:\n  meridian ca rotate --dry-run\n  meridian ca rotate\n\n\
                      A rotation is three steps, and live sessions and databases go on through all of them:\n\
                      rotate   everybody trusts the new root beside the old one; the old one signs\n\
                      advance  the new root signs; agents and nodes get new certificates within minutes\n\
                      advance  the old root is trusted no more\n\n\
                      Each step waits until every member that is not removed has acknowledged the one before, its nodes too. \
                      A hub on a file makes the new root beside the old one (DATA-DIR/ca); back that directory up afterwards. Where \
                      replicas share an authority, `meridian-hub next-root --ca-dir DIR` makes it, and every replica gets the files first."
    )]
    Rotate(Step),
    /// Go on: let the new root sign, and after that trust the old one no more
    #[command(
        after_help = "Examples:\n  meridian ca advance\n  meridian ca advance --even-without eu-1 --even-without us-2\n\n\
                      Refused, with everybody who is behind, until all acknowledged the step before; the old root does not go while a \
                      certificate of it is in use. A member that is named with --even-without and does not hold the roots of the next \
                      step believes the hub no more; its databases serve on, and replicate until their certificates are refused. It comes \
                      back by new join material: `meridian token create NAME | kubectl apply -f -`; keys and databases stay."
    )]
    Advance(Step),
    /// Take the last step back
    #[command(after_help = "Example:\n  meridian ca abort\n\n\
                      Of a root that never signed everything is taken back at once. One that signed stops to sign first; it goes with a second \
                      abort, once nobody uses a certificate of it. It is never taken up again: the next rotation makes another.")]
    Abort(Step),
}

/// How a step is taken.
#[derive(Debug, Args)]
pub(crate) struct Step {
    /// Member that is left behind; may be given several times
    #[arg(long, value_name = "CLUSTER")]
    pub(crate) even_without: Vec<String>,
    /// Only say whether it could be done, and what would be
    #[arg(long)]
    pub(crate) dry_run: bool,
}
