//! Ports that nobody else uses: asked from the system, never fixed, never handed out twice by this process.
//!
//! Another program may still take a port between the asking and the use. Whoever uses one therefore notices that it
//! could not bind and starts again with another.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

/// A free TCP port on 127.0.0.1.
pub(crate) fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback interface");
        let port = listener.local_addr().expect("a bound socket").port();
        if given.insert(port) {
            return port;
        }
    }
}
