//! Finds the directory of a model by a path, a name of the catalog, or a hub id.

use crate::catalog;
use crate::error::{Error, Result};
use crate::options::LoadOptions;
use crate::paths::{MODEL_MANIFEST, cache_root};
use log::warn;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf, absolute};

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Name of the model: its hub id, or the last part of its directory.
    pub id: String,
    /// Directory as sentence-transformers or `embergem compile` writes it.
    pub path: PathBuf,
}

/// What the Python package stores beside a model that it downloaded.
#[derive(Deserialize)]
struct Manifest {
    revision: Option<String>,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    path: String,
    size: u64,
}

/// Finds a model's files, or downloads them. Blocks. A hub cache that the options name is searched first, then
/// embergem's own cache, then the hub library's.
///
/// # Errors
/// [`Error::UnknownModel`], [`Error::Download`], [`Error::GatedModel`]; [`Error::UnsupportedOption`] for a revision or a
/// hub cache together with a directory.
pub(crate) fn resolve(name: &str, options: &LoadOptions) -> Result<Location> {
    let path = Path::new(name);
    if !name.trim().is_empty() && path.is_dir() {
        let of_hub = [
            ("with_hf_revision", options.revision.is_some()),
            ("from_hf_cache_path", options.hf_cache.is_some()),
        ];
        if let Some((option, _)) = of_hub.into_iter().find(|(_, given)| *given) {
            return Err(Error::UnsupportedOption(format!(
                "{option} is for models of the hub, and {name} is a directory of this machine. Leave the option out, or \
                 name the model by its hub id."
            )));
        }
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        let last = path.components().next_back().and_then(|part| part.as_os_str().to_str());
        return Ok(Location {
            id: last.filter(|last| *last != "..").unwrap_or("model").to_owned(),
            path,
        });
    }
    if path.is_file() {
        return Err(Error::UnknownModel(format!(
            "{name} is a file. Name the directory that contains it."
        )));
    }
    let known = catalog::find(name);
    let id = match known {
        Some(known) => known.id.as_str(),
        None if is_hub_id(name) => name,
        None => {
            return Err(Error::UnknownModel(format!(
                "No model is called {name:?}, and there is no such directory. Name a directory, a model of the hub as \
                 org/name, or one of: {}.",
                catalog::names().join(", ")
            )));
        }
    };
    let named = match options.hf_cache {
        Some(_) => find(id, options)?,
        None => None,
    };
    let path = match named.or_else(|| cached(id, options.revision.as_deref())) {
        Some(path) => path,
        None => download(id, options)?,
    };
    if let Some(notice) = known.and_then(|known| known.notice.as_deref()) {
        warn!("{notice}");
    }
    Ok(Location {
        id: id.to_owned(),
        path,
    })
}

/// Whether a name is `org/name` of letters, digits, `-`, `_` and `.`.
fn is_hub_id(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|other| other.is_ascii_alphanumeric() || "-_.".contains(other))
    };
    let parts: Vec<_> = name.split('/').collect();
    parts.len() == 2 && parts.iter().all(|one| part(one)) && !name.contains("--") && !name.contains("..")
}

/// The version in embergem's own cache, where the Python package downloads models to, if all of its files are there.
fn cached(id: &str, revision: Option<&str>) -> Option<PathBuf> {
    let home = cache_root()?.join("models").join(id.replace('/', "--"));
    let version = fs::read_to_string(home.join("current")).ok()?;
    let path = home.join(Path::new(version.trim()).file_name()?);
    let manifest: Manifest = serde_json::from_slice(&fs::read(path.join(MODEL_MANIFEST)).ok()?).ok()?;
    let complete = manifest.files.iter().all(|file| {
        let found = fs::metadata(path.join(&file.path));
        found.is_ok_and(|found| found.len() == file.size)
    });
    if !complete {
        warn!("the cached model in {} is damaged, so it is not used", path.display());
    }
    let wanted = revision.is_none_or(|revision| manifest.revision.as_deref() == Some(revision));
    (complete && wanted).then_some(path)
}

#[cfg(feature = "hub")]
use crate::hub::{download, find};

#[cfg(not(feature = "hub"))]
fn find(id: &str, options: &LoadOptions) -> Result<Option<PathBuf>> {
    let cache = options.hf_cache.as_deref().unwrap_or(Path::new("")).display();
    Err(Error::Download(format!(
        "{id} cannot be read from {cache}: this program was built without the feature \"hub\", which reads such caches. \
         Name the model's directory."
    )))
}

#[cfg(not(feature = "hub"))]
fn download(id: &str, _: &LoadOptions) -> Result<PathBuf> {
    Err(Error::Download(format!(
        "{id} is not on this machine, and this program was built without the feature \"hub\". Download the model with \
         `embergem models pull {id}` of the Python package, or name a directory."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_have_an_owner_and_a_name() {
        for (name, good) in [
            ("google/embeddinggemma-300m", true),
            ("a/b.c_d-1", true),
            ("a", false),
            ("a/b/c", false),
            ("../b", false),
            ("a/..b", false),
            ("a/b--c", false),
            ("a b/c", false),
            ("/b", false),
        ] {
            assert_eq!(is_hub_id(name), good, "{name}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_name_lists_the_known_ones() {
        let message = resolve("nonsense", &LoadOptions::default()).unwrap_err().to_string();
        assert!(message.contains("minilm"), "{message}");
    }

    #[test]
    fn a_directory_has_no_revision() {
        let options = LoadOptions {
            revision: Some("main".to_owned()),
            ..LoadOptions::default()
        };
        let message = resolve(env!("CARGO_MANIFEST_DIR"), &options).unwrap_err().to_string();
        assert!(
            message.contains("with_hf_revision is for models of the hub"),
            "{message}"
        );
    }

    #[test]
    #[cfg(all(unix, feature = "hub"))]
    fn a_cache_that_the_options_name_is_searched_first() {
        let cache = std::env::temp_dir().join(format!("embergem-named-{}", std::process::id()));
        let repo = cache.join("models--acme--tiny");
        let snapshot = repo.join("snapshots").join("0123abcd");
        fs::create_dir_all(repo.join("refs")).unwrap();
        fs::create_dir_all(repo.join("snapshots")).unwrap();
        fs::write(repo.join("refs").join("main"), "0123abcd").unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens/bert_mean");
        std::os::unix::fs::symlink(golden, &snapshot).unwrap();
        let options = LoadOptions {
            hf_cache: Some(cache.clone()),
            ..LoadOptions::default()
        };
        assert_eq!(find("acme/tiny", &options).unwrap(), Some(snapshot.clone()));
        assert_eq!(find("acme/other", &options).unwrap(), None);
        assert_eq!(resolve("acme/tiny", &options).unwrap().path, snapshot);
        fs::remove_dir_all(cache).unwrap();
    }

    #[test]
    fn a_directory_is_known_by_its_last_part() {
        let found = resolve(concat!(env!("CARGO_MANIFEST_DIR"), "/src/"), &LoadOptions::default()).unwrap();
        assert_eq!(found.id, "src");
    }
}
