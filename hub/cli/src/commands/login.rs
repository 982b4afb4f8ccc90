//! Signing in with a browser: the hub asks its OpenID provider, and the browser brings a code back to this machine (RFC 8252), which
//! only this very process can exchange for the session (RFC 7636).

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use meridian_api::web::{ApiRole, CodeExchange, SessionGrant, SessionRole};
use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};

use super::escaped;
use crate::{
    client::Hub,
    config::{Credential, Place},
    error::CliError,
    output,
    session::Kept,
};

/// Where the browser comes back to.
const PATH: &str = "/callback";
/// Longest head of a request of the browser, bytes, and longest time for it.
const HEAD: usize = 16 << 10;
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Signs in and keeps the session.
pub(crate) async fn login(
    place: Place,
    start_browser: bool,
    port: u16,
    within: Duration,
) -> Result<(), CliError> {
    let hub = Hub::new(&place.target)?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    let listener = listener.map_err(|e| {
        CliError::Usage(format!(
            "--port {port}: 127.0.0.1 cannot be listened on: {e}"
        ))
    })?;
    let (state, verifier) = (drawn()?, drawn()?);
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let begin = format!(
        "/auth/login?redirect_uri={}&state={state}&code_challenge={challenge}&code_challenge_method=S256",
        escaped(&format!("http://{}{PATH}", listener.local_addr()?))
    );
    // Whatever is wrong with the hub or its provider is told here rather than in a browser.
    hub.call_at(Method::GET, &begin, None).await?;
    let address = format!("{}{begin}", place.target.hub);
    output::note(&format!(
        "Sign in at\n\n  {address}\n\nwith a browser on this machine."
    ));
    if start_browser && !started(&address) {
        output::note("No browser could be started: open the address yourself.");
    }
    let came = timeout(within, come_back(&listener, &state)).await;
    let code = came.map_err(|_| {
        CliError::TimedOut(format!(
            "nobody came back from the browser within {} s; sign in again",
            within.as_secs()
        ))
    })??;
    let exchange = CodeExchange {
        code,
        code_verifier: verifier,
    };
    let unreadable = |error: serde_json::Error| CliError::Answer {
        request: "the exchange of a code".to_owned(),
        reason: error.to_string(),
    };
    let body = serde_json::to_value(&exchange).map_err(unreadable)?;
    let answer = hub
        .call_at(Method::POST, "/auth/token", Some(&body))
        .await?;
    let grant: SessionGrant = serde_json::from_value(answer).map_err(unreadable)?;
    let session = grant.session;
    let kept = Kept {
        token: crate::config::Secret(grant.token),
        name: session.person.name,
        expires_at: session.expires_at,
    };
    place.sessions.keep(&place.target.hub, &kept)?;
    let roles = named(&session.roles);
    output::print(&format!(
        "signed in as {} ({}) until {}\n",
        kept.name, roles, kept.expires_at
    ))?;
    if place.is_overruled {
        output::note(
            "--token-file or MERIDIAN_TOKEN_FILE goes before this session: leave it out to ask as this person.",
        );
    }
    Ok(())
}

/// Roles, with the projects that they are for.
fn named(roles: &[SessionRole]) -> String {
    let named = roles.iter().map(|one| {
        let role = match one.role {
            ApiRole::Viewer => "viewer",
            ApiRole::Operator => "operator",
            ApiRole::Admin => "admin",
        };
        let projects: Vec<_> = one.projects.iter().flatten().cloned().collect();
        match projects.is_empty() {
            true => role.to_owned(),
            false => format!("{role} in {}", projects.join(", ")),
        }
    });
    named.collect::<Vec<_>>().join("; ")
}

/// Ends the session at the hub, and forgets it in any case.
pub(crate) async fn logout(mut place: Place) -> Result<(), CliError> {
    let hub = place.target.hub.clone();
    let Some(kept) = place.sessions.of(&hub)? else {
        return output::print(&format!("not signed in to {hub}\n"));
    };
    place.sessions.forget(&hub)?;
    place.target.credential = Credential::Session(kept.token);
    let asked = Hub::new(&place.target)?;
    match asked.call_at(Method::POST, "/auth/logout", None).await {
        Ok(_) => output::print(&format!("signed out of {hub}, {}\n", kept.name)),
        // It has ended already.
        Err(CliError::Problem(problem)) if problem.status == 401 => {
            output::print(&format!("signed out of {hub}, {}\n", kept.name))
        }
        Err(error) => {
            output::note(&format!(
                "the session is forgotten here, but the hub was not told: it is good until {}; an administrator ends it with \
                 `meridian api-token delete`",
                kept.expires_at
            ));
            Err(error)
        }
    }
}

/// 256 random bits.
fn drawn() -> Result<String, CliError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| CliError::Usage("the system has no random numbers".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Starts the person's browser; whether one could be started.
fn started(address: &str) -> bool {
    let own = std::env::var("BROWSER").ok().filter(|own| !own.is_empty());
    let usual = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let mut browser = Command::new(own.as_deref().unwrap_or(usual));
    let browser = browser
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    browser.stderr(Stdio::null()).spawn().is_ok()
}

/// Waits for the browser with the code of this login. Whatever else asks is answered and passed over.
async fn come_back(listener: &TcpListener, state: &str) -> Result<String, CliError> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let asked = match timeout(HEAD_WITHIN, asked(&mut stream)).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(_)) | Err(_) => continue,
        };
        let said = asked.as_deref().and_then(|line| returned(line, state));
        let (status, text) = match &said {
            None => (
                "404 Not Found",
                "This is not the end of a login that was begun here.",
            ),
            Some(Ok(_)) => (
                "200 OK",
                "You are signed in. Close this page and go on in the terminal.",
            ),
            Some(Err(_)) => (
                "403 Forbidden",
                "You are not signed in. The terminal says why.",
            ),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        // The person may have closed it already.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        match said {
            None => {}
            Some(Ok(code)) => return Ok(code),
            Some(Err(why)) => return Err(CliError::NotSignedIn(why)),
        }
    }
}

/// The first line of a request; `None` if it is none.
async fn asked(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = stream.read(&mut piece).await?;
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 || head.len() > HEAD {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&head);
    Ok(head.lines().next().map(str::to_owned))
}

/// What a request of the browser says of the login with this state: the code, or why there is none.
fn returned(line: &str, state: &str) -> Option<Result<String, String>> {
    let address = line.strip_prefix("GET ")?.split(' ').next()?;
    let (path, query) = address.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut told: BTreeMap<_, _> = pairs
        .map(|(name, value)| {
            (
                name,
                percent_decode_str(value).decode_utf8_lossy().into_owned(),
            )
        })
        .collect();
    if path != PATH || told.get("state").map(String::as_str) != Some(state) {
        return None;
    }
    if let Some(code) = told.remove("code") {
        return Some(Ok(code));
    }
    let why = told
        .remove("error_description")
        .or_else(|| told.remove("error"))?;
    Some(Err(why.chars().filter(|c| !c.is_control()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_login_counts() {
        let said = |line: &str| returned(line, "s1");
        let code = Some(Ok("a/b".to_owned()));
        assert_eq!(said("GET /callback?code=a%2Fb&state=s1 HTTP/1.1"), code);
        let refused = Some(Err("no role [31m".to_owned()));
        assert_eq!(
            said("GET /callback?error=x&error_description=no%20role%1b%20[31m&state=s1 HTTP/1.1"),
            refused
        );
        for line in [
            "GET /callback?code=a&state=s2 HTTP/1.1",
            "GET /callback?code=a HTTP/1.1",
            "GET /other?code=a&state=s1 HTTP/1.1",
            "POST /callback?code=a&state=s1 HTTP/1.1",
            "GET /callback?state=s1 HTTP/1.1",
            "GET /favicon.ico HTTP/1.1",
            "",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }
}
