//! The programs of the documents' example, as images of the lab: a page about a book, made of three other services.
//!
//! ```text
//! productpage ──► details
//!      └────────► reviews (v1: no stars, v2: black, v3: red) ──► ratings
//! ```
//! In: `productpage`, `details`, `reviews <version>` or `ratings [v-faulty]`; port 9080, other services by their names on that port.
//! Out: HTTP. The caller's name and what tracing needs travel along. The page's calls take three seconds and are tried
//! twice, those to ratings ten seconds, as in the example, so that what is said of its faults can be seen here.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use lateen_rt::{deadline::within, tasks::Tasks};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::echo;

const PORT: u16 = 9080;
const CONNECTIONS_MAX: usize = 1000;
const BODY_MAX: usize = 1 << 20;
const LINE_MAX: u64 = 1 << 16;
/// How long the page waits for what it is made of, each of two times.
const PAGE_TIMEOUT: Duration = Duration::from_secs(3);
const PAGE_TRIES: u32 = 2;
/// How long reviews wait for ratings.
const RATINGS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a caller says that is passed on.
const PASSED_ON: [&str; 9] = [
    "end-user",
    "user-agent",
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
];

/// One of the services.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Service {
    Page,
    Details,
    /// With the colour of its stars, if it has any.
    Reviews(String, Option<&'static str>),
    Ratings(Health),
}

/// How the ratings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    /// Every other answer, or so, is an error.
    Faulty,
}

/// Serves until SIGTERM.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let service = match words.as_slice() {
        ["productpage", ..] => Service::Page,
        ["details", ..] => Service::Details,
        ["reviews", version, ..] => {
            let colour = match *version {
                "v1" => None,
                "v2" => Some("black"),
                "v3" => Some("red"),
                other => bail!("reviews has no version {other:?}; use v1, v2 or v3"),
            };
            Service::Reviews((*version).to_owned(), colour)
        }
        ["ratings", "v-faulty", ..] => Service::Ratings(Health::Faulty),
        ["ratings", ..] => Service::Ratings(Health::Well),
        _ => bail!("{words:?} is none of productpage, details, reviews <version>, ratings [v-faulty]"),
    };
    let service = Arc::new(service);
    echo::started(async move {
        let listener = echo::listen(PORT).await.with_context(|| format!("listening on port {PORT}"))?;
        let (tasks, owner) = (Tasks::new(), Tasks::new());
        owner.spawn("books", accept(listener, tasks, move |stream| http(service.clone(), stream)));
        echo::leave().await
    })
}

/// Answers every line behind a word, on several ports, until SIGTERM: `9000,9001 one`.
pub(crate) fn lines(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let [ports, word, ..] = arguments else { bail!("give ports and a word: 9000,9001 one") };
    let ports: Result<Vec<u16>, _> = ports.split(',').map(str::parse).collect();
    let (ports, word) = (ports.context("ports")?, Arc::new(word.clone()));
    echo::started(async move {
        let (tasks, owner) = (Tasks::new(), Tasks::new());
        for port in ports {
            let listener = echo::listen(port).await.with_context(|| format!("listening on port {port}"))?;
            let word = word.clone();
            owner.spawn("lines", accept(listener, tasks.clone(), move |stream| answered(word.clone(), stream)));
        }
        echo::leave().await
    })
}

async fn accept<F>(listener: TcpListener, tasks: Tasks, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(echo::ACCEPT_PAUSE).await;
            continue;
        };
        let serving = serve(stream);
        tasks.spawn("a connection", async move {
            // A client that goes away is its own business.
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(permit);
        });
    }
}

async fn answered(word: Arc<String>, stream: TcpStream) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut read).take(LINE_MAX).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        write.write_all(&[word.as_bytes(), b" ", &line].concat()).await?;
    }
}

async fn http(service: Arc<Service>, stream: TcpStream) -> anyhow::Result<()> {
    let answering = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move {
            let passed = passed_on(request.headers());
            let (status, body) = answer(&service, request.uri().path(), &passed).await;
            let response = echo::answering(status).header(header::CONTENT_TYPE, "application/json");
            response.body(Full::<Bytes>::from(format!("{body:#}\n")))
        }
    });
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await?)
}

/// What is passed on of a request; whoever signed in at the page is named by its cookie.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in PASSED_ON {
        if let Some(value) = headers.get(name) {
            passed.insert(name, value.clone());
        }
    }
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("user="));
    if let Some(user) = user.and_then(|user| user.parse().ok()) {
        passed.insert("end-user", user);
    }
    passed
}

async fn answer(service: &Service, path: &str, passed: &HeaderMap) -> (StatusCode, Value) {
    match (service, path) {
        (_, "/health") => (StatusCode::OK, json!({"status": "healthy"})),
        (Service::Page, "/productpage" | "/") => (StatusCode::OK, page(passed).await),
        (Service::Details, _) => {
            (StatusCode::OK, json!({"id": 0, "author": "William Shakespeare", "year": 1595, "pages": 200}))
        }
        (Service::Reviews(version, colour), _) => (StatusCode::OK, reviews(version, *colour, passed).await),
        (Service::Ratings(Health::Faulty), _) if rand::random() => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"error": "Service unavailable"}))
        }
        (Service::Ratings(_), _) => (StatusCode::OK, json!({"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}})),
        (Service::Page, _) => (StatusCode::NOT_FOUND, json!({"error": "use /productpage"})),
    }
}

async fn page(passed: &HeaderMap) -> Value {
    let user = passed.get("end-user").and_then(|user| user.to_str().ok());
    let (details, reviews) =
        futures::join!(part("details", "/details/0", passed), part("reviews", "/reviews/0", passed));
    let sorry = |what: &str, why: String| json!({"error": format!("Sorry, product {what} are currently unavailable for this book."), "why": why});
    json!({
        "title": "The Comedy of Errors", "user": user,
        "details": details.unwrap_or_else(|why| sorry("details", why)),
        "reviews": reviews.unwrap_or_else(|why| sorry("reviews", why)),
    })
}

/// What the page is made of, asked for as often as the example does.
async fn part(host: &str, path: &str, passed: &HeaderMap) -> Result<Value, String> {
    let mut last = String::new();
    for _ in 0..PAGE_TRIES {
        match get(host, path, passed, PAGE_TIMEOUT).await {
            Ok(found) => return Ok(found),
            Err(error) => last = format!("{error:#}"),
        }
    }
    Err(last)
}

async fn reviews(version: &str, colour: Option<&str>, passed: &HeaderMap) -> Value {
    let rating = match colour {
        None => None,
        Some(_) => Some(get("ratings", "/ratings/0", passed, RATINGS_TIMEOUT).await),
    };
    let one = |reviewer: &str, text: &str| {
        let mut review = json!({"reviewer": reviewer, "text": text});
        match &rating {
            None => {}
            Some(Ok(found)) => review["rating"] = json!({"stars": found["ratings"][reviewer], "color": colour}),
            Some(Err(_)) => review["rating"] = json!({"error": "Ratings service is currently unavailable"}),
        }
        review
    };
    let texts = ["An extremely entertaining play.", "Absolutely fun and entertaining."];
    json!({"id": "0", "version": version, "reviews": [one("Reviewer1", texts[0]), one("Reviewer2", texts[1])]})
}

async fn get(host: &str, path: &str, passed: &HeaderMap, timeout: Duration) -> anyhow::Result<Value> {
    within("asking another service", timeout, ask(host, path, passed)).await?
}

async fn ask(host: &str, path: &str, passed: &HeaderMap) -> anyhow::Result<Value> {
    let stream = TcpStream::connect((host, PORT)).await.with_context(|| format!("connecting to {host}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(path).header(header::HOST, format!("{host}:{PORT}"));
    for (name, value) in passed {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answered = async {
        let response = sender.send_request(request).await.with_context(|| format!("asking {host}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("reading the answer of {host}: {error}"))?.to_bytes();
        ensure!(status.is_success(), "{host} answered {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("the answer of {host}"))
    };
    tokio::pin!(answered);
    // The connection is driven beside the request. What it had brought when it ended can still be read.
    tokio::select! {
        answer = &mut answered => return answer,
        _ended = connection => {}
    }
    answered.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_is_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert("end-user", "ann".parse().expect("a value"));
        headers.insert("accept", "*/*".parse().expect("a value"));
        headers.insert("x-request-id", "7".parse().expect("a value"));
        let passed = passed_on(&headers);
        assert_eq!((passed.len(), &passed["end-user"]), (2, &"ann".parse().expect("a value")));
        headers.insert("cookie", "a=b; user=jason".parse().expect("a value"));
        assert_eq!(passed_on(&headers)["end-user"], "jason");
    }

    #[tokio::test]
    async fn reviews_of_the_first_version_ask_nobody() {
        let (status, body) = answer(&Service::Reviews("v1".to_owned(), None), "/reviews/0", &HeaderMap::new()).await;
        assert_eq!((status, &body["version"]), (StatusCode::OK, &json!("v1")));
        assert_eq!(body["reviews"][0].get("rating"), None);
    }

    #[tokio::test]
    async fn faulty_ratings_fail_now_and_then() {
        let (mut well, mut failed) = (false, false);
        while !(well && failed) {
            let (status, _) = answer(&Service::Ratings(Health::Faulty), "/ratings/0", &HeaderMap::new()).await;
            well |= status == StatusCode::OK;
            failed |= status == StatusCode::SERVICE_UNAVAILABLE;
        }
        let health = answer(&Service::Ratings(Health::Faulty), "/health", &HeaderMap::new()).await;
        assert_eq!(health.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn every_line_comes_back_behind_the_word() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (tasks, owner) = (Tasks::new(), Tasks::new());
        let word = Arc::new("one".to_owned());
        owner.spawn("lines", accept(listener, tasks, move |stream| answered(word.clone(), stream)));
        let mut stream = BufReader::new(TcpStream::connect(address).await.expect("connected"));
        stream.write_all(b"hello\n").await.expect("sent");
        let mut text = String::new();
        stream.read_line(&mut text).await.expect("answered");
        assert_eq!(text, "one hello\n");
    }
}
