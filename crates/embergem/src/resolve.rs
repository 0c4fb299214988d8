//! From a name to a directory: a path, a name of the catalog, or a hub id.

use crate::catalog;
use crate::error::{Error, Result};
use crate::origin;
use crate::settings::Settings;
use log::warn;
use serde::Deserialize;
use std::env;
use std::fs;
use std::path::{Path, PathBuf, absolute};

/// A model that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The name it is known by: its hub id, or the last part of its directory.
    pub id: String,
    /// Laid out as sentence-transformers saves it.
    pub path: PathBuf,
}

/// What the Python package notes beside a model that it has fetched.
#[derive(Deserialize)]
struct Manifest {
    revision: Option<String>,
    files: Vec<KeptFile>,
}

#[derive(Deserialize)]
struct KeptFile {
    path: String,
    size: u64,
}

/// Finds a model's files; downloads what is not on this machine. Blocks. A cache of the hub's library that was named is
/// looked in first, then embergem's own, then the library's.
///
/// # Errors
/// [`Error::UnknownModel`], [`Error::Download`], [`Error::GatedModel`]; [`Error::RequestValidation`] for a revision or a
/// cache of the hub for a directory.
pub(crate) fn resolve(name: &str, settings: &Settings) -> Result<Location> {
    let path = Path::new(name);
    if !name.trim().is_empty() && path.is_dir() {
        let of_hub = [
            ("with_hf_revision", settings.revision.is_some()),
            ("from_hf_cache_path", settings.hf_cache.is_some()),
        ];
        if let Some((option, _)) = of_hub.into_iter().find(|(_, given)| *given) {
            return Err(Error::RequestValidation(format!(
                "{option} is for models of the hub, and {name} is a directory of this machine: leave it out, or name \
                 the model by its hub id"
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
            "{name} is a file; name the directory that it is in"
        )));
    }
    let known = catalog::find(name);
    let id = match known {
        Some(known) => known.id.as_str(),
        None if is_hub_id(name) => name,
        None => {
            return Err(Error::UnknownModel(format!(
                "no model is called {name:?}, and there is no such directory. Name a directory, a model of the hub as \
                 org/name, or one of: {}",
                catalog::names().join(", ")
            )));
        }
    };
    let named = match settings.hf_cache {
        Some(_) => find(id, settings)?,
        None => None,
    };
    let path = match named.or_else(|| kept(id, settings.revision.as_deref())) {
        Some(path) => path,
        None => fetch(id, settings)?,
    };
    if let Some(notice) = known.and_then(|known| known.notice.as_deref()) {
        warn!("{notice}");
    }
    Ok(Location {
        id: id.to_owned(),
        path,
    })
}

/// `org/name` of letters, digits, `-`, `_` and `.`.
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

/// The version that the Python package has fetched, where it is whole: both find the same model.
fn kept(id: &str, revision: Option<&str>) -> Option<PathBuf> {
    let home = cache_root()?.join("models").join(id.replace('/', "--"));
    let version = fs::read_to_string(home.join("current")).ok()?;
    let path = home.join(Path::new(version.trim()).file_name()?);
    let manifest: Manifest = serde_json::from_slice(&fs::read(path.join(origin::MANIFEST)).ok()?).ok()?;
    let whole = manifest.files.iter().all(|file| {
        let found = fs::metadata(path.join(&file.path));
        found.is_ok_and(|found| found.len() == file.size)
    });
    if !whole {
        warn!("the cached model in {} is damaged; looking for another", path.display());
    }
    let wanted = revision.is_none_or(|revision| manifest.revision.as_deref() == Some(revision));
    (whole && wanted).then_some(path)
}

/// `$EMBERGEM_CACHE`, else `$XDG_CACHE_HOME/embergem`, else `~/.cache/embergem`.
pub(crate) fn cache_root() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(own) = set("EMBERGEM_CACHE").map(PathBuf::from) {
        // As Python reads it: what a service's file or a container sets has seen no shell.
        return match own.strip_prefix("~") {
            Ok(rest) => Some(env::home_dir()?.join(rest)),
            Err(_) => Some(own),
        };
    }
    let base = set("XDG_CACHE_HOME").map(PathBuf::from);
    base.or_else(|| Some(env::home_dir()?.join(".cache")))
        .map(|base| base.join("embergem"))
}

#[cfg(feature = "hub")]
fn find(id: &str, settings: &Settings) -> Result<Option<PathBuf>> {
    crate::hub::find(id, settings)
}

#[cfg(not(feature = "hub"))]
fn find(id: &str, settings: &Settings) -> Result<Option<PathBuf>> {
    let cache = settings.hf_cache.as_deref().unwrap_or(Path::new("")).display();
    Err(Error::Download(format!(
        "{id} was to come from {cache}, and this program was built without the feature \"hub\", which reads such caches. \
         Name the model's directory"
    )))
}

#[cfg(feature = "hub")]
fn fetch(id: &str, settings: &Settings) -> Result<PathBuf> {
    crate::hub::fetch(id, settings)
}

#[cfg(not(feature = "hub"))]
fn fetch(id: &str, _: &Settings) -> Result<PathBuf> {
    Err(Error::Download(format!(
        "{id} is not on this machine, and this program was built without the feature \"hub\". Fetch it with \
         `embergem models pull {id}` (of the Python package), or name a directory"
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
    fn a_name_that_is_nothing_is_told_the_names_there_are() {
        let message = resolve("nonsense", &Settings::default()).unwrap_err().to_string();
        assert!(message.contains("minilm"), "{message}");
    }

    #[test]
    fn a_directory_has_no_revision() {
        let settings = Settings {
            revision: Some("main".to_owned()),
            ..Settings::default()
        };
        let message = resolve(env!("CARGO_MANIFEST_DIR"), &settings).unwrap_err().to_string();
        assert!(
            message.contains("with_hf_revision is for models of the hub"),
            "{message}"
        );
    }

    #[test]
    #[cfg(all(unix, feature = "hub"))]
    fn a_cache_that_was_named_is_looked_in_first() {
        let cache = std::env::temp_dir().join(format!("embergem-named-{}", std::process::id()));
        let repo = cache.join("models--acme--tiny");
        let snapshot = repo.join("snapshots").join("0123abcd");
        fs::create_dir_all(repo.join("refs")).unwrap();
        fs::create_dir_all(repo.join("snapshots")).unwrap();
        fs::write(repo.join("refs").join("main"), "0123abcd").unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens/bert_mean");
        std::os::unix::fs::symlink(golden, &snapshot).unwrap();
        let settings = Settings {
            hf_cache: Some(cache.clone()),
            ..Settings::default()
        };
        assert_eq!(find("acme/tiny", &settings).unwrap(), Some(snapshot.clone()));
        assert_eq!(find("acme/other", &settings).unwrap(), None);
        assert_eq!(resolve("acme/tiny", &settings).unwrap().path, snapshot);
        fs::remove_dir_all(cache).unwrap();
    }

    #[test]
    fn a_directory_is_known_by_its_last_part() {
        let found = resolve(concat!(env!("CARGO_MANIFEST_DIR"), "/src/"), &Settings::default()).unwrap();
        assert_eq!(found.id, "src");
    }
}
