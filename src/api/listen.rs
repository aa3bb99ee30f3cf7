//! The doors: the Unix socket, and TCP when it is configured.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::token::Token;
use crate::config;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("another lightnode already answers at {}", .0.display())]
    Answered(PathBuf),
    #[error("{} is in the way of the API socket and is no socket", .0.display())]
    InTheWay(PathBuf),
    #[error("cannot listen at {}: {source}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot listen for API requests at {address}: {source}")]
    Tcp { address: String, source: io::Error },
    #[error("the API token {}: {source}", path.display())]
    Token { path: PathBuf, source: io::Error },
}

/// Bound and not yet served; requests queue up.
pub struct Listeners {
    pub(super) unix: UnixListener,
    pub(super) socket: SocketFile,
    pub(super) tcp: Option<(TcpListener, Token)>,
}

/// The socket's name in the file system; removed when dropped.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it is gone already there is nothing to tidy up.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listeners {
    /// Binds what is configured. Needs the data directory, and a tokio runtime.
    pub async fn bind(api: &config::Api) -> Result<Self, ListenError> {
        let unix = bind_socket(&api.socket).await?;
        let socket = SocketFile(api.socket.clone());
        let tcp = match &api.tcp {
            None => None,
            Some(at) => {
                let token = Token::load_or_create(&api.token_file)
                    .map_err(|source| ListenError::Token { path: api.token_file.clone(), source })?;
                let listener = TcpListener::bind((at.host.as_str(), at.port)).await;
                let listener = listener.map_err(|source| ListenError::Tcp { address: at.to_string(), source })?;
                Some((listener, token))
            }
        };
        Ok(Self { unix, socket, tcp })
    }

    /// Where TCP requests are taken, if they are.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }
}

/// Binds inside a private directory and moves the socket to its place, so that it is never open to others, and
/// replaces one that nobody serves in one step.
async fn bind_socket(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::InTheWay(path.to_owned())),
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(ListenError::Answered(path.to_owned()));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let parent = path.parent().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
    let nursery = parent.join(".new");
    let bind = || -> io::Result<UnixListener> {
        match fs::DirBuilder::new().mode(0o700).create(&nursery) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(&nursery, fs::Permissions::from_mode(0o700))?,
        }
        let fresh = nursery.join("s");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        fs::remove_dir(&nursery)?;
        Ok(listener)
    };
    bind().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(dir: &Path) -> config::Api {
        config::Api { socket: dir.join("s.sock"), tcp: None, token_file: dir.join("api.token") }
    }

    #[tokio::test]
    async fn the_socket_is_private_and_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let api = api(dir.path());
        let listeners = Listeners::bind(&api).await.unwrap();
        assert_eq!(fs::metadata(&api.socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&api.socket).await.is_ok());
        drop(listeners);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_socket_that_answers_is_left_alone_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let api = api(dir.path());
        let first = Listeners::bind(&api).await.unwrap();
        assert!(matches!(Listeners::bind(&api).await, Err(ListenError::Answered(_))));
        let Listeners { unix, socket, .. } = first;
        drop(unix);
        assert!(api.socket.exists());
        let second = Listeners::bind(&api).await.unwrap();
        assert!(UnixStream::connect(&api.socket).await.is_ok());
        drop((socket, second));
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let api = api(dir.path());
        fs::write(&api.socket, "precious").unwrap();
        assert!(matches!(Listeners::bind(&api).await, Err(ListenError::InTheWay(_))));
        assert_eq!(fs::read_to_string(&api.socket).unwrap(), "precious");
    }

    #[tokio::test]
    async fn tcp_comes_with_a_token_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut api = api(dir.path());
        api.tcp = Some(config::HostPort { host: "127.0.0.1".into(), port: 0 });
        let listeners = Listeners::bind(&api).await.unwrap();
        assert!(listeners.tcp_address().is_some());
        assert!(api.token_file.exists());
    }
}
