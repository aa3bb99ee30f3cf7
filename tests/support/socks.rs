//! A SOCKS5 proxy as Tor is one: takes any login, resolves names by itself, and remembers what it was asked for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::eventually::Diagnostic;

/// One request for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// As it came: a name, or an IP address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// It came as a name, unresolved.
    pub(crate) by_name: bool,
    /// Who asked; none when the client showed nothing.
    pub(crate) login: Option<(String, String)>,
}

/// The proxy, on its own thread and port; both end with this value.
pub(crate) struct Socks {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _diagnostic: Diagnostic,
}

#[derive(Default)]
struct Shared {
    /// Where names lead.
    names: HashMap<String, SocketAddr>,
    asked: Vec<Asked>,
}

impl Socks {
    /// One that knows no name yet. IP addresses lead where they say.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a loopback interface");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::<Mutex<Shared>>::default();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("socks-{}", address.port()))
            .spawn(move || {
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).expect("a runtime with IO");
                    tokio::select! {
                        () = serve(serving, listener) => {}
                        _ = ended => {}
                    }
                });
            })
            .expect("a thread");
        let shown = Arc::clone(&shared);
        let tell = move || lock(&shown).asked.iter().map(|asked| format!("{asked:?}\n")).collect();
        let diagnostic = Diagnostic::new(format!("what the SOCKS proxy at {address} was asked for"), tell);
        Self { address, shared, end: Some(end), thread: Some(thread), _diagnostic: diagnostic }
    }

    /// As a configuration names it.
    pub(crate) fn url(&self) -> String {
        format!("socks5://{}", self.address)
    }

    /// Lets a name lead somewhere.
    pub(crate) fn name(&self, name: &str, to: SocketAddr) {
        lock(&self.shared).names.insert(name.to_owned(), to);
    }

    /// Lets it lead nowhere.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.shared).names.remove(name);
    }

    /// All that it was asked for so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        lock(&self.shared).asked.clone()
    }

    /// What it was asked for about one host.
    pub(crate) fn asked_for(&self, host: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.host == host).collect()
    }
}

impl Drop for Socks {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(shared: Arc<Mutex<Shared>>, listener: TcpListener) {
    // Connections end with the runtime.
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Whoever breaks the protocol or leaves is done with.
            let _ = connection(&shared, client).await;
        });
    }
}

/// RFC 1928 and RFC 1929.
async fn connection(shared: &Mutex<Shared>, mut client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let [_, methods] = bytes::<2>(&mut client).await?;
    let mut offered = vec![0; methods.into()];
    client.read_exact(&mut offered).await?;
    // A login is preferred, as Tor does it.
    let login = if offered.contains(&2) {
        client.write_all(&[5, 2]).await?;
        let [_] = bytes::<1>(&mut client).await?;
        let login = (text(&mut client).await?, text(&mut client).await?);
        client.write_all(&[1, 0]).await?;
        Some(login)
    } else {
        client.write_all(&[5, 0]).await?;
        None
    };
    let [_, _, _, kind] = bytes::<4>(&mut client).await?;
    let host = match kind {
        1 => IpAddr::from(Ipv4Addr::from(bytes::<4>(&mut client).await?)).to_string(),
        4 => IpAddr::from(Ipv6Addr::from(bytes::<16>(&mut client).await?)).to_string(),
        _ => text(&mut client).await?,
    };
    let port = client.read_u16().await?;
    let target = {
        let mut shared = lock(shared);
        shared.asked.push(Asked { host: host.clone(), port, by_name: kind == 3, login });
        match host.parse::<IpAddr>() {
            Ok(ip) => Some(SocketAddr::new(ip, port)),
            Err(_) => shared.names.get(&host).copied(),
        }
    };
    let server = match target {
        Some(target) => TcpStream::connect(target).await.ok(),
        None => None,
    };
    let Some(mut server) = server else {
        // Host unreachable.
        return client.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    server.set_nodelay(true)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn bytes<const N: usize>(stream: &mut TcpStream) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A length, and as many bytes of text.
async fn text(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut text = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
