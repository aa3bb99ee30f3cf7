//! The layers: command line over environment over file over defaults, one question for each setting.
//!
//! Chosen: every setting is asked for by its dotted name, and what was never asked for is unknown. Rejected: serde's
//! `deny_unknown_fields`, which cannot name the nearest key, knows no lines for values of the wrong range, and
//! would need a second description of every key for the environment. Cost: a `get` for each setting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use crate::text::clip;

/// The prefix of all our environment variables.
const PREFIX: &str = "LIGHTNODE_";
/// Tables that stand in the file as `[[name]]`.
const LISTS: [&str; 1] = ["server"];
/// Columns of a name or a value that an error shows.
const SHOWN: usize = 100;
/// Bytes of a name that is compared with the known ones, which are shorter.
const COMPARED: usize = 64;

/// A value as some layer gave it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Untyped text of the environment or the command line.
    Text(String),
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Value>),
    /// Something that no setting is; its TOML type.
    Other(&'static str),
}

impl Value {
    /// In words, for "but it is …".
    fn found(&self) -> String {
        match self {
            Value::Text(text) | Value::String(text) if text.is_empty() => "empty".to_owned(),
            // What stands before an @ may be a password.
            Value::Text(text) | Value::String(text) => match text.rsplit_once('@') {
                Some((_, after)) => format!("\"…@{}\"", clip(after, SHOWN)),
                None => format!("\"{}\"", clip(text, SHOWN)),
            },
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Other(kind) => format!("a {kind}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Given {
    origin: Origin,
    value: Value,
}

/// What one layer gives, by dotted key. An entry of a `[[list]]` has the index in its key: `server.0.url`.
type Layer = BTreeMap<String, Given>;

/// All layers, and the memory of what was asked for.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// From the strongest to the weakest.
    layers: [Layer; 3],
    sections: Vec<(String, Origin)>,
    /// Where each `[[name]]` begins.
    lists: BTreeMap<String, Vec<Origin>>,
    known: BTreeSet<String>,
}

impl Reader {
    /// Settings of the command line: dotted key, value, and the option as written.
    pub(super) fn command_line(&mut self, key: &str, value: &str, option: &str) {
        let origin = Origin::CommandLine(option.to_owned());
        self.layers[0].insert(key.to_owned(), Given { origin, value: Value::Text(value.to_owned()) });
    }

    /// Every `LIGHTNODE_…` variable; `fees.max_sat_per_vb` is `LIGHTNODE_FEES_MAX_SAT_PER_VB`.
    pub(super) fn environment<'a>(&mut self, variables: impl Iterator<Item = (&'a str, &'a str)>) {
        for (name, value) in variables.filter(|(name, _)| name.starts_with(PREFIX)) {
            let origin = Origin::Environment(name.to_owned());
            self.layers[1].insert(name.to_owned(), Given { origin, value: Value::Text(value.to_owned()) });
        }
    }

    /// The text of the configuration file.
    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            message: error.message().lines().collect::<Vec<_>>().join(", "),
        })?;
        let file = File { path, text };
        for (key, value) in document.get_ref() {
            let name = &as_written(key.get_ref());
            let line = key.span().start;
            match value.get_ref() {
                DeValue::Array(entries) if LISTS.contains(&name.as_str()) => {
                    let begins = |entry: &toml::Spanned<DeValue<'_>>| file.origin(entry.span().start);
                    self.lists.insert(name.to_owned(), entries.iter().map(begins).collect());
                    for (index, entry) in entries.iter().enumerate() {
                        let prefix = format!("{name}.{index}");
                        match entry.get_ref() {
                            DeValue::Table(table) => self.table(&file, &prefix, table),
                            other => return Err(file.no_list(name, entry.span().start, other)),
                        }
                    }
                }
                other if LISTS.contains(&name.as_str()) => return Err(file.no_list(name, line, other)),
                DeValue::Table(table) => {
                    self.sections.push((name.to_owned(), file.origin(line)));
                    self.table(&file, name, table);
                }
                other => {
                    let given = Given { origin: file.origin(line), value: simple(other) };
                    self.layers[2].insert(name.to_owned(), given);
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, file: &File<'_>, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let given = Given { origin: file.origin(key.span().start), value: simple(value.get_ref()) };
            self.layers[2].insert(format!("{prefix}.{}", as_written(key.get_ref())), given);
        }
    }

    /// The strongest value of `key`, parsed, or `default`. `parse` answers with what it expected instead.
    pub(super) fn get<T>(
        &mut self,
        key: &str,
        default: T,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.known.insert(key.to_owned());
        let variable = variable(key);
        let found = self.layers[0].get(key).or_else(|| self.layers[1].get(&variable));
        match found.or_else(|| self.layers[2].get(key)) {
            None => Ok(default),
            Some(given) => parse(&given.value).map_err(|expected| ConfigError::Value {
                origin: given.origin.clone(),
                key: shown(key),
                expected,
                found: given.value.found(),
            }),
        }
    }

    /// How many `[[name]]` the file has; absent when it does not mention them.
    pub(super) fn entries(&self, name: &str) -> Option<usize> {
        self.lists.get(name).map(Vec::len)
    }

    /// Where the `[[name]]` with this index begins.
    pub(super) fn entry_origin(&self, name: &str, index: usize) -> Option<Origin> {
        self.lists.get(name).and_then(|begins| begins.get(index)).cloned()
    }

    /// Where `key` was set, if it was.
    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        let found = self.layers[0].get(key).or_else(|| self.layers[1].get(&variable(key)));
        found.or_else(|| self.layers[2].get(key)).map(|given| given.origin.clone())
    }

    /// Every name that was asked for.
    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(&self) -> Result<(), ConfigError> {
        let sections: BTreeSet<&str> =
            self.known.iter().filter_map(|key| key.split_once('.')).map(|(section, _)| section).collect();
        for (section, origin) in &self.sections {
            if !sections.contains(section.as_str()) {
                let nearest = nearest(section, sections.iter().copied());
                return Err(ConfigError::UnknownKey {
                    origin: origin.clone(),
                    key: format!("[{}]", clip(section, SHOWN)),
                    nearest: nearest.map(|name| format!("[{name}]")),
                });
            }
        }
        for key in self.layers[0].keys().chain(self.layers[2].keys()) {
            if self.known.contains(key) {
                continue;
            }
            let origin = self.origin(key).unwrap_or_else(|| Origin::CommandLine(key.clone()));
            if sections.contains(key.as_str()) {
                let expected = format!("a section: a line [{key}] and its settings below");
                return Err(ConfigError::Value { origin, key: key.clone(), expected, found: "a value".to_owned() });
            }
            let known = self.known.iter().map(String::as_str);
            let nearest = nearest(key, known).map(|key| shown(&key));
            return Err(ConfigError::UnknownKey { origin, key: shown(key), nearest });
        }
        self.finish_environment(&sections)
    }

    /// A variable that resembles a setting, or begins with the name of a section, is a typing error. Others that happen
    /// to begin like ours belong to somebody's scripts.
    fn finish_environment(&self, sections: &BTreeSet<&str>) -> Result<(), ConfigError> {
        let variables: BTreeSet<String> = self.known.iter().map(|key| variable(key)).collect();
        let bare = |name: &'_ str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
        let known: Vec<String> = variables.iter().map(|name| bare(name)).collect();
        for (name, given) in self.layers[1].iter().filter(|(name, _)| !variables.contains(*name)) {
            let bare = bare(name);
            let nearest = nearest(&bare, known.iter().map(String::as_str)).map(|near| format!("{PREFIX}{near}"));
            let section = bare.split('_').next().unwrap_or_default().to_ascii_lowercase();
            if nearest.is_some() || sections.contains(section.as_str()) {
                let key = clip(name, SHOWN);
                return Err(ConfigError::UnknownKey { origin: given.origin.clone(), key, nearest });
            }
        }
        Ok(())
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        Origin::File { path: PathBuf::from(self.path), line: line_of(self.text, offset) }
    }

    fn no_list(&self, name: &str, offset: usize, found: &DeValue<'_>) -> ConfigError {
        ConfigError::Value {
            origin: self.origin(offset),
            key: name.to_owned(),
            expected: format!("tables, each beginning with [[{name}]]"),
            found: simple(found).found(),
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The name as TOML wants it: what is not of plain letters stands in quotes, so that `"fees.max_sat_per_vb"` is not the
/// setting of that section.
fn as_written(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) { name.to_owned() } else { format!("\"{name}\"") }
}

/// The key as people write it: without the index of a `[[list]]`, and fit to be shown.
fn shown(key: &str) -> String {
    let whole = match key.split('.').collect::<Vec<_>>()[..] {
        [list, _, name] if LISTS.contains(&list) => format!("{list}.{name}"),
        _ => key.to_owned(),
    };
    clip(&whole, SHOWN)
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

fn simple(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("number beyond 64 bits"),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Other("malformed number"),
        },
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Array(values) => Value::List(values.iter().map(|value| simple(value.get_ref())).collect()),
        DeValue::Datetime(_) => Value::Other("date"),
        DeValue::Table(_) => Value::Other("table"),
    }
}

/// The known name that was probably meant: few typing errors away, or the right name in the wrong section.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    if name.len() > COMPARED {
        return None;
    }
    let last = |key: &'a str| key.rsplit('.').next().unwrap_or(key);
    let short = name.rsplit('.').next().unwrap_or(name);
    known
        .map(|key| {
            let whole = strsim::damerau_levenshtein(name, key);
            let part = strsim::damerau_levenshtein(short, last(key)) + 1;
            (whole.min(part), key)
        })
        .filter(|(distance, key)| *distance <= 2.max(last(key).len() / 3))
        .min()
        .map(|(_, key)| key.to_owned())
}
