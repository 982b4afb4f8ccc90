//! The proxy through which the hub is dialled: which one, for which hubs, and with whose name.
//!
//! Settings of its own come first: flags, then the files of a mounted Secret. Where neither names a proxy, the variables that other
//! programs follow do: `HTTPS_PROXY` and `ALL_PROXY`, in capitals or not. Exceptions likewise, with `NO_PROXY`. Files are read at
//! each dial, so that what changes in the Secret needs no restart. What the proxy is told of us, the hub never sees.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::HubAddress;

/// Where to find which proxy to use. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// URL of the proxy, or `direct`: wins over everything else.
    pub url: Option<String>,
    /// Hosts that are dialled without it, separated by commas.
    pub except: Option<String>,
    /// Folder with any of the files `url`, `no-proxy`, `username`, `password` and `ca.crt`.
    pub files: Option<PathBuf>,
    /// What the variables say of the proxy and of its exceptions.
    pub environment: Environment,
}

/// The variables that other programs follow, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// URL of the proxy.
    pub url: Option<String>,
    /// Hosts that are dialled without it.
    pub except: Option<String>,
}

impl Environment {
    /// Reads the variables with `variable`. An empty one counts as not set.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| variable(name));
            values.find(|value| !value.trim().is_empty())
        };
        Self {
            url: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            except: first(&["NO_PROXY", "no_proxy"]),
        }
    }
}

/// A proxy, as one dial uses it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) address: HubAddress,
    /// Whether it is spoken to by TLS.
    pub(super) tls: bool,
    /// Certificates that it is trusted by, PEM; for TLS.
    pub(super) roots_pem: Option<String>,
    /// The header `Proxy-Authorization`.
    pub(super) credentials: Option<HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// What the files of a mounted Secret say.
#[derive(Default)]
struct Files {
    url: Option<String>,
    except: Option<String>,
    username: Option<String>,
    password: Option<String>,
    roots_pem: Option<String>,
}

impl ProxySettings {
    /// Whether the URL of the flag is one. What else names a proxy is read at each dial, and may be corrected meanwhile.
    ///
    /// # Errors
    /// What is wrong with it, in words; never with a password in them.
    pub fn check(&self) -> Result<(), String> {
        match self.url.as_deref().map(str::trim) {
            None | Some("" | DIRECT) => Ok(()),
            Some(url) => parse(url, FLAG).map(drop),
        }
    }

    /// The proxy for this hub.
    ///
    /// # Errors
    /// What is wrong with the settings, in words; never with a password in them.
    pub(super) async fn for_hub(&self, hub: &HubAddress) -> Result<Option<Proxy>, String> {
        let files = match &self.files {
            Some(folder) => Files::read(folder).await?,
            None => Files::default(),
        };
        self.choose(hub, files)
    }

    fn choose(&self, hub: &HubAddress, files: Files) -> Result<Option<Proxy>, String> {
        let environment = &self.environment;
        let except = [&self.except, &files.except, &environment.except];
        let except = except.into_iter().flatten().next();
        let named = [
            (&self.url, FLAG),
            (&files.url, "the file `url` of the proxy's settings"),
            (&environment.url, "the variable HTTPS_PROXY or ALL_PROXY"),
        ];
        let named = named.into_iter().find_map(|(url, r#where)| {
            Some((url.as_ref().filter(|url| !url.trim().is_empty())?, r#where))
        });
        let Some((url, said_by)) = named.filter(|(url, _)| url.trim() != DIRECT) else {
            return Ok(None);
        };
        if except.is_some_and(|list| excepted(hub, list)) {
            return Ok(None);
        }
        let mut proxy = parse(url.trim(), said_by)?;
        match (files.username, files.password) {
            (Some(name), Some(password)) => proxy.credentials = Some(basic(&name, &password)?),
            (None, None) => {}
            (Some(_), None) => return Err(half("username", "password")),
            (None, Some(_)) => return Err(half("password", "username")),
        }
        proxy.roots_pem = files.roots_pem;
        Ok(Some(proxy))
    }
}

/// The flag that names a proxy, as errors say it.
const FLAG: &str = "the setting --hub-proxy (MERIDIAN_HUB_PROXY)";
/// The URL that means no proxy.
const DIRECT: &str = "direct";
/// No file of the settings is longer.
const FILE_MAX: u64 = 256 << 10;

impl Files {
    async fn read(folder: &Path) -> Result<Self, String> {
        Ok(Self {
            url: file(folder, "url").await?,
            except: file(folder, "no-proxy").await?,
            username: file(folder, "username").await?,
            password: file(folder, "password").await?,
            roots_pem: file(folder, "ca.crt").await?,
        })
    }
}

/// The text of a file without the white space around it; `None` where there is none, or nothing in it.
async fn file(folder: &Path, name: &str) -> Result<Option<String>, String> {
    let path = folder.join(name);
    let wrong = |found: String| {
        format!(
            "the proxy's setting {}: {found}; correct the Secret that is mounted there",
            path.display()
        )
    };
    let length = match tokio::fs::metadata(&path).await {
        Ok(file) => file.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    if length > FILE_MAX {
        return Err(wrong(format!(
            "found {length} bytes, expected at most {FILE_MAX}"
        )));
    }
    let text = tokio::fs::read_to_string(&path).await;
    let text = text.map_err(|error| wrong(error.to_string()))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn half(there: &str, missing: &str) -> String {
    format!(
        "the proxy's settings have a `{there}` but no `{missing}`: put both into the Secret, or none"
    )
}

fn basic(name: &str, password: &str) -> Result<HeaderValue, String> {
    let encoded = STANDARD.encode(format!("{name}:{password}"));
    // Base64 fits into a header always; a name with a colon would be read as another name.
    let value = HeaderValue::try_from(format!("Basic {encoded}"));
    let mut value = value.map_err(|_| "the proxy's credentials fit into no header".to_owned())?;
    value.set_sensitive(true);
    if name.contains(':') {
        return Err("the proxy's `username` has a colon, which Basic authentication cannot carry (RFC 7617)".to_owned());
    }
    Ok(value)
}

/// Reads the URL of a proxy. A host without a scheme is spoken to without TLS, as curl does.
fn parse(url: &str, said_by: &str) -> Result<Proxy, String> {
    // A URL may carry a password: only what cannot be a part of it is shown.
    let bad = |found: &str| {
        format!(
            "{said_by}: {found}; expected http://HOST:PORT or https://HOST:PORT (with USER:PASSWORD@ where the proxy wants it), or `{DIRECT}`"
        )
    };
    let whole = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let uri: Uri = whole.parse().map_err(|_| bad("found no URL"))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        other => {
            let other = other.unwrap_or_default();
            return Err(bad(&format!(
                "found the scheme `{other}`, which is not spoken"
            )));
        }
    };
    let authority = uri.authority().ok_or_else(|| bad("found no host"))?;
    let text = authority.as_str();
    let place = text.rsplit_once('@').map_or(text, |(_, place)| place);
    let usual = if tls { 443 } else { 80 };
    let address = place
        .parse()
        .or_else(|_| format!("{place}:{usual}").parse());
    let address = address.map_err(|_| bad("found no host and port"))?;
    let credentials = match text.rsplit_once('@') {
        Some((user, _)) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let plain = |text| {
                decoded(text)
                    .ok_or_else(|| bad("found a name or password whose %-signs cannot be read"))
            };
            Some(basic(&plain(name)?, &plain(password)?)?)
        }
        None => None,
    };
    Ok(Proxy {
        address,
        tls,
        roots_pem: None,
        credentials,
    })
}

/// The text behind percent signs (RFC 3986 §2.1); `None` if one is followed by anything but two digits.
fn decoded(text: &str) -> Option<String> {
    // The library leaves what is no escape as it stands: a password with a bare `%` would be sent as it was never meant.
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    let plain = percent_decode_str(text).decode_utf8().ok()?;
    Some(plain.into_owned())
}

/// Whether a list of exceptions names this hub, by the rules that curl and Go follow: a name covers what stands under it, `*`
/// covers all, addresses may have a prefix length, and a port limits an entry to it.
fn excepted(hub: &HubAddress, list: &str) -> bool {
    let host = hub.host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let entries = list.split([',', ' ']).map(str::trim);
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if let (Some(address), Some(range)) = (address, range(&entry)) {
            return covers(range, address);
        }
        let (name, port) = match entry.parse::<HubAddress>() {
            Ok(HubAddress { host, port }) => (host, Some(port)),
            Err(_) => (entry, None),
        };
        let under = name.trim_start_matches('*').trim_start_matches('.');
        let below = address.is_none() && host.ends_with(&format!(".{under}"));
        (name == "*" || host == under || below) && port.is_none_or(|port| port == hub.port)
    })
}

/// An address with the number of bits that count.
fn range(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = entry
        .split_once('/')
        .map_or((entry, None), |(a, b)| (a, Some(b)));
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(all), |bits| bits.parse().ok())?;
    (bits <= all).then_some((address, bits))
}

fn covers((of, bits): (IpAddr, u32), address: IpAddr) -> bool {
    // As numbers of 128 bits, the first of which count.
    let number = |address| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    of.is_ipv4() == address.is_ipv4() && (number(of) ^ number(address)) & mask == 0
}

#[cfg(test)]
mod tests;
