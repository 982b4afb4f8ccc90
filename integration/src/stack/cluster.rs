//! One member cluster of a stack, used through `kubectl`.

use std::{fs, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Hub, NAMESPACE, Paths, REC, Region};
use crate::{
    lab::Lab,
    shell::{self, Output},
    wait::{Look, until},
};

/// A REC of three small nodes whose databases get load balancer addresses, so that this machine reaches them.
const REC_YAML: &str = "
apiVersion: app.redislabs.com/v1
kind: RedisEnterpriseCluster
metadata: {name: rec}
spec:
  nodes: 3
  persistentSpec: {enabled: true, volumeSize: 1Gi}
  servicesRiggerSpec: {databaseServiceType: 'cluster_ip,load_balancer'}
  redisEnterpriseNodeResources:
    limits: {cpu: 1, memory: 1Gi}
    requests: {cpu: 100m, memory: 1Gi}
";

/// A Kubernetes cluster and how to talk to it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Name in the lab and in the hub.
    pub name: String,
    /// Path of the kubeconfig.
    pub kubeconfig: String,
    kubectl: String,
}

impl Cluster {
    /// Starts clusters, or finds them running, and puts the images on their nodes. Those of `MERIDIAN_KUBECONFIGS` are taken as
    /// they are: they must be as many, and have the images.
    ///
    /// # Errors
    /// If the lab fails (its own output names the part), or too few clusters are named.
    pub fn start_lab(paths: &Paths, clusters: usize, nodes: usize) -> anyhow::Result<Vec<Self>> {
        if let Some(others) = Lab::of_environment()? {
            let found = others.clusters().len();
            ensure!(
                found >= clusters,
                "MERIDIAN_KUBECONFIGS names {found} clusters, and {clusters} are needed"
            );
            let mut all = Self::of_lab(&others)?;
            all.truncate(clusters);
            return Ok(all);
        }
        let lab = paths.program("lab")?;
        let (clusters, nodes) = (clusters.to_string(), nodes.to_string());
        run_loudly(&lab, &["up", "--clusters", &clusters, "--nodes", &nodes])?;
        for image in ["meridian-node", "meridian-agent"] {
            let tar = paths.root.join(format!("target/images/{image}.tar"));
            ensure!(
                tar.exists(),
                "{} is missing: run `make images`",
                tar.display()
            );
            run_loudly(&lab, &["load", &tar.to_string_lossy()])?;
        }
        Self::running(paths)
    }

    fn of_lab(lab: &Lab) -> anyhow::Result<Vec<Self>> {
        let kubectl = kubectl()?;
        let own = |cluster: &crate::lab::Cluster| Self {
            name: cluster.name().to_owned(),
            kubeconfig: cluster.kubeconfig().to_string_lossy().into_owned(),
            kubectl: kubectl.clone(),
        };
        Ok(lab.clusters().iter().map(own).collect())
    }

    /// The first cluster of a lab, with images, custom resources and an agent that has no hub.
    ///
    /// # Errors
    /// With what the failing command printed.
    pub async fn with_agent(paths: &Paths, lab: &Lab) -> anyhow::Result<Self> {
        for image in ["meridian-node", "meridian-agent"] {
            let archive = paths.root.join(format!("target/images/{image}.tar"));
            lab.load_image(&archive.to_string_lossy()).await?;
        }
        let first = Self::of_lab(lab)?.into_iter().next();
        let cluster = first.context("a lab without clusters")?;
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n"
        ))?;
        for folder in ["deploy/crds", "deploy/bundle/agent.yaml"] {
            let path = paths.root.join(folder);
            cluster.must(&["apply", "-f", &path.to_string_lossy()], "")?;
        }
        let rollout = [
            "rollout",
            "status",
            "deployment/meridian-agent",
            "--timeout=90s",
        ];
        cluster.must(&rollout, "")?;
        Ok(cluster)
    }

    /// The clusters of `MERIDIAN_KUBECONFIGS`, or of the lab that runs.
    ///
    /// # Errors
    /// If none runs.
    pub fn running(paths: &Paths) -> anyhow::Result<Vec<Self>> {
        if let Some(others) = Lab::of_environment()? {
            return Self::of_lab(&others);
        }
        let lab = paths.program("lab")?;
        let status: Value =
            serde_json::from_str(&shell::succeed(&lab, &["status", "-o", "json"], &[], "")?)
                .context("output of `lab status -o json`")?;
        let clusters: Vec<String> = status["clusters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str().map(str::to_owned))
            .collect();
        ensure!(
            !clusters.is_empty(),
            "no cluster runs: `make demo` or `make lab` starts them"
        );
        let kubectl = kubectl()?;
        clusters
            .into_iter()
            .map(|name| {
                let kubeconfig = shell::succeed(&lab, &["kubeconfig", &name], &[], "")?
                    .trim()
                    .to_owned();
                Ok(Self {
                    name,
                    kubeconfig,
                    kubectl: kubectl.clone(),
                })
            })
            .collect()
    }

    /// Runs `kubectl` in the namespace of the stack.
    ///
    /// # Errors
    /// If it cannot be started. Its exit code is in the output.
    pub fn kubectl(&self, args: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut all = vec!["--kubeconfig", &self.kubeconfig, "--namespace", NAMESPACE];
        all.extend_from_slice(args);
        shell::run(&self.kubectl, &all, &[], input)
    }

    /// Runs `kubectl`; it must succeed.
    ///
    /// # Errors
    /// With all it printed.
    pub fn must(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let out = self.kubectl(args, input)?;
        ensure!(
            out.code == 0,
            "{}: `kubectl {}` ended with {}:\n{}{}",
            self.name,
            args.join(" "),
            out.code,
            out.stdout,
            out.stderr
        );
        Ok(out.stdout)
    }

    /// `kubectl apply` of YAML.
    ///
    /// # Errors
    /// With all it printed.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.must(&["apply", "-f", "-"], yaml).map(|_| ())
    }

    /// An object, or `None` if it is not there.
    ///
    /// # Errors
    /// If the API server refuses for another reason.
    pub fn get(&self, kind: &str, name: &str) -> anyhow::Result<Option<Value>> {
        let text = self.must(&["get", kind, name, "-o", "json", "--ignore-not-found"], "")?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{kind} {name} as JSON"))
            .map(Some)
    }

    /// All objects of a kind in the namespace.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn list(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.must(&["get", kind, "-o", "json"], "")?)?;
        Ok(super::hub::items(&list).to_vec())
    }

    /// Installs custom resources, join material, agent and REC: what a person does to join a cluster.
    ///
    /// # Errors
    /// With what the failing command printed.
    pub fn install(&self, paths: &Paths, hub: &Hub) -> anyhow::Result<()> {
        let namespace =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
        self.apply(&namespace)?;
        self.must(
            &[
                "apply",
                "-f",
                &paths.root.join("deploy/crds").to_string_lossy(),
            ],
            "",
        )?;
        if self.get("secret", "meridian-identity")?.is_none() {
            let material = hub.must(&["token", "create", &self.name], "")?;
            self.apply(&material)?;
        }
        self.must(
            &[
                "apply",
                "-f",
                &paths
                    .root
                    .join("deploy/bundle/agent.yaml")
                    .to_string_lossy(),
            ],
            "",
        )?;
        self.apply(REC_YAML)
    }

    /// Waits until the REC runs.
    ///
    /// # Errors
    /// After `within`, with the state last seen, its pods and Events.
    pub async fn rec_running(&self, within: Duration) -> anyhow::Result<()> {
        let waited = until(
            &format!("{}: REC {REC} Running", self.name),
            within,
            || async {
                let Some(rec) = self.get("rec", REC)? else {
                    return Ok(Look::NotYet("no REC".into()));
                };
                let state = rec["status"]["state"].as_str().unwrap_or("").to_owned();
                Ok(if state == "Running" {
                    Look::Holds(())
                } else {
                    Look::NotYet(rec["status"].to_string())
                })
            },
        )
        .await;
        waited.map_err(|e| e.context(self.evidence()))
    }

    /// What a person would look at when something does not come up.
    #[must_use]
    pub fn evidence(&self) -> String {
        let looks: [&[&str]; 5] = [
            &[
                "get",
                "pods,rec,redb,rerc,reaadb,dbtopo,aai,svc",
                "-o",
                "wide",
            ],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "-l",
                "app.kubernetes.io/name=meridian-agent",
                "--tail=40",
                "--prefix",
            ],
            &["get", "dbtopo", "-o", "yaml"],
            &["logs", "-l", "redis.io/role=node", "--tail=40", "--prefix"],
        ];
        let texts = looks.iter().map(|args| match self.kubectl(args, "") {
            Ok(out) => format!("$ kubectl {}\n{}{}", args.join(" "), out.stdout, out.stderr),
            Err(e) => e.to_string(),
        });
        format!(
            "evidence of {}:\n{}",
            self.name,
            texts.collect::<Vec<_>>().join("\n")
        )
    }

    /// Waits until the database's load balancer has an address, and gives a client for it.
    ///
    /// # Errors
    /// After `within`.
    pub async fn region(
        &self,
        database: &str,
        password: &str,
        within: Duration,
    ) -> anyhow::Result<Region> {
        let service = format!("{database}-load-balancer");
        let address = until(
            &format!("{}: address of Service {service}", self.name),
            within,
            || async {
                let Some(found) = self.get("service", &service)? else {
                    return Ok(Look::NotYet("no Service".into()));
                };
                let ip = found["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
                let port = found["spec"]["ports"][0]["port"].as_u64();
                Ok(match (ip, port) {
                    (Some(ip), Some(port)) => Look::Holds(format!("{ip}:{port}")),
                    _ => Look::NotYet(found["status"].to_string()),
                })
            },
        )
        .await?;
        Ok(Region::new(&self.name, &address, password))
    }
}

/// The kubectl that the lab built.
///
/// # Errors
/// If it is not there.
pub fn kubectl() -> anyhow::Result<String> {
    let cache = match std::env::var("MERIDIAN_CACHE") {
        Ok(dir) => dir,
        Err(_) => format!(
            "{}/.cache/meridian",
            std::env::var("HOME").context("HOME is not set")?
        ),
    };
    let found = fs::read_dir(&cache)
        .with_context(|| format!("{cache}: run tools/prerequisites.sh"))?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("kubernetes-")
        })
        .map(|entry| entry.path().join("kubectl"))
        .find(|path| path.exists());
    let path = found.with_context(|| {
        format!("no kubectl below {cache}/kubernetes-*: run tools/prerequisites.sh")
    })?;
    Ok(path.to_string_lossy().into_owned())
}

/// Runs a command whose progress lines belong to the reader.
fn run_loudly(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = std::process::Command::new(program)
        .args(args)
        .status()
        .with_context(|| format!("start {program}"))?;
    ensure!(status.success(), "`{program} {}` failed", args.join(" "));
    Ok(())
}
