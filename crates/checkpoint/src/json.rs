//! JSON files of a checkpoint, with errors that name the file.

use crate::error::{Error, Result, corrupt};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Largest file with settings that is read, in bytes. Those of real models have a few thousand.
const SETTINGS_BYTES: u64 = 64 << 20;

/// A JSON object and the file that it was read from.
#[derive(Debug)]
pub struct Object {
    /// The file.
    pub file: PathBuf,
    /// The contents.
    pub fields: Map<String, Value>,
}

impl Object {
    /// Reads a file that must exist.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a file that is missing, cannot be read, or contains something other than a JSON object.
    pub fn read(file: &Path) -> Result<Self> {
        Self::read_up_to(file, SETTINGS_BYTES)
    }

    /// Like [`Object::read`], for a file of at most `limit` bytes.
    ///
    /// # Errors
    /// The same, and [`Error::Corrupt`] for a larger file.
    pub fn read_up_to(file: &Path, limit: u64) -> Result<Self> {
        match parse(&read_bytes(file, limit)?, file)? {
            Value::Object(fields) => Ok(Self {
                file: file.to_owned(),
                fields,
            }),
            other => Err(corrupt(
                file,
                format!(
                    " should hold a JSON object, found {}. Download or save the model again.",
                    brief(&other)
                ),
            )),
        }
    }

    /// Like [`Object::read`]; the object is empty if the file does not exist.
    ///
    /// # Errors
    /// The same, except for a missing file.
    pub fn read_optional(file: &Path) -> Result<Self> {
        if file.exists() {
            return Self::read(file);
        }
        Ok(Self {
            file: file.to_owned(),
            fields: Map::new(),
        })
    }

    /// A field. A field that is null exists.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    /// A field that is true or false, or `default` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another value.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A field that is a whole number above 0.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another value, or if the field does not exist.
    pub fn size(&self, key: &str) -> Result<usize> {
        let value = self.get(key).unwrap_or(&Value::Null);
        match value.as_u64() {
            Some(size) if size > 0 => Ok(size as usize),
            _ => Err(self.wrong(key, "a whole number above 0", value)),
        }
    }

    /// A number of tokens; none if the field does not exist, is null, or is the huge number that stands for no limit.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another value.
    pub fn length(&self, key: &str) -> Result<Option<usize>> {
        self.length_at(&[key])
    }

    /// Like [`Object::length`], for a field of nested objects.
    ///
    /// # Errors
    /// The same.
    pub fn length_at(&self, path: &[&str]) -> Result<Option<usize>> {
        let (first, rest) = (
            path.first().and_then(|key| self.get(key)),
            path.get(1..).unwrap_or_default(),
        );
        let found = rest
            .iter()
            .fold(first, |value, key| value.and_then(|value| value.get(*key)));
        match found {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number >= 2_147_483_648.0 => Ok(None),
                Some(number) if number >= 1.0 && number.fract() == 0.0 => Ok(Some(number as usize)),
                _ => Err(self.wrong(&path.join("."), "a whole number above 0", value)),
            },
        }
    }

    fn wrong(&self, key: &str, wanted: &str, found: &Value) -> Error {
        let found = brief(found);
        corrupt(
            &self.file,
            format!(": {key} should be {wanted}, found {found}. Correct the file."),
        )
    }
}

/// Parses JSON in UTF-8, with or without a byte order mark. `file` names its origin in errors.
///
/// # Errors
/// [`Error::Corrupt`] if it is not JSON.
pub fn parse<T: DeserializeOwned>(data: &[u8], file: &Path) -> Result<T> {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    serde_json::from_slice(data).map_err(|error| not_json(file, &error))
}

/// Reads a JSON file that must exist.
///
/// # Errors
/// [`Error::Corrupt`] for a file that is missing, cannot be read or is not JSON.
pub fn read_value(file: &Path) -> Result<Value> {
    parse(&read_bytes(file, SETTINGS_BYTES)?, file)
}

/// Reads a text file that must exist, without its byte order mark.
///
/// # Errors
/// [`Error::Corrupt`] for a file that is missing, cannot be read or is not UTF-8.
pub fn read_text(file: &Path) -> Result<String> {
    let text = String::from_utf8(read_bytes(file, SETTINGS_BYTES)?).map_err(|error| not_json(file, &error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The error for a file that is not JSON.
pub(crate) fn not_json(file: &Path, error: &dyn std::fmt::Display) -> Error {
    corrupt(
        file,
        format!(" is not valid JSON: {error}. Download or save the model again."),
    )
}

fn read_bytes(file: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(file, limit)?.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| corrupt(file, format!(" cannot be read: {error}.")))?;
    Ok(bytes)
}

/// Opens a file that must exist and have at most `limit` bytes.
///
/// # Errors
/// [`Error::Corrupt`] for a file that is missing, larger or cannot be opened.
pub(crate) fn open(file: &Path, limit: u64) -> Result<File> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => corrupt(
            file,
            " is missing, so the model in this directory is not complete. Download or save the model again.",
        ),
        _ => corrupt(file, format!(" cannot be read: {error}.")),
    };
    let found = fs::metadata(file).map_err(failed)?;
    if !found.is_file() && !found.is_dir() {
        // Reading a pipe would never end.
        return Err(corrupt(
            file,
            " is not a regular file, so the model in this directory is not complete. Replace it by the file.",
        ));
    }
    if found.len() > limit {
        return Err(corrupt(
            file,
            format!(
                " has {} bytes, and no model needs more than {limit} there. Download or save the model again.",
                found.len()
            ),
        ));
    }
    File::open(file).map_err(failed)
}

/// A value for an error message, cut to 80 characters.
pub fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        return text;
    }
    text.chars().take(77).chain("...".chars()).collect()
}
