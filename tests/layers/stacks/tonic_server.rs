//! tonic, with the layer on the webhook's route next to gRPC, and around a whole server.

use std::net::SocketAddr;

use axum::Router;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use tonic::{
    Status,
    service::Routes,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    server::health_reporter,
};

use crate::stacks::peers::{Client, Handler, assert_only_genuine_deliveries_arrive, listen, serve_axum, verify};

/// Returns routes with the health service and the webhook.
fn routes(webhook: Router) -> Routes {
    let (_, health) = health_reporter();
    Routes::new(health).into_axum_router().merge(webhook).into()
}

/// Calls the health service with tonic's client.
async fn call(address: SocketAddr) -> Result<ServingStatus, Status> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    Ok(answer.into_inner().status())
}

/// Asserts that deliveries arrive over HTTP/1.1, which tonic must be configured to accept, and over HTTP/2.
async fn assert_deliveries_arrive(address: SocketAddr, handler: &Handler) {
    for client in [Client::http1(address), Client::http2(address)] {
        assert_only_genuine_deliveries_arrive(handler, async |delivery| client.send(delivery).await.status).await;
    }
}

#[tokio::test]
async fn serves_webhook_and_grpc() {
    let handler = Handler::default();
    let (listener, address) = listen();
    let server = Server::builder().accept_http1(true).add_routes(routes(handler.router().layer(verify())));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    assert_deliveries_arrive(address, &handler).await;
    assert_eq!(call(address).await.unwrap(), ServingStatus::Serving);
}

#[tokio::test]
async fn axum_server_serves_webhook_and_grpc() {
    let handler = Handler::default();
    let address = serve_axum(routes(handler.router().layer(verify())).into_axum_router());

    assert_deliveries_arrive(address, &handler).await;
    assert_eq!(call(address).await.unwrap(), ServingStatus::Serving);
}

#[tokio::test]
async fn layer_can_cover_whole_server() {
    let handler = Handler::default();
    let (listener, address) = listen();
    let server = Server::builder().accept_http1(true).layer(verify()).add_routes(routes(handler.router()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    assert_deliveries_arrive(address, &handler).await;
    // gRPC calls are not signed, so the layer rejects them.
    call(address).await.unwrap_err();
    let call = Request::post("/grpc.health.v1.Health/Check").header(header::CONTENT_TYPE, "application/grpc");
    let call = call.body(Full::from(&[0; 5][..]).boxed_unsync()).unwrap();
    assert_eq!(Client::http2(address).request(call).await.status, 403);
}
