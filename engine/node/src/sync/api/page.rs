//! The status page: plain HTML without script, made of the same picture as the API. Pure.

use std::fmt::Write as _;

use meridian_api::crds::topology::DatabaseTopology;

use super::picture::{Picture, Serves, copies, report};
use super::render::{node_status, unserved};

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"10\"><title>Cluster</title>\
    <style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:70rem}table{border-collapse:collapse;width:100%}\
    th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ccc;vertical-align:top}\
    .good{color:#06703b}.bad{color:#b00020;font-weight:600}.unknown{color:#7a5200;font-weight:600}\
    .small{color:#555;font-size:.9em}</style></head><body>";

/// The page.
pub(super) fn html(picture: &Picture) -> String {
    let mut page = String::from(HEAD);
    let facts = &picture.facts;
    let (cluster, namespace) = (escape(&picture.cluster), escape(&picture.namespace));
    let (release, as_of) = (escape(&facts.release), escape(&picture.as_of));
    // Writing to a String cannot fail.
    let _infallible = write!(
        page,
        "<h1>{cluster}</h1><p>Namespace {namespace}, release {release}. Nodes were asked at {as_of}.</p>"
    );
    if let Some(since) = &picture.away_since {
        let _infallible = write!(
            page,
            "<p class=\"unknown\">The Kubernetes API has not answered this node since {}: what is said of databases is from \
             before.</p>",
            escape(since)
        );
    }
    nodes(&mut page, picture);
    databases(&mut page, picture);
    page.push_str("</body></html>");
    page
}

fn nodes(page: &mut String, picture: &Picture) {
    page.push_str("<h2>Nodes</h2><table><tr><th>Node<th>State<th>Address<th>Shards</tr>");
    for (name, answer) in &picture.nodes {
        let (word, reason) = node_status(picture, name);
        let class = match word {
            "active" => "good",
            "unknown" => "unknown",
            _ => "bad",
        };
        let address = answer.as_ref().map(|answer| answer.address.to_string());
        let shards = answer.as_ref().map(|answer| {
            let ready = answer.ready.values().filter(|ready| **ready).count();
            format!("{ready} of {} answer", answer.ready.len())
        });
        let _infallible = write!(
            page,
            "<tr><td>{}<td class=\"{class}\">{word}<div class=\"small\">{}</div><td>{}<td>{}</tr>",
            escape(name),
            escape(reason),
            escape(address.as_deref().unwrap_or("unknown")),
            shards.as_deref().unwrap_or("unknown"),
        );
    }
    page.push_str("</table>");
}

fn databases(page: &mut String, picture: &Picture) {
    page.push_str("<h2>Databases</h2>");
    if picture.topologies.is_empty() {
        page.push_str("<p>There are none.</p>");
        return;
    }
    page.push_str(
        "<table><tr><th>Database<th>Port<th>Served<th>Copy<th>Role<th>Answers<th>Takes writes, as reported</tr>",
    );
    for topology in &picture.topologies {
        database(page, picture, topology);
    }
    page.push_str("</table>");
}

fn database(page: &mut String, picture: &Picture, topology: &DatabaseTopology) {
    let name = topology.metadata.name.as_deref().unwrap_or_default();
    let served = match unserved(picture, topology) {
        None => "<span class=\"good\">yes</span>".to_owned(),
        Some(why) => format!(
            "<span class=\"bad\">not known to be: {}</span>",
            escape(&why)
        ),
    };
    let _infallible = write!(
        page,
        "<tr><td>{}<td>{}<td>{served}<td><td><td><td></tr>",
        escape(name),
        topology.spec.port
    );
    for shard in &topology.spec.shards {
        for (node, is_primary) in copies(shard) {
            let (class, word) = match picture.serves(node, name, shard.id) {
                Serves::Yes => ("good", "yes"),
                Serves::No => ("bad", "no"),
                Serves::Unknown => ("unknown", "unknown"),
            };
            let writable = match report(topology, node, shard.id) {
                Some((member, report)) => format!(
                    "{} <span class=\"small\">as of {}</span>",
                    if report.writable { "yes" } else { "no" },
                    escape(&member.as_of)
                ),
                None => "<span class=\"unknown\">unknown</span>".to_owned(),
            };
            let role = if is_primary { "primary" } else { "replica" };
            let _infallible = write!(
                page,
                "<tr><td><td><td><td>shard {} on {}<td>{role}<td class=\"{class}\">{word}<td>{writable}</tr>",
                shard.id,
                escape(node)
            );
        }
    }
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
