//! Floor 6: HTTP/1.1 + JSON, on a Unix socket (0600), and on TCP only when configured, with a token.
//!
//! | route | calls |
//! |---|---|
//! | `GET /v1/status` | [`Node::status`](crate::node::Node::status) |
//! | `GET /v1/balance`, `GET /v1/fees` | `balance`, `fees` |
//! | `POST /v1/address` | `new_address` |
//! | `POST /v1/send` | `send` |
//! | `GET, POST /v1/peers`, `DELETE /v1/peers/{node_id}` | `peers`, `add_peer`, `remove_peer` |
//! | `GET, POST /v1/channels`, `POST /v1/channels/{id}/close` | `channels`, `open_channel`, `close_channel` |
//! | `POST /v1/invoices`, `POST /v1/decode` | `receive`, `decode` |
//! | `POST /v1/payments` | `pay`: answers with the outcome, which may take as long as its `timeout_secs` |
//! | `GET /v1/history?limit=&before=`, `GET /v1/history/{id}` | `history`, `show` |
//! | `GET /v1/history/{id}/wait?timeout_secs=` | `wait` |
//! | `GET, POST /v1/chain/audit` | `last_audit`, `audit`: may take minutes |
//! | `GET /v1/servers`, `POST /v1/servers/{host}/forgive` | `servers`, `forgive_server` |
//! | `POST /v1/unlock` | `unlock`: the passphrase of an encrypted seed |
//! | `POST /v1/servers/{host:port}/trust` | `trust_server` |
//! | `POST /v1/stop` | `stop` |
//!
//! Errors are `{ "code", "message", "hint" }` with the HTTP status of [`status_of`]. Every answer is JSON, also for
//! unknown routes and bodies that are none. A request that changes something goes on when its client goes away.

mod listen;
mod routes;
mod serve;
mod token;
pub mod types;
mod wire;

pub use listen::{ListenError, Listeners};
pub use serve::serve;
pub use wire::status_of;
