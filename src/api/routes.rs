//! One function a route; each calls the node and says nothing of its own.

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::types::*;
use super::wire::{Answer, Asked, Named, Queried, Refusal, carry_out};
use crate::node::Node;
use crate::text::clip;

/// Longest wait of one request; who wants more asks again.
const MAX_WAIT_SECS: u32 = 600;

pub(super) fn router(node: Node) -> Router {
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/balance", get(balance))
        .route("/v1/fees", get(fees))
        .route("/v1/address", post(address))
        .route("/v1/send", post(send))
        .route("/v1/peers", get(peers).post(add_peer))
        .route("/v1/peers/{node_id}", delete(remove_peer))
        .route("/v1/channels", get(channels).post(open_channel))
        .route("/v1/channels/{id}/close", post(close_channel))
        .route("/v1/invoices", post(receive))
        .route("/v1/decode", post(decode))
        .route("/v1/payments", post(pay))
        .route("/v1/history", get(history))
        .route("/v1/history/{id}", get(show))
        .route("/v1/history/{id}/wait", get(wait))
        .route("/v1/chain/audit", get(last_audit).post(audit))
        .route("/v1/backup", post(backup))
        .route("/v1/recover", post(recover))
        .route("/v1/recovery/{channel}/abandon", post(abandon))
        .route("/v1/servers", get(servers))
        .route("/v1/servers/{host}/forgive", post(forgive_server))
        .route("/v1/unlock", post(unlock))
        .route("/v1/servers/{host}/trust", post(trust_server))
        .route("/v1/stop", post(stop));
    with_fallbacks(routes).with_state(node)
}

/// Also what is no route of ours is answered in JSON.
pub(super) fn with_fallbacks<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.fallback(unknown_route).method_not_allowed_fallback(wrong_method)
}

async fn unknown_route(method: Method, uri: Uri) -> Refusal {
    let message = format!("there is no {method} {}", clip(uri.path(), 200));
    NodeError::new(Code::NotFound, message).into()
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let message = format!("{method} is not a method of {}", clip(uri.path(), 200));
    Refusal::bad_request(message).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn status(State(node): State<Node>) -> Answer<Status> {
    Ok(Json(node.status().await?))
}

async fn balance(State(node): State<Node>) -> Answer<Balance> {
    Ok(Json(node.balance().await?))
}

async fn fees(State(node): State<Node>) -> Answer<Fees> {
    Ok(Json(node.fees().await?))
}

async fn address(State(node): State<Node>, Asked(Nothing {}): Asked<Nothing>) -> Answer<NewAddress> {
    carry_out(async move { node.new_address().await }).await
}

async fn send(State(node): State<Node>, Asked(request): Asked<SendRequest>) -> Answer<Sent> {
    carry_out(async move { node.send(request).await }).await
}

async fn peers(State(node): State<Node>) -> Answer<Vec<Peer>> {
    Ok(Json(node.peers().await?))
}

async fn add_peer(State(node): State<Node>, Asked(request): Asked<AddPeer>) -> Answer<Peer> {
    carry_out(async move { node.add_peer(request).await }).await
}

async fn remove_peer(State(node): State<Node>, Named(node_id): Named) -> Answer<Done> {
    carry_out(async move { node.remove_peer(node_id).await }).await
}

async fn channels(State(node): State<Node>) -> Answer<Vec<Channel>> {
    Ok(Json(node.channels().await?))
}

async fn open_channel(State(node): State<Node>, Asked(request): Asked<OpenChannel>) -> Answer<Opened> {
    carry_out(async move { node.open_channel(request).await }).await
}

async fn close_channel(
    State(node): State<Node>,
    Named(id): Named,
    Asked(request): Asked<CloseChannel>,
) -> Answer<Closing> {
    carry_out(async move { node.close_channel(id, request).await }).await
}

async fn receive(State(node): State<Node>, Asked(request): Asked<Receive>) -> Answer<Invoice> {
    carry_out(async move { node.receive(request).await }).await
}

async fn decode(State(node): State<Node>, Asked(request): Asked<Decode>) -> Answer<Decoded> {
    Ok(Json(node.decode(request).await?))
}

async fn pay(State(node): State<Node>, Asked(request): Asked<Pay>) -> Answer<Entry> {
    carry_out(async move { node.pay(request).await }).await
}

async fn history(State(node): State<Node>, Queried(query): Queried<HistoryQuery>) -> Answer<History> {
    Ok(Json(node.history(query).await?))
}

async fn show(State(node): State<Node>, Named(id): Named) -> Answer<Entry> {
    Ok(Json(node.show(id).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// Absent: 60.
    timeout_secs: Option<u32>,
}

async fn wait(State(node): State<Node>, Named(id): Named, Queried(query): Queried<Wait>) -> Answer<Entry> {
    let secs = query.timeout_secs.unwrap_or(60).min(MAX_WAIT_SECS);
    Ok(Json(node.wait(id, secs).await?))
}

async fn last_audit(State(node): State<Node>) -> Answer<ChainAudit> {
    Ok(Json(node.last_audit().await?))
}

async fn audit(State(node): State<Node>, Asked(request): Asked<AuditRequest>) -> Answer<ChainAudit> {
    carry_out(async move { node.audit(request).await }).await
}

async fn backup(State(node): State<Node>, Asked(Nothing {}): Asked<Nothing>) -> Answer<BackupMade> {
    carry_out(async move { node.backup().await }).await
}

async fn recover(State(node): State<Node>, Asked(Nothing {}): Asked<Nothing>) -> Answer<Done> {
    carry_out(async move { node.recover().await }).await
}

async fn abandon(State(node): State<Node>, Named(id): Named, Asked(Nothing {}): Asked<Nothing>) -> Answer<Done> {
    carry_out(async move { node.abandon(id).await }).await
}

async fn servers(State(node): State<Node>) -> Answer<Vec<ServerDetail>> {
    Ok(Json(node.servers().await?))
}

async fn forgive_server(
    State(node): State<Node>,
    Named(host): Named,
    Asked(Nothing {}): Asked<Nothing>,
) -> Answer<Done> {
    carry_out(async move { node.forgive_server(host).await }).await
}

async fn unlock(State(node): State<Node>, Asked(request): Asked<Unlock>) -> Answer<Done> {
    carry_out(async move { node.unlock(request).await }).await
}

async fn trust_server(
    State(node): State<Node>,
    Named(host): Named,
    Asked(request): Asked<TrustKey>,
) -> Answer<Trusted> {
    carry_out(async move { node.trust_server(host, request).await }).await
}

async fn stop(State(node): State<Node>, Asked(Nothing {}): Asked<Nothing>) -> Answer<Done> {
    carry_out(async move { node.stop().await }).await
}
