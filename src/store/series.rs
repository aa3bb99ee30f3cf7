//! Updates of channel monitors: values with numbers for keys, of which many come and go.
//!
//! Each step of a payment brings one or two, and LDK takes them away a hundred at a time. In the table of all keys each has
//! 90 bytes of names, in its row and once more in the index, whose pages are split again and again. Here the names of a
//! monitor stand in one row, and its updates lie side by side, by number.
//!
//! Rules:
//!
//! - A key is here when it is a plain number below 2^40 ([`number`]); every other one is among the rest (`values`).
//! - Updates that a version before this one has written are there, too, until LDK takes them away. So both places are looked
//!   at; a value that is written here is taken away there.

use lightning::util::persist::CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE;
use rusqlite::{Connection, OptionalExtension};

use super::kv::Key;

/// Bits of a number; those above are the series.
const BITS: u32 = 40;

/// The number of a key that belongs here.
pub(super) fn number(key: &Key) -> Option<i64> {
    if key.primary != CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE {
        return None;
    }
    let number: i64 = key.key.parse().ok()?;
    ((0..1 << BITS).contains(&number) && number.to_string() == key.key).then_some(number)
}

/// Writes a value.
pub(super) fn put(connection: &Connection, key: &Key, number: i64, value: &[u8]) -> rusqlite::Result<()> {
    let series = match series(connection, &key.primary, &key.secondary)? {
        Some(series) => series,
        None => connection
            .prepare_cached("INSERT INTO kv_series (primary_ns, secondary_ns) VALUES (?1, ?2) RETURNING seq")?
            .query_row((&key.primary, &key.secondary), |row| row.get(0))?,
    };
    connection
        .prepare_cached(
            "INSERT INTO kv_item (id, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?
        .execute((id(series, number), value))
        .map(|_| ())
}

/// The value of a key.
pub(super) fn get(connection: &Connection, key: &Key, number: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    let Some(series) = series(connection, &key.primary, &key.secondary)? else { return Ok(None) };
    connection
        .prepare_cached("SELECT value FROM kv_item WHERE id = ?1")?
        .query_row([id(series, number)], |row| row.get(0))
        .optional()
}

/// Takes a key and its value away.
pub(super) fn delete(connection: &Connection, key: &Key, number: i64) -> rusqlite::Result<()> {
    let Some(series) = series(connection, &key.primary, &key.secondary)? else { return Ok(()) };
    connection.prepare_cached("DELETE FROM kv_item WHERE id = ?1")?.execute([id(series, number)]).map(|_| ())
}

/// The keys in these namespaces.
pub(super) fn keys(connection: &Connection, primary: &str, secondary: &str) -> rusqlite::Result<Vec<String>> {
    let Some(series) = series(connection, primary, secondary)? else { return Ok(Vec::new()) };
    let (first, next) = (id(series, 0), id(series + 1, 0));
    connection
        .prepare_cached("SELECT id FROM kv_item WHERE id >= ?1 AND id < ?2")?
        .query_map([first, next], |row| Ok((row.get::<_, i64>(0)? - first).to_string()))?
        .collect()
}

/// Gives all of a series another primary namespace, that begins with `under`.
pub(super) fn put_aside(connection: &Connection, primary: &str, secondary: &str, under: &str) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE kv_series SET primary_ns = ?3 || primary_ns WHERE primary_ns = ?1 AND secondary_ns = ?2",
            (primary, secondary, under),
        )
        .map(|_| ())
}

fn series(connection: &Connection, primary: &str, secondary: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT seq FROM kv_series WHERE primary_ns = ?1 AND secondary_ns = ?2")?
        .query_row((primary, secondary), |row| row.get(0))
        .optional()
}

fn id(series: i64, number: i64) -> i64 {
    series << BITS | number
}
