//! A namespace of a real cluster with an agent of its own, and what scenarios ask of it.

use std::{path::Path, sync::Mutex, time::Duration};

use anyhow::{Context, Result, ensure};
use meridian_integration::{
    lab::{Lab, LabConfig},
    shell::{self, Output},
    stack::cluster,
    wait::{Look, until, until_true},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// How long an ordinary change may take to be seen.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long pods may take to come up on a busy machine.
pub(crate) const PODS: Duration = Duration::from_secs(180);

static KUBECONFIG: OnceCell<String> = OnceCell::const_new();

/// The first cluster of `MERIDIAN_KUBECONFIGS`, or a lab of one node with the agent's image and our definitions.
async fn kubeconfig() -> Result<&'static String> {
    let found = KUBECONFIG.get_or_try_init(async || {
        let config = LabConfig {
            clusters: 1,
            nodes: 1,
            program: env!("CARGO_BIN_EXE_lab").into(),
            ..LabConfig::from_environment()?
        };
        let lab = Lab::attach_or_up(&config).await?;
        if std::env::var_os("MERIDIAN_KUBECONFIGS").is_none() {
            let image = root().join("target/images/meridian-agent.tar");
            ensure!(
                image.exists(),
                "{} is missing: run `make images`",
                image.display()
            );
            lab.load_image(&image.to_string_lossy()).await?;
        }
        let cluster = lab.clusters().first().context("no cluster")?;
        let kubeconfig = cluster.kubeconfig().to_string_lossy().into_owned();
        let crds = root().join("deploy/crds").to_string_lossy().into_owned();
        let arguments = ["--kubeconfig", &kubeconfig, "apply", "-f", &crds];
        shell::succeed(&cluster::kubectl()?, &arguments, &[], "")?;
        anyhow::Ok(kubeconfig)
    });
    found.await
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A namespace of a scenario's own.
pub(crate) struct Site {
    kubeconfig: String,
    kubectl: String,
    pub(crate) namespace: String,
}

impl Site {
    /// A new, empty namespace.
    pub(crate) async fn empty(purpose: &str) -> Result<Self> {
        let site = Self {
            kubeconfig: kubeconfig().await?.clone(),
            kubectl: cluster::kubectl()?,
            namespace: format!("admission-{purpose}-{}", std::process::id()),
        };
        site.must(&["create", "namespace", &site.namespace], "")?;
        Ok(site)
    }

    /// A namespace with an agent of two replicas whose webhook is in force.
    pub(crate) async fn guarded(purpose: &str) -> Result<Self> {
        let site = Self::empty(purpose).await?;
        site.install_webhook()?;
        site.install_agent()?;
        site.in_force().await?;
        Ok(site)
    }

    /// Applies deploy/bundle/admission.yaml as its head says.
    pub(crate) fn install_webhook(&self) -> Result<()> {
        self.must(&["apply", "-f", "-"], &self.webhook_bundle()?)
            .map(drop)
    }

    /// deploy/bundle/admission.yaml for this namespace.
    pub(crate) fn webhook_bundle(&self) -> Result<String> {
        let text = std::fs::read_to_string(root().join("deploy/bundle/admission.yaml"))?;
        Ok(text.replace("NAMESPACE", &self.namespace))
    }

    /// Applies deploy/bundle/agent.yaml. One at a time: its cluster-wide role is one object for all namespaces, and of two
    /// `kubectl apply` that both find it missing, the API server refuses the second.
    pub(crate) fn install_agent(&self) -> Result<()> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock();
        let bundle = root().join("deploy/bundle/agent.yaml");
        self.must(&["apply", "-f", &bundle.to_string_lossy()], "")
            .map(drop)
    }

    /// Takes back what stands in this namespace of deploy/bundle/agent.yaml. What is cluster-wide in it is shared with the other
    /// scenarios, and stays.
    pub(crate) fn uninstall_agent(&self) -> Result<()> {
        let text = std::fs::read_to_string(root().join("deploy/bundle/agent.yaml"))?;
        let shared = |part: &&str| !part.contains("\nkind: ClusterRole");
        let ours: Vec<&str> = text.split("\n---\n").filter(shared).collect();
        let words = ["delete", "--timeout=60s", "--ignore-not-found", "-f", "-"];
        self.must(&words, &ours.join("\n---\n")).map(drop)
    }

    /// Waits until an illegal object is refused by the webhook, and both replicas answer.
    pub(crate) async fn in_force(&self) -> Result<()> {
        self.replicas(2).await?;
        let illegal = redb("probe", "{evictionPolicy: illegal}");
        let refused = until("the webhook is in force", SOON, async || {
            let out = self.kubectl(&["apply", "--dry-run=server", "-f", "-"], &illegal)?;
            Ok(if out.stderr.contains("denied the request") {
                Look::Holds(())
            } else {
                Look::NotYet(format!("{}{}", out.stdout, out.stderr))
            })
        });
        refused
            .await
            .map_err(|error| error.context(self.evidence()))
    }

    /// Scales the agent, and waits until so many replicas are ready and no other pod of it is left.
    pub(crate) async fn scale(&self, count: u64) -> Result<()> {
        let wanted = format!("--replicas={count}");
        self.must(&["scale", "deployment", "meridian-agent", &wanted], "")?;
        self.replicas(count).await
    }

    async fn replicas(&self, count: u64) -> Result<()> {
        let what = format!("{count} replicas of the agent are ready");
        let waited = until(&what, PODS, async || {
            let deployment = self
                .get("deployment", "meridian-agent")?
                .unwrap_or_default();
            let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0);
            let pods =
                self.json(&["get", "pods", "-l", "app.kubernetes.io/name=meridian-agent"])?;
            let pods = pods["items"].as_array().map_or(0, Vec::len);
            let count = usize::try_from(count)?;
            Ok(if usize::try_from(ready)? == count && pods == count {
                Look::Holds(())
            } else {
                Look::NotYet(format!("{ready} ready, {pods} pods"))
            })
        });
        waited.await.map_err(|error| error.context(self.evidence()))
    }

    pub(crate) fn kubectl(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut all = vec![
            "--kubeconfig",
            &self.kubeconfig,
            "--namespace",
            &self.namespace,
        ];
        all.extend_from_slice(args);
        shell::run(&self.kubectl, &all, &[], input)
    }

    pub(crate) fn must(&self, args: &[&str], input: &str) -> Result<String> {
        let out = self.kubectl(args, input)?;
        let told = format!("`kubectl {}`: {}{}", args.join(" "), out.stdout, out.stderr);
        ensure!(out.code == 0, "{told}");
        Ok(out.stdout)
    }

    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.must(&[args, &["-o", "json"]].concat(), "")?;
        serde_json::from_str(&text).context("output of kubectl")
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        let text = self.must(&["get", kind, name, "-o", "json", "--ignore-not-found"], "")?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Applies YAML, which must succeed; gives what was told on the way.
    pub(crate) fn apply(&self, yaml: &str) -> Result<String> {
        let out = self.kubectl(&["apply", "-f", "-"], yaml)?;
        ensure!(out.code == 0, "{}{}\n{yaml}", out.stdout, out.stderr);
        Ok(out.stderr)
    }

    /// Runs kubectl, which must fail; gives what was told.
    pub(crate) fn refused(&self, args: &[&str], input: &str) -> Result<String> {
        let out = self.kubectl(args, input)?;
        ensure!(
            out.code != 0,
            "`kubectl {}` succeeded: {}",
            args.join(" "),
            out.stdout
        );
        Ok(out.stderr)
    }

    /// Applies YAML, which must be refused; gives why.
    pub(crate) fn denied(&self, yaml: &str) -> Result<String> {
        self.refused(&["apply", "-f", "-"], yaml)
    }

    pub(crate) async fn gone(&self, kind: &str, name: &str) -> Result<()> {
        until_true(&format!("{kind} {name} is gone"), SOON, async || {
            Ok(self.get(kind, name)?.is_none())
        })
        .await
    }

    /// Name of the webhook configuration.
    pub(crate) fn configuration(&self) -> String {
        format!("redis-enterprise-admission-{}", self.namespace)
    }

    /// The bundle that API servers trust, base64.
    pub(crate) fn ca_bundle(&self) -> Result<String> {
        let found = self.get("validatingwebhookconfiguration", &self.configuration())?;
        let found = found.context("no configuration")?;
        let bundle = &found["webhooks"][0]["clientConfig"]["caBundle"];
        Ok(bundle.as_str().unwrap_or_default().to_owned())
    }

    /// Changes a field of the webhook in the configuration, as a person would by mistake.
    pub(crate) fn spoil(&self, path: &str, value: &Value) -> Result<()> {
        let patch = json!([{ "op": "replace", "path": path, "value": value }]).to_string();
        let name = self.configuration();
        let args = [
            "patch",
            "validatingwebhookconfiguration",
            &name,
            "--type=json",
            "-p",
            &patch,
        ];
        self.must(&args, "").map(drop)
    }

    /// Takes the namespace away with everything in it, whatever holds on to it, and what lies outside it.
    pub(crate) async fn remove(&self) -> Result<()> {
        self.must(
            &["delete", "--ignore-not-found", "-f", "-"],
            &self.webhook_bundle()?,
        )?;
        self.must(
            &[
                "delete",
                "namespace",
                &self.namespace,
                "--wait=false",
                "--ignore-not-found",
            ],
            "",
        )?;
        until_true("the namespace is gone", PODS, async || {
            self.release_all()?;
            let args = [
                "get",
                "namespace",
                &self.namespace,
                "--ignore-not-found",
                "-o",
                "name",
            ];
            Ok(self.must(&args, "")?.trim().is_empty())
        })
        .await
    }

    /// The documented way out: takes every finalizer off what is left.
    pub(crate) fn release_all(&self) -> Result<()> {
        let kinds = "redb,reaadb,rec";
        let list = self.must(&["get", kinds, "-o", "name", "--ignore-not-found"], "")?;
        for name in list.lines() {
            let patch = r#"{"metadata":{"finalizers":null}}"#;
            // It may go by itself in between.
            let out = self.kubectl(&["patch", name, "--type=merge", "-p", patch], "")?;
            ensure!(
                out.code == 0 || out.stderr.contains("NotFound"),
                "{}",
                out.stderr
            );
        }
        Ok(())
    }

    /// What a person would look at when something does not come up.
    pub(crate) fn evidence(&self) -> String {
        let looks: [&[&str]; 3] = [
            &[
                "get",
                "pods,secret,svc,validatingwebhookconfigurations",
                "-o",
                "wide",
            ],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "-l",
                "app.kubernetes.io/name=meridian-agent",
                "--tail=20",
                "--prefix",
            ],
        ];
        let told = looks.iter().map(|args| match self.kubectl(args, "") {
            Ok(out) => format!("$ kubectl {}\n{}{}", args.join(" "), out.stdout, out.stderr),
            Err(error) => error.to_string(),
        });
        told.collect::<Vec<_>>().join("\n")
    }
}

/// A REDB with this spec.
pub(crate) fn redb(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// A RERC with these further fields.
pub(crate) fn rerc(name: &str, more: &str) -> String {
    format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseRemoteCluster\nmetadata: {{name: {name}}}\n\
         spec: {{recName: rec, recNamespace: elsewhere, apiFqdnUrl: api.{name}.example.com{more}}}\n"
    )
}

/// A REAADB over these participants with these settings.
pub(crate) fn reaadb(name: &str, participants: &[&str], settings: &str) -> String {
    let list: Vec<_> = participants
        .iter()
        .map(|name| format!("{{name: {name}}}"))
        .collect();
    format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseActiveActiveDatabase\nmetadata: {{name: {name}}}\n\
         spec: {{participatingClusters: [{}], globalConfigurations: {settings}}}\n",
        list.join(", ")
    )
}
