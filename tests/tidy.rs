//! The house stays in order: who may use whom, and how files look. Plain text checks, so that they
//! cost nothing.

#[cfg(test)]
mod tidy {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::{Path, PathBuf},
    };

    /// Who may use whom of the house. Everybody may read the clock. A new crate gets its line here,
    /// and its place in docs/architecture.md, first.
    const ARROWS: [(&str, &[&str]); 9] = [
        ("clock", &[]),
        ("event", &[]),
        ("store", &[]),
        ("rooms", &["event", "store"]),
        ("users", &["store"]),
        ("media", &["store"]),
        ("syncing", &["rooms", "users", "store"]),
        ("federation", &["event", "store", "rooms", "users", "media"]),
        ("api", &["rooms", "users", "media", "syncing"]),
    ];

    /// What a crate must not know, whatever it would be used for.
    const STRANGERS: [(&str, &[&str]); 7] = [
        ("clock", &["tokio", "ruma", "axum", "http"]),
        ("event", &["tokio", "rocksdb", "axum", "http", "hyper", "reqwest", "async-trait"]),
        ("store", &["ruma", "axum", "http", "hyper", "reqwest"]),
        ("rooms", &["rocksdb", "axum", "http", "hyper", "reqwest"]),
        ("media", &["rocksdb", "axum", "http", "hyper", "reqwest"]),
        ("users", &["rocksdb", "axum", "http", "hyper", "reqwest"]),
        ("syncing", &["rocksdb", "axum", "http", "hyper", "reqwest"]),
    ];

    /// Most lines of a file.
    const LINES_MAX: usize = 400;

    /// Most characters of a line, unless an address or a text in it can't be broken.
    const COLUMNS_MAX: usize = 100;

    /// Names that say nothing of what a file is about.
    const EMPTY_NAMES: [&str; 8] =
        ["mod", "util", "utils", "helper", "helpers", "manager", "service", "common"];

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// The crates of the house beside the root: name and directory.
    fn crates() -> BTreeMap<String, PathBuf> {
        let mut crates = BTreeMap::new();
        let inside = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap().path());
        for path in inside.chain([root().join("api"), root().join("federation")]) {
            if path.is_dir() {
                crates.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), path);
            }
        }
        crates
    }

    fn manifest(directory: &Path) -> toml::Table {
        fs::read_to_string(directory.join("Cargo.toml")).unwrap().parse().unwrap()
    }

    /// What a crate depends on, in a section of its manifest.
    fn dependencies(manifest: &toml::Table, section: &str) -> BTreeSet<String> {
        let table = manifest.get(section).and_then(toml::Value::as_table);
        table.into_iter().flat_map(|table| table.keys().cloned()).collect()
    }

    /// All Rust files of the house with their text.
    fn files() -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        let mut directories: Vec<PathBuf> =
            ["src", "api", "federation", "tests", "benches"].map(|name| root().join(name)).to_vec();
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
                }
            }
        }
        assert!(files.len() > 50, "the files are elsewhere");
        files
    }

    /// Fails with all that is out of order, not only with the first.
    fn assert_none(what: &str, found: &[String]) {
        assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
    }

    #[test]
    fn arrows_only_go_down() {
        let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
        let crates = crates();
        let names: BTreeSet<&str> = crates.keys().map(String::as_str).collect();
        assert_eq!(names, allowed.keys().copied().collect(), "the crates of the table");
        let mut wrong = Vec::new();
        for (name, directory) in &crates {
            for used in dependencies(&manifest(directory), "dependencies") {
                let is_ours = names.contains(used.as_str()) || used == "natterjack";
                let may = used == "clock" && name != "event" && name != "store"
                    || allowed[name.as_str()].contains(&used.as_str());
                if is_ours && !may {
                    wrong.push(format!("{name} uses {used}"));
                }
            }
        }
        assert_none("arrows that do not go down", &wrong);
    }

    #[test]
    fn nobody_knows_strangers() {
        let crates = crates();
        let mut wrong = Vec::new();
        for (name, strangers) in STRANGERS {
            let known = dependencies(&manifest(&crates[name]), "dependencies");
            let met = strangers.iter().filter(|stranger| known.contains(**stranger));
            wrong.extend(met.map(|stranger| format!("{name} knows {stranger}")));
        }
        assert_none("crates that know what they should not", &wrong);
    }

    #[test]
    fn versions_lints_and_names_are_in_one_place() {
        let mut wrong = Vec::new();
        for (name, directory) in crates() {
            let manifest = manifest(&directory);
            let is_true =
                |value: Option<&toml::Value>| value.and_then(toml::Value::as_bool) == Some(true);
            if !is_true(manifest.get("lints").and_then(|lints| lints.get("workspace"))) {
                wrong.push(format!("{name} has lints of its own"));
            }
            if manifest["package"]["name"].as_str() != Some(&name) {
                wrong.push(format!("{name} is called otherwise"));
            }
            if manifest["lib"]["path"].as_str() != Some("lib.rs") {
                wrong.push(format!("{name} has its library elsewhere"));
            }
            for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else {
                    continue;
                };
                let own = table.iter().filter(|(_, value)| !is_true(value.get("workspace")));
                wrong.extend(own.map(|(used, _)| format!("{name} has its own version of {used}")));
            }
        }
        assert_none("crates that do not follow the workspace", &wrong);
    }

    #[test]
    fn files_are_short_and_say_what_they_are() {
        let mut wrong = Vec::new();
        for (path, text) in files() {
            let lines = text.lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{}: {lines} lines", path.display()));
            }
            // The tests of a module stand behind it and need no sentence.
            let is_test = path
                .components()
                .skip(1)
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            if !is_test && !text.starts_with("//! ") {
                wrong.push(format!("{}: the first line does not say what it is", path.display()));
            }
            for (number, line) in text.lines().enumerate() {
                let columns = line.chars().count();
                if columns > COLUMNS_MAX && !line.contains("://") && !line.contains('"') {
                    wrong.push(format!("{}:{}: {columns} columns", path.display(), number + 1));
                }
            }
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if EMPTY_NAMES.contains(&stem) {
                wrong.push(format!("{}: the name says nothing", path.display()));
            }
        }
        assert_none("files out of order", &wrong);
    }

    #[test]
    fn nothing_is_switched_off_or_left_undone() {
        // Put together, so that this file is not found.
        let words = [
            ["#[al", "low("].concat(),
            ["#![al", "low("].concat(),
            ["#[ig", "nore]"].concat(),
            ["to", "do!("].concat(),
            ["unimple", "mented!("].concat(),
            ["FIX", "ME"].concat(),
            ["TO", "DO"].concat(),
        ];
        let mut wrong = Vec::new();
        for (path, text) in files() {
            for (number, line) in text.lines().enumerate() {
                let found = words.iter().filter(|word| line.contains(word.as_str()));
                wrong
                    .extend(found.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
            }
        }
        assert_none("what is switched off or undone", &wrong);
    }

    #[test]
    fn every_table_of_the_store_has_a_number_of_its_own() {
        let mut numbers: BTreeMap<String, String> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (path, text) in files() {
            let compact: String = text.split_whitespace().collect();
            let is_test = path.components().any(|part| part.as_os_str() == "tests")
                || path.ends_with("tests.rs")
                || path.components().any(|part| part.as_os_str() == "conformance");
            if is_test {
                continue;
            }
            for rest in compact.split("Table::new(0x").skip(1) {
                let number: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
                let place = path.display().to_string();
                if let Some(other) = numbers.insert(number.clone(), place.clone()) {
                    wrong.push(format!("0x{number} in {other} and {place}"));
                }
            }
        }
        assert!(numbers.len() > 20, "the tables are elsewhere: {numbers:?}");
        assert_none("tables with the same number", &wrong);
    }
}
