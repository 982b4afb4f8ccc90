//! `meridian-hub restore`: a backup into an empty store, while no hub runs on it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::start_log;
use crate::app::restore::{Restored, Whole};
use crate::args::{LogFormat, Output, Restore};
use crate::ca::{Authority, root};
use crate::clock::{Clock as _, SystemClock};
use crate::store::Store;
use crate::store::etcd::{EtcdSettings, EtcdStore};
use crate::store::memory::MemoryStore;
use crate::store::redb::RedbStore;

/// Restores, or says what that would do.
///
/// # Errors
/// If the file is no whole backup, the authority is another one, or the store is not empty; nothing was written then.
pub(super) async fn restore(args: Restore) -> anyhow::Result<()> {
    let Restore {
        file,
        data_dir,
        ca_dir,
        dry_run,
        etcd,
        output,
    } = args;
    start_log(LogFormat::Text, "warn")?;
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let bytes = std::fs::read(&file)
        .with_context(|| format!("could not read {} (--file)", file.display()))?;
    let whole = Whole::read(&bytes).with_context(|| format!("{} (--file)", file.display()))?;
    let dir = ca_dir.or_else(|| data_dir.as_ref().map(|dir| dir.join("ca")));
    let dir = dir.context(
        "no certificate authority is known: give --ca-dir, or --data-dir with the folder ca in it",
    )?;
    let trust_domain = whole.summary.header.trust_domain.parse()?;
    let (ca, _) = Authority::given(&dir, trust_domain).with_context(|| {
        format!(
            "no certificate authority in {}: a backup does not contain it; put the files root.key and root.crt of the hub \
             there, expected fingerprint {}",
            dir.display(),
            whole.summary.header.authority
        )
    })?;
    whole
        .must_be_of(&ca)
        .with_context(|| format!("{}", dir.display()))?;
    let (store, place) = open(data_dir.as_deref(), EtcdSettings::of(etcd)?, dry_run).await?;
    let done = whole
        .put_into(store.as_ref(), dry_run, SystemClock.now())
        .await;
    let done = done.with_context(|| format!("{} into {place}", file.display()))?;
    let told = match output {
        Output::Text => text(&file, &place, &whole, &done, dry_run),
        Output::Json => json(&file, &place, &whole, &done, dry_run),
    };
    Ok(std::io::stdout().lock().write_all(told.as_bytes())?)
}

/// The store, and its name for people. A dry run makes no file.
async fn open(
    data_dir: Option<&Path>,
    etcd: Option<EtcdSettings>,
    dry_run: bool,
) -> anyhow::Result<(Box<dyn Store>, String)> {
    if let Some(settings) = etcd {
        let place = format!(
            "etcd {}, prefix {}",
            settings.endpoints.join(","),
            settings.root
        );
        return Ok((Box::new(EtcdStore::open(&settings).await?), place));
    }
    let dir = data_dir.context("no store is named: give --data-dir or --etcd-endpoints")?;
    let path: PathBuf = dir.join("hub.redb");
    let place = path.display().to_string();
    if dry_run && !path.exists() {
        return Ok((Box::new(MemoryStore::new()), place));
    }
    root::make_private_dir(dir)?;
    let store = RedbStore::open(&path)
        .with_context(|| format!("could not open {place}; no hub may run on it meanwhile"))?;
    Ok((Box::new(store), place))
}

fn text(file: &Path, place: &str, whole: &Whole, done: &Restored, dry_run: bool) -> String {
    let summary = &whole.summary;
    let header = &summary.header;
    let did = match (dry_run, done.goes_on) {
        (true, true) => "would go on to restore",
        (true, false) => "would restore",
        (false, true) => "went on and restored",
        (false, false) => "restored",
    };
    format!(
        "{did} {restored} of {all} from {file} into {place}\n\
         backup: store {store}, term {term}, revision {revision}, taken at {taken} by version {version}\n\
         \x20       {bytes} bytes, SHA-256 {sha256}\n\
         left out: {left} of starts, accepted positions and outcomes, which mean nothing in a new store\n\
         next: start the hub. It opens term {next} or a higher one and only observes: it applies and deletes nothing. Look \
         with `meridian hub status`; once all members are connected, `meridian hub promote` lets it decide.\n",
        restored = done.records,
        all = records(summary.records),
        file = file.display(),
        store = header.store_id,
        term = header.term,
        revision = header.revision,
        taken = header.taken_at,
        version = header.hub_version,
        bytes = summary.bytes,
        sha256 = summary.sha256,
        left = records(done.left_out as u64),
        next = done.next_term,
    )
}

/// A number of records, for people.
fn records(count: u64) -> String {
    match count {
        1 => "1 record".to_owned(),
        count => format!("{count} records"),
    }
}

fn json(file: &Path, place: &str, whole: &Whole, done: &Restored, dry_run: bool) -> String {
    let told = json!({
        "dryRun": dry_run,
        "file": file.display().to_string(),
        "store": place,
        "backup": whole.summary.header,
        "bytes": whole.summary.bytes,
        "sha256": whole.summary.sha256,
        "records": done.records,
        "leftOut": done.left_out,
        "wentOn": done.goes_on,
        "nextTerm": done.next_term,
        "mode": "observes",
    });
    format!("{told:#}\n")
}
