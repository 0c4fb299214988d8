//! Reading a tokenizer.json: into tables if they fit its model, else into the tokenizers library.
//!
//! Truncation and padding of the file are not used: the limit belongs to the model, and nothing is padded. The parts
//! are passed to the library one by one, and the model directly from its text. The library's own entry point would copy
//! the 33 MB of Gemma's file through three intermediate trees.

use super::{Tokenizer, catch_panics};
use crate::bpe::{self, BpeModel};
use crate::pieces::Boundaries;
use crate::plain::added::AddedTokens;
use crate::plain::{Plain, merges::Merges};
use crate::tables::Tables;
use crate::tables::file::{self as tables_file, Stored};
use crate::tables::model::TableModel;
use crate::token_length::max_chars_per_token;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use tokenizers::models::bpe::BPE;
use tokenizers::{
    AddedToken, DecoderWrapper, Encoding, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Token, Tokenizer as Library,
};

/// An id that no vocabulary has. It marks the position of the text between the special tokens.
const PLACEHOLDER: u32 = u32::MAX;

/// Bytes of a file that are hashed at once. They stay in the cache of a core.
const BLOCK: usize = 128 * 1024;

/// The library's tokenizer of a file.
pub(super) struct LibraryOf {
    path: PathBuf,
    digest: [u8; 32],
    built: OnceLock<Library>,
    building: Mutex<()>,
}

impl LibraryOf {
    fn new(path: &Path, digest: [u8; 32]) -> Self {
        Self {
            path: path.to_owned(),
            digest,
            built: OnceLock::new(),
            building: Mutex::new(()),
        }
    }

    /// Returns whether the tokenizer was built.
    pub fn is_built(&self) -> bool {
        self.built.get().is_some()
    }

    /// Returns the tokenizer. The first call of a tokenizer that encodes with tables builds it from the file.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if the file cannot be read any more, or changed since the tokenizer was read.
    pub fn get(&self) -> crate::Result<&Library> {
        if let Some(built) = self.built.get() {
            return Ok(built);
        }
        let _alone = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let build = || {
            let json = fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
            if digest_of(&mut json.as_bytes())? != self.digest {
                return Err("it changed after the model was loaded, so the model must be loaded again".to_owned());
            }
            let (library, _) = catch_panics(|| File::read(&json)?.library())?;
            Ok(library)
        };
        if self.built.get().is_none() {
            let library = build().map_err(|reason| crate::Error::Corrupt {
                path: self.path.clone(),
                reason,
            })?;
            return Ok(self.built.get_or_init(|| library));
        }
        self.get()
    }
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    #[serde(default)]
    decoder: Option<DecoderWrapper>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    truncation: Option<Truncation>,
}

#[derive(Deserialize)]
struct Truncation {
    direction: Option<String>,
}

#[derive(Deserialize)]
struct ModelHeader {
    r#type: Option<String>,
    unk_id: Option<u32>,
}

/// Properties of a model together with the other parts of the file.
struct Properties {
    max_chars_per_token: Option<usize>,
    boundaries: Option<Boundaries>,
    merges: Option<Merges>,
    /// Id of the unknown token of a Unigram model.
    unknown: Option<u32>,
}

impl<'a> File<'a> {
    fn read(json: &'a str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn header(&self) -> Result<ModelHeader, String> {
        serde_json::from_str(self.model.get()).map_err(|error| format!("model: {error}"))
    }

    fn truncates_left(&self) -> bool {
        let direction = self
            .truncation
            .as_ref()
            .and_then(|truncation| truncation.direction.as_deref());
        direction == Some("Left")
    }

    fn properties_of(&self, bpe: &mut BpeModel) -> Properties {
        let (normalizer, pre_tokenizer) = (self.normalizer.as_ref(), self.pre_tokenizer.as_ref());
        Properties {
            max_chars_per_token: max_chars_per_token(bpe, normalizer, pre_tokenizer, &self.added_tokens),
            boundaries: Boundaries::new(Some(bpe), normalizer, pre_tokenizer, &self.added_tokens),
            merges: Merges::new(bpe),
            unknown: None,
        }
    }

    /// Reads the model by the type that it names (the library guesses the type if there is none), and its properties.
    fn read_model(&self) -> Result<(ModelWrapper, Properties), String> {
        let json = self.model.get();
        let header = self.header()?;
        if header.r#type.as_deref() != Some("BPE") {
            let model = serde_json::from_str(json).map_err(|error| format!("model: {error}"))?;
            let (normalizer, pre_tokenizer) = (self.normalizer.as_ref(), self.pre_tokenizer.as_ref());
            let properties = Properties {
                max_chars_per_token: None,
                boundaries: Boundaries::new(None, normalizer, pre_tokenizer, &self.added_tokens),
                merges: None,
                unknown: header.unk_id,
            };
            return Ok((model, properties));
        }
        let (mut bpe, model) = bpe::read(json).map_err(|reason| format!("model: {reason}"))?;
        Ok((model.into(), self.properties_of(&mut bpe)))
    }

    /// Builds the library's tokenizer.
    fn library(self) -> Result<(Library, Properties), String> {
        let (mut model, properties) = self.read_model()?;
        if let ModelWrapper::BPE(bpe) = &model
            && bpe.dropout.is_some_and(|probability| probability > 0.0)
        {
            return Err("its BPE model drops merges at random (dropout), so a text would have no fixed ids. Set dropout to null".to_owned());
        }
        if properties.max_chars_per_token.is_some() {
            // A BPE model without a word-splitting pre-tokenizer gets whole texts. The library would cache thousands of
            // them without a hit.
            model.resize_cache(0);
        }
        let added = self.added_tokens;
        let mut library = Library::new(model);
        library
            .with_normalizer(self.normalizer)
            .map_err(|error| error.to_string())?
            .with_pre_tokenizer(self.pre_tokenizer)
            .with_post_processor(self.post_processor)
            .with_decoder(self.decoder)
            .add_tokens(added)
            .map_err(|error| error.to_string())?;
        Ok((library, properties))
    }
}

impl Tokenizer {
    /// Reads a tokenizer.json. Tables are read from the directory `cache`, or stored there. `Err` is the reason why the
    /// file cannot be read.
    pub fn load(path: &Path, cache: Option<&Path>) -> Result<Self, String> {
        let mut file = fs::File::open(path).map_err(|error| error.to_string())?;
        if let Some(directory) = cache {
            let digest = digest_of(&mut file)?;
            if let Some(stored) = tables_file::read(directory, &digest) {
                let library = LibraryOf::new(path, digest);
                return catch_panics(|| Self::of_stored(stored, library));
            }
            file.rewind().map_err(|error| error.to_string())?;
        }
        let mut json = String::new();
        file.read_to_string(&mut json).map_err(|error| error.to_string())?;
        let library = LibraryOf::new(path, digest_of(&mut json.as_bytes())?);
        catch_panics(|| match Self::with_tables(&json, library, cache)? {
            Ok(read) => Ok(read),
            Err(library) => Self::with_library(&json, library),
        })
    }

    /// Reads the tokenizer into the tokenizers library.
    fn with_library(json: &str, own: LibraryOf) -> Result<Self, String> {
        let file = File::read(json)?;
        let truncate_left = file.truncates_left();
        let (library, properties) = file.library()?;
        let (prefix, suffix) = special_tokens(&library)?;
        let plain = Plain::new(
            &library,
            AddedTokens::of(&library),
            properties.merges,
            properties.unknown,
        );
        let unknown = match library.get_model() {
            ModelWrapper::WordPiece(model) => library.token_to_id(&model.unk_token),
            ModelWrapper::WordLevel(model) => library.token_to_id(&model.unk_token),
            ModelWrapper::BPE(model) => {
                let unknown = model.unk_token.as_deref();
                unknown.and_then(|token| library.token_to_id(token))
            }
            ModelWrapper::Unigram(_) => properties.unknown,
        };
        Ok(Self {
            library: LibraryOf {
                built: OnceLock::from(library),
                ..own
            },
            prefix,
            suffix,
            truncate_left,
            unknown,
            removed: None,
            max_chars_per_token: properties.max_chars_per_token,
            boundaries: properties.boundaries.filter(|found| !found.edges || plain.is_some()),
            plain,
            tables: None,
        })
    }

    /// Reads the tokenizer into tables, and stores these. Returns `library` if tables do not fit the file.
    fn with_tables(json: &str, library: LibraryOf, cache: Option<&Path>) -> Result<Result<Self, LibraryOf>, String> {
        let file = File::read(json)?;
        if file.header()?.r#type.as_deref() != Some("BPE") {
            return Ok(Err(library));
        }
        let in_model = |reason| format!("model: {reason}");
        let model = file.model.get();
        let Some(parts) = bpe::read_tables(model).map_err(in_model)? else {
            return Ok(Err(library));
        };
        let digest = library.digest;
        let content = cache.map(|_| {
            let shell = without(json, parts.texts);
            tables_file::encode(&digest, &shell, &parts.properties, &parts.tables)
        });
        let bpe = BpeModel::new(parts.settings, parts.properties);
        let read = Self::of_tables(file, bpe, parts.tables, library)?;
        if let (Ok(_), Some(directory), Some(content)) = (&read, cache, content) {
            // Without the file, the next start takes longer and does the same.
            let _ = tables_file::write(directory, &digest, &content);
        }
        Ok(read)
    }

    /// Makes the tokenizer from what an earlier start stored.
    fn of_stored(stored: Stored, library: LibraryOf) -> Result<Self, String> {
        let file = File::read(&stored.shell)?;
        let bpe = BpeModel::new(bpe::read_settings(file.model.get())?, stored.properties);
        let read = Self::of_tables(file, bpe, stored.tables, library)?;
        read.map_err(|_| "its stored tables do not fit it".to_owned())
    }

    /// Makes the tokenizer from the parts of a file but its vocabulary and merges, which are in the tables.
    fn of_tables(
        file: File<'_>,
        mut bpe: BpeModel,
        tables: Tables,
        own: LibraryOf,
    ) -> Result<Result<Self, LibraryOf>, String> {
        let properties = file.properties_of(&mut bpe);
        let truncate_left = file.truncates_left();
        let normalizer = file.normalizer.as_ref();
        let Some(added) = AddedTokens::beside(&tables.vocabulary, file.added_tokens, normalizer) else {
            return Ok(Err(own));
        };
        // The parts around the model do not look at its vocabulary.
        let mut parts = Library::new(BPE::default());
        parts
            .with_normalizer(file.normalizer)
            .map_err(|error| error.to_string())?
            .with_pre_tokenizer(file.pre_tokenizer)
            .with_post_processor(file.post_processor);
        let (prefix, suffix) = special_tokens(&parts)?;
        let unknown = bpe.settings.unk_token.as_deref();
        let unknown = unknown.and_then(|token| {
            let in_model = || tables.vocabulary.get(token.as_bytes());
            added.get(token).or_else(in_model)
        });
        let plain = Plain::new(&parts, added, properties.merges, None);
        let (Some(plain), Some(model)) = (plain, TableModel::new(bpe.settings, tables)) else {
            return Ok(Err(own));
        };
        Ok(Ok(Self {
            library: own,
            prefix,
            suffix,
            truncate_left,
            unknown,
            removed: None,
            max_chars_per_token: properties.max_chars_per_token,
            boundaries: properties.boundaries,
            plain: Some(plain),
            tables: Some(model),
        }))
    }
}

/// Returns the SHA-256 of the rest of a file.
fn digest_of(file: &mut impl Read) -> Result<[u8; 32], String> {
    let (mut sum, mut block) = (Sha256::new(), vec![0; BLOCK]);
    loop {
        match file.read(&mut block).map_err(|error| error.to_string())? {
            0 => return Ok(sum.finalize().into()),
            length => sum.update(&block[..length]),
        }
    }
}

/// Returns the text of a file with an empty vocabulary and no merges. `parts` are these two, as they are in `json`.
fn without(json: &str, parts: [&str; 2]) -> String {
    let place = |part: &str| {
        let start = part.as_ptr() as usize - json.as_ptr() as usize;
        start..start + part.len()
    };
    let [vocabulary, merges] = parts.map(place);
    let mut cuts = [(vocabulary, "{}"), (merges, "[]")];
    cuts.sort_by_key(|(range, _)| range.start);
    let mut shell = json.to_owned();
    for (range, empty) in cuts.into_iter().rev() {
        shell.replace_range(range, empty);
    }
    shell
}

/// Returns the special tokens that the post-processor adds before and after a text.
fn special_tokens(library: &Library) -> Result<(Vec<u32>, Vec<u32>), String> {
    let token = Token::new(PLACEHOLDER, String::new(), (0, 0));
    let around = library
        .post_process(Encoding::from_tokens(vec![token], 0), None, true)
        .map_err(|error| error.to_string())?;
    let mut parts = around.get_ids().split(|id| *id == PLACEHOLDER);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(prefix), Some(suffix), None) => Ok((prefix.to_vec(), suffix.to_vec())),
        _ => Err("its post-processor does not use the text exactly once".to_owned()),
    }
}
