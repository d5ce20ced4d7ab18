//! Tests that run each example as a process, with genuine and forged deliveries.

use std::process::Stdio;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout, Command},
    sync::{Mutex, mpsc},
    time::{Duration, timeout},
};
use tower_klikit::testing::SignedDelivery;

const SECRET: &str = "your-webhook-secret";
const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;

fn delivery() -> SignedDelivery {
    SignedDelivery::new(SECRET, BODY).event_id("evt-1")
}

/// Starts an example, which is killed when it is dropped.
fn start(program: &str, environment: &[(&str, &str)]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(program);
    command.env("KLIKIT_WEBHOOK_SECRET", SECRET).envs(environment.iter().copied());
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the example starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    (child, output)
}

/// Waits for `work`. Panics after a minute, so that a test fails instead of hanging.
async fn ends<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), work).await.expect("the work ends within a minute")
}

async fn next_line(output: &mut Lines<BufReader<ChildStdout>>) -> String {
    ends(output.next_line()).await.expect("the output is UTF-8").expect("the example prints a line")
}

/// Sends a genuine and a forged delivery to a serving example, and ends the example by SIGTERM.
async fn assert_serves_genuine_deliveries_only(program: &str) {
    let (mut child, mut output) = start(program, &[("PORT", "0")]);
    let line = next_line(&mut output).await;
    let url = line.split_whitespace().last().expect("the line ends in the URL").to_owned();
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let send = async |delivery: &SignedDelivery| {
        let mut request = delivery.request::<Full<Bytes>>();
        *request.uri_mut() = url.parse().expect("a URL");
        ends(client.request(request)).await.expect("a response").status()
    };
    assert_eq!(send(&delivery().altered()).await, StatusCode::FORBIDDEN);
    assert_eq!(send(&delivery()).await, StatusCode::OK);
    assert_eq!(next_line(&mut output).await, format!("received evt-1: {} bytes", BODY.len()));

    let pid = child.id().expect("the example runs").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs").success());
    assert_eq!(ends(child.wait()).await.expect("a status").code(), Some(0));
}

#[tokio::test]
async fn poem_serves_genuine_deliveries_only() {
    assert_serves_genuine_deliveries_only(env!("CARGO_BIN_EXE_poem")).await;
}

#[tokio::test]
async fn salvo_serves_genuine_deliveries_only() {
    assert_serves_genuine_deliveries_only(env!("CARGO_BIN_EXE_salvo")).await;
}

/// Lambda's runtime API, which hands out events and takes the function's responses.
struct RuntimeApi {
    events: Mutex<mpsc::Receiver<Value>>,
    responses: mpsc::Sender<Value>,
}

async fn next_event(State(api): State<&'static RuntimeApi>) -> Response {
    let event = api.events.lock().await.recv().await;
    let Some(event) = event else { return std::future::pending().await };
    let headers = [
        ("lambda-runtime-aws-request-id", "1"),
        ("lambda-runtime-deadline-ms", "9999999999999"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:ap-southeast-1:1:function:webhook"),
    ];
    (headers, Json(event)).into_response()
}

async fn take_response(State(api): State<&'static RuntimeApi>, Path(_): Path<String>, response: Bytes) -> StatusCode {
    let response = serde_json::from_slice(&response).expect("JSON");
    api.responses.send(response).await.expect("the test waits for the response");
    StatusCode::ACCEPTED
}

/// Returns the event of API Gateway's HTTP API for a delivery.
fn api_gateway_event(delivery: &SignedDelivery) -> Value {
    let request: Request<Body> = delivery.request();
    let headers =
        request.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").into()));
    let headers: serde_json::Map<String, Value> = headers.collect();
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/webhooks/klikit",
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "1", "apiId": "1", "domainName": "localhost", "domainPrefix": "localhost", "requestId": "1",
            "routeKey": "$default", "stage": "$default", "time": "26/Nov/2026:00:00:00 +0000", "timeEpoch": 0,
            "http": {
                "method": "POST", "path": "/webhooks/klikit", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1",
                "userAgent": "klikit",
            },
        },
        "body": String::from_utf8(delivery.body().to_vec()).expect("UTF-8"),
        "isBase64Encoded": false,
    })
}

#[tokio::test]
async fn lambda_handles_genuine_deliveries_only() {
    let (events, received_events) = mpsc::channel(4);
    let (responses, mut received_responses) = mpsc::channel(4);
    let api: &RuntimeApi = Box::leak(Box::new(RuntimeApi { events: Mutex::new(received_events), responses }));
    let app: Router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next_event))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(take_response))
        .with_state(api);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = tokio::spawn(async { axum::serve(listener, app).await });

    let (_child, mut output) = start(
        env!("CARGO_BIN_EXE_lambda"),
        &[
            ("AWS_LAMBDA_RUNTIME_API", &*address),
            ("AWS_LAMBDA_FUNCTION_NAME", "webhook"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ],
    );
    for (delivery, status) in [(delivery().altered(), 403), (delivery(), 200)] {
        events.send(api_gateway_event(&delivery)).await.expect("the API takes events");
        let response = ends(received_responses.recv()).await.expect("a response");
        assert_eq!(response["statusCode"], status, "{response}");
    }
    assert_eq!(next_line(&mut output).await, format!("received evt-1: {} bytes", BODY.len()));
    server.abort();
}
