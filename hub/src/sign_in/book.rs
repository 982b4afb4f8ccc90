//! The file that says what groups may do. It is read anew when it changes, so that a right that is taken away there is gone within
//! seconds, for sessions that stand as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;

use crate::domain::sign_in::roles::Roles;

/// How often the file is looked at. A kubelet brings a changed ConfigMap within a minute.
const EVERY: Duration = Duration::from_secs(2);
/// Largest file, bytes.
const LARGEST: u64 = 4 << 20;

/// What groups may do now. The default gives nobody anything.
#[derive(Debug, Default)]
pub struct RoleBook(ArcSwap<Roles>);

impl RoleBook {
    /// With these roles.
    #[must_use]
    pub fn of(roles: Roles) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(roles)))
    }

    /// The roles in force.
    #[must_use]
    pub fn now(&self) -> Arc<Roles> {
        self.0.load_full()
    }

    /// From now on these are in force.
    pub fn put(&self, roles: Roles) {
        self.0.store(Arc::new(roles));
    }

    /// Looks at the file for ever. One that cannot be read changes nothing, and that is said once.
    pub async fn follow(self: Arc<Self>, file: PathBuf) {
        let mut complaint = String::new();
        let mut looks = tokio::time::interval(EVERY);
        loop {
            looks.tick().await;
            match read(&file).await {
                Ok(roles) if roles == **self.0.load() => complaint.clear(),
                Ok(roles) => {
                    complaint.clear();
                    self.put(roles);
                    tracing::info!(file = %file.display(), "what groups may do was read anew");
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    if why != complaint {
                        tracing::error!(why, "what groups may do stays as it was read before");
                    }
                    complaint = why;
                }
            }
        }
    }
}

/// Reads the file.
///
/// # Errors
/// If it cannot be read, or is not what it should be.
pub async fn read(file: &Path) -> anyhow::Result<Roles> {
    let named = || format!("--oidc-roles {}", file.display());
    let length = tokio::fs::metadata(file).await.with_context(named)?.len();
    anyhow::ensure!(
        length <= LARGEST,
        "--oidc-roles {}: found {length} bytes, expected at most {LARGEST}",
        file.display()
    );
    let text = tokio::fs::read_to_string(file).await.with_context(named)?;
    Roles::read(&text).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_anew_and_one_that_is_broken_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("roles.yaml");
        let one = "roles:\n- {group: a, role: viewer}\n";
        std::fs::write(&file, one).unwrap();
        let book = RoleBook::of(read(&file).await.unwrap());
        let following = tokio::spawn(Arc::clone(&book).follow(file.clone()));
        let two = one.replace("viewer", "admin");
        std::fs::write(&file, &two).unwrap();
        let wanted = Roles::read(&two).unwrap();
        while *book.now() != wanted {
            tokio::time::sleep(EVERY).await;
        }
        std::fs::write(&file, "roles: none\n").unwrap();
        tokio::time::sleep(EVERY * 5).await;
        assert_eq!(*book.now(), wanted);
        assert!(
            read(&file)
                .await
                .unwrap_err()
                .to_string()
                .contains("--oidc-roles")
        );
        following.abort();
    }
}
