//! The public key of an X.509 certificate, of version 1 too.
//!
//! Many servers have certificates made after ElectrumX's manual (`openssl x509 -req`), which are of version 1 and
//! which webpki refuses to read at all. To pin one, all that is needed is its SubjectPublicKeyInfo (RFC 5280 §4.1).

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const EXPLICIT_VERSION: u8 = 0xa0;

/// A public key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spki<'a> {
    /// The whole SubjectPublicKeyInfo, DER.
    pub(super) der: &'a [u8],
    /// Contents of its AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    /// The key.
    pub(super) key: &'a [u8],
}

/// Finds the public key of a certificate; `None`: it is no certificate.
pub(super) fn of_certificate(der: &[u8]) -> Option<Spki<'_>> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut tbs, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(tbs, EXPLICIT_VERSION) {
        tbs = rest;
    }
    let (_serial, rest) = expect(tbs, INTEGER)?;
    let (_signature, rest) = expect(rest, SEQUENCE)?;
    let (_issuer, rest) = expect(rest, SEQUENCE)?;
    let (_validity, rest) = expect(rest, SEQUENCE)?;
    let (_subject, rest) = expect(rest, SEQUENCE)?;
    let (spki, after) = expect(rest, SEQUENCE)?;
    let der = rest.get(..rest.len() - after.len())?;
    let (algorithm, bits) = expect(spki, SEQUENCE)?;
    let (bits, _) = expect(bits, BIT_STRING)?;
    // The first byte counts unused bits; a key has none.
    let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
    Some(Spki { der, algorithm, key })
}

/// The contents of the element at the start of `input`, if its tag is `tag`, and what follows it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = input.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (first == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_certificate_is_found() {
        let made = rcgen::generate_simple_self_signed(["example.org".to_string()]).unwrap();
        let spki = of_certificate(made.cert.der()).unwrap();
        assert_eq!(spki.der, rcgen::PublicKeyData::subject_public_key_info(&made.signing_key).as_slice());
        assert!(spki.der.ends_with(spki.key));
    }

    #[test]
    fn no_prefix_of_a_certificate_is_read_or_panics() {
        let made = rcgen::generate_simple_self_signed(["example.org".to_string()]).unwrap();
        let der = made.cert.der();
        for end in 0..der.len() {
            assert_eq!(of_certificate(&der[..end]), None);
        }
    }
}
