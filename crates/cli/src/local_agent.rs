//! Talks to the agent on this machine through its HTTP API.

use crate::failure::Failure;
use branchmesh_agent::{
    ApiError, ImportReport, ImportRequest, ReleaseAnswer, ReleaseRequest, Verb, VerifyAnswer,
    config::HTTP_DEFAULT, in_words, status::StatusView,
};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use std::{path::PathBuf, time::Duration};

/// Longest wait for an answer: the agent answers from memory.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for an answer that it has to put together.
const LONG_WAIT: Duration = Duration::from_secs(120);
/// Longest wait for an import: 60 GB from the slowest stick.
const IMPORT_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Longest wait for an agent that reads all files of a release: 100 GiB at 30 MiB/s.
const VERIFY_WAIT: Duration = Duration::from_secs(60 * 60);

/// Where the local agent is.
#[derive(Clone, clap::Args)]
pub struct LocalAgent {
    /// Address of the agent's API
    #[arg(long, env = "BRANCHMESH_HTTP", value_name = "ADDR:PORT", default_value = HTTP_DEFAULT)]
    http: String,
}

impl LocalAgent {
    /// What it does now.
    pub async fn status(&self) -> Result<StatusView, Failure> {
        self.ask(self.client()?.get(self.url("status"))).await
    }

    /// Asks it for something about a release.
    pub async fn request(&self, verb: Verb, image: &str) -> Result<ReleaseAnswer, Failure> {
        self.try_request(verb, image).await?.map_err(|(_, words)| Failure::because(words))
    }

    /// Makes it want a release; `None` while it knows nothing of the repository yet.
    pub async fn get(&self, image: &str) -> Result<Option<ReleaseAnswer>, Failure> {
        match self.try_request(Verb::Get, image).await? {
            Ok(answer) => Ok(Some(answer)),
            Err((StatusCode::SERVICE_UNAVAILABLE, _)) => Ok(None),
            Err((_, words)) => Err(Failure::because(words)),
        }
    }

    /// Has it compare the files of a release with what was published. Waits as long as that takes.
    pub async fn verify(&self, image: &str) -> Result<VerifyAnswer, Failure> {
        let request = ReleaseRequest { image: image.into() };
        self.ask(self.client()?.post(self.url("verify")).timeout(VERIFY_WAIT).json(&request)).await
    }

    /// What it, or its site, holds, as a file.
    pub async fn have(&self, of_site: bool) -> Result<Vec<u8>, Failure> {
        let request = self.client()?.get(self.url(&format!("have?site={of_site}")));
        // Millions of blocks may have to be named.
        let answer =
            self.send(request.timeout(LONG_WAIT)).await?.map_err(|(_, words)| Failure::because(words))?;
        let bytes = answer.bytes().await;
        bytes.map(Vec::from).map_err(|error| Failure::failed("the agent's answer cannot be read", &error))
    }

    /// Has it import a folder, and waits for that.
    pub async fn import(&self, folder: PathBuf) -> Result<ImportReport, Failure> {
        let request = self.client()?.post(self.url("import")).json(&ImportRequest { folder });
        self.ask(request.timeout(IMPORT_WAIT)).await
    }

    async fn try_request(
        &self,
        verb: Verb,
        image: &str,
    ) -> Result<Result<ReleaseAnswer, (StatusCode, String)>, Failure> {
        let request = ReleaseRequest { image: image.into() };
        self.answer(self.client()?.post(self.url(verb.name())).json(&request)).await
    }

    fn url(&self, what: &str) -> String {
        format!("http://{}/api/v1/{what}", self.http)
    }

    fn client(&self) -> Result<reqwest::Client, Failure> {
        // A proxy for the web must not stand between this command and the agent beside it.
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WAIT).build();
        client.map_err(|error| Failure::failed("the HTTP client does not start", &error))
    }

    async fn ask<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        self.answer(request).await?.map_err(|(_, words)| Failure::because(words))
    }

    /// What it answers, or why it does not do what was asked.
    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Result<T, (StatusCode, String)>, Failure> {
        match self.send(request).await? {
            Ok(answer) => {
                let answer = answer.json().await;
                answer.map(Ok).map_err(|error| Failure::failed("the agent's answer cannot be read", &error))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Result<reqwest::Response, (StatusCode, String)>, Failure> {
        let response = request.send().await.map_err(|error| {
            Failure::no_agent(format!(
                "no agent answers at http://{} ({}): is it running (branchmesh agent --config FILE)? \
                 Another address is given with --http",
                self.http,
                in_words(&error)
            ))
        })?;
        if !response.status().is_success() {
            let status = response.status();
            let words = response.json::<ApiError>().await.map_or_else(
                |_| format!("{} answered {status}: is it a branchmesh agent?", self.http),
                |refusal| refusal.error,
            );
            return Ok(Err((status, words)));
        }
        Ok(Ok(response))
    }
}
