//! Models from the Hugging Face hub, through the `hf-hub` crate and its cache.
//!
//! `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` apply. Only the files that modules.json names are downloaded,
//! and never pickled weights or code. Each file that the catalog pins must have the pinned sha256, also if another program
//! put it into the cache. The result is stored for the state of the file.

use crate::catalog::{self, PinnedFile};
use crate::error::{Error, Result};
use crate::options::{LoadOptions, TokenSource};
use crate::paths::cache_root;
use crate::sha256;
use embergem_checkpoint::modules::{self, ModuleEntry};
use embergem_checkpoint::weights::{INDEX, SINGLE};
use embergem_checkpoint::{PROMPTS, SETTINGS, json};
use embergem_core::Memo;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use log::info;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Files beside the transformer's weights: those that are read, and those whose presence changes how the published
/// library reads the others. `SETTINGS` are read too.
const BODY: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "adapter_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
];

/// Finds a model in the hub library's cache, or downloads it. Returns the directory of its snapshot. Blocks.
///
/// # Errors
/// [`Error::Download`], [`Error::GatedModel`], [`Error::UnknownModel`]; [`Error::UnsupportedModel`] for a repository
/// without the files that embergem needs.
pub(crate) fn download(id: &str, options: &LoadOptions) -> Result<PathBuf> {
    if let Some(path) = find(id, options)? {
        return Ok(path);
    }
    let (cache, repo) = cache_and_repo(id, options);
    if env::var("HF_HUB_OFFLINE").is_ok_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str()))
    {
        return Err(Error::Download(format!(
            "HF_HUB_OFFLINE is set, and no cache on this machine has all files of {id}."
        )));
    }
    let mut builder = ApiBuilder::from_env()
        .with_cache_dir(cache.path().clone())
        .with_progress(false);
    match token(&options.token_source)? {
        Token::Given(token) => builder = builder.with_token(token),
        Token::Stored => builder = builder.with_token(cache.token()),
    }
    let api = builder.build().map_err(|error| explain(&error, id))?;
    download_files(id, &api.repo(repo))
}

/// The snapshot in the hub library's cache, if all of its files are there. Needs no network.
///
/// # Errors
/// [`Error::Download`] if a file does not have the sha256 that the catalog pins.
pub(crate) fn find(id: &str, options: &LoadOptions) -> Result<Option<PathBuf>> {
    let (cache, repo) = cache_and_repo(id, options);
    let Some(path) = complete_snapshot(&cache, &repo)? else {
        return Ok(None);
    };
    for pin in pins(id).iter().filter(|pin| path.join(&pin.path).exists()) {
        check_pin(id, pin, &path.join(&pin.path)).map_err(|reason| {
            Error::Download(format!(
                "{reason}. Remove {} to download the model again, or name that directory to use it as it is.",
                path.display()
            ))
        })?;
    }
    Ok(Some(path))
}

fn cache_and_repo(id: &str, options: &LoadOptions) -> (Cache, Repo) {
    let cache = options.hf_cache.clone().map_or_else(Cache::from_env, Cache::new);
    let revision = options.revision.clone().unwrap_or_else(|| "main".to_owned());
    (cache, Repo::with_revision(id.to_owned(), RepoType::Model, revision))
}

/// The snapshot, if all of its files are there, with any contents.
fn complete_snapshot(cache: &Cache, repo: &Repo) -> Result<Option<PathBuf>> {
    let Some(file) = cache.repo(repo.clone()).get(modules::NAME) else {
        return Ok(None);
    };
    let chain = modules::read(&file)?;
    let root = file.parent().unwrap_or(Path::new("")).to_owned();
    let complete = missing_files(&chain, |name| root.join(name).exists()).is_empty()
        && shards(&chain, &root)?.iter().all(|name| root.join(name).exists());
    Ok(complete.then_some(root))
}

fn download_files(id: &str, remote: &ApiRepo) -> Result<PathBuf> {
    let failed = |error: ApiError| explain(&error, id);
    let listing = remote.info().map_err(failed)?.siblings;
    let available: BTreeSet<String> = listing.into_iter().map(|file| file.rfilename).collect();
    if !available.contains(modules::NAME) {
        return Err(Error::UnsupportedModel(format!(
            "{id} on the hub has no {}. embergem reads models that sentence-transformers saved.",
            modules::NAME
        )));
    }
    let first = remote.get(modules::NAME).map_err(failed)?;
    let root = first.parent().unwrap_or(Path::new("")).to_owned();
    let chain = modules::read(&first)?;
    let missing = missing_files(&chain, |name| available.contains(name));
    if !missing.is_empty() {
        return Err(Error::UnsupportedModel(format!(
            "{id} on the hub has no {}, which embergem needs.",
            missing.join(", ")
        )));
    }
    let mut names = needed_files(&chain, &available);
    info!("downloading {} files of {id}", names.len());
    while let Some(name) = names.pop() {
        let path = remote.get(&name).map_err(failed)?;
        if !path.starts_with(&root) {
            return Err(Error::Download(format!(
                "{id} changed on the hub during the download. Try again."
            )));
        }
        let pin = pins(id).iter().find(|pin| pin.path == name);
        if let Some(Err(reason)) = pin.map(|pin| check_pin(id, pin, &path)) {
            if let Ok(blob) = fs::canonicalize(&path) {
                let removed = fs::remove_file(blob);
                removed.map_err(|error| Error::Download(format!("{reason}, and cannot be removed: {error}.")))?;
            }
            return Err(Error::Download(format!(
                "{reason}. The file was removed. Download it again."
            )));
        }
        if name.ends_with(INDEX) {
            names.extend(shards(&chain, &root)?);
        }
    }
    Ok(root)
}

/// Files to download at first; the shards follow when the index is there. The last file of the list is downloaded first:
/// the weights come last.
fn needed_files(chain: &[ModuleEntry], available: &BTreeSet<String>) -> Vec<String> {
    let mut names = vec![PROMPTS.to_owned()];
    for module in chain {
        let at = |name: &str| module.file(name);
        if module.is_body() {
            names.extend(BODY.map(at));
            names.extend(SETTINGS.map(at));
            names.push(if available.contains(&at(SINGLE)) {
                at(SINGLE)
            } else {
                at(INDEX)
            });
        } else if !module.path.is_empty() {
            names.extend([at("config.json"), at(SINGLE)]);
        }
    }
    names.retain(|name| available.contains(name));
    names.sort_by_key(|name| !name.ends_with(".safetensors"));
    names
}

/// Files that the modules need and that do not exist.
fn missing_files(chain: &[ModuleEntry], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    for module in chain {
        let at = |name: &str| module.file(name);
        match module.kind.as_str() {
            _ if module.is_body() => {
                names.extend([at("config.json"), at("tokenizer.json")]);
                names.push(if exists(&at(INDEX)) { at(INDEX) } else { at(SINGLE) });
            }
            "Dense" => names.extend([at("config.json"), at(SINGLE)]),
            "Pooling" => names.push(at("config.json")),
            _ => {}
        }
    }
    names.retain(|name| !exists(name));
    names
}

/// The files that the transformer's index names, relative to the root.
fn shards(chain: &[ModuleEntry], root: &Path) -> Result<BTreeSet<String>> {
    let index = root.join(chain[0].file(INDEX));
    if !index.exists() {
        return Ok(BTreeSet::new());
    }
    let index = json::read_value(&index)?;
    let names = index["weight_map"].as_object().into_iter().flat_map(|map| map.values());
    // Other names are refused when the checkpoint is read.
    let plain = |name: &&str| name.ends_with(".safetensors") && !name.contains(['/', '\\']);
    let names = names.filter_map(serde_json::Value::as_str).filter(plain);
    Ok(names.map(|name| chain[0].file(name)).collect())
}

/// The files of a model that the catalog pins.
fn pins(id: &str) -> &'static [PinnedFile] {
    catalog::find(id).map_or(&[], |entry| &entry.files)
}

/// Compares a file with its pin in the catalog, once for each state of the file. `Err` holds the reason.
fn check_pin(id: &str, pin: &PinnedFile, path: &Path) -> std::result::Result<(), String> {
    let memo = cache_root().and_then(|root| Memo::new(&root, "pinned", [path], &[&pin.sha256]));
    if memo.as_ref().is_some_and(|memo| memo.read().is_some()) {
        return Ok(());
    }
    let digest = sha256::of_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !digest.starts_with(&pin.sha256) {
        return Err(format!(
            "{} of {id} has sha256 {digest} instead of {}, so these are not the expected bytes",
            pin.path, pin.sha256
        ));
    }
    if let Some(memo) = memo {
        memo.write("");
    }
    Ok(())
}

enum Token {
    Given(Option<String>),
    Stored,
}

fn token(source: &TokenSource) -> Result<Token> {
    let trimmed = |text: String| Token::Given(Some(text.trim().to_owned()).filter(|token| !token.is_empty()));
    let set = |name: &str| env::var(name).ok().filter(|text| !text.trim().is_empty());
    match source {
        TokenSource::None => Ok(Token::Given(None)),
        TokenSource::Literal(token) => Ok(trimmed(token.clone())),
        TokenSource::CacheToken => Ok(set("HF_TOKEN").map_or(Token::Stored, trimmed)),
        TokenSource::EnvVar(name) => set(name).map(trimmed).ok_or_else(|| {
            Error::UnsupportedOption(format!(
                "The environment variable {name} of the token source is not set. Set it, or give another token source."
            ))
        }),
        TokenSource::Path(path) => fs::read_to_string(path).map(trimmed).map_err(|error| {
            Error::UnsupportedOption(format!("The token file {} cannot be read: {error}.", path.display()))
        }),
    }
}

fn explain(error: &ApiError, id: &str) -> Error {
    let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_owned());
    let status = match error {
        ApiError::RequestError(request) => match **request {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    };
    match status {
        Some(401 | 403) => {
            let mirror = catalog::find(id).and_then(|entry| entry.mirror.as_deref());
            let mirror = mirror.map_or(String::new(), |mirror| {
                format!(" Or use the mirror {mirror}, which needs no account.")
            });
            Error::GatedModel(format!(
                "{id} is gated or private. Accept its licence at {endpoint}/{id}, then set HF_TOKEN to a token of that \
                 account.{mirror}"
            ))
        }
        Some(404) => Error::UnknownModel(format!(
            "The hub has no model {id:?} of this revision, or does not show it to you. Check the spelling. For a private \
             model set HF_TOKEN. There is no directory of that name either."
        )),
        _ => Error::Download(format!(
            "{id} could not be downloaded from {endpoint}: {error}. Try again, download it with `embergem models pull \
             {id}` of the Python package, or name a directory."
        )),
    }
}
