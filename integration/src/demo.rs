//! The tour of `make demo`: from nothing to an Active-Active database that takes writes in three clusters and agrees
//! with itself. Every claim is checked; the first that does not hold ends the demo with an error.

use std::{
    fs::File,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    shell,
    stack::{Cluster, DATABASE_UP, Hub, NAMESPACE, Paths, Region, Stack},
    wait::{Look, until},
};

/// Name of the demo's database.
pub const DATABASE: &str = "orders";
/// How long a write may take to be readable in another region.
const SPREAD: Duration = Duration::from_secs(10);
/// How long regions may take to agree after a cut is healed.
const AGREE: Duration = Duration::from_secs(60);

/// One line of the demo's table.
#[derive(Debug)]
pub struct Seen {
    /// What was done.
    pub what: String,
    /// What was seen.
    pub result: String,
    /// How long it took.
    pub took: Duration,
}

/// Prints what happens, with the time since the start.
#[derive(Debug)]
pub struct Narrator {
    start: Instant,
}

impl Default for Narrator {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Narrator {
    /// One progress line.
    #[expect(
        clippy::print_stdout,
        reason = "progress for the person who started the demo"
    )]
    pub fn say(&self, line: &str) {
        println!("{:>6.1} s  {line}", self.start.elapsed().as_secs_f64());
    }
}

/// Runs the tour. Gives what was seen.
///
/// # Errors
/// If a part does not come up, or a claim does not hold.
pub async fn run(paths: Paths) -> anyhow::Result<(Stack, Vec<Region>, Vec<Seen>)> {
    let narrator = Narrator::default();
    let say = |line: &str| narrator.say(line);
    let mut seen = Vec::new();
    let start = Instant::now();
    let stack = Stack::up(paths, &say).await?;
    note(
        &mut seen,
        start,
        "clusters, hub, agents, RECs",
        format!("{} clusters connected, RECs Running", stack.clusters.len()),
    );

    let start = Instant::now();
    let password = ensure_password(&stack.clusters)?;
    say(&format!(
        "creating the Active-Active database {DATABASE} through the hub"
    ));
    create(&stack.hub, &stack.clusters)?;
    up_everywhere(&stack, DATABASE, &say).await?;
    let mut regions = Vec::new();
    for cluster in &stack.clusters {
        regions.push(cluster.region(DATABASE, &password, DATABASE_UP).await?);
    }
    answers(&regions).await?;
    note(
        &mut seen,
        start,
        "REAADB created → all links up",
        "writable in every region".into(),
    );

    say("writing in each region, reading in the others");
    let start = Instant::now();
    write_each_read_others(&regions).await?;
    note(
        &mut seen,
        start,
        "a write in each region",
        "read in the two others".into(),
    );

    cut_and_heal(&stack, &regions, &say, &mut seen).await?;
    Ok((stack, regions, seen))
}

fn note(seen: &mut Vec<Seen>, start: Instant, what: &str, result: String) {
    seen.push(Seen {
        what: what.into(),
        result,
        took: start.elapsed(),
    });
}

/// Makes the database's Secret in each cluster, with one password, unless it is there; gives the password.
///
/// # Errors
/// If a cluster refuses.
pub fn ensure_password(clusters: &[Cluster]) -> anyhow::Result<String> {
    let name = format!("{DATABASE}-password");
    let mut password = None;
    for cluster in clusters {
        if cluster.get("secret", &name)?.is_some() {
            let template = "go-template={{.data.password | base64decode}}";
            password = Some(cluster.must(&["get", "secret", &name, "-o", template], "")?);
        }
    }
    let password = match password {
        Some(known) => known,
        None => random_password()?,
    };
    for cluster in clusters {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{password: \"{password}\"}}\n"
        ))?;
    }
    Ok(password)
}

fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Creates the database in the hub, over all clusters.
///
/// # Errors
/// With the hub's answer.
pub fn create(hub: &Hub, clusters: &[Cluster]) -> anyhow::Result<()> {
    let participants: Vec<String> = clusters
        .iter()
        .map(|c| format!("    - name: {}", c.name))
        .collect();
    let yaml = format!(
        "apiVersion: app.redislabs.com/v1alpha1
kind: RedisEnterpriseActiveActiveDatabase
metadata:
  name: {DATABASE}
  namespace: {NAMESPACE}
spec:
  participatingClusters:
{}
  globalConfigurations:
    memorySize: 100MB
    databaseSecretName: {DATABASE}-password
",
        participants.join("\n")
    );
    hub.must(&["apply", "-f", "-"], &yaml).map(|_| ())
}

/// Waits until every member shows the database active with all its links up, saying what it waits for.
///
/// # Errors
/// After the deadline, with what was last seen there.
pub async fn up_everywhere(
    stack: &Stack,
    database: &str,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    for cluster in &stack.clusters {
        say(&format!(
            "{}: waiting for {database}: status active, replicationStatus up",
            cluster.name
        ));
        let waited = until(
            &format!("{}: REAADB {database} active and up", cluster.name),
            DATABASE_UP,
            || async {
                let Some(found) = cluster.get("reaadb", database)? else {
                    return Ok(Look::NotYet("no REAADB".into()));
                };
                let status = &found["status"];
                let up = status["status"] == "active" && status["replicationStatus"] == "up";
                Ok(if up {
                    Look::Holds(())
                } else {
                    Look::NotYet(status.to_string())
                })
            },
        )
        .await;
        waited.map_err(|e| e.context(cluster.evidence()).context(stack.hub.log_end()))?;
    }
    Ok(())
}

/// Waits until every region answers a PING.
///
/// # Errors
/// If one does not within the deadline.
pub async fn answers(regions: &[Region]) -> anyhow::Result<()> {
    for region in regions {
        until(
            &format!("{} answers at {}", region.name, region.address),
            DATABASE_UP,
            || async { Ok(Look::Holds(region.run::<String>("PING").await?)) },
        )
        .await?;
    }
    Ok(())
}

async fn write_each_read_others(regions: &[Region]) -> anyhow::Result<()> {
    for region in regions {
        let value = format!(
            "from-{}-{}",
            region.name,
            Instant::now().elapsed().as_nanos()
        );
        region
            .run::<String>(&format!("SET greeting:{} {value}", region.name))
            .await?;
        for other in regions.iter().filter(|other| other.name != region.name) {
            equal(
                other,
                &format!("GET greeting:{}", region.name),
                &value,
                SPREAD,
            )
            .await?;
        }
    }
    Ok(())
}

/// Waits until a region answers a command with the value.
///
/// # Errors
/// After `within`, with the last answer.
pub async fn equal(
    region: &Region,
    command: &str,
    value: &str,
    within: Duration,
) -> anyhow::Result<()> {
    until(
        &format!("{}: `{command}` = {value}", region.name),
        within,
        || async {
            let found: Option<String> = region.run(command).await?;
            Ok(if found.as_deref() == Some(value) {
                Look::Holds(())
            } else {
                Look::NotYet(format!("{found:?}"))
            })
        },
    )
    .await
}

async fn cut_and_heal(
    stack: &Stack,
    regions: &[Region],
    say: &dyn Fn(&str),
    seen: &mut Vec<Seen>,
) -> anyhow::Result<()> {
    let lab = stack.paths.program("lab")?;
    let (cut, rest) = stack.clusters.split_last().context("no clusters")?;
    let before: i64 = regions[0]
        .run::<Option<i64>>("GET visits")
        .await?
        .unwrap_or(0);
    say(&format!("cutting {} off from the other regions", cut.name));
    for other in rest {
        shell::succeed(&lab, &["partition", &cut.name, &other.name], &[], "")?;
    }
    let start = Instant::now();
    for (index, region) in regions.iter().enumerate() {
        let times = 10_i64.pow(u32::try_from(index)?);
        region.run::<i64>(&format!("INCRBY visits {times}")).await?;
        region
            .run::<i64>(&format!("SADD visitors from-{}", region.name))
            .await?;
    }
    let (alone, others) = regions.split_last().context("no regions")?;
    for region in others {
        // The others have exchanged their writes, so what is missing is missing because of the cut.
        equal(region, "GET visits", &(before + 11).to_string(), SPREAD).await?;
    }
    let alone: i64 = alone.run("GET visits").await?;
    ensure!(
        alone == before + 100,
        "{} was cut off, but saw {alone} instead of {}",
        cut.name,
        before + 100
    );
    note(
        seen,
        start,
        "cut off: one counter in all three",
        format!("{} sees only its own: {alone}", cut.name),
    );

    say("healing");
    let start = Instant::now();
    shell::succeed(&lab, &["heal"], &[], "")?;
    let sum = (before + 111).to_string();
    for region in regions {
        equal(region, "GET visits", &sum, AGREE).await?;
        until(
            &format!("{}: the sets agree", region.name),
            AGREE,
            || async {
                let mut members: Vec<String> = region.run("SMEMBERS visitors").await?;
                members.sort();
                let mut wanted: Vec<String> =
                    regions.iter().map(|r| format!("from-{}", r.name)).collect();
                wanted.sort();
                Ok(if members == wanted {
                    Look::Holds(())
                } else {
                    Look::NotYet(format!("{members:?}"))
                })
            },
        )
        .await?;
    }
    note(
        seen,
        start,
        "healed",
        format!("counter is the sum {sum}, sets agree, in every region"),
    );
    Ok(())
}

/// The closing text: what was seen and how to go on.
#[must_use]
pub fn summary(stack: &Stack, regions: &[Region], seen: &[Seen]) -> String {
    let mut lines = vec![String::new(), format!("{:<40} {:>8}  seen", "what", "time")];
    lines.extend(seen.iter().map(|s| {
        format!(
            "{:<40} {:>6.1} s  {}",
            s.what,
            s.took.as_secs_f64(),
            s.result
        )
    }));
    lines.push("\nConnect (the password lies in each cluster's Secret):".into());
    let kubectl = crate::stack::cluster::kubectl().unwrap_or_else(|_| "kubectl".into());
    for (cluster, region) in stack.clusters.iter().zip(regions) {
        let (host, port) = region
            .address
            .split_once(':')
            .unwrap_or((&region.address, ""));
        lines.push(format!(
            "  {}: REDISCLI_AUTH=$({kubectl} --kubeconfig {} -n {NAMESPACE} get secret {DATABASE}-password -o go-template='{{{{.data.password | base64decode}}}}') {} -h {host} -p {port}",
            cluster.name,
            cluster.kubeconfig,
            relative(&stack.paths.root, "tools/valkey-cli"),
        ));
    }
    lines.push("\nHub (the CLI reads these):".into());
    lines.extend(
        stack
            .hub
            .env()
            .iter()
            .map(|(name, value)| format!("  export {name}={value}")),
    );
    lines.push(format!(
        "  {} describe activeactivedatabase {DATABASE}",
        stack.paths.bin.join("meridian").display()
    ));
    lines.push("\n`make demo-down` removes all of it.".into());
    lines.join("\n")
}

fn relative(root: &Path, path: &str) -> String {
    root.join(path).display().to_string()
}

/// The status of the demo's database in the hub.
///
/// # Errors
/// If the hub does not answer.
pub fn hub_status(hub: &Hub) -> anyhow::Result<Value> {
    hub.get(&["get", "activeactivedatabase", DATABASE])
}
