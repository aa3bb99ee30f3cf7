//! A server for one node alone, of the kind that the world has: it can go away while the others stay.

use super::esplora::Esplora;
use super::proxy::Proxy;
use super::world::World;

/// See the module.
pub(crate) enum OwnServer {
    Electrum(Proxy),
    Esplora(Esplora),
}

impl OwnServer {
    /// One on the world's chain.
    pub(crate) fn new(world: &World) -> Self {
        match world.servers()[0].starts_with("http") {
            true => Self::Esplora(Esplora::run(world.bitcoind.another_client())),
            false => Self::Electrum(world.proxy()),
        }
    }

    /// As a configuration names it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Electrum(proxy) => proxy.url(),
            Self::Esplora(esplora) => esplora.url(),
        }
    }

    /// It is away from now on.
    pub(crate) fn go_down(&self) {
        match self {
            Self::Electrum(proxy) => proxy.go_down(),
            Self::Esplora(esplora) => esplora.stop(),
        }
    }

    /// It is there again, on its port.
    pub(crate) fn come_back(&self) {
        match self {
            Self::Electrum(proxy) => proxy.come_back(),
            Self::Esplora(esplora) => esplora.start(),
        }
    }

    /// A place in what it was asked.
    pub(crate) fn mark(&self) -> usize {
        match self {
            Self::Electrum(proxy) => proxy.mark(),
            Self::Esplora(esplora) => esplora.mark(),
        }
    }

    /// How much it was asked since.
    pub(crate) fn asked_since(&self, mark: usize) -> usize {
        match self {
            Self::Electrum(proxy) => proxy.since(mark).requests().count(),
            Self::Esplora(esplora) => esplora.since(mark).len(),
        }
    }

    /// How many transactions it was given since.
    pub(crate) fn given_since(&self, mark: usize) -> usize {
        match self {
            Self::Electrum(proxy) => {
                let since = proxy.since(mark);
                since.requests().filter(|line| line.method.starts_with("blockchain.transaction.broadcast")).count()
            }
            Self::Esplora(esplora) => esplora.since(mark).iter().filter(|asked| asked.method == "POST").count(),
        }
    }
}
