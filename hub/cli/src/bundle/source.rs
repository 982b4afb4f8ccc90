//! The API server that the kubeconfig names. Only read from.

use std::{path::PathBuf, time::Duration};

use http::{Request, header::ACCEPT};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustls::crypto::aws_lc_rs;

use crate::error::CliError;

/// Asks for metadata alone: the API server leaves values out before it answers.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// In which form an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Whole,
    /// Metadata of a list's objects.
    Metadata,
}

/// Where the bundle's content comes from.
pub(crate) trait Source {
    /// The answer to a GET of `path`, or why there is none.
    fn get(&self, path: &str, form: Form) -> impl Future<Output = Result<String, String>>;
}

/// An API server.
pub(crate) struct Kubernetes {
    client: Client,
    namespace: String,
    address: String,
    patience: Duration,
}

impl Kubernetes {
    /// Reads the kubeconfig; nothing is asked yet.
    pub(crate) async fn open(
        kubeconfig: Option<PathBuf>,
        context: Option<String>,
        namespace: Option<String>,
        patience: Duration,
    ) -> Result<Self, CliError> {
        // Fails only if one is installed already, which is what we want.
        let _installed = aws_lc_rs::default_provider().install_default();
        let file = match &kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let unusable = |error: &dyn std::error::Error| {
            CliError::Usage(format!(
                "no cluster is known: {}; give --kubeconfig FILE (and --context), or set KUBECONFIG",
                chain(error)
            ))
        };
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        let file = file.map_err(|error| unusable(&error))?;
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|error| unusable(&error))?;
        config.connect_timeout = Some(patience);
        let (address, default) = (
            config.cluster_url.to_string(),
            config.default_namespace.clone(),
        );
        Ok(Self {
            client: Client::try_from(config).map_err(|error| unusable(&error))?,
            namespace: namespace.unwrap_or(default),
            address,
            patience,
        })
    }

    /// The namespace that is looked at.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The API server.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Source for Kubernetes {
    async fn get(&self, path: &str, form: Form) -> Result<String, String> {
        let mut request = Request::get(path);
        if form == Form::Metadata {
            request = request.header(ACCEPT, METADATA);
        }
        let request = request
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let asked = tokio::time::timeout(self.patience, self.client.request_text(request)).await;
        match asked {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(kube::Error::Api(status))) => Err(format!("{} {}", status.code, status.message)),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_elapsed) => Err(format!("no answer within {} s", self.patience.as_secs())),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
