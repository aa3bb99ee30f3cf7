//! How the values of the key-value store lie in the database.
//!
//! Rules:
//!
//! - A commit writes whole pages, so a value is changed in its place: one that grows or shrinks by some bytes keeps its
//!   pages, since sizes are rounded up, and only pages that differ are written.
//! - A large value of which little has changed stays as it is, and patches beside it say what is new ([`patch`]). Value and
//!   patches change in one transaction, and the last patch holds the hash of what they lead to: a value that is not exactly
//!   what was written is an error, never another value.
//! - Patches go with their value (`ON DELETE CASCADE`). Their row never shrinks, and is overwritten in its place: a new patch
//!   changes the pages on which it comes to lie; what lies behind the end of the last one does not count.
//!
//! Decision: patches are a list in one row, each against the value before it. One patch against the value that was written
//! whole would be read faster; but while a payment is under way it brings the same 3 kB with every step.

use std::borrow::Cow;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension};

use super::kv::Key;
use super::{patch, series};

/// Values from this size on are patched, and padded to a multiple of [`PADDING`].
const LARGE: usize = 2048;
const PADDING: usize = 512;

/// The least and the most room for patches of one value: about 40 steps of a payment. Then it is written whole again.
const ROOM: (usize, usize) = (1 << 10, 1 << 16);

/// A value as it is stored.
struct Stored {
    seq: i64,
    whole: Vec<u8>,
    patches: Option<Vec<u8>>,
}

/// Writes the value of a key: what is new of it, or all of it.
pub(super) fn put(connection: &Connection, key: &Key, value: &[u8]) -> rusqlite::Result<()> {
    if let Some(number) = series::number(key) {
        delete_row(connection, key)?;
        return series::put(connection, key, number, value);
    }
    match value.len() >= LARGE && put_patch(connection, key, value)? {
        true => Ok(()),
        false => put_whole(connection, key, value),
    }
}

/// Writes all of the value.
pub(super) fn put_whole(connection: &Connection, key: &Key, value: &[u8]) -> rusqlite::Result<()> {
    let seq: i64 = connection
        .prepare_cached(
            "INSERT INTO kv (primary_ns, secondary_ns, key, length, value) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET length = excluded.length, value = excluded.value RETURNING seq",
        )?
        .query_row((&key.primary, &key.secondary, &key.key, value.len() as i64, padded(value)), |row| row.get(0))?;
    let patches: Option<Vec<u8>> = connection
        .prepare_cached("SELECT patches FROM kv_patch WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    match patches {
        Some(mut patches) => {
            write_patch(&mut patches, 0, &[]);
            store_patches(connection, seq, &patches)
        }
        None => Ok(()),
    }
}

/// Writes what is new. False: there is nothing to compare with, too much is new, or there is no room.
fn put_patch(connection: &Connection, key: &Key, value: &[u8]) -> rusqlite::Result<bool> {
    let Some(stored) = stored(connection, key)?.filter(|stored| stored.whole.len() >= LARGE) else { return Ok(false) };
    let (before, used) = present(key, &stored.whole, stored.patches.as_deref())?;
    let patch = patch::make(&before, value);
    let end = used + patch.len() + 1;
    if patch.len() > value.len() / 2 || end > ROOM.1 {
        return Ok(false);
    }
    let mut patches = stored.patches.unwrap_or_default();
    if patches.len() < end {
        patches.resize(end.next_power_of_two().max(ROOM.0), 0);
    }
    write_patch(&mut patches, used, &patch);
    store_patches(connection, stored.seq, &patches)?;
    Ok(true)
}

/// Puts a patch after those that are there, and the end after it.
fn write_patch(patches: &mut [u8], used: usize, patch: &[u8]) {
    let (here, after) = patches[used..].split_at_mut(patch.len());
    here.copy_from_slice(patch);
    after[0] = patch::END;
}

fn store_patches(connection: &Connection, seq: i64, patches: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO kv_patch (seq, patches) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET patches = excluded.patches",
        )?
        .execute((seq, patches))
        .map(|_| ())
}

fn stored(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached(
            "SELECT kv.seq, kv.value, kv.length, kv_patch.patches FROM kv LEFT JOIN kv_patch USING (seq)
             WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3",
        )?
        .query_row((&key.primary, &key.secondary, &key.key), |row| {
            let mut whole: Vec<u8> = row.get(1)?;
            whole.truncate(row.get(2)?);
            Ok(Stored { seq: row.get(0)?, whole, patches: row.get(3)? })
        })
        .optional()
}

/// The value as it is now, and how much of the room its patches take.
fn present(key: &Key, whole: &[u8], patches: Option<&[u8]>) -> rusqlite::Result<(Vec<u8>, usize)> {
    patch::apply(whole, patches.unwrap_or(&[patch::END])).ok_or_else(|| {
        let why = format!("what is stored of {key} does not fit together");
        rusqlite::Error::FromSqlConversionFailure(3, Type::Blob, why.into())
    })
}

fn padded(value: &[u8]) -> Cow<'_, [u8]> {
    if value.len() < LARGE || value.len() % PADDING == 0 {
        return Cow::Borrowed(value);
    }
    let mut padded = Vec::with_capacity(value.len().next_multiple_of(PADDING));
    padded.extend_from_slice(value);
    padded.resize(value.len().next_multiple_of(PADDING), 0);
    Cow::Owned(padded)
}

/// The value of a key.
pub(super) fn get(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Vec<u8>>> {
    if let Some(number) = series::number(key) {
        if let Some(value) = series::get(connection, key, number)? {
            return Ok(Some(value));
        }
    }
    let Some(Stored { whole, patches, .. }) = stored(connection, key)? else { return Ok(None) };
    match patches {
        None => Ok(Some(whole)),
        Some(patches) => present(key, &whole, Some(&patches)).map(|(value, _)| Some(value)),
    }
}

/// Takes a key and its value away.
pub(super) fn delete(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    if let Some(number) = series::number(key) {
        series::delete(connection, key, number)?;
    }
    delete_row(connection, key)
}

/// The keys in these namespaces, in no order.
pub(super) fn keys(connection: &Connection, primary: &str, secondary: &str) -> rusqlite::Result<Vec<String>> {
    let mut keys = series::keys(connection, primary, secondary)?;
    let mut rows = connection.prepare_cached("SELECT key FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2")?;
    for key in rows.query_map((primary, secondary), |row| row.get(0))? {
        keys.push(key?);
    }
    Ok(keys)
}

fn delete_row(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
        .execute((&key.primary, &key.secondary, &key.key))
        .map(|_| ())
}
