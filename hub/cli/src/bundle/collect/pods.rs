//! What only a pod can tell: its logs, its probes, its metrics, and what its shards say of themselves. Asked through the API server,
//! with the right to pods/log and pods/proxy that whoever runs a namespace has.

use serde_json::Value;
use tokio::time::Instant;

use super::{Collector, Scope};
use crate::{
    bundle::{
        scrub,
        source::{Form, Source},
    },
    error::CliError,
};

/// Bytes of one log, from its end.
const LONGEST_LOG: usize = 16 << 20;
/// Lines of one log where no time is given.
const LINES: usize = 100_000;

/// A program of ours in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Agent,
    Node,
}

impl Program {
    /// By the name of its container. Other containers are not ours to read.
    fn of(container: &str) -> Option<Self> {
        match container {
            "meridian-agent" => Some(Self::Agent),
            "redis-enterprise-node" => Some(Self::Node),
            _ => None,
        }
    }

    /// What is asked: port, path, name of the file.
    fn pages(self) -> &'static [(u16, &'static str, &'static str)] {
        match self {
            Self::Agent => &[
                (8080, "livez", "livez.txt"),
                (8080, "readyz", "readyz.txt"),
                (8080, "metrics", "metrics.txt"),
            ],
            Self::Node => &[
                (8080, "livez", "livez.txt"),
                (8080, "readyz", "readyz.txt"),
                (8080, "shards", "shards.json"),
                (8070, "metrics", "metrics.txt"),
                (8070, "info", "info.txt"),
            ],
        }
    }
}

/// A pod with a program of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    name: String,
    container: String,
    program: Program,
    /// Its container ran before.
    restarted: bool,
}

impl Pod {
    /// `None` if nothing of ours runs in it.
    pub(super) fn of(pod: &Value) -> Option<Self> {
        let containers = pod["spec"]["containers"].as_array()?;
        let names = containers.iter().filter_map(|c| c["name"].as_str());
        let (container, program) = names
            .filter_map(|name| Some((name, Program::of(name)?)))
            .next()?;
        let statuses = pod["status"]["containerStatuses"].as_array();
        let restarted = statuses.into_iter().flatten().any(|status| {
            status["name"] == container && status["restartCount"].as_u64().unwrap_or(0) > 0
        });
        Some(Self {
            name: pod["metadata"]["name"].as_str()?.to_owned(),
            container: container.to_owned(),
            program,
            restarted,
        })
    }

    fn log(&self, scope: &Scope, previous: bool) -> String {
        let (namespace, name, container) = (&scope.namespace, &self.name, &self.container);
        let span = scope.since.map_or(format!("tailLines={LINES}"), |since| {
            format!("sinceSeconds={}", since.as_secs().max(1))
        });
        format!(
            "/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}&timestamps=true&previous={previous}&{span}"
        )
    }
}

impl<S: Source> Collector<'_, S> {
    /// Everything of one pod.
    pub(super) async fn pod(&mut self, pod: &Pod) -> Result<(), CliError> {
        (self.tell)(&format!("pod {}: logs, probes, metrics", pod.name));
        self.log(pod, false).await?;
        if pod.restarted {
            self.log(pod, true).await?;
        }
        for (port, page, file) in pod.program.pages() {
            let started = Instant::now();
            let name = format!("pods/{}/{file}", pod.name);
            match self.page(pod, *port, page).await {
                Ok(text) => self.write(&name, &scrub::text(&text), started)?,
                Err(why) => self.lacks(&name, &why),
            }
        }
        Ok(())
    }

    async fn log(&mut self, pod: &Pod, previous: bool) -> Result<(), CliError> {
        let started = Instant::now();
        let which = if previous { "previous" } else { "current" };
        let name = format!("pods/{}/{which}.log", pod.name);
        let path = pod.log(&self.scope, previous);
        match self.source.get(&path, Form::Whole).await {
            Ok(text) => self.write(&name, &scrub::text(end(&text)), started),
            Err(why) => {
                self.lacks(&name, &why);
                Ok(())
            }
        }
    }

    /// A page of the program. Metrics of nodes come over TLS, of older ones in clear.
    async fn page(&self, pod: &Pod, port: u16, page: &str) -> Result<String, String> {
        let namespace = &self.scope.namespace;
        let address = |scheme: &str| {
            format!(
                "/api/v1/namespaces/{namespace}/pods/{scheme}{}:{port}/proxy/{page}",
                pod.name
            )
        };
        if port == 8070 {
            let over_tls = self.source.get(&address("https:"), Form::Whole).await;
            if over_tls.is_ok() {
                return over_tls;
            }
        }
        self.source.get(&address(""), Form::Whole).await
    }
}

/// The end of a log that is too long, from the beginning of a line.
fn end(text: &str) -> &str {
    let from = text.len().saturating_sub(LONGEST_LOG);
    let line = text.as_bytes()[from..]
        .iter()
        .position(|byte| *byte == b'\n');
    match line {
        Some(line) if from > 0 => &text[from + line + 1..],
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_too_long_is_cut_at_a_line() {
        let line = "é".repeat(50) + "\n";
        let text = line.repeat(LONGEST_LOG / line.len() + 10);
        let cut = end(&text);
        assert!(
            cut.len() <= LONGEST_LOG && cut.starts_with('é'),
            "{}",
            cut.len()
        );
        assert_eq!(end("short\n"), "short\n");
    }
}
