//! Images for the nodes: archives go into each node's container runtime.

use std::path::{Path, PathBuf};

use super::command::run;
use super::error::{LabError, Result};

/// Whether a node's container runtime listens.
pub(crate) async fn runtime_answers(socket: &Path) -> Result<(), String> {
    tokio::net::UnixStream::connect(socket)
        .await
        .map(drop)
        .map_err(|error| format!("{}: {error}", socket.display()))
}

/// Imports an archive (docker-archive or OCI) into the runtime behind this socket.
pub(crate) async fn import(socket: &Path, archive: &Path) -> Result<()> {
    let arguments = [
        "-a".as_ref(),
        socket.as_os_str(),
        "-n".as_ref(),
        "k8s.io".as_ref(),
        "images".as_ref(),
        "import".as_ref(),
        archive.as_os_str(),
    ];
    run("ctr", &arguments).await.map(drop)
}

/// An archive on disk, removed with this value if it was made for the occasion.
#[derive(Debug)]
pub(crate) enum Archive {
    /// The caller's own file.
    Given(PathBuf),
    /// Written from an image store.
    Exported(tempfile::TempPath),
}

impl Archive {
    /// What the caller named: a file, or an image in the machine's image store (buildah's, else docker's).
    pub(crate) async fn find(image: &str) -> Result<Self> {
        let path = Path::new(image);
        if path.exists() {
            return Ok(Self::Given(path.to_owned()));
        }
        if Path::new(image)
            .extension()
            .is_some_and(|extension| extension == "tar")
            || !image.contains('/')
        {
            return Err(LabError::Argument {
                field: "image",
                found: image.to_owned(),
                expected:
                    "an archive that exists, or the name of an image such as localhost/name:tag"
                        .to_owned(),
            });
        }
        let target = tempfile::Builder::new()
            .prefix("lab-image-")
            .suffix(".tar")
            .tempfile()
            .map_err(|source| LabError::File {
                action: "make a file in",
                path: std::env::temp_dir(),
                source,
            })?;
        let target = target.into_temp_path();
        // buildah refuses to write over a file that is there.
        super::files::remove(&target)?;
        let destination = format!("docker-archive:{}:{image}", target.display());
        let by_buildah = run(
            "buildah",
            &["push", "--storage-driver", "vfs", image, &destination],
        )
        .await;
        if let Err(buildah) = by_buildah {
            run("docker", &["save", "-o", &target.to_string_lossy(), image])
                .await
                .map_err(|docker| LabError::Machine {
                    what: format!("image {image}"),
                    found: format!("in no image store: {buildah}; {docker}"),
                    next: "build it first (tools/build-images.sh), or name an archive".to_owned(),
                })?;
        }
        Ok(Self::Exported(target))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Exported(path) => path,
        }
    }
}
