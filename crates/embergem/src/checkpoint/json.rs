//! JSON files of a checkpoint, with errors that name the file.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A JSON object and the file that contains it.
pub(crate) struct Object {
    /// The file.
    pub file: PathBuf,
    /// The fields of the object.
    pub fields: Map<String, Value>,
}

impl Object {
    /// Reads a file that must exist.
    pub fn read(file: &Path) -> Result<Self> {
        match read_value(file)? {
            Value::Object(fields) => Ok(Self {
                file: file.to_owned(),
                fields,
            }),
            other => Err(corrupt(
                file,
                format!(
                    "should be a JSON object, found {}. Download or save the model again.",
                    brief(&other)
                ),
            )),
        }
    }

    /// Like [`Object::read`], but a missing file gives an empty object.
    pub fn read_optional(file: &Path) -> Result<Self> {
        if file.exists() {
            return Self::read(file);
        }
        Ok(Self {
            file: file.to_owned(),
            fields: Map::new(),
        })
    }

    /// Returns a field. A field with the value null is present.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    /// Returns a field that is true or false.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// Returns a field that is a whole number above 0.
    pub fn size(&self, key: &str) -> Result<usize> {
        let value = self.get(key).unwrap_or(&Value::Null);
        match value.as_u64() {
            Some(size) if size > 0 => Ok(size as usize),
            _ => Err(self.wrong(key, "a whole number above 0", value)),
        }
    }

    /// Returns a number of tokens. Libraries write "no limit" as a huge number; the result is then `None`.
    pub fn length(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number >= 2_147_483_648.0 => Ok(None),
                Some(number) if number >= 1.0 && number.fract() == 0.0 => Ok(Some(number as usize)),
                _ => Err(self.wrong(key, "a whole number above 0", value)),
            },
        }
    }

    fn wrong(&self, key: &str, wanted: &str, found: &Value) -> Error {
        corrupt(
            &self.file,
            format!(": {key} should be {wanted}, found {}. Correct the file.", brief(found)),
        )
    }
}

/// Reads a text file that must exist.
pub(crate) fn read_text(file: &Path) -> Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(corrupt(
            file,
            "is missing, so the model is not complete. Download or save it again.".to_owned(),
        )),
        Err(error) => Err(corrupt(file, format!("cannot be read: {error}."))),
    }
}

/// Reads a JSON file.
pub(crate) fn read_value(file: &Path) -> Result<Value> {
    serde_json::from_str(&read_text(file)?).map_err(|error| {
        corrupt(
            file,
            format!("is not valid JSON: {error}. Download or save the model again."),
        )
    })
}

/// Returns an error about a file.
pub(crate) fn corrupt(file: &Path, reason: String) -> Error {
    let space = if reason.starts_with(':') { "" } else { " " };
    Error::CorruptCheckpoint(format!("{}{space}{reason}", file.display()))
}

/// Returns a value for an error message, cut if it is long.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        return text;
    }
    text.chars().take(77).chain("...".chars()).collect()
}
