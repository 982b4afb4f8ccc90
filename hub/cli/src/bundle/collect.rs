//! Reads everything and writes it into the archive. What cannot be read is named in the manifest, with why, and the rest goes on.

mod pods;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    archive::Archive,
    kinds::{self, Kind, Take},
    redact::{self, Fields},
    scrub,
    source::{Form, Source},
};
use crate::error::CliError;
use pods::Pod;

/// Objects of one answer of the API server.
const PAGE: usize = 500;

/// Labels of what we make, and of our installation.
const OURS: &[&str] = &["app=redis-enterprise", "app.kubernetes.io/part-of=meridian"];

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The namespace.
    pub(crate) namespace: String,
    /// All objects of the namespace, not only ours.
    pub(crate) all: bool,
    /// Logs of this last time only.
    pub(crate) since: Option<Duration>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Collected {
    /// Files in the archive.
    pub(crate) files: usize,
    /// Things that could not be read.
    pub(crate) missing: usize,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    bytes: usize,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Missing {
    what: String,
    why: String,
}

/// Reads a cluster into an archive.
pub(crate) struct Collector<'a, S> {
    source: &'a S,
    scope: Scope,
    archive: Archive,
    tell: &'a dyn Fn(&str),
    files: Vec<Entry>,
    missing: Vec<Missing>,
    /// Names of the objects that were taken, for the Events about them.
    taken: BTreeSet<String>,
    pods: Vec<Pod>,
}

impl<'a, S: Source> Collector<'a, S> {
    pub(crate) fn new(
        source: &'a S,
        scope: Scope,
        archive: Archive,
        tell: &'a dyn Fn(&str),
    ) -> Self {
        Self {
            source,
            scope,
            archive,
            tell,
            files: Vec::new(),
            missing: Vec::new(),
            taken: BTreeSet::new(),
            pods: Vec::new(),
        }
    }

    /// Reads everything and finishes the archive.
    pub(crate) async fn run(mut self, now: Timestamp) -> Result<Collected, CliError> {
        let started = Instant::now();
        let version = self.source.get("/version", Form::Whole).await;
        // An API server that does not answer this answers nothing: there is no bundle then.
        let version = version.map_err(CliError::Cluster)?;
        self.write("version.json", &scrub::text(&version), started)?;
        for kind in kinds::all() {
            self.objects(&kind).await?;
        }
        for pod in std::mem::take(&mut self.pods) {
            self.pod(&pod).await?;
        }
        self.manifest(now)?;
        let collected = Collected {
            files: self.files.len(),
            missing: self.missing.len(),
        };
        self.archive.finish()?;
        Ok(collected)
    }

    fn manifest(&mut self, now: Timestamp) -> Result<(), CliError> {
        let manifest = json!({
            "format": 1,
            "program": { "name": "meridian", "version": env!("CARGO_PKG_VERSION") },
            "madeAt": now.to_string(),
            "namespace": self.scope.namespace,
            "all": self.scope.all,
            "logsOfTheLastSeconds": self.scope.since.map(|since| since.as_secs()),
            "files": self.files,
            "missing": self.missing,
            "leftOut": "Values of Secrets and ConfigMaps were not asked for. Of other objects listed fields are here; the names of \
                        the others stand in leftOut. What looks like a secret in texts and logs was replaced.",
        });
        let text = format!("{manifest:#}\n");
        self.write("manifest.json", &text, Instant::now())
    }

    fn write(&mut self, name: &str, text: &str, started: Instant) -> Result<(), CliError> {
        self.archive.add(name, text.as_bytes())?;
        self.files.push(Entry {
            name: name.to_owned(),
            bytes: text.len(),
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    fn lacks(&mut self, what: &str, why: &str) {
        let why = scrub::text(why);
        (self.tell)(&format!("{what}: not read: {why}"));
        self.missing.push(Missing {
            what: what.to_owned(),
            why,
        });
    }

    /// All objects of a kind, in one file.
    async fn objects(&mut self, kind: &Kind) -> Result<(), CliError> {
        let started = Instant::now();
        let form = match kind.take {
            Take::Names => Form::Metadata,
            Take::All | Take::Ours | Take::About => Form::Whole,
        };
        let selectors: &[&str] = match kind.take {
            Take::Ours if !(self.scope.all && kind.namespaced) => OURS,
            Take::All | Take::Ours | Take::About | Take::Names => &[""],
        };
        let mut found: Vec<Value> = Vec::new();
        for selector in selectors {
            match self.list(kind, selector, form).await {
                Ok(objects) => found.extend(objects),
                Err(why) => {
                    self.lacks(kind.plural, &why);
                    return Ok(());
                }
            }
        }
        let fields = Fields::new(&kind.fields);
        let mut seen = BTreeSet::new();
        let mut kept = Vec::new();
        for object in &found {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if !self.wants(kind, object) || !seen.insert(name.to_owned()) {
                continue;
            }
            self.taken.insert(name.to_owned());
            if kind.plural == "pods" {
                self.pods.extend(Pod::of(object));
            }
            kept.push(match kind.take {
                Take::Names => redact::names(object),
                Take::All | Take::Ours | Take::About => redact::object(object, &fields),
            });
        }
        (self.tell)(&format!("{}: {}", kind.plural, kept.len()));
        let text = format!("{:#}\n", Value::Array(kept));
        self.write(&format!("objects/{}.json", kind.plural), &text, started)
    }

    fn wants(&self, kind: &Kind, object: &Value) -> bool {
        if kind.take != Take::About || self.scope.all {
            return true;
        }
        let about = object["regarding"]["name"].as_str();
        about.is_some_and(|name| self.taken.contains(name))
    }

    async fn list(&self, kind: &Kind, selector: &str, form: Form) -> Result<Vec<Value>, String> {
        let address = kind.address(&self.scope.namespace);
        let selector = selector.replace('/', "%2F").replace('=', "%3D");
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!("{address}?limit={PAGE}&labelSelector={selector}&continue={next}");
            let text = self.source.get(&path, form).await?;
            let mut list: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            // An API server that ignores the wish for metadata would send values.
            if form == Form::Metadata && list["kind"] != "PartialObjectMetadataList" {
                return Err(format!("expected metadata alone, found {}", list["kind"]));
            }
            if let Value::Array(items) = list["items"].take() {
                all.extend(items);
            }
            match list["metadata"]["continue"].as_str() {
                Some(more) if !more.is_empty() => next = crate::commands::escaped(more),
                Some(_) | None => return Ok(all),
            }
        }
    }
}

#[cfg(test)]
mod tests;
