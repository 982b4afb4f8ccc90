//! Which image the nodes of a REC run, and whether a change of it is allowed. Pure.
//!
//! An agent makes and changes clusters of one release: that of the node image it was installed with. A cluster of an
//! older release keeps the image it runs, and nothing of it is changed, until its version is raised (`versionTag`, or
//! `autoUpgradeRedisEnterprise`). So an upgrade of the agent restarts no pod.
//!
//! A version is `X.Y.Z` or `X.Y.Z-N`: a release and the number of its build. All builds of a release have the same pod
//! template. A tag of another form is known only if it is that of the agent's own node image.

use std::fmt;

use meridian_api::crds::shared::ImageSpec;

/// Release and build of a node image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    release: [u32; 3],
    build: Option<u32>,
}

impl Version {
    /// Reads `X.Y.Z` or `X.Y.Z-N`, with or without a leading `v`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (release, build) = match text.split_once('-') {
            Some((release, build)) => (release, Some(build.parse().ok()?)),
            None => (text, None),
        };
        let numbers: Vec<u32> = release
            .split('.')
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            release: numbers.try_into().ok()?,
            build,
        })
    }

    /// The release alone, as text.
    pub(crate) fn release(self) -> String {
        let [major, minor, patch] = self.release;
        format!("{major}.{minor}.{patch}")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.release())?;
        match self.build {
            Some(build) => write!(f, "-{build}"),
            None => Ok(()),
        }
    }
}

/// The node image that an agent was installed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own<'a> {
    repository: &'a str,
    tag: Option<&'a str>,
    version: Version,
}

impl<'a> Own<'a> {
    /// `image` is the node image; `program` the version of the agent's program, for an image whose tag is no version.
    pub(crate) fn new(image: &'a str, program: &str) -> Self {
        let (repository, tag) = split(image);
        let version = tag
            .and_then(Version::parse)
            .or_else(|| Version::parse(program));
        Self {
            repository,
            tag,
            version: version.unwrap_or(Version {
                release: [0; 3],
                build: None,
            }),
        }
    }

    /// Whether what runs is of another release.
    pub(crate) fn differs(&self, running: &Running) -> bool {
        Now::of(running, self).version.release != self.version.release
    }

    fn version_of(&self, tag: &str) -> Option<Version> {
        if Some(tag) == self.tag {
            return Some(self.version);
        }
        Version::parse(tag)
    }
}

/// What runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// Image of the pods' template.
    pub image: String,
    /// Release for which the template was made, if it is written on it.
    pub release: Option<String>,
}

/// What shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The image of the pods.
    pub image: String,
    /// Release whose template the pods get.
    pub release: String,
    /// Nothing of the cluster is changed: why, and the next step.
    pub suspended: Option<String>,
}

/// Why a version cannot be run, with the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is lower than what runs.
    Downgrade(String),
    /// The agent does not know it.
    Unknown(String),
}

impl Refused {
    /// Reason of condition and Event.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Downgrade(_) => "Downgrade",
            Self::Unknown(_) => "UnknownVersion",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Downgrade(text) | Self::Unknown(text) => f.write_str(text),
        }
    }
}

/// Chooses the image. `follow`: without a tag of its own the cluster takes the agent's version.
///
/// # Errors
/// [`Refused`]: the way from what runs to what the spec asks for is not allowed.
pub(crate) fn choose(
    spec: Option<&ImageSpec>,
    follow: bool,
    running: Option<&Running>,
    own: &Own<'_>,
) -> Result<Choice, Refused> {
    let now = running.map(|running| Now::of(running, own));
    let repository = spec.and_then(|spec| spec.repository.as_deref());
    if let Some(digest) = spec.and_then(|spec| spec.digest_hash.as_deref()) {
        let repository = repository.unwrap_or(own.repository);
        let tag = spec.and_then(|spec| spec.version_tag.as_deref());
        let version = tag.map_or(Some(own.version), |tag| own.version_of(tag));
        let wanted = version.ok_or_else(|| unknown(tag.unwrap_or_default(), own))?;
        return judge(format!("{repository}@{digest}"), wanted, now.as_ref(), own);
    }
    let named = spec.and_then(|spec| spec.version_tag.as_deref());
    // Where no other repository is named, a tag that runs already stays what it is, wherever it came from.
    let kept = running.filter(|running| match named {
        Some(tag) => split(&running.image).1 == Some(tag),
        None => !follow,
    });
    if let (Some(kept), None) = (kept, repository) {
        let version = now.as_ref().map_or(own.version, |now| now.version);
        return judge(kept.image.clone(), version, now.as_ref(), own);
    }
    let kept_tag = kept.and_then(|kept| split(&kept.image).1);
    let repository = repository.unwrap_or(own.repository);
    let Some(tag) = named.or(kept_tag).or(own.tag) else {
        return judge(repository.to_owned(), own.version, now.as_ref(), own);
    };
    let wanted = match (named, &now) {
        (None, Some(now)) if kept_tag.is_some() => now.version,
        _ => own.version_of(tag).ok_or_else(|| unknown(tag, own))?,
    };
    judge(format!("{repository}:{tag}"), wanted, now.as_ref(), own)
}

/// What runs now, understood.
struct Now {
    image: String,
    version: Version,
}

impl Now {
    fn of(running: &Running, own: &Own<'_>) -> Self {
        let written = running.release.as_deref().and_then(Version::parse);
        let tag = split(&running.image).1.and_then(Version::parse);
        Self {
            image: running.image.clone(),
            version: tag.or(written).unwrap_or(own.version),
        }
    }
}

fn judge(
    image: String,
    wanted: Version,
    now: Option<&Now>,
    own: &Own<'_>,
) -> Result<Choice, Refused> {
    let release = wanted.release();
    let own_release = own.version.release();
    if let Some(now) = now {
        let down = wanted.release < now.version.release
            || (wanted.release == now.version.release
                && matches!((wanted.build, now.version.build), (Some(to), Some(from)) if to < from));
        if down {
            return Err(Refused::Downgrade(format!(
                "the cluster runs {} and cannot go back to {wanted}: its files may have a newer form. Put the version back",
                now.version
            )));
        }
        if now.image == image && wanted.release != own.version.release {
            let side = if wanted.release < own.version.release {
                "set spec.redisEnterpriseImageSpec.versionTag to this release, or \
                 spec.upgradeSpec.autoUpgradeRedisEnterprise to true"
            } else {
                "upgrade the agent to the release of the cluster"
            };
            return Ok(Choice {
                image,
                suspended: Some(format!(
                    "the cluster runs release {release} and this agent is of release {own_release}: changes of the \
                     cluster and of its databases wait until they are the same. Databases are served and fail over as \
                     before. Next: {side}"
                )),
                release,
            });
        }
    }
    if wanted.release == own.version.release {
        return Ok(Choice {
            image,
            release,
            suspended: None,
        });
    }
    let next = if wanted.release > own.version.release {
        "upgrade the agent first"
    } else {
        "name a version of the agent's release"
    };
    Err(Refused::Unknown(format!(
        "this agent makes clusters of release {own_release} and was asked for {wanted}: {next}"
    )))
}

fn unknown(tag: &str, own: &Own<'_>) -> Refused {
    Refused::Unknown(format!(
        "spec.redisEnterpriseImageSpec.versionTag: found {tag:?}, which names no version that this agent knows; expected \
         {} or {}-<build>. Leave the field out to run the agent's own",
        own.version.release(),
        own.version.release()
    ))
}

/// Repository and tag of an image; a digest counts as no tag.
fn split(image: &str) -> (&str, Option<&str>) {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (image, None),
    }
}

#[cfg(test)]
mod tests;
