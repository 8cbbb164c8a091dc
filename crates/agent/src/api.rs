//! The local HTTP API, the live page and the metrics.
//!
//! It listens on loopback unless configured otherwise. Requests that change something take JSON only, which a
//! foreign web page cannot send without asking first (CORS preflight, which is not answered).

use crate::{
    happening::Happening,
    holdings,
    import::{self, ImportError, ImportRequest},
    metrics,
    requests::{Refused, ReleaseRequest, Verb},
    shared::Shared,
    status::StatusView,
    verify::{self, VerifyError},
};
use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use branchmesh_image::path::{check_name, check_path};
use branchmesh_store::StoreError;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc};
use tokio::sync::oneshot;
use tower_http::services::ServeFile;

/// What the live page may do: nothing but talk to this agent.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a file of an image may do in a browser: nothing.
const IMAGE_SECURITY_POLICY: &str = "default-src 'none'; sandbox";

/// Why the API did not do what was asked, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct ApiError {
    /// In words.
    pub error: String,
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/", get(|| page("text/html; charset=utf-8", include_str!("dashboard/index.html"))))
        .route("/app.js", get(|| page("text/javascript; charset=utf-8", include_str!("dashboard/app.js"))))
        .route("/style.css", get(|| page("text/css; charset=utf-8", include_str!("dashboard/style.css"))))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics_text))
        .route("/api/v1/status", get(status))
        .route("/api/v1/verify", post(verify_release))
        .route("/api/v1/have", get(have))
        .route("/api/v1/import", post(import_folder))
        .route("/images/{image}/{release}/{*file}", get(image_file));
    let verbs = Verb::ALL.into_iter().fold(router, |router, verb| {
        let comply = move |shared, request| ask_about_release(shared, verb, request);
        router.route(&format!("/api/v1/{}", verb.name()), post(comply))
    });
    verbs
        .layer(middleware::map_response(harden))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), check_host))
        .with_state(shared)
}

async fn page(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type)], text)
}

async fn harden(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// An API on loopback answers only who asks for loopback: a web page whose name was made to point here
/// (DNS rebinding) gets nothing.
async fn check_host(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if shared.settings.http.ip().is_loopback() && !is_this_machine(host) {
        let error = format!("this API answers at {} only, not as {host:?}", shared.settings.http);
        return failed(StatusCode::FORBIDDEN, error);
    }
    next.run(request).await
}

/// Whether a `Host` header names loopback: an address or `localhost`, with or without a port.
fn is_this_machine(host: &str) -> bool {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    match ask(&shared).await {
        Some(view) => Json(view).into_response(),
        None => stopping(),
    }
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    let Some(view) = ask(&shared).await else { return stopping() };
    match metrics::render(&view) {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn ask(shared: &Shared) -> Option<StatusView> {
    let (answer, view) = oneshot::channel();
    shared.tell(Happening::Status(answer)).await;
    view.await.ok()
}

async fn ask_about_release(
    State(shared): State<Arc<Shared>>,
    verb: Verb,
    Json(request): Json<ReleaseRequest>,
) -> Response {
    let about = match request.image.parse() {
        Ok(about) => about,
        Err(error) => return failed(StatusCode::BAD_REQUEST, crate::in_words(&error)),
    };
    let (answer, answered) = oneshot::channel();
    shared.tell(Happening::Asked(verb, about, answer)).await;
    match answered.await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(refused)) => failed(status_of(&refused), crate::in_words(&refused)),
        Err(_) => stopping(),
    }
}

async fn verify_release(State(shared): State<Arc<Shared>>, Json(request): Json<ReleaseRequest>) -> Response {
    let about = match request.image.parse() {
        Ok(about) => about,
        Err(error) => return failed(StatusCode::BAD_REQUEST, crate::in_words(&error)),
    };
    match verify::verify(&shared, &about).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error @ VerifyError::NotHere(_)) => failed(StatusCode::NOT_FOUND, crate::in_words(&error)),
        Err(error @ VerifyError::Store(StoreError::NotAssembled { .. })) => {
            failed(StatusCode::CONFLICT, crate::in_words(&error))
        }
        Err(VerifyError::Stopping) => stopping(),
        Err(error @ VerifyError::Store(_)) => {
            failed(StatusCode::INTERNAL_SERVER_ERROR, crate::in_words(&error))
        }
    }
}

fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NotYet => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::NotOneImage => StatusCode::BAD_REQUEST,
        Refused::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::Expired
        | Refused::Unsuitable { .. }
        | Refused::Withdrawn { .. }
        | Refused::NotComplete { .. }
        | Refused::NothingActive { .. }
        | Refused::NothingOlder { .. }
        | Refused::NotOlder { .. }
        | Refused::SeveralPinned { .. } => StatusCode::CONFLICT,
    }
}

/// The query of `GET /api/v1/have`.
#[derive(Debug, Deserialize)]
struct HaveQuery {
    /// Whether the members' blocks count, too.
    #[serde(default)]
    site: bool,
}

/// What this node or its site holds, as a file for `branchmesh export --lacking`.
async fn have(State(shared): State<Arc<Shared>>, Query(query): Query<HaveQuery>) -> Response {
    match holdings::holdings(shared, query.site).await {
        Some(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        None => stopping(),
    }
}

/// Answers when the folder has been read, however long that takes.
async fn import_folder(State(shared): State<Arc<Shared>>, Json(request): Json<ImportRequest>) -> Response {
    // A task of its own: the import goes on when nobody waits for the answer any more.
    match tokio::spawn(import::import(shared, request.folder)).await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(error)) => {
            let status = match error {
                ImportError::NotAFolder(_) => StatusCode::BAD_REQUEST,
                ImportError::NoBundle(_) => StatusCode::NOT_FOUND,
                ImportError::Metadata(_) => StatusCode::CONFLICT,
                ImportError::Busy => StatusCode::TOO_MANY_REQUESTS,
            };
            failed(status, error.to_string())
        }
        Err(_) => stopping(),
    }
}

/// A file of a release whose files are in place, with ranges.
async fn image_file(
    State(shared): State<Arc<Shared>>,
    Path((image, release, file)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    // What is being put together has a name that no release may have.
    let safe = check_name(&image).and_then(|()| check_name(&release)).and_then(|()| check_path(&file));
    if let Err(error) = safe {
        return failed(StatusCode::BAD_REQUEST, error.to_string());
    }
    let folder = shared.settings.data_dir.join("images").join(&image).join(&release);
    if release.starts_with('.') || !folder.is_dir() {
        return failed(StatusCode::NOT_FOUND, format!("{image}@{release} is not complete on this node"));
    }
    match ServeFile::new(folder.join(&file)).try_call(request).await {
        Ok(response) => {
            let policy = HeaderValue::from_static(IMAGE_SECURITY_POLICY);
            ([(header::CONTENT_SECURITY_POLICY, policy)], response).into_response()
        }
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn failed(status: StatusCode, error: String) -> Response {
    (status, Json(ApiError { error })).into_response()
}

fn stopping() -> Response {
    failed(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine() {
        for host in ["127.0.0.1:8741", "127.0.0.1", "localhost:8741", "LocalHost", "[::1]:8741", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8741",
            "localhost.evil.example",
            "10.0.0.1:8741",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
