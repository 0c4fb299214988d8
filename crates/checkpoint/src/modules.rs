//! modules.json: the chain of modules that sentence-transformers runs. The first module is the body, the rest is the head.

use crate::error::{Result, corrupt, unsupported};
use crate::json::{Object, brief, parse as parse_json, read_value};
use crate::settings;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Name of the file.
pub const NAME: &str = "modules.json";
/// A body that is a table of token vectors.
pub const STATIC: &str = "StaticEmbedding";
/// Kinds of the body.
pub const BODY: [&str; 2] = ["Transformer", STATIC];

/// One entry of modules.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleEntry {
    /// Class name of the module.
    pub kind: String,
    /// Directory of its files, relative to the root; "" is the root.
    pub path: String,
}

impl ModuleEntry {
    /// Whether the module makes token vectors.
    pub fn is_body(&self) -> bool {
        BODY.contains(&self.kind.as_str())
    }

    /// The path of one of its files, relative to the root.
    pub fn file(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.path)
        }
    }
}

/// Reads modules.json.
///
/// # Errors
/// Those of [`parse`], and [`crate::Error::Corrupt`] for a file that cannot be read.
pub fn read(file: &Path) -> Result<Vec<ModuleEntry>> {
    chain(&read_value(file)?, file)
}

/// Parses the text of modules.json. `file` names its origin in errors.
///
/// # Errors
/// [`crate::Error::Corrupt`] if it is not a list of modules, or a path leaves the directory;
/// [`crate::Error::Unsupported`] for a module that embergem does not have, or an order that makes no embedding.
pub fn parse(data: &[u8], file: &Path) -> Result<Vec<ModuleEntry>> {
    chain(&parse_json(data, file)?, file)
}

fn chain(value: &Value, file: &Path) -> Result<Vec<ModuleEntry>> {
    let rows = match value {
        Value::Array(rows) if !rows.is_empty() => rows,
        other => {
            let found = brief(other);
            let reason = format!(" should hold a list of modules, found {found}. Download or save the model again.");
            return Err(corrupt(file, reason));
        }
    };
    let entries = rows.iter().map(|row| entry(row, file)).collect::<Result<Vec<_>>>()?;
    require_different_names(rows, file)?;
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.as_str()).collect();
    let list = kinds.join(", ");
    if kinds[0] == STATIC {
        if !kinds[1..].iter().all(|kind| ["Dense", "Normalize"].contains(kind)) {
            let reason =
                format!(" lists the modules {list}. After StaticEmbedding embergem runs Dense and Normalize only.");
            return Err(unsupported(file, reason));
        }
        return Ok(entries);
    }
    let count = |kind: &str| kinds.iter().filter(|other| **other == kind).count();
    if kinds[0] != "Transformer" || count("Transformer") > 1 || kinds.get(1) != Some(&"Pooling") {
        let reason = format!(
            " lists the modules {list}. embergem runs one Transformer, then Pooling, then any number of Dense and \
             Normalize."
        );
        return Err(unsupported(file, reason));
    }
    if count("Pooling") > 1 {
        let reason = format!(" lists Pooling {} times. embergem runs it once.", count("Pooling"));
        return Err(unsupported(file, reason));
    }
    Ok(entries)
}

/// Refuses two modules with one name: the published library keeps the last one only.
fn require_different_names(rows: &[Value], file: &Path) -> Result<()> {
    let mut names = BTreeSet::new();
    for name in rows.iter().filter_map(|row| row["name"].as_str()) {
        if !names.insert(name) {
            let reason = format!(": two modules have the name {name:?}, so the second one would replace the first.");
            return Err(corrupt(file, reason));
        }
    }
    Ok(())
}

fn entry(row: &Value, file: &Path) -> Result<ModuleEntry> {
    if let Value::Object(fields) = row {
        settings::check(
            &Object {
                file: file.to_owned(),
                fields: fields.clone(),
            },
            settings::ENTRY,
        )?;
    }
    let (Some(kind), Some(path)) = (row["type"].as_str(), row["path"].as_str()) else {
        let reason = format!(
            ": each module needs a \"type\" and a \"path\", both text, found {}. Download or save the model again.",
            brief(row)
        );
        return Err(corrupt(file, reason));
    };
    let last = kind.rsplit('.').next().unwrap_or_default();
    let known = BODY.contains(&last) || ["Pooling", "Dense", "Normalize"].contains(&last);
    if !kind.starts_with("sentence_transformers.") || !known {
        let reason = format!(
            " names the module {}, which embergem does not have. It has sentence-transformers' Transformer, \
             StaticEmbedding, Pooling, Dense and Normalize, and never runs code that comes with a model.",
            row["type"]
        );
        return Err(unsupported(file, reason));
    }
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if path.starts_with('/') || parts.contains(&"..") || path.contains(['\\', '\0', ':']) {
        let reason = format!(
            ": the path {} leaves the checkpoint's directory, so it is refused.",
            row["path"]
        );
        return Err(corrupt(file, reason));
    }
    Ok(ModuleEntry {
        kind: last.to_owned(),
        path: parts.join("/"),
    })
}

/// Refuses the directory of a module that is a link out of `root`. Files may be links, as in the hub library's cache.
pub(crate) fn check_inside(root: &Path, path: &str) -> Result<()> {
    // A directory that does not exist has no file that could be read. A Normalize needs none.
    match (fs::canonicalize(root.join(path)), fs::canonicalize(root)) {
        (Ok(real), Ok(root)) if !real.starts_with(&root) => {}
        _ => return Ok(()),
    }
    let path = Value::from(path);
    let reason = format!(": the path {path} is a link out of the checkpoint's directory, so it is refused.");
    Err(corrupt(&root.join(NAME), reason))
}

#[cfg(test)]
mod tests {
    // tests/checkpoint of the Python package has the other cases.
    use super::*;
    use crate::error::Error;

    fn parsed(rows: &[(&str, &str)]) -> Result<Vec<ModuleEntry>> {
        let row = |(kind, path): &(&str, &str)| serde_json::json!({"type": format!("sentence_transformers.models.{kind}"), "path": path});
        let rows: Vec<Value> = rows.iter().map(row).collect();
        parse(Value::from(rows).to_string().as_bytes(), Path::new(NAME))
    }

    #[test]
    fn paths_are_relative_and_plain() {
        let entries = parsed(&[("Transformer", ""), ("Pooling", "./1_Pooling//")]).unwrap();
        assert_eq!(entries[1].file("config.json"), "1_Pooling/config.json");
        assert!(entries[0].is_body() && !entries[1].is_body());
        for path in ["/etc", "..", "a/../b", "C:a", "a\\b", "a\0"] {
            let refused = parsed(&[("Transformer", ""), ("Pooling", path)]);
            assert!(matches!(refused, Err(Error::Corrupt(_))), "{path:?}");
        }
    }

    #[test]
    fn chains_without_an_embedding_are_refused() {
        for kinds in [
            &["Transformer"][..],
            &["Pooling", "Transformer"],
            &["Transformer", "Normalize", "Pooling"],
            &["Transformer", "Pooling", "Pooling"],
            &["StaticEmbedding", "Pooling"],
            &["Router"],
        ] {
            let rows: Vec<(&str, &str)> = kinds.iter().map(|kind| (*kind, "")).collect();
            assert!(matches!(parsed(&rows), Err(Error::Unsupported(_))), "{kinds:?}");
        }
        assert!(parsed(&[("StaticEmbedding", ""), ("Normalize", "1")]).is_ok());
    }
}
