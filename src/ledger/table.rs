//! Rows of the book.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::record::{Record, Side};

/// A record and its place in the order of the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) seq: i64,
    pub(super) record: Record,
}

/// A line after a change.
pub(super) struct Altered {
    /// `None`: there is no such line.
    pub(super) record: Option<Record>,
    /// False: it is as it was.
    pub(super) changed: bool,
}

/// Applies a change to the line; if there is none, to the one that `first` makes. Written only when it changed.
pub(super) fn alter(
    tx: &Transaction<'_>,
    id: &str,
    side: Side,
    now: u64,
    change: impl FnOnce(&mut Record) -> bool,
    first: impl FnOnce() -> Option<Record>,
) -> rusqlite::Result<Altered> {
    if let Some(mut line) = find(tx, id, side)? {
        let changed = change(&mut line.record);
        if changed {
            line.record.updated_at = now;
            update(tx, &line)?;
        }
        return Ok(Altered { record: Some(line.record), changed });
    }
    let mut record = first();
    if let Some(record) = &mut record {
        change(record);
        insert(tx, record)?;
    }
    Ok(Altered { changed: record.is_some(), record })
}

pub(super) fn find(connection: &Connection, id: &str, side: Side) -> rusqlite::Result<Option<Line>> {
    connection
        .prepare_cached("SELECT seq, record FROM payment WHERE id = ?1 AND side = ?2")?
        .query_row((id, side.as_str()), line)
        .optional()
}

/// Adds a record at the end of the book.
pub(super) fn insert(tx: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO payment (id, side, open, record) VALUES (?1, ?2, ?3, ?4)")?
        .execute((&record.id, record.side().as_str(), record.is_open(), encode(record)?))
        .map(|_| ())
}

/// Writes a changed record in its place.
pub(super) fn update(tx: &Transaction<'_>, line: &Line) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE payment SET open = ?2, record = ?3 WHERE seq = ?1")?
        .execute((line.seq, line.record.is_open(), encode(&line.record)?))
        .map(|_| ())
}

/// Writes a changed record at the end of the book.
pub(super) fn renew(tx: &Transaction<'_>, line: &Line) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM payment WHERE seq = ?1")?.execute([line.seq])?;
    insert(tx, &line.record)
}

/// At most `limit` lines before `before` for which `wanted` holds, newest first.
pub(super) fn page(
    connection: &Connection,
    before: i64,
    limit: usize,
    wanted: impl Fn(&Record) -> bool,
) -> rusqlite::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut statement =
        connection.prepare_cached("SELECT seq, record FROM payment WHERE seq < ?1 ORDER BY seq DESC")?;
    let mut rows = statement.query([before])?;
    while lines.len() < limit {
        let Some(row) = rows.next()? else { break };
        let line = line(row)?;
        if wanted(&line.record) {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// All open lines, oldest first.
pub(super) fn open(connection: &Connection) -> rusqlite::Result<Vec<Line>> {
    connection
        .prepare_cached("SELECT seq, record FROM payment WHERE open = 1 ORDER BY seq")?
        .query_map([], line)?
        .collect()
}

/// At most `limit` lines whose id begins with `prefix` (lower-case hex).
pub(super) fn by_prefix(connection: &Connection, prefix: &str, limit: usize) -> rusqlite::Result<Vec<Line>> {
    // 'g' follows every hex digit.
    connection
        .prepare_cached("SELECT seq, record FROM payment WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id, seq LIMIT ?2")?
        .query_map((prefix, limit as i64), line)?
        .collect()
}

fn line(row: &Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line { seq: row.get(0)?, record: decode(&row.get::<_, String>(1)?, 1)? })
}

/// JSON of a column.
pub(super) fn decode<T: serde::de::DeserializeOwned>(json: &str, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(json)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// JSON for a column.
pub(super) fn encode<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
