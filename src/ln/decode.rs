//! Pure: what a text that should be a BOLT11 invoice is, in facts or in words.
//!
//! Accepted: an invoice in either case, with or without `lightning:` (or `lightning://`), and the `lightning=` part
//! of a BIP21 URI. Everything else that people paste is named, so that the answer says what they have and what to
//! do.

use std::str::FromStr;
use std::time::Duration;

use bitcoin::Network;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::PublicKey;
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescriptionRef, Bolt11ParseError, Bolt11SemanticError, Currency, ParseOrSemanticError,
};

use crate::text::escape;

/// Longest text looked at. Invoices with many hints stay under 2 kB; QR codes end at 4,296 characters.
const MAX_CHARS: usize = 8_192;
/// All the bitcoin there will ever be, in msat.
pub const MAX_MONEY_MSAT: u64 = 2_100_000_000_000_000_000;

/// Why a text is no invoice for this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("the invoice is empty")]
    Empty,
    /// No invoice is that long.
    #[error("this is too long for an invoice ({0} characters; at most {MAX_CHARS})")]
    TooLong(usize),
    /// Something else that we know; the text names it and says what to do.
    #[error("{0}")]
    OtherKind(&'static str),
    /// It starts like nothing that we know.
    #[error("this is not a Lightning invoice: it starts with \"{0}\" where an invoice starts with \"{1}\"")]
    NotAnInvoice(String, &'static str),
    /// A BOLT11 invoice with a typing or copying fault.
    #[error("the invoice's checksum is wrong: a character was lost or changed when it was copied")]
    Checksum,
    /// Upper and lower case in one invoice.
    #[error("the invoice mixes upper and lower case: it was changed when it was copied")]
    MixedCase,
    /// It ends too early.
    #[error("the invoice is cut off: the end is missing")]
    Truncated,
    /// An invoice of another network.
    #[error("the invoice is for {theirs}, and this node is on {ours}")]
    WrongNetwork {
        /// The invoice's network.
        theirs: &'static str,
        /// Ours.
        ours: &'static str,
    },
    /// Well copied, but against BOLT11.
    #[error("the invoice breaks the rules of BOLT11: {0}")]
    Invalid(String),
    /// More than all bitcoin.
    #[error("the invoice asks for more than 21 million bitcoin")]
    TooMuch,
}

/// The facts of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The node's (testnet3 and testnet4 share one prefix).
    pub network: Network,
    /// Who is to be paid.
    pub payee: PublicKey,
    /// The payment hash.
    pub payment_hash: [u8; 32],
    /// Absent: the payer chooses.
    pub amount_msat: Option<u64>,
    /// What for, as it stands there: foreign text.
    pub description: Option<String>,
    /// Hash of what for.
    pub description_hash: Option<[u8; 32]>,
    /// Unix seconds.
    pub created_at: u64,
    /// Unix seconds.
    pub expires_at: u64,
    /// At the time of decoding.
    pub expired: bool,
    /// Blocks.
    pub min_final_cltv_expiry: u64,
    /// Private channels that it names.
    pub route_hints: usize,
}

/// Reads an invoice of `network`. It may be expired: that is for the caller to judge.
pub fn parse(text: &str, network: Network) -> Result<Bolt11Invoice, DecodeError> {
    let invoice_text = bare(text)?;
    let invoice = Bolt11Invoice::from_str(invoice_text).map_err(|e| explain(e, invoice_text, network))?;
    if invoice.currency() != currency(network) {
        return Err(DecodeError::WrongNetwork {
            theirs: currency_name(invoice.currency()),
            ours: network_name(network),
        });
    }
    // The library says "no amount" where the amount overflows: that is not an invoice whose amount the payer chooses.
    let names_amount = invoice.clone().into_signed_raw().raw_invoice().hrp.raw_amount.is_some();
    match invoice.amount_milli_satoshis() {
        None if names_amount => Err(DecodeError::TooMuch),
        Some(0) => Err(DecodeError::Invalid("it asks for an amount of zero".into())),
        _ => Ok(invoice),
    }
}

/// The facts of `invoice`, at the time `now`.
pub fn describe(invoice: &Bolt11Invoice, network: Network, now: Duration) -> Decoded {
    let (description, description_hash) = match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(text) => {
            (Some(text.as_inner().0.clone()).filter(|text| !text.is_empty()), None)
        }
        Bolt11InvoiceDescriptionRef::Hash(hash) => (None, Some(hash.0.to_byte_array())),
    };
    Decoded {
        network,
        payee: invoice.get_payee_pub_key(),
        payment_hash: invoice.payment_hash().to_byte_array(),
        amount_msat: invoice.amount_milli_satoshis(),
        description,
        description_hash,
        created_at: invoice.duration_since_epoch().as_secs(),
        expires_at: expires_at(invoice),
        expired: now.as_secs() >= expires_at(invoice),
        min_final_cltv_expiry: invoice.min_final_cltv_expiry_delta(),
        route_hints: invoice.private_routes().len(),
    }
}

/// Unix seconds from which on it must not be paid.
pub fn expires_at(invoice: &Bolt11Invoice) -> u64 {
    invoice.duration_since_epoch().as_secs().saturating_add(invoice.expiry_time().as_secs())
}

/// The prefix of a network's invoices. Of our own making, because `Currency::from` panics on testnet4 (debug
/// builds) or turns it into regtest (release builds) in lightning-invoice 0.34.
pub fn currency(network: Network) -> Currency {
    match network {
        Network::Bitcoin => Currency::Bitcoin,
        Network::Testnet | Network::Testnet4 => Currency::BitcoinTestnet,
        Network::Signet => Currency::Signet,
        Network::Regtest => Currency::Regtest,
    }
}

/// The invoice itself, out of what people paste.
fn bare(text: &str) -> Result<&str, DecodeError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(DecodeError::Empty);
    }
    let length = text.chars().count();
    if length > MAX_CHARS {
        return Err(DecodeError::TooLong(length));
    }
    let text = after_prefix(text, "lightning://").or_else(|| after_prefix(text, "lightning:")).unwrap_or(text);
    match after_prefix(text, "bitcoin:") {
        Some(uri) => uri
            .split_once('?')
            .and_then(|(_, query)| query.split('&').find_map(|pair| after_prefix(pair, "lightning=")))
            .filter(|invoice| !invoice.is_empty())
            .ok_or(DecodeError::OtherKind(
                "this is a bitcoin: URI without a Lightning invoice; pay its address on-chain with `lightnode send`",
            )),
        None => Ok(text),
    }
}

fn after_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// Says why the library refused `text`.
fn explain(error: ParseOrSemanticError, text: &str, network: Network) -> DecodeError {
    let lower = text.to_ascii_lowercase();
    if let Some(kind) = other_kind(text, &lower) {
        return DecodeError::OtherKind(kind);
    }
    let ours = prefix(network);
    let Some(theirs) = invoice_network(&lower) else {
        return DecodeError::NotAnInvoice(escape(&text.chars().take(12).collect::<String>()).to_string(), ours);
    };
    if theirs != currency(network) {
        return DecodeError::WrongNetwork { theirs: currency_name(theirs), ours: network_name(network) };
    }
    if text != lower && text != text.to_ascii_uppercase() {
        return DecodeError::MixedCase;
    }
    match error {
        // A cut invoice and a changed one both fail the checksum; only a short one is surely cut: a signature alone
        // has 104 characters, the payment hash and the secret 55 each, the checksum 6.
        ParseOrSemanticError::ParseError(Bolt11ParseError::Bech32Error(_)) if text.len() < 104 + 2 * 55 + 6 => {
            DecodeError::Truncated
        }
        ParseOrSemanticError::ParseError(Bolt11ParseError::Bech32Error(_)) => DecodeError::Checksum,
        ParseOrSemanticError::ParseError(
            Bolt11ParseError::TooShortDataPart | Bolt11ParseError::UnexpectedEndOfTaggedFields,
        ) => DecodeError::Truncated,
        ParseOrSemanticError::ParseError(
            Bolt11ParseError::IntegerOverflowError | Bolt11ParseError::ParseAmountError(_),
        ) => DecodeError::TooMuch,
        ParseOrSemanticError::ParseError(other) => DecodeError::Invalid(other.to_string()),
        ParseOrSemanticError::SemanticError(error) => DecodeError::Invalid(semantic(&error).into()),
    }
}

fn semantic(error: &Bolt11SemanticError) -> &'static str {
    match error {
        Bolt11SemanticError::NoPaymentHash => "it has no payment hash",
        Bolt11SemanticError::MultiplePaymentHashes => "it has more than one payment hash",
        Bolt11SemanticError::NoDescription => "it says neither what it is for nor the hash of it",
        Bolt11SemanticError::MultipleDescriptions => "it says twice what it is for",
        Bolt11SemanticError::NoPaymentSecret => "it has no payment secret; ask for one of a newer wallet",
        Bolt11SemanticError::MultiplePaymentSecrets => "it has more than one payment secret",
        Bolt11SemanticError::InvalidFeatures => "it needs features that this node does not know",
        Bolt11SemanticError::InvalidSignature => "its signature is wrong",
        Bolt11SemanticError::ImpreciseAmount => "its amount is not a whole number of millisatoshis",
    }
}

/// Other things that are pasted where an invoice belongs; `lower` is `text` in lower case.
fn other_kind(text: &str, lower: &str) -> Option<&'static str> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| lower.starts_with(prefix));
    let hex = lower.bytes().all(|b| b.is_ascii_hexdigit());
    if starts(&["lno1"]) {
        Some(
            "this is a BOLT12 offer, which this release cannot pay; ask for a BOLT11 invoice (it starts with \"ln\" and the network)",
        )
    } else if starts(&["lni1", "lnr1"]) {
        Some("this is a BOLT12 invoice or invoice request, which this release cannot pay; ask for a BOLT11 invoice")
    } else if starts(&["lnurl", "keyauth:", "lnurlp:", "lnurlw:"]) {
        Some("this is an LNURL, which this release cannot resolve; ask for a BOLT11 invoice")
    } else if hex && lower.len() == 64 {
        Some("this is a payment hash or a transaction id, not an invoice; `lightnode show` looks it up")
    } else if hex && lower.len() == 66 {
        Some("this is a node id, not an invoice; ask its owner for one")
    } else if lower.contains('@') {
        Some("this is a Lightning address or a peer, not an invoice; ask its owner for a BOLT11 invoice")
    } else if starts(&["bc1", "tb1", "bcrt1"]) || bitcoin::Address::from_str(text).is_ok() {
        Some("this is a bitcoin address; pay it on-chain with `lightnode send`")
    } else {
        None
    }
}

/// The network that an invoice-like text names in its first letters.
fn invoice_network(lower: &str) -> Option<Currency> {
    let rest = lower.strip_prefix("ln")?;
    // Longest first: "bcrt" and "tbs" begin with others.
    [
        ("bcrt", Currency::Regtest),
        ("tbs", Currency::Signet),
        ("bc", Currency::Bitcoin),
        ("tb", Currency::BitcoinTestnet),
        ("sb", Currency::Simnet),
    ]
    .into_iter()
    .find_map(|(name, currency)| {
        let next = rest.strip_prefix(name)?.bytes().next();
        next.is_none_or(|b| b.is_ascii_digit()).then_some(currency)
    })
}

fn currency_name(currency: Currency) -> &'static str {
    match currency {
        Currency::Bitcoin => "mainnet",
        Currency::BitcoinTestnet => "testnet",
        Currency::Regtest => "regtest",
        Currency::Simnet => "simnet",
        Currency::Signet => "signet",
    }
}

fn network_name(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "mainnet",
        Network::Testnet => "testnet",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
    }
}

fn prefix(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "lnbc",
        Network::Testnet | Network::Testnet4 => "lntb",
        Network::Signet => "lntbs",
        Network::Regtest => "lnbcrt",
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::sha256;
    use bitcoin::secp256k1::{Secp256k1, SecretKey};
    use lightning::types::payment::PaymentSecret;
    use lightning_invoice::InvoiceBuilder;

    use super::*;

    fn invoice(currency: Currency, amount_msat: Option<u64>) -> String {
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        let mut builder = InvoiceBuilder::new(currency)
            .description("coffee\u{202e}".into())
            .payment_hash(sha256::Hash::from_byte_array([2; 32]))
            .payment_secret(PaymentSecret([3; 32]))
            .duration_since_epoch(Duration::from_secs(1_700_000_000))
            .expiry_time(Duration::from_secs(60))
            .min_final_cltv_expiry_delta(18);
        if let Some(msat) = amount_msat {
            builder = builder.amount_milli_satoshis(msat);
        }
        builder.build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key)).unwrap().to_string()
    }

    fn why(text: &str) -> String {
        parse(text, Network::Regtest).expect_err(text).to_string()
    }

    #[test]
    fn an_invoice_is_taken_in_every_dress_that_wallets_give_it() {
        let plain = invoice(Currency::Regtest, Some(5_000));
        let parsed = parse(&plain, Network::Regtest).unwrap();
        let dresses = [
            plain.to_uppercase(),
            format!("  {plain}\n"),
            format!("lightning:{plain}"),
            format!("LIGHTNING:{}", plain.to_uppercase()),
            format!("lightning://{plain}"),
            format!("bitcoin:bcrt1qxyz?amount=0.00000005&lightning={plain}"),
            format!("BITCOIN:?LIGHTNING={}", plain.to_uppercase()),
        ];
        for dress in dresses {
            assert_eq!(parse(&dress, Network::Regtest).as_ref(), Ok(&parsed), "{dress}");
        }
    }

    #[test]
    fn the_facts_are_those_of_the_invoice_and_foreign_text_is_as_it_stands_there() {
        let parsed = parse(&invoice(Currency::Regtest, None), Network::Regtest).unwrap();
        let before = describe(&parsed, Network::Regtest, Duration::from_secs(1_700_000_059));
        assert_eq!((before.amount_msat, before.created_at, before.expires_at), (None, 1_700_000_000, 1_700_000_060));
        assert_eq!(before.description.as_deref(), Some("coffee\u{202e}"));
        assert_eq!((before.payment_hash, before.min_final_cltv_expiry, before.expired), ([2; 32], 18, false));
        assert!(describe(&parsed, Network::Regtest, Duration::from_secs(1_700_000_060)).expired);
    }

    #[test]
    fn an_invoice_of_another_network_names_both() {
        let table = [
            (Currency::Bitcoin, Network::Regtest, "the invoice is for mainnet, and this node is on regtest"),
            (Currency::Regtest, Network::Bitcoin, "the invoice is for regtest, and this node is on mainnet"),
            (Currency::Signet, Network::Testnet4, "the invoice is for signet, and this node is on testnet4"),
            (Currency::BitcoinTestnet, Network::Signet, "the invoice is for testnet, and this node is on signet"),
        ];
        for (theirs, ours, said) in table {
            let text = invoice(theirs.clone(), Some(1_000));
            assert_eq!(parse(&text, ours).expect_err(said).to_string(), said);
            // Also when it is damaged, for then the network is still the first thing that is wrong.
            let damaged = format!("{}q", &text[..text.len() - 1]);
            assert_eq!(parse(&damaged, ours).expect_err(said).to_string(), said);
        }
        for network in [Network::Testnet, Network::Testnet4] {
            assert!(parse(&invoice(Currency::BitcoinTestnet, None), network).is_ok());
        }
    }

    #[test]
    fn damage_is_told_apart() {
        let text = invoice(Currency::Regtest, Some(5_000));
        let changed = text.replacen('q', "p", 1);
        assert!(why(&changed).contains("checksum is wrong"));
        assert!(why(&text[..text.len() - 1]).contains("checksum is wrong"));
        assert!(why(&text[..40]).contains("cut off"));
        assert!(why("lnbcrt").contains("cut off"));
        let (head, tail) = text.split_at(text.len() / 2);
        assert!(why(&format!("{head}{}", tail.to_uppercase())).contains("mixes upper and lower case"));
        assert_eq!(why(" \n"), "the invoice is empty");
        assert!(why(&"l".repeat(9_000)).contains("too long"));
        assert!(why("hello").contains("it starts with \"hello\" where an invoice starts with \"lnbcrt\""));
        assert!(!why("\u{1b}[2Jevil").contains('\u{1b}'));
    }

    #[test]
    fn what_is_not_an_invoice_is_named() {
        let table = [
            (
                "lno1pqps7sjqpgtyzm3qv4uxzmtsd3jjqer9wd3hy6tsw35k7msjzfpy7nz5yqcnygrfdej82um5wf5k2uckyypwa",
                "BOLT12 offer",
            ),
            (
                "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEPNXSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS",
                "LNURL",
            ),
            ("bitcoin:bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x?amount=1", "without a Lightning invoice"),
            ("bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x", "bitcoin address"),
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "bitcoin address"),
            ("satoshi@example.org", "Lightning address"),
            ("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", "node id"),
            ("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b", "payment hash"),
        ];
        for (text, named) in table {
            assert!(why(text).contains(named), "{text}: {}", why(text));
        }
    }

    #[test]
    fn absurd_amounts_are_refused() {
        assert!(why(&invoice(Currency::Regtest, Some(0))).contains("amount of zero"));
        // More than 64 bits of pico-bitcoin, which the library takes for "no amount".
        let raw = parse(&invoice(Currency::Regtest, Some(1_000)), Network::Regtest).unwrap().into_signed_raw();
        let (mut raw, _, _) = raw.into_parts();
        (raw.hrp.raw_amount, raw.hrp.si_prefix) = (Some(21_000_001), None);
        let hash = bitcoin::secp256k1::Message::from_digest(raw.signable_hash());
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        let signed = raw.sign::<_, ()>(|_| Ok(Secp256k1::new().sign_ecdsa_recoverable(&hash, &key))).unwrap();
        assert_eq!(parse(&signed.to_string(), Network::Regtest), Err(DecodeError::TooMuch));
    }
}
