//! `meridian preflight`: what another operator of the same kinds has in a cluster, before Meridian is installed there. Only reads,
//! with the rights of the person's own kubeconfig; what it means is said in [`meridian_api::installation`].

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use meridian_api::installation::{self, Definition, Finding, OWN, SHARED, VENDOR_OPERATOR};
use serde_json::Value;

use crate::{
    args::PreflightArgs,
    bundle::source::{Form, Kubernetes, Source},
    error::CliError,
    output,
};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments?fieldSelector=metadata.name%3D";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
/// Applies definitions so that fields which somebody else has written are conflicts instead of being overwritten.
const APPLY: &str = "apply --server-side --field-manager=meridian";

/// What could not be read, where whose the definitions are is not known.
const UNREAD: &str = "the definitions of custom resources";

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// Definitions that are there.
    definitions: Vec<Definition>,
    /// What is to be known, or speaks against it.
    findings: Vec<Finding>,
}

/// Looks, and prints the next step or refuses.
pub(crate) async fn run(args: PreflightArgs, patience: Duration) -> Result<(), CliError> {
    let context = args.context.clone();
    let cluster = Kubernetes::open(args.kubeconfig, args.context, args.namespace, patience).await?;
    let namespace = cluster.namespace().to_owned();
    let found = look(&cluster, &namespace).await;
    output::print(&verdict(
        &found,
        &namespace,
        context.as_deref(),
        args.beside_vendor,
    )?)
}

async fn look(cluster: &impl Source, namespace: &str) -> Found {
    let mut found = Found::default();
    if let Err(why) = definitions(cluster, &mut found).await {
        found.findings.push(Finding::Unread(UNREAD, why));
    }
    match list(
        cluster,
        &format!("{DEPLOYMENTS}{VENDOR_OPERATOR}"),
        Form::Metadata,
    )
    .await
    {
        Ok(all) => found.findings.extend(all.iter().map(|one| {
            let namespace = one["metadata"]["namespace"].as_str();
            Finding::Operator(namespace.unwrap_or_default().to_owned())
        })),
        Err(why) => {
            let what = "Deployments of all namespaces, by name";
            found.findings.push(Finding::Unread(what, why));
        }
    }
    match list(cluster, WEBHOOKS, Form::Whole).await {
        Ok(all) => {
            let theirs = all
                .iter()
                .filter_map(|one| installation::webhook(one, namespace));
            found.findings.extend(theirs);
        }
        Err(why) => {
            let what = "the webhook configurations";
            found.findings.push(Finding::Unread(what, why));
        }
    }
    found
}

/// Definitions are large and clusters have hundreds: only those that matter are read whole.
async fn definitions(cluster: &impl Source, found: &mut Found) -> Result<(), String> {
    let present: BTreeSet<String> = list(cluster, DEFINITIONS, Form::Metadata)
        .await?
        .iter()
        .filter_map(|one| Some(one["metadata"]["name"].as_str()?.to_owned()))
        .collect();
    for name in SHARED
        .into_iter()
        .chain(OWN)
        .filter(|name| present.contains(*name))
    {
        let text = cluster
            .get(&format!("{DEFINITIONS}/{name}"), Form::Whole)
            .await?;
        let one: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let definition = Definition::read(&one);
        if !definition.ours {
            found.findings.push(Finding::Definition(definition.clone()));
        }
        found.definitions.push(definition);
    }
    Ok(())
}

async fn list(cluster: &impl Source, path: &str, form: Form) -> Result<Vec<Value>, String> {
    let text = cluster.get(path, form).await?;
    let mut list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let is_list = list["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    let items = list["items"].take();
    match items.as_array() {
        Some(items) => Ok(items.clone()),
        // So API servers answer where only metadata is asked for and there is nothing.
        None if is_list && items.is_null() => Ok(Vec::new()),
        None => Err("the answer is no list".to_owned()),
    }
}

/// What is printed where Meridian can be installed, or why it cannot.
fn verdict(
    found: &Found,
    namespace: &str,
    context: Option<&str>,
    beside_vendor: bool,
) -> Result<String, CliError> {
    let obstacles: Vec<String> = found
        .findings
        .iter()
        .filter_map(|one| one.obstacle(namespace))
        .collect();
    if !obstacles.is_empty() {
        return Err(CliError::NotConfirmed(lines(&obstacles)));
    }
    let told: Vec<String> = found.findings.iter().map(ToString::to_string).collect();
    if !told.is_empty() && !beside_vendor {
        return Err(CliError::NotConfirmed(format!(
            "{}\nNext: if the namespace {namespace} is to be Meridian's and everything of the other operator is to stay as it is, \
             add --beside-vendor",
            lines(&told)
        )));
    }
    let mut text = String::new();
    for one in &told {
        let _infallible = writeln!(text, "# {one}");
    }
    let of = context
        .map(|name| format!(" --context {name}"))
        .unwrap_or_default();
    // Of ours, what an older release or another command has written is to be replaced.
    let force = if found.definitions.iter().any(|one| one.ours) {
        " --force-conflicts"
    } else {
        ""
    };
    let stay = found.not_ours();
    let files = if stay.is_empty() {
        " -f deploy/crds".to_owned()
    } else {
        let all = SHARED.into_iter().chain(OWN);
        all.filter(|name| !stay.contains(name)).map(file).collect()
    };
    let _infallible = writeln!(text, "kubectl{of} {APPLY}{force}{files}");
    Ok(text)
}

impl Found {
    /// Names of the definitions that are not ours to apply: those of others and, where they could not be read, all that may be.
    fn not_ours(&self) -> BTreeSet<&str> {
        let unread = |one: &Finding| matches!(one, Finding::Unread(what, _) if *what == UNREAD);
        if self.findings.iter().any(unread) {
            return SHARED.into_iter().collect();
        }
        let theirs = self.definitions.iter().filter(|one| !one.ours);
        theirs.map(|one| one.name.as_str()).collect()
    }
}

/// The file of a definition, as an argument.
fn file(name: &str) -> String {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    format!(" -f deploy/crds/{group}.{plural}.yaml")
}

fn lines(all: &[String]) -> String {
    all.iter().map(|one| format!("\n  {one}")).collect()
}

#[cfg(test)]
mod tests;
