//! A lab of a test's own, and what the tests ask of it.

#![expect(clippy::unwrap_used, reason = "a test ends where its ground gives way")]

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use futures::FutureExt;
use meridian_integration::lab::{Binaries, Lab, LabConfig, ProcessRecord};
use meridian_integration::shell::{self, Output};
use meridian_integration::wait::{Look, until};
use serde_json::{Value, json};

/// A lab that lives as long as its test.
pub(crate) struct TestLab {
    lab: Lab,
    config: LabConfig,
}

/// Brings a lab up, lets the test work with it, takes it down whatever the test did, and looks for anything left.
pub(crate) async fn with_lab<F>(id: u8, clusters: u8, nodes: u8, test: F)
where
    F: AsyncFnOnce(&TestLab) -> anyhow::Result<()>,
{
    // Lives until the lab is down: `down` finds in it what it has to end.
    let folder = tempfile::tempdir().unwrap();
    let config = LabConfig {
        id: Some(id),
        clusters,
        nodes,
        state_dir: folder.path().join("lab"),
        program: env!("CARGO_BIN_EXE_lab").into(),
        ..LabConfig::from_environment().unwrap()
    };
    let result = match Lab::up(&config).await {
        Err(error) => Ok(Err(error.into())),
        Ok(lab) => {
            let lab = TestLab {
                lab,
                config: config.clone(),
            };
            AssertUnwindSafe(test(&lab)).catch_unwind().await
        }
    };
    let down = Lab::down(&config).await;
    match result {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(result) => result.unwrap(),
    }
    down.unwrap();
    let left = leftovers(id, &config.state_dir);
    assert!(left.is_empty(), "`down` left behind:\n{}", left.join("\n"));
}

/// Everything on this machine that still bears a lab's name or works in its folder.
fn leftovers(id: u8, state: &Path) -> Vec<String> {
    let bridge = format!("mlab{id}");
    let ours = |name: &str| name == bridge || name.starts_with(&format!("{bridge}-"));
    let mut left = Vec::new();
    for folder in [
        "/run/netns",
        "/sys/class/net",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/pids",
        "/sys/fs/cgroup/unified",
    ] {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| ours(name));
        left.extend(names.map(|name| format!("{folder}/{name}")));
    }
    let state = state.to_string_lossy();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&*state))
            .map(|line| format!("mount {line}")),
    );
    for rules in ["filter", "nat", "raw"] {
        let listing = shell::succeed("iptables", &["-w", "-t", rules, "-S"], &[], "").unwrap();
        let found = listing.lines().filter(|line| line.split(' ').any(ours));
        left.extend(found.map(|line| format!("iptables {rules} {line}")));
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if command.contains(&*state) {
            left.push(format!(
                "process {}: {}",
                entry.file_name().display(),
                command.replace('\0', " ")
            ));
        }
    }
    left
}

impl TestLab {
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn state(&self) -> &Path {
        &self.config.state_dir
    }

    pub(crate) async fn up_again(&self, clusters: u8, nodes: u8) -> anyhow::Result<Lab> {
        Ok(Lab::up(&LabConfig {
            clusters,
            nodes,
            ..self.config.clone()
        })
        .await?)
    }

    pub(crate) async fn down(&self) -> anyhow::Result<()> {
        Ok(Lab::down(&self.config).await?)
    }

    /// The command `lab` for this lab.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_in(self.state(), arguments)
    }

    /// The command `lab` with this lab's id and another state folder.
    pub(crate) fn command_in(&self, state: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command
            .arg("--state-dir")
            .arg(state)
            .arg("--id")
            .arg(self.config.id.unwrap_or_default().to_string());
        command.args(arguments);
        command
    }

    /// A cache like the real one but for one of Kubernetes' programs, which is this script.
    pub(crate) fn cache_with(
        &self,
        program: &str,
        script: &str,
    ) -> anyhow::Result<tempfile::TempDir> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let cache = tempfile::tempdir()?;
        for entry in std::fs::read_dir(&self.config.cache)? {
            let real = entry?.path();
            let copy = cache
                .path()
                .join(real.file_name().context("a file without a name")?);
            let holds_it = real.join(program).exists();
            if !holds_it {
                symlink(&real, &copy)?;
                continue;
            }
            std::fs::create_dir(&copy)?;
            for entry in std::fs::read_dir(&real)? {
                let entry = entry?;
                symlink(entry.path(), copy.join(entry.file_name()))?;
            }
            std::fs::remove_file(copy.join(program))?;
            std::fs::write(copy.join(program), script)?;
            std::fs::set_permissions(copy.join(program), std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(cache)
    }

    /// Puts an image with Valkey on every node.
    pub(crate) async fn load_image(&self) -> anyhow::Result<()> {
        let archive =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/images/meridian-node.tar");
        ensure!(
            archive.exists(),
            "{} is missing: run `make images`",
            archive.display()
        );
        Ok(self.lab.load_image(&archive.to_string_lossy()).await?)
    }

    pub(crate) fn kubectl(
        &self,
        cluster: &str,
        arguments: &[&str],
        input: &str,
    ) -> anyhow::Result<String> {
        let (program, environment) = self.client(cluster)?;
        shell::succeed(&program, arguments, &[("KUBECONFIG", &environment)], input)
    }

    pub(crate) fn json(&self, cluster: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        serde_json::from_str(&self.kubectl(cluster, arguments, "")?).context("output of kubectl")
    }

    pub(crate) fn in_pod(
        &self,
        cluster: &str,
        pod: &str,
        command: &[&str],
    ) -> anyhow::Result<Output> {
        let (program, environment) = self.client(cluster)?;
        let arguments = [["exec", pod, "--"].as_slice(), command].concat();
        shell::run(&program, &arguments, &[("KUBECONFIG", &environment)], "")
    }

    fn client(&self, cluster: &str) -> anyhow::Result<(String, String)> {
        let program = Binaries::find(&self.config.cache)?.kubernetes("kubectl");
        let kubeconfig: PathBuf = self.state().join(cluster).join("kubeconfig");
        Ok((
            program.to_string_lossy().into_owned(),
            kubeconfig.to_string_lossy().into_owned(),
        ))
    }

    pub(crate) fn apply(&self, cluster: &str, objects: &Value) -> anyhow::Result<()> {
        self.kubectl(cluster, &["apply", "-f", "-"], &objects.to_string())
            .map(drop)
    }

    /// Scales the store to this many pods and waits until they are ready on nodes that live.
    pub(crate) async fn wait_for_pods(&self, cluster: &str, count: u64) -> anyhow::Result<()> {
        self.kubectl(
            cluster,
            &["scale", "sts/store", &format!("--replicas={count}")],
            "",
        )?;
        until(
            &format!("{count} pods are ready"),
            super::SOON,
            async || {
                let set = self.json(cluster, &["get", "sts", "store", "-o", "json"])?;
                let status = &set["status"];
                let current = status["observedGeneration"] == set["metadata"]["generation"];
                Ok(
                    if current && status["readyReplicas"] == count && status["replicas"] == count {
                        Look::Holds(())
                    } else {
                        Look::NotYet(status.to_string())
                    },
                )
            },
        )
        .await
    }

    pub(crate) async fn balancer_address(&self, cluster: &str) -> anyhow::Result<String> {
        until("the service has an address", super::SOON, async || {
            let service = self.json(cluster, &["get", "service", "store-lb", "-o", "json"])?;
            Ok(
                match service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str() {
                    Some(address) => Look::Holds(address.to_owned()),
                    None => Look::NotYet(service["status"].to_string()),
                },
            )
        })
        .await
    }

    /// The node whose network holds this address.
    pub(crate) fn holder_of(&self, address: &str) -> anyhow::Result<String> {
        let cluster = self
            .lab
            .clusters()
            .first()
            .context("no cluster")?
            .name()
            .to_owned();
        let id = self.config.id.unwrap_or_default();
        for letter in ["a", "b", "c"] {
            let namespace = format!("mlab{id}-1{letter}");
            let listing = shell::run(
                "ip",
                &["-n", &namespace, "-o", "-4", "addr", "show", "dev", "eth0"],
                &[],
                "",
            )?;
            if listing.stdout.contains(&format!("{address}/32")) {
                return Ok(format!("{cluster}-{letter}"));
            }
        }
        anyhow::bail!("no node holds {address}")
    }

    /// Ends a unit with all its processes, as a machine does that loses power; nothing happens if it does not run.
    pub(crate) fn kill_supervisor(&self, folder: &str) -> anyhow::Result<()> {
        let record = ProcessRecord::read(&self.state().join(folder).join("supervisor.json"))?;
        if let Some(record) = record {
            let _had_ended = record.signal(rustix::process::Signal::KILL);
        }
        Ok(())
    }

    pub(crate) fn process(&self, unit: &str, name: &str) -> anyhow::Result<ProcessRecord> {
        let processes = self.lab.processes(unit)?;
        let found = processes.iter().find(|process| process.name == name);
        Ok(found
            .with_context(|| format!("{unit} runs no {name}: {processes:?}"))?
            .process
            .clone())
    }
}

/// Whether a Valkey answers there on port 443 within two seconds.
pub(crate) fn answers(address: &str) -> bool {
    use std::io::{Read, Write};
    let limit = std::time::Duration::from_secs(2);
    let ask = || -> std::io::Result<bool> {
        let address = format!("{address}:443")
            .parse()
            .map_err(std::io::Error::other)?;
        let mut stream = std::net::TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n")
    };
    ask().unwrap_or_default()
}

/// A store of plain Valkeys that exclude one another from hosts, each with a volume; as locked down as our own pods.
pub(crate) fn store() -> Value {
    let labels = json!({"app": "store"});
    let container = json!({
        "name": "valkey", "image": "localhost/meridian-node:dev", "imagePullPolicy": "Never",
        "command": ["valkey-server", "--protected-mode", "no", "--dir", "/var/lib/meridian", "--appendonly", "yes",
                    "--appendfsync", "always"],
        "ports": [{"containerPort": 6379}],
        "readinessProbe": {"exec": {"command": ["valkey-cli", "ping"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/meridian"}],
        "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let pod = json!({
        "metadata": {"labels": labels},
        "spec": {
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}},
            ]}},
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    });
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "store"}, "spec": {
            "serviceName": "store", "replicas": 1, "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels}, "template": pod, "volumeClaimTemplates": [claim],
        }},
        service("store", json!({"clusterIP": "None", "selector": labels, "ports": [{"port": 6379}]})),
        service("store-lb", json!({"type": "LoadBalancer", "selector": labels, "ports": [{"port": 443, "targetPort": 6379}]})),
    ]})
}
