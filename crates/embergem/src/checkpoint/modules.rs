//! Reads modules.json: the transformer and the head that follows it. A module or setting that is not supported is
//! refused.

use super::json::{Object, brief, corrupt, read_value};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Name of the file that lists the modules.
pub(crate) const NAME: &str = "modules.json";

/// Kind of a first module that is a table of token vectors.
pub(crate) const STATIC: &str = "StaticEmbedding";

/// One module of the head, in the form of program cards.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "module", deny_unknown_fields)]
pub(crate) enum Module {
    /// Reduces the token vectors of a row to one vector.
    Pooling {
        /// "mean", "cls", "last" or "max".
        mode: String,
    },
    /// A linear layer.
    Dense {
        /// Directory of the tensors.
        weights: String,
        /// Width of the input.
        in_features: usize,
        /// Width of the output.
        out_features: usize,
        /// Whether there is a bias.
        bias: bool,
        /// Activation of the output; `None` is the identity.
        activation: Option<String>,
    },
    /// Scales each vector to length 1.
    Normalize {},
}

/// One entry of modules.json: the kind of the module, and the directory of its files ("" for the root).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModuleEntry {
    pub kind: String,
    pub path: String,
}

impl ModuleEntry {
    /// Whether the module makes token vectors. Only the first module does.
    #[cfg(feature = "hub")]
    pub fn is_body(&self) -> bool {
        ["Transformer", STATIC].contains(&self.kind.as_str())
    }

    /// Returns the path of one of the module's files, relative to the root.
    #[cfg(feature = "hub")]
    pub fn file(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.path)
        }
    }
}

const POOLING: [(&str, &str); 4] = [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last"), ("max", "max")];
const OLD_POOLING: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];
const ACTIVATIONS: [(&str, Option<&str>); 6] = [
    ("Identity", None),
    ("Tanh", Some("tanh")),
    ("ReLU", Some("relu")),
    ("GELU", Some("gelu_erf")),
    ("SiLU", Some("silu")),
    ("Sigmoid", Some("sigmoid")),
];

/// Reads modules.json. The first module of the result is the body: the transformer or a static table.
pub(crate) fn entries(file: &Path) -> Result<Vec<ModuleEntry>> {
    let rows = match read_value(file)? {
        Value::Array(rows) if !rows.is_empty() => rows,
        other => {
            let found = brief(&other);
            return Err(corrupt(
                file,
                format!("should hold a list of modules, found {found}. Download or save the model again."),
            ));
        }
    };
    let chain = rows.iter().map(|row| entry(row, file)).collect::<Result<Vec<_>>>()?;
    let kinds: Vec<_> = chain.iter().map(|module| module.kind.as_str()).collect();
    if kinds[0] == STATIC {
        return Ok(chain);
    }
    let count = |kind: &str| kinds.iter().filter(|other| **other == kind).count();
    if kinds[0] != "Transformer" || kinds.get(1) != Some(&"Pooling") || count("Transformer") > 1 || count("Pooling") > 1
    {
        return Err(Error::UnsupportedModel(format!(
            "{} lists the modules {}. embergem runs one Transformer, then one Pooling, then any of Dense and Normalize.",
            file.display(),
            kinds.join(", ")
        )));
    }
    Ok(chain)
}

/// Reads the config of every module after the transformer.
pub(crate) fn head(root: &Path, chain: &[ModuleEntry]) -> Result<Vec<Module>> {
    let mut size = None;
    let mut head = Vec::new();
    for module in &chain[1..] {
        inside(root, &module.path)?;
        let file = root.join(&module.path).join("config.json");
        head.push(match module.kind.as_str() {
            "Pooling" => pooling(&Object::read(&file)?, &mut size)?,
            "Dense" => dense(&module.path, &file, &mut size)?,
            _ => {
                if !module.path.is_empty() {
                    refuse_rerouting(&Object::read_optional(&file)?)?;
                }
                Module::Normalize {}
            }
        });
    }
    Ok(head)
}

/// Refuses a directory that is a link out of the checkpoint. Files may be links, as in the hub library's cache.
pub(crate) fn inside(root: &Path, path: &str) -> Result<()> {
    // A missing directory has no files to read, for example that of a Normalize module without a config.
    match (fs::canonicalize(root.join(path)), fs::canonicalize(root)) {
        (Ok(real), Ok(root)) if !real.starts_with(&root) => {}
        _ => return Ok(()),
    }
    let reason = format!(": the path {path:?} is a link out of the checkpoint's directory, so it is refused.");
    Err(corrupt(&root.join(NAME), reason))
}

fn entry(row: &Value, file: &Path) -> Result<ModuleEntry> {
    let (Some(kind), Some(path)) = (row["type"].as_str(), row["path"].as_str()) else {
        let reason = format!(
            ": each module needs a \"type\" and a \"path\", both text; found {}. Download or save the model again.",
            brief(row)
        );
        return Err(corrupt(file, reason));
    };
    let last = kind.rsplit('.').next().unwrap_or_default();
    let known = ["Transformer", STATIC, "Pooling", "Dense", "Normalize"].contains(&last);
    if !kind.starts_with("sentence_transformers.") || !known {
        return Err(Error::UnsupportedModel(format!(
            "{} names the module {kind:?}, which embergem does not have. It has sentence-transformers' Transformer, \
             StaticEmbedding, Pooling, Dense and Normalize, and never runs code that comes with a model.",
            file.display()
        )));
    }
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if path.starts_with('/') || parts.contains(&"..") || path.contains(['\\', '\0', ':']) {
        let reason = format!(": the path {path:?} leaves the checkpoint's directory, so it is refused.");
        return Err(corrupt(file, reason));
    }
    Ok(ModuleEntry {
        kind: last.to_owned(),
        path: parts.join("/"),
    })
}

fn pooling(config: &Object, size: &mut Option<usize>) -> Result<Module> {
    let unsupported = |reason: String| Err(Error::UnsupportedModel(format!("{}: {reason}", config.file.display())));
    if !config.flag("include_prompt", true)? {
        return unsupported(
            "include_prompt is false. embergem pools over all tokens, including those of the prompt.".into(),
        );
    }
    let modes: Vec<Value> = match config.get("pooling_mode") {
        Some(Value::Array(modes)) => modes.clone(),
        Some(mode) => vec![mode.clone()],
        None => old_modes(config)?,
    };
    let [mode] = modes.as_slice() else {
        let modes = brief(&Value::Array(modes));
        return unsupported(format!(
            "it sets the pooling modes {modes} together. embergem runs one."
        ));
    };
    let Some((_, mode)) = POOLING.iter().find(|(name, _)| mode == name) else {
        return unsupported(format!(
            "it sets the pooling mode {mode}, which embergem does not have. It has: mean, cls, lasttoken, max."
        ));
    };
    let new = config.get("embedding_dimension").is_some();
    let key = if new {
        "embedding_dimension"
    } else {
        "word_embedding_dimension"
    };
    *size = Some(config.size(key)?);
    Ok(Module::Pooling {
        mode: (*mode).to_owned(),
    })
}

fn old_modes(config: &Object) -> Result<Vec<Value>> {
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let unknown = |key: &str| key.starts_with("pooling_mode_") && OLD_POOLING.iter().all(|(known, _)| *known != key);
    if let Some((key, _)) = config.fields.iter().find(|(key, value)| unknown(key) && set(value)) {
        return Err(Error::UnsupportedModel(format!(
            "{}: {key} is a pooling mode that embergem does not have. It has: mean, cls, lasttoken, max.",
            config.file.display()
        )));
    }
    let mut modes = Vec::new();
    for (key, mode) in OLD_POOLING {
        if config.flag(key, false)? {
            modes.push(Value::from(mode));
        }
    }
    if modes.is_empty() {
        modes.push(Value::from("mean")); // sentence-transformers uses the mean if a config chooses no mode
    }
    Ok(modes)
}

fn dense(path: &str, file: &Path, size: &mut Option<usize>) -> Result<Module> {
    if path.is_empty() {
        return Err(corrupt(
            file,
            "belongs to a Dense module without its own directory. Download or save the model again.".into(),
        ));
    }
    let config = Object::read(file)?;
    refuse_rerouting(&config)?;
    if config.flag("use_residual", false)? {
        let message = format!(
            "{}: use_residual is true, which embergem does not have.",
            file.display()
        );
        return Err(Error::UnsupportedModel(message));
    }
    let (in_features, out_features) = (config.size("in_features")?, config.size("out_features")?);
    if let Some(size) = *size
        && size != in_features
    {
        let reason = format!(
            ": in_features is {in_features}, but the module before it gives {size}. Download or save the model again."
        );
        return Err(corrupt(file, reason));
    }
    *size = Some(out_features);
    Ok(Module::Dense {
        weights: path.to_owned(),
        in_features,
        out_features,
        bias: config.flag("bias", true)?,
        activation: activation(&config)?,
    })
}

fn activation(config: &Object) -> Result<Option<String>> {
    let name = match config.get("activation_function") {
        None => "torch.nn.modules.activation.Tanh", // sentence-transformers' default
        Some(Value::Null) => return Ok(None),
        Some(value) => value.as_str().unwrap_or_default(),
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    match ACTIVATIONS.iter().find(|(known, _)| *known == last) {
        Some((_, activation)) if name.starts_with("torch.") => Ok(activation.map(str::to_owned)),
        _ => Err(Error::UnsupportedModel(format!(
            "{}: activation_function is {name:?}, which embergem does not have. It has torch's Identity, Tanh, ReLU, \
             GELU, SiLU, Sigmoid.",
            config.file.display()
        ))),
    }
}

fn refuse_rerouting(config: &Object) -> Result<()> {
    for key in ["module_input_name", "module_output_name"] {
        match config.get(key) {
            None | Some(Value::Null) => {}
            Some(value) if value == "sentence_embedding" => {}
            Some(value) => {
                return Err(Error::UnsupportedModel(format!(
                    "{}: {key} is {value}. embergem runs modules on sentence_embedding only.",
                    config.file.display()
                )));
            }
        }
    }
    Ok(())
}
