//! A model from the Hugging Face hub, through the `hf-hub` crate and its cache.
//!
//! `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` hold. Only the files that modules.json calls for are fetched:
//! never pickled weights, never code. Files that the catalog pins are believed by their sha256 alone, those that another
//! program has put into the cache, too; what was found of them is remembered.

use crate::catalog;
use crate::checkpoint::modules::{self, Declared};
use crate::checkpoint::weights::{INDEX, SINGLE};
use crate::error::{Error, Result};
use crate::resolve::cache_root;
use crate::settings::{Settings, TokenSource};
use embergem_core::Memo;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use log::info;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

const BODY: [&str; 4] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
];
const PROMPTS: &str = "config_sentence_transformers.json";

/// Finds a model in the hub's cache or fetches it; returns the directory of its snapshot. Blocks.
pub(crate) fn fetch(id: &str, settings: &Settings) -> Result<PathBuf> {
    if let Some(path) = find(id, settings)? {
        return Ok(path);
    }
    let (cache, repo) = place(id, settings);
    if env::var("HF_HUB_OFFLINE").is_ok_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str()))
    {
        return Err(Error::Download(format!(
            "HF_HUB_OFFLINE is set, and neither cache of this machine has the whole of {id}"
        )));
    }
    let mut builder = ApiBuilder::from_env()
        .with_cache_dir(cache.path().clone())
        .with_progress(false);
    match token(&settings.token_source)? {
        Token::Given(token) => builder = builder.with_token(token),
        Token::Kept => builder = builder.with_token(cache.token()),
    }
    let api = builder.build().map_err(|error| explain(&error, id))?;
    let remote = api.repo(repo);
    download(id, &remote)
}

/// The snapshot that the hub's cache has, where it is whole; the network is not asked.
pub(crate) fn find(id: &str, settings: &Settings) -> Result<Option<PathBuf>> {
    let (cache, repo) = place(id, settings);
    let Some(path) = cached(&cache, &repo)? else {
        return Ok(None);
    };
    for name in pins(id).filter(|name| path.join(name).exists()) {
        believe(id, name, &path.join(name)).map_err(|reason| {
            Error::Download(format!(
                "{reason}. Remove {} to fetch it again, or name that directory to use it as it is",
                path.display()
            ))
        })?;
    }
    Ok(Some(path))
}

/// The cache that the settings mean, and the repository in it.
fn place(id: &str, settings: &Settings) -> (Cache, Repo) {
    let cache = settings.hf_cache.clone().map_or_else(Cache::from_env, Cache::new);
    let revision = settings.revision.clone().unwrap_or_else(|| "main".to_owned());
    (cache, Repo::with_revision(id.to_owned(), RepoType::Model, revision))
}

/// The same, whatever its bytes are.
fn cached(cache: &Cache, repo: &Repo) -> Result<Option<PathBuf>> {
    let Some(file) = cache.repo(repo.clone()).get(modules::NAME) else {
        return Ok(None);
    };
    let chain = modules::declared(&file)?;
    let root = file.parent().unwrap_or(Path::new("")).to_owned();
    let whole = missing(&chain, |name| root.join(name).exists()).is_empty()
        && shards(&chain, &root)?.iter().all(|name| root.join(name).exists());
    Ok(whole.then_some(root))
}

fn download(id: &str, remote: &ApiRepo) -> Result<PathBuf> {
    let failed = |error: ApiError| explain(&error, id);
    let there: BTreeSet<String> = remote
        .info()
        .map_err(failed)?
        .siblings
        .into_iter()
        .map(|file| file.rfilename)
        .collect();
    if !there.contains(modules::NAME) {
        return Err(Error::UnsupportedModel(format!(
            "{id} on the hub has no {}; embergem reads models that sentence-transformers has saved",
            modules::NAME
        )));
    }
    let first = remote.get(modules::NAME).map_err(failed)?;
    let root = first.parent().unwrap_or(Path::new("")).to_owned();
    let chain = modules::declared(&first)?;
    let lacking = missing(&chain, |name| there.contains(name));
    if !lacking.is_empty() {
        return Err(Error::UnsupportedModel(format!(
            "{id} on the hub lacks {}, which embergem needs",
            lacking.join(", ")
        )));
    }
    let mut names = needed(&chain, &there);
    info!("fetching {} files of {id}", names.len());
    while let Some(name) = names.pop() {
        let path = remote.get(&name).map_err(failed)?;
        if !path.starts_with(&root) {
            return Err(Error::Download(format!(
                "{id} changed on the hub while it was fetched; try again"
            )));
        }
        if let Err(reason) = believe(id, &name, &path) {
            if let Ok(blob) = fs::canonicalize(&path) {
                let removed = fs::remove_file(blob);
                removed.map_err(|error| Error::Download(format!("{reason}, and cannot be removed: {error}")))?;
            }
            return Err(Error::Download(format!("{reason}. It was removed; fetch it again")));
        }
        if name.ends_with(INDEX) {
            names.extend(shards(&chain, &root)?);
        }
    }
    Ok(root)
}

/// Files to fetch at first; the shards follow once the index is there. The last is fetched first: small ones.
fn needed(chain: &[Declared], there: &BTreeSet<String>) -> Vec<String> {
    let mut names = vec![PROMPTS.to_owned()];
    for module in chain {
        let at = |name: &str| at(module, name);
        if ["Transformer", modules::STATIC].contains(&module.kind.as_str()) {
            names.extend(BODY.map(at));
            names.push(if there.contains(&at(SINGLE)) {
                at(SINGLE)
            } else {
                at(INDEX)
            });
        } else if !module.path.is_empty() {
            names.extend([at("config.json"), at(SINGLE)]);
        }
    }
    names.retain(|name| there.contains(name));
    names.sort_by_key(|name| !name.ends_with(".safetensors"));
    names
}

/// Files that the modules cannot do without and that are not there.
fn missing(chain: &[Declared], there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    for module in chain {
        let at = |name: &str| at(module, name);
        match module.kind.as_str() {
            "Transformer" | modules::STATIC => {
                names.extend([at("config.json"), at("tokenizer.json")]);
                names.push(if there(&at(INDEX)) { at(INDEX) } else { at(SINGLE) });
            }
            "Dense" => names.extend([at("config.json"), at(SINGLE)]),
            "Pooling" => names.push(at("config.json")),
            _ => {}
        }
    }
    names.retain(|name| !there(name));
    names
}

/// The files that the transformer's index names, relative to the root.
fn shards(chain: &[Declared], root: &Path) -> Result<BTreeSet<String>> {
    let index = root.join(at(&chain[0], INDEX));
    if !index.exists() {
        return Ok(BTreeSet::new());
    }
    let index = crate::checkpoint::json::read_value(&index)?;
    let names = index["weight_map"].as_object().into_iter().flat_map(|map| map.values());
    // Whatever else is written there is refused when the checkpoint is read.
    let plain = |name: &&str| name.ends_with(".safetensors") && !name.contains(['/', '\\']);
    let names = names.filter_map(serde_json::Value::as_str).filter(plain);
    Ok(names.map(|name| at(&chain[0], name)).collect())
}

fn at(module: &Declared, name: &str) -> String {
    if module.path.is_empty() {
        name.to_owned()
    } else {
        format!("{}/{name}", module.path)
    }
}

/// The files of a model that the catalog pins.
fn pins(id: &str) -> impl Iterator<Item = &'static str> {
    let files = catalog::find(id).into_iter().flat_map(|known| known.files.keys());
    files.map(String::as_str)
}

/// Compares a file with its pin in the catalog, once for each state of the file.
fn believe(id: &str, name: &str, path: &Path) -> std::result::Result<(), String> {
    let Some(pin) = catalog::find(id).and_then(|known| known.files.get(name)) else {
        return Ok(());
    };
    let note = cache_root().and_then(|root| Memo::new(&root, "pinned", [path], &[pin]));
    if note.as_ref().is_some_and(|note| note.read().is_some()) {
        return Ok(());
    }
    let io = |error: io::Error| format!("{}: {error}", path.display());
    let mut hash = Sha256::new();
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
    loop {
        let piece = file.fill_buf().map_err(io)?;
        if piece.is_empty() {
            break;
        }
        hash.update(piece);
        let read = piece.len();
        file.consume(read);
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if digest.starts_with(pin.as_str()) {
        if let Some(note) = note {
            note.write("");
        }
        return Ok(());
    }
    Err(format!(
        "{name} of {id} has sha256 {digest} instead of {pin}: not the expected bytes"
    ))
}

enum Token {
    Given(Option<String>),
    Kept,
}

fn token(source: &TokenSource) -> Result<Token> {
    let trimmed = |text: String| Token::Given(Some(text.trim().to_owned()).filter(|token| !token.is_empty()));
    let set = |name: &str| env::var(name).ok().filter(|text| !text.trim().is_empty());
    match source {
        TokenSource::None => Ok(Token::Given(None)),
        TokenSource::Literal(token) => Ok(trimmed(token.clone())),
        TokenSource::CacheToken => Ok(set("HF_TOKEN").map_or(Token::Kept, trimmed)),
        TokenSource::EnvVar(name) => set(name).map(trimmed).ok_or_else(|| {
            Error::RequestValidation(format!(
                "the environment variable {name} of the token source is not set"
            ))
        }),
        TokenSource::Path(path) => fs::read_to_string(path).map(trimmed).map_err(|error| {
            Error::RequestValidation(format!("the token file {} cannot be read: {error}", path.display()))
        }),
    }
}

fn explain(error: &ApiError, id: &str) -> Error {
    let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_owned());
    let pull = format!("Or fetch it with `embergem models pull {id}` of the Python package, or name a directory");
    let status = match error {
        ApiError::RequestError(request) => match **request {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    };
    match status {
        Some(401 | 403) => {
            let mirror = catalog::find(id).and_then(|known| known.mirror.as_deref());
            let mirror = mirror.map_or(String::new(), |mirror| {
                format!(" Or name the ungated mirror: {mirror}.")
            });
            Error::GatedModel(format!(
                "{id} is gated or private: accept its licence at {endpoint}/{id}, then set HF_TOKEN to a token of that \
                 account.{mirror}"
            ))
        }
        Some(404) => Error::UnknownModel(format!(
            "the hub has no model {id:?} of this revision, or doesn't show it to you: check the spelling; for a private \
             model set HF_TOKEN. There is no directory of that name either"
        )),
        _ => Error::Download(format!("{id} could not be fetched from {endpoint}: {error}. {pull}")),
    }
}
