//! The commands. Each asks the hub and prints what it answers.

mod api_token;
mod apply;
mod audit;
mod backup;
mod ca;
mod cluster;
mod debug;
mod delete;
mod get;
mod hub;
mod login;
mod token;
mod watch;

use std::{env, path::PathBuf};

use jiff::Timestamp;

use crate::{
    args::{
        ApiTokenCommand, Ask, AuditCommand, Cli, ClusterCommand, Command, DeleteArgs, HubCommand,
        TokenCommand,
    },
    bundle,
    client::Hub,
    config::Target,
    error::CliError,
    kinds::Kind,
    preflight,
};

/// Does what was typed.
pub(crate) async fn run(cli: Cli) -> Result<(), CliError> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let now = Timestamp::now();
    match cli.command {
        Command::SupportBundle(args) => bundle::run(args, cli.hub.request_timeout, now).await,
        Command::Preflight(args) => preflight::run(args, cli.hub.request_timeout).await,
        Command::Login {
            no_browser,
            port,
            timeout,
        } => {
            let place = Target::place(cli.hub, home.as_deref())?;
            login::login(place, !no_browser, port, timeout).await
        }
        Command::Logout => login::logout(Target::place(cli.hub, home.as_deref())?).await,
        // Whoever verifies a file may have no hub.
        Command::Ask(Ask::Audit(AuditCommand::Verify {
            file: Some(file),
            noted,
        })) => audit::verify_file(&file, &noted),
        Command::Ask(asked) => {
            let hub = Hub::new(&Target::resolve(cli.hub, home.as_deref())?)?;
            ask(&hub, asked, now).await
        }
    }
}

async fn ask(hub: &Hub, asked: Ask, now: Timestamp) -> Result<(), CliError> {
    match asked {
        Ask::Token(TokenCommand::Create {
            name,
            ttl,
            require_approval,
        }) => token::create(hub, &name, ttl, require_approval).await,
        Ask::Token(TokenCommand::List { output }) => get::list(hub, Kind::Token, output, now).await,
        Ask::Token(TokenCommand::Delete { name }) => delete::token(hub, Kind::Token, &name).await,
        Ask::ApiToken(command) => api_token(hub, command, now).await,
        Ask::Cluster(command) => member(hub, command, now).await,
        Ask::Audit(command) => audit::run(hub, command, now).await,
        Ask::Ca(command) => ca::run(hub, command, now).await,
        Ask::Hub(command) => hub_itself(hub, command, now).await,
        Ask::Debug(command) => debug::run(hub, command, now).await,
        Ask::Apply { filename, dry_run } => apply::apply(hub, &filename, dry_run).await,
        Ask::Get {
            kind,
            name,
            output,
            watch: true,
        } => watch::watch(hub, kind, name.as_deref(), output).await,
        Ask::Get {
            kind,
            name: None,
            output,
            watch: false,
        } => get::list(hub, kind, output, now).await,
        Ask::Get {
            kind,
            name: Some(name),
            output,
            watch: false,
        } => get::one(hub, kind, &name, output, now).await,
        Ask::Describe { kind, name } => get::describe(hub, kind, &name, now).await,
        Ask::Delete(args) => delete::delete(hub, args).await,
    }
}

async fn member(hub: &Hub, command: ClusterCommand, now: Timestamp) -> Result<(), CliError> {
    match command {
        ClusterCommand::List { output } => get::list(hub, Kind::Cluster, output, now).await,
        ClusterCommand::Remove {
            name,
            lost: true,
            dry_run,
            how,
        } => cluster::lose(hub, &name, (dry_run, how.yes), now).await,
        ClusterCommand::Remove {
            name,
            lost: false,
            dry_run: _,
            how,
        } => {
            let kind = Kind::Cluster;
            delete::delete(hub, DeleteArgs { kind, name, how }).await
        }
        ClusterCommand::Lost { output } => cluster::lost(hub, output, now).await,
        ClusterCommand::Approve { name, words } => cluster::approve(hub, &name, &words).await,
        ClusterCommand::Deny {
            name,
            reason,
            certificate,
            even_if_unknown,
        } => cluster::deny(hub, &name, &reason, (certificate, even_if_unknown)).await,
        ClusterCommand::Release { name } => cluster::release(hub, &name).await,
    }
}

async fn hub_itself(hub: &Hub, command: HubCommand, now: Timestamp) -> Result<(), CliError> {
    match command {
        HubCommand::Status { output } => hub::status(hub, output, now).await,
        HubCommand::Backup {
            file,
            force,
            output,
        } => backup::backup(hub, &file, force, output).await,
        HubCommand::SupportBundle { output } => bundle::hub::run(hub, output, now).await,
        HubCommand::Adopt { yes } => hub::adopt(hub, yes, now).await,
        HubCommand::Freezes { output } => hub::freezes(hub, output, now).await,
        HubCommand::Release {
            list,
            dry_run,
            output,
        } => hub::release(hub, &list, dry_run, output).await,
    }
}

async fn api_token(hub: &Hub, command: ApiTokenCommand, now: Timestamp) -> Result<(), CliError> {
    match command {
        ApiTokenCommand::Create {
            holder,
            role,
            projects,
            expires_in,
        } => api_token::create(hub, holder, role, projects, expires_in).await,
        ApiTokenCommand::List { output } => get::list(hub, Kind::ApiToken, output, now).await,
        ApiTokenCommand::Delete { name } => delete::token(hub, Kind::ApiToken, &name).await,
    }
}

/// Path of one object. Names come from people and files: whatever is not plain is escaped.
fn object_path(kind: Kind, name: &str) -> String {
    format!("{}/{}", kind.path(), escaped(name))
}

/// As part of an address.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_collection() {
        assert_eq!(object_path(Kind::Cluster, "eu-1"), "clusters/eu-1");
        assert_eq!(
            object_path(Kind::Cluster, "../tokens?x"),
            "clusters/..%2Ftokens%3Fx"
        );
    }
}
