//! What goes over the wire: the node's own views and errors, as they stand.

pub use crate::node::error::{Code, NodeError};
pub use crate::node::views::*;
