//! The house: which room may use which. Any other `crate::` path is a defect (design §2).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// room → rooms it may use, besides itself. Rooms on the same floor do not use each other unless it stands here.
const EDGES: &[(&str, &[&str])] = &[
    // floor 0
    ("chain", &[]),
    // floor 1
    ("text", &[]),
    ("amount", &[]),
    ("crash", &[]),
    ("config", &["amount", "text"]),
    ("dial", &["config"]),
    ("keys", &["crash"]),
    ("clock", &[]),
    ("files", &["crash"]),
    ("task", &[]),
    ("logs", &["text"]),
    ("source", &["clock", "chain", "config", "dial", "text"]),
    ("store", &["chain", "crash"]),
    // floor 2
    ("engine", &["clock", "chain", "config", "crash", "dial", "source", "store", "task", "text"]),
    ("ledger", &["clock", "chain", "store"]),
    // floor 3
    ("wallet", &["clock", "chain", "config", "amount", "crash", "keys", "store", "engine", "ledger"]),
    // floor 4
    (
        "ln",
        &[
            "clock", "chain", "config", "amount", "crash", "dial", "files", "keys", "task", "text", "store", "engine",
            "ledger", "wallet",
        ],
    ),
    // floor 5
    (
        "node",
        &[
            "clock", "chain", "config", "amount", "crash", "dial", "files", "keys", "task", "text", "source", "store",
            "engine", "ledger", "wallet", "ln",
        ],
    ),
    // floor 6
    ("api", &["node", "config", "text", "task"]),
    // floor 7
    ("cli", &["api", "config", "amount", "files", "text"]),
    // the roof
    ("main", &["api", "cli", "config", "keys", "logs", "node", "task"]),
    ("lib", &[]),
];

/// Lines past which a file wants a wall (design §2).
const MOST_LINES: usize = 500;

#[test]
fn every_room_uses_only_lower_floors() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(room, uses)| (*room, uses.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for file in sources() {
        let room = room_of(&file);
        let Some(allowed) = allowed.get(room.as_str()) else {
            wrong.push(format!("{}: the room `{room}` is not in the table", file.display()));
            continue;
        };
        // The binary sees the library from outside.
        let root = if room == "main" { "lightnode::" } else { "crate::" };
        for used in used_rooms(&fs::read_to_string(&file).expect("a source file is readable"), root) {
            if used != room && !allowed.contains(used.as_str()) {
                wrong.push(format!("{}: `{room}` may not use `{used}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lower_floors_never_allow_higher_ones() {
    let floor: BTreeMap<&str, usize> = EDGES.iter().enumerate().map(|(at, (room, _))| (*room, at)).collect();
    for (room, uses) in EDGES {
        for used in *uses {
            assert!(floor[used] < floor[room], "the table lets `{room}` use `{used}`, which stands above it");
        }
    }
}

#[test]
fn the_chain_room_is_pure() {
    for file in sources().into_iter().filter(|file| room_of(file) == "chain") {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        for foreign in ["tokio", "lightning", "rusqlite", "std::fs", "std::net", "SystemTime", "Instant"] {
            assert!(
                !code_lines(&text).any(|line| line.contains(&format!("{foreign}::"))),
                "{} uses {foreign}",
                file.display()
            );
        }
    }
}

#[test]
fn only_the_dialling_room_looks_names_up_and_connects() {
    let ways =
        ["lookup_host", "ToSocketAddrs", "to_socket_addrs", "TcpStream::connect", "TcpSocket", "connect_outbound"];
    let mut beside = Vec::new();
    for file in sources().into_iter().filter(|file| room_of(file) != "dial") {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        // What tests do is their own business.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        beside.extend(
            ways.iter()
                .filter(|way| code_lines(code).any(|line| line.contains(**way)))
                .map(|way| format!("{}: {way}", file.display())),
        );
    }
    assert!(beside.is_empty(), "past the proxy, or past its rules:\n{}", beside.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_room_can_hold() {
    let mut long = Vec::new();
    for file in sources() {
        let lines = fs::read_to_string(&file).expect("a source file is readable").lines().count();
        if lines > MOST_LINES {
            long.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a source folder is readable") {
            let path = entry.expect("a folder entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "the sources were not found");
    found.sort();
    found
}

fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(root()).expect("a source lies in src");
    let first = inside.components().next().expect("a path has a component").as_os_str();
    first.to_string_lossy().trim_end_matches(".rs").to_string()
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Rooms named after `root`, also inside braces.
fn used_rooms(text: &str, root: &str) -> BTreeSet<String> {
    let code: String = code_lines(text).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        // A target of tracing, or a longer name.
        if code[..at].ends_with(['"', '_']) || code[..at].ends_with(char::is_alphanumeric) {
            continue;
        }
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(top_names(group)),
            None => rooms.extend(name(rest)),
        }
    }
    rooms
}

fn name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// First names of the entries of a `use` group, without those of nested groups.
fn top_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && !letter.is_whitespace() => {
                names.extend(name(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}
