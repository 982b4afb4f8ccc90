//! Clients of our own at the sockets of a cluster: TLS that believes one authority only, HTTP, and the database's protocol.
//! They block; what they say is what went over the wire.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use meridian_integration::stack::{Cluster, NAMESPACE, kubectl};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// An authority, and what it signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: String,
}

/// A certificate with its key, PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?.pem();
        let issuer = Issuer::new(parameters, key);
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// A new certificate for these names.
    pub(crate) fn signs(&self, names: &[&str]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names.clone())?;
        let common = names.into_iter().next().unwrap_or_default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, common);
        let key = KeyPair::generate()?;
        Ok(Identity {
            certificate: parameters.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// What a client does that believes this authority and nobody else, and shows `identity`.
    pub(crate) fn client(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        // The first call of the process decides; a program that has installed a provider keeps its own.
        let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes())?)?;
        let builder = ClientConfig::builder().with_root_certificates(roots);
        Ok(Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_auth_cert(
                vec![der(&identity.certificate)?],
                PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?,
            )?,
        }))
    }
}

/// The bytes of the first certificate of this PEM.
pub(crate) fn der(pem: &str) -> Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_slice(pem.as_bytes())?)
}

/// Something that is read and written.
pub(crate) trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

fn plain(address: &str) -> Result<TcpStream> {
    let found = address.to_socket_addrs()?.next();
    let stream = TcpStream::connect_timeout(&found.context("no address")?, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    Ok(stream)
}

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// Connects, asks for `name`, and ends the handshake.
pub(crate) fn encrypted(
    address: &str,
    name: &str,
    client: &Arc<ClientConfig>,
) -> Result<Encrypted> {
    let name = ServerName::try_from(name.to_owned())?;
    let connection = ClientConnection::new(Arc::clone(client), name)?;
    let mut stream = StreamOwned::new(connection, plain(address)?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The certificate that the other side showed.
pub(crate) fn shown(stream: &Encrypted) -> Result<CertificateDer<'static>> {
    let chain = stream.conn.peer_certificates();
    let first = chain.and_then(|chain| chain.first());
    Ok(first.context("nothing was shown")?.clone().into_owned())
}

/// Status and body of `GET path`; the connection ends with it.
pub(crate) fn get(
    mut stream: impl Duplex,
    path: &str,
    authorization: Option<&str>,
) -> Result<(u16, String)> {
    let login = authorization.map_or(String::new(), |login| format!("Authorization: {login}\r\n"));
    let request = format!("GET {path} HTTP/1.0\r\nHost: cluster\r\nAccept: */*\r\n{login}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // A server that closes without a farewell of TLS has said everything all the same, if it said how much.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error.into()),
    }
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// A connection to a database.
pub(crate) struct Client {
    stream: Box<dyn Duplex>,
    read: Vec<u8>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    pub(crate) fn over(stream: impl Duplex + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            read: Vec::new(),
        }
    }

    /// A plain connection.
    pub(crate) fn open(address: &str) -> Result<Self> {
        Ok(Self::over(plain(address)?))
    }

    /// Sends a command and reads its answer; an error of the server is an answer.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<redis::Value> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        self.stream.write_all(&command.get_packed_command())?;
        let since = Instant::now();
        let mut part = [0; 16 * 1024];
        loop {
            let length = self.stream.read(&mut part)?;
            ensure!(length > 0, "the connection was closed");
            self.read.extend_from_slice(&part[..length]);
            if let Ok(value) = redis::parse_redis_value(&self.read) {
                self.read.clear();
                return Ok(value);
            }
            ensure!(since.elapsed() < ANSWER, "no whole answer in time");
        }
    }

    /// As [`Client::ask`], in words: an error of the server is one.
    pub(crate) fn says(&mut self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = self.ask(&words)?;
        if let redis::Value::ServerError(error) = &answer {
            let details = error.details().unwrap_or_default();
            bail!("{command}: {} {details}", error.code());
        }
        let text: Option<String> = redis::from_redis_value(answer)?;
        Ok(text.unwrap_or_else(|| "nothing".to_owned()))
    }
}

/// `kubectl port-forward`, until it is dropped.
pub(crate) struct Forward {
    child: Child,
    /// It tells each connection here, and ends if nobody could hear it.
    told: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) address: String,
}

impl Forward {
    /// To a port of a Service or pod, by its own number.
    pub(crate) fn to(cluster: &Cluster, target: &str, port: u16) -> Result<Self> {
        let port = format!(":{port}");
        let mut child = Command::new(kubectl()?)
            .args(["--kubeconfig", &cluster.kubeconfig])
            .args(["--namespace", NAMESPACE, "port-forward", target, &port])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("forward to {target}{port}"))?;
        let output = child.stdout.take().context("no output")?;
        let mut forward = Self {
            child,
            told: BufReader::new(output),
            address: String::new(),
        };
        let mut line = String::new();
        forward.told.read_line(&mut line)?;
        let from = line.strip_prefix("Forwarding from ");
        let from = from.and_then(|rest| rest.split(' ').next());
        let from = from.with_context(|| format!("{target}{port}: kubectl said {line:?}"))?;
        forward.address = from.to_owned();
        Ok(forward)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
