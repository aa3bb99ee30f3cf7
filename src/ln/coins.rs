//! Our wallet, as LDK wants it: a place for swept money, and confirmed coins to pay for fees.
//!
//! The wallet blocks for a write at most, and its lock is held while a block is delivered; so each question goes to
//! the blocking pool. LDK learns only that it failed (its error type is `()`), the cause is recorded here.

use std::fmt::Display;

use bitcoin::{Amount, Psbt, ScriptBuf, Transaction, TxOut};
use lightning::events::bump_transaction::{Utxo, WalletSource};
use lightning::sign::ChangeDestinationSource;
use lightning::util::async_poll::AsyncResult;

use crate::wallet::{Coin, Wallet};

/// Upper bound of script_sig and witness of a P2WPKH input, each with its length: an empty script_sig (4 weight units)
/// and a witness of a 71 to 73 byte signature and a key.
const P2WPKH_SATISFACTION: u64 = 4 + 1 + 1 + 73 + 1 + 33;

/// Where swept outputs of closed channels go: to change scripts of the wallet.
pub struct ChangeScripts(pub Wallet);

/// Coins for fee bumps: confirmed and not locked, as anchors demand; also those that the bump before has taken.
pub struct Coins(pub Wallet);

impl ChangeDestinationSource for ChangeScripts {
    fn get_change_destination_script<'a>(&'a self) -> AsyncResult<'a, ScriptBuf, ()> {
        let wallet = self.0.clone();
        ask("give a script for swept money", move || wallet.change_script())
    }
}

impl WalletSource for Coins {
    fn list_confirmed_utxos<'a>(&'a self) -> AsyncResult<'a, Vec<Utxo>, ()> {
        let wallet = self.0.clone();
        ask("list its coins", move || {
            Ok::<_, std::convert::Infallible>(wallet.bump_coins().into_iter().map(utxo).collect())
        })
    }

    fn get_change_script<'a>(&'a self) -> AsyncResult<'a, ScriptBuf, ()> {
        let wallet = self.0.clone();
        ask("give a script for change", move || wallet.change_script())
    }

    fn sign_psbt<'a>(&'a self, psbt: Psbt) -> AsyncResult<'a, Transaction, ()> {
        let wallet = self.0.clone();
        ask("sign a fee bump", move || wallet.sign_psbt(psbt))
    }
}

fn utxo(coin: Coin) -> Utxo {
    Utxo {
        outpoint: coin.outpoint,
        output: TxOut { value: Amount::from_sat(coin.value_sat), script_pubkey: coin.script },
        satisfaction_weight: P2WPKH_SATISFACTION,
    }
}

fn ask<T, E>(
    what: &'static str,
    question: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> AsyncResult<'static, T, ()>
where
    T: Send + 'static,
    E: Display + Send + 'static,
{
    Box::pin(async move {
        match tokio::task::spawn_blocking(question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::error!(%error, "the wallet could not {what}");
                Err(())
            }
            Err(error) => {
                tracing::error!(%error, "the wallet could not {what}");
                Err(())
            }
        }
    })
}
