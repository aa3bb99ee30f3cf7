//! Bodies, queries and errors: JSON in, JSON out, and a reason for each refusal.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::types::{Code, NodeError};
use crate::text::clip;

/// The largest request is an invoice with its route hints, some kB.
const MAX_BODY: usize = 64 * 1024;
/// What is read and thrown away of a body that is too long, so that its sender gets to see the answer.
const MAX_DRAINED: usize = 16 * 1024 * 1024;
/// For the whole body to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(20);

/// HTTP status of an error.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::BadRequest => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Refused => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Failed => StatusCode::CONFLICT,
        Code::InsufficientFunds => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Internal | Code::Damaged => StatusCode::INTERNAL_SERVER_ERROR,
        Code::PeerUnavailable => StatusCode::BAD_GATEWAY,
        Code::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        Code::Locked => StatusCode::LOCKED,
        Code::Unknown => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// An error on its way out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: NodeError,
}

impl Refusal {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        NodeError::new(Code::BadRequest, message).into()
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<NodeError> for Refusal {
    fn from(error: NodeError) -> Self {
        Self { status: status_of(error.code), error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

/// What every route answers.
pub(super) type Answer<T> = Result<Json<T>, Refusal>;

/// Carries a request out to its end, also when its client goes away meanwhile and the handler is dropped.
pub(super) async fn carry_out<T, F>(request: F) -> Answer<T>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, NodeError>> + Send + 'static,
{
    match tokio::spawn(request).await {
        Ok(answer) => Ok(Json(answer?)),
        Err(why) => {
            let message = format!("the request ended in a defect of lightnode, and may or may not be done: {why}");
            Err(NodeError::new(Code::Internal, message).hint("look at `lightnode history` before you try again").into())
        }
    }
}

/// A JSON body. An absent one stands for `{}`.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let body = tokio::time::timeout(BODY_DEADLINE, collect(request.into_body())).await;
        let late = || Refusal::bad_request("the body did not arrive in time").with_status(StatusCode::REQUEST_TIMEOUT);
        // A passphrase may be in it.
        let bytes = Zeroizing::new(body.map_err(|_| late())??);
        let json: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let reason = |error: serde_json::Error| match error.is_data() {
            true => error.to_string(),
            false => format!("the body is not valid JSON: {error}"),
        };
        serde_json::from_slice(json).map(Self).map_err(|error| Refusal::bad_request(clip(&reason(error), 300)))
    }
}

async fn collect(mut body: Body) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::bad_request(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= MAX_BODY {
            bytes.extend_from_slice(&data);
        } else if seen > MAX_DRAINED {
            break;
        }
    }
    if seen > MAX_BODY {
        let message = format!("the body is larger than {MAX_BODY} bytes");
        return Err(Refusal::bad_request(message).with_status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(bytes)
}

/// The part of the path in braces.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|error| Refusal::bad_request(clip(&error.body_text(), 300)))
    }
}

/// What stands behind the question mark.
pub(super) struct Queried<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Queried<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Self(asked)).map_err(|error| Refusal::bad_request(clip(&error.body_text(), 300)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{HistoryQuery, Pay};

    async fn asked(body: impl Into<Body>) -> Result<Pay, Refusal> {
        let request = Request::builder().body(body.into()).unwrap();
        Asked::<Pay>::from_request(request, &()).await.map(|asked| asked.0)
    }

    #[tokio::test]
    async fn a_body_is_json_with_known_fields_or_refused_with_the_reason() {
        assert_eq!(asked(r#"{"invoice":"lnbc1"}"#).await.unwrap().invoice, "lnbc1");
        for (body, reason) in [
            (r#"{"invoice":"x","unheard":1}"#, "unknown field `unheard`, expected one of `invoice`, `amount_msat`"),
            (r#"{"invoice":7}"#, "invalid type: integer `7`, expected a string"),
            ("", "missing field `invoice`"),
            ("{", "the body is not valid JSON: EOF while parsing"),
        ] {
            let refusal = asked(body).await.unwrap_err();
            assert_eq!((refusal.status, refusal.error.code), (StatusCode::BAD_REQUEST, Code::BadRequest));
            assert!(refusal.error.message.starts_with(reason), "{body}: {}", refusal.error.message);
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused() {
        let refusal = asked("x".repeat(MAX_BODY + 1)).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(refusal.error.message, "the body is larger than 65536 bytes");
    }

    #[tokio::test]
    async fn a_query_has_known_names_and_numbers_or_is_refused() {
        async fn queried(uri: &str) -> Result<HistoryQuery, Refusal> {
            let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            Queried::from_request_parts(&mut parts, &()).await.map(|asked| asked.0)
        }
        assert_eq!(queried("/v1/history?limit=3").await.unwrap().limit, Some(3));
        for uri in ["/v1/history?limit=-1", "/v1/history?lmit=3", "/v1/history?limit=many"] {
            assert_eq!(queried(uri).await.unwrap_err().error.code, Code::BadRequest, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_request_goes_on_when_its_client_goes_away() {
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let (told, tell) = tokio::sync::oneshot::channel();
        let handler = tokio::spawn(carry_out(async move {
            begun.send(()).unwrap();
            finished.await.unwrap();
            told.send("paid").unwrap();
            Ok(())
        }));
        has_begun.await.unwrap();
        handler.abort();
        assert!(handler.await.unwrap_err().is_cancelled());
        finish.send(()).unwrap();
        assert_eq!(tell.await.unwrap(), "paid");
    }
}
