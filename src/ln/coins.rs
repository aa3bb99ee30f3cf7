//! Our wallet as LDK wants it.
use bitcoin::{Psbt, ScriptBuf, Transaction};
use lightning::events::bump_transaction::{Utxo, WalletSource};
use lightning::util::async_poll::AsyncResult;

/// Change.
#[derive(Debug)]
pub struct ChangeScripts {}
impl lightning::sign::ChangeDestinationSource for ChangeScripts {
    fn get_change_destination_script<'a>(&'a self) -> AsyncResult<'a, ScriptBuf, ()> {
        Box::pin(async { Err(()) })
    }
}
/// Coins.
#[derive(Debug)]
pub struct Coins {}
impl WalletSource for Coins {
    fn list_confirmed_utxos<'a>(&'a self) -> AsyncResult<'a, Vec<Utxo>, ()> {
        Box::pin(async { Err(()) })
    }
    fn get_change_script<'a>(&'a self) -> AsyncResult<'a, ScriptBuf, ()> {
        Box::pin(async { Err(()) })
    }
    fn sign_psbt<'a>(&'a self, _: Psbt) -> AsyncResult<'a, Transaction, ()> {
        Box::pin(async { Err(()) })
    }
}
