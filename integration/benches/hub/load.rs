//! What databases cost: how fast they reach their members, what a burst takes, how fast what a member sees is told, what the web
//! API bears, and what is stored.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    api::{Api, DATABASES, database},
    fleet::Fleet,
    kube,
    process::Hub,
    report::{Bar, line, millis, section, spread},
    scale::{as_f64, bytes, mib, ratio, settled},
};

/// Members of one database at most, and of the databases of a burst.
const WIDEST: usize = 63;
const WIDTH: usize = 8;
/// Requests that are under way at the same time.
const AT_ONCE: usize = 16;
/// How long what was ordered may take to arrive.
const ARRIVED: Duration = Duration::from_secs(300);
/// How long a status may take until the hub tells it.
const TOLD: Duration = Duration::from_secs(60);
/// How long requests of one kind are sent.
const ASKING: Duration = Duration::from_secs(3);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Members.
    pub(crate) members: usize,
    /// Databases that are created one after another, over few and over many members.
    pub(crate) creates: (usize, usize),
    /// Databases of each burst.
    pub(crate) bursts: &'static [usize],
    /// Edges of a status.
    pub(crate) edges: usize,
}

/// A hub with members, and how many databases it was given.
struct Bench {
    hub: Hub,
    api: Api,
    fleet: Fleet,
    made: usize,
}

/// Measures all of it on one hub.
pub(crate) async fn measure(program: &Path, size: Size) -> Result<()> {
    let (hub, api) = Hub::start(program).await?;
    let fleet = Fleet::of(api.clone(), hub.link());
    let mut bench = Bench {
        hub,
        api,
        fleet,
        made: 0,
    };
    bench.fleet.grow(size.members).await?;
    settled(&bench.hub).await?;
    section(format_args!(
        "a database is created → it is there, {} members",
        size.members
    ));
    for width in [1, WIDTH, 64, 256] {
        let times = if width > WIDTH {
            size.creates.1
        } else {
            size.creates.0
        };
        if width <= size.members {
            bench.creates(width, times).await?;
        }
    }
    for &count in size.bursts {
        bench.burst(count).await?;
    }
    bench.edges(size.edges).await?;
    bench.requests().await?;
    bench.stored()?;
    bench.fleet.leave().await;
    Ok(())
}

impl Bench {
    /// Creates databases over `width` members; more than one where one cannot have as many.
    async fn creates(&mut self, width: usize, times: usize) -> Result<()> {
        let (mut each, mut last) = (Vec::new(), Vec::new());
        let widths: Vec<usize> = (0..width)
            .step_by(WIDEST)
            .map(|first| WIDEST.min(width - first))
            .collect();
        for _ in 0..times {
            let begun = Instant::now();
            self.create(&widths).await?;
            let arrived = self.arrived(width).await?;
            each.extend(arrived.iter().map(|at| at.duration_since(begun)));
            last.extend(arrived.iter().max().map(|at| at.duration_since(begun)));
        }
        let what = match widths.len() {
            1 => format!("on {width} members, each"),
            many => format!("on {width} members ({many} databases), each"),
        };
        spread(&what, &each, None);
        line("  the last of them: P50", millis(&last, 50), "ms", None);
        Ok(())
    }

    /// Creates a database of each width, over members that follow one another.
    async fn create(&mut self, widths: &[usize]) -> Result<()> {
        self.fleet.settle();
        let mut first = 0;
        let mut wanted = Vec::new();
        for &width in widths {
            if first + width > self.fleet.len() {
                first = 0;
            }
            let name = format!("db-{:05}", self.made);
            wanted.push(database(&name, &Fleet::names(first, width)));
            self.made += 1;
            first += width;
        }
        let api = &self.api;
        let posts =
            stream::iter(wanted).map(|wanted| async move { api.post(DATABASES, &wanted).await });
        posts
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<Value>>()
            .await?;
        Ok(())
    }

    /// Waits until so many databases stand on members, each counted on each member; when each came.
    async fn arrived(&mut self, count: usize) -> Result<Vec<Instant>> {
        let mut found: BTreeMap<(usize, String), Instant> = BTreeMap::new();
        let begun = Instant::now();
        while found.len() < count {
            let next = tokio::time::timeout(ARRIVED, self.fleet.arrivals.recv()).await;
            let next = next.with_context(|| {
                format!(
                    "{} of {count} arrived within {:?}",
                    found.len(),
                    begun.elapsed()
                )
            })?;
            let next = next.context("no members")?;
            if next.plural == kube::DATABASES {
                found.entry((next.member, next.name)).or_insert(next.at);
            }
        }
        Ok(found.into_values().collect())
    }

    /// Creates many databases over eight members each at once.
    async fn burst(&mut self, count: usize) -> Result<()> {
        section(format_args!(
            "{count} databases at once, {WIDTH} members each, after {} others",
            self.made
        ));
        let (before, begun, size) = (self.hub.usage()?, Instant::now(), self.hub.store_bytes()?);
        self.create(&vec![WIDTH; count]).await?;
        line(
            "all are accepted after",
            begun.elapsed().as_secs_f64(),
            "s",
            None,
        );
        let deliveries = count * WIDTH;
        let arrived = self.arrived(deliveries).await?;
        let last = arrived.iter().max().context("nothing arrived")?;
        let bar = (count == 200).then(|| Bar::most(5.0));
        line(
            "all stand on all members after",
            last.duration_since(begun).as_secs_f64(),
            "s",
            bar,
        );
        settled(&self.hub).await?;
        let after = self.hub.usage()?;
        let each = as_f64(deliveries);
        line(
            "hub CPU until it rests",
            after.cpu_since(&before).as_secs_f64(),
            "s",
            None,
        );
        let cpu = after.cpu_since(&before).as_secs_f64() * 1000.0 / each;
        line(
            "hub CPU per database and member",
            cpu,
            "ms",
            Some(Bar::most(0.5)),
        );
        line(
            "written per database and member",
            bytes(after.written - before.written) / 1024.0 / each,
            "KiB",
            None,
        );
        let grown = self.hub.store_bytes()?.saturating_sub(size);
        line(
            "growth of the store per database and member",
            bytes(grown) / 1024.0 / each,
            "KiB",
            None,
        );
        line("hub resident", mib(after.resident), "MiB", None);
        Ok(())
    }

    /// Changes what a member sees, and asks until the hub shows it; beside it a watch of the same database.
    async fn edges(&mut self, count: usize) -> Result<()> {
        section(format_args!(
            "a status changes on a member → the hub tells it, {} databases",
            self.made
        ));
        // The first database over several members.
        let list = self.api.get(DATABASES).await?;
        let items = list["items"].as_array().context("a list without items")?;
        let wide = |item: &&Value| {
            item["spec"]["participatingClusters"]
                .as_array()
                .map(Vec::len)
                == Some(WIDTH)
        };
        let name = items
            .iter()
            .find(wide)
            .and_then(|item| item["metadata"]["name"].as_str());
        let name = name.context("no database over several members")?;
        let path = format!("{DATABASES}/{name}");
        let mut told = Told {
            body: self.api.watch(&path).await?,
            text: Vec::new(),
        };
        let (mut asked, mut watched) = (Vec::new(), Vec::new());
        for n in 0..count {
            let member = n % WIDTH;
            let status = ["active", "pending"][(n / WIDTH) % 2];
            let begun = Instant::now();
            self.fleet
                .member(member)
                .set_status(name, &json!({ "status": status }));
            let shown = async {
                loop {
                    let shown = self.api.get(&path).await?;
                    if observed(&shown, member) == status {
                        return Ok::<_, anyhow::Error>(begun.elapsed());
                    }
                }
            };
            let seen = async {
                told.until(|object| observed(object, member) == status)
                    .await?;
                Ok::<_, anyhow::Error>(begun.elapsed())
            };
            let both = async { tokio::try_join!(shown, seen) };
            let both = tokio::time::timeout(TOLD, both).await;
            let (shown, seen) = both.with_context(|| {
                format!("{status} of {name} on member {member} is not told after {TOLD:?}")
            })??;
            asked.push(shown);
            watched.push(seen);
        }
        spread("asked again and again", &asked, Some(Bar::most(1000.0)));
        spread("watched", &watched, Some(Bar::most(1000.0)));
        Ok(())
    }

    /// Asks as much as the hub answers.
    async fn requests(&self) -> Result<()> {
        section(format_args!(
            "requests to the web API, {AT_ONCE} at a time, {} databases",
            self.made
        ));
        let one = format!("{DATABASES}/db-00000");
        let listed = format!("{DATABASES}?limit=100");
        let tried = format!("{DATABASES}?dryRun=All");
        let new = database("tried", &Fleet::names(0, 1));
        let patch = |n: usize| json!({ "metadata": { "labels": { "bench": format!("v{n}") } } });
        for (what, method, path, body) in [
            ("GET one database", Method::GET, &one, None),
            (
                "GET one member",
                Method::GET,
                &"/api/v1/clusters/m-0000".to_owned(),
                None,
            ),
            ("LIST 100 databases", Method::GET, &listed, None),
            ("POST, only tried", Method::POST, &tried, Some(new)),
        ] {
            self.ask(what, |_| (method.clone(), path.clone(), body.clone()))
                .await?;
        }
        let databases = self.made;
        let each = |n: usize| {
            (
                Method::PATCH,
                format!("{DATABASES}/db-{:05}", n % databases),
                Some(patch(n)),
            )
        };
        self.ask("PATCH a label, of many databases", each).await
    }

    async fn ask(
        &self,
        what: &str,
        request: impl Fn(usize) -> (Method, String, Option<Value>),
    ) -> Result<()> {
        let (begun, before) = (Instant::now(), self.hub.usage()?);
        let next = |n: usize| {
            let (method, path, body) = request(n);
            async move {
                let asked = Instant::now();
                let (status, answer) = self.api.ask(method, &path, body.as_ref()).await?;
                ensure!(
                    status.is_success(),
                    "{path}: {status}: {}",
                    String::from_utf8_lossy(&answer)
                );
                Ok::<_, anyhow::Error>(asked.elapsed())
            }
        };
        let during = stream::iter(0..).take_while(|_| std::future::ready(begun.elapsed() < ASKING));
        let times: Vec<Duration> = during
            .map(next)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let (wall, after) = (begun.elapsed().as_secs_f64(), self.hub.usage()?);
        line(what, ratio(times.len(), wall), "1/s", None);
        line("  P99", millis(&times, 99), "ms", None);
        let cpu = after.cpu_since(&before).as_secs_f64() * 1000.0;
        line("  hub CPU each", cpu / as_f64(times.len()), "ms", None);
        settled(&self.hub).await
    }

    fn stored(&self) -> Result<()> {
        section(format_args!(
            "the store with {} members and {} databases",
            self.fleet.len(),
            self.made
        ));
        line("file", mib(self.hub.store_bytes()?), "MiB", None);
        line("hub resident", mib(self.hub.usage()?.resident), "MiB", None);
        Ok(())
    }
}

/// What the hub shows of the database on a participant.
fn observed(object: &Value, participant: usize) -> &Value {
    &object["status"]["participants"][participant]["observed"]["value"]["status"]
}

/// Server-sent events.
struct Told {
    body: Incoming,
    text: Vec<u8>,
}

impl Told {
    /// Reads events until one has an object that is so.
    async fn until(&mut self, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        loop {
            while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                let lines = event.split(|byte| *byte == b'\n');
                let mut data = lines.filter_map(|line| line.strip_prefix(b"data: "));
                let event: Option<Value> = data.next().map(serde_json::from_slice).transpose()?;
                if event.is_some_and(|event| is_so(&event["object"])) {
                    return Ok(());
                }
            }
            let frame = self.body.frame().await.context("the watch ended")??;
            self.text.extend(frame.data_ref().into_iter().flatten());
        }
    }
}
