//! The head of a model: the modules after the transformer, and their config.json files in both formats of
//! sentence-transformers.

use crate::error::{Result, corrupt, unsupported};
use crate::json::{Object, brief};
use crate::modules::{self, ModuleEntry};
use crate::settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// One module of the head. Its JSON is that of program cards.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "module", deny_unknown_fields)]
pub enum Module {
    /// Reduces the tokens of each row to one vector.
    Pooling {
        /// "mean", "cls", "last" or "max".
        mode: String,
    },
    /// A linear layer and an activation.
    Dense {
        /// Directory of its tensors.
        weights: String,
        /// Width of its input.
        in_features: usize,
        /// Width of its output.
        out_features: usize,
        /// Whether it has a bias.
        bias: bool,
        /// The activation; none is the identity.
        activation: Option<String>,
    },
    /// Scales each vector to length 1.
    Normalize {},
}

/// Pooling modes, and their names here.
const POOLING: [(&str, &str); 4] = [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last"), ("max", "max")];
/// Fields of the old format that each choose a pooling mode.
const OLD_POOLING: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];
/// Classes of torch, and the activations here.
const ACTIVATIONS: [(&str, Option<&str>); 6] = [
    ("Identity", None),
    ("Tanh", Some("tanh")),
    ("ReLU", Some("relu")),
    ("GELU", Some("gelu_erf")),
    ("SiLU", Some("silu")),
    ("Sigmoid", Some("sigmoid")),
];

/// Reads the config of every module of the head of the checkpoint in the directory `root`.
pub(crate) fn read(root: &Path, entries: &[ModuleEntry]) -> Result<Vec<Module>> {
    let mut features = None;
    let mut head = Vec::new();
    for entry in entries {
        modules::check_inside(root, &entry.path)?;
        let file = root.join(&entry.path).join("config.json");
        head.push(match entry.kind.as_str() {
            "Pooling" => pooling(&Object::read(&file)?, &mut features)?,
            "Dense" if entry.path.is_empty() => {
                let reason = ": a Dense module has no directory. Save the model again so that it gets one.";
                return Err(corrupt(&root.join(modules::NAME), reason));
            }
            "Dense" => dense(&entry.path, &Object::read(&file)?, &mut features)?,
            _ => {
                if !entry.path.is_empty() {
                    // Newer versions of sentence-transformers save a config, older ones keep no directory.
                    let config = Object::read_optional(&file)?;
                    settings::check(&config, settings::NORMALIZE)?;
                    refuse_other_values(&config)?;
                }
                Module::Normalize {}
            }
        });
    }
    Ok(head)
}

/// The width of the hidden states that the pooling module among `entries` declares.
pub(crate) fn width(root: &Path, entries: &[ModuleEntry]) -> Result<Option<usize>> {
    let pooling = entries.iter().find(|entry| entry.kind == "Pooling");
    let config = pooling.map(|entry| Object::read(&root.join(&entry.path).join("config.json")));
    config.map(|config| pooled_width(&config?)).transpose()
}

/// The width in both formats; a file that has both names must give them one value.
fn pooled_width(config: &Object) -> Result<usize> {
    let (new, old) = ("embedding_dimension", "word_embedding_dimension");
    let width = config.size(if config.get(new).is_some() { new } else { old })?;
    if config.get(old).is_some() && config.size(old)? != width {
        let reason = format!(
            ": {new} is {width}, and {old} is {}. Correct the file.",
            config.size(old)?
        );
        return Err(corrupt(&config.file, reason));
    }
    Ok(width)
}

fn pooling(config: &Object, features: &mut Option<usize>) -> Result<Module> {
    settings::check(config, settings::POOLING)?;
    let refuse = |reason: String| Err(unsupported(&config.file, reason));
    let known = POOLING.map(|(name, _)| name).join(", ");
    if !config.flag("include_prompt", true)? {
        return refuse(
            ": include_prompt is false. embergem pools over all tokens, those of the prompt included.".to_owned(),
        );
    }
    let modes: Vec<Value> = match config.get("pooling_mode") {
        Some(Value::Array(modes)) => modes.clone(),
        Some(mode) => vec![mode.clone()],
        None => old_modes(config, &known)?,
    };
    let [mode] = modes.as_slice() else {
        let modes = brief(&Value::Array(modes));
        return refuse(format!(" sets the pooling modes {modes} together. embergem runs one."));
    };
    let Some((_, mode)) = POOLING.iter().find(|(name, _)| mode == name) else {
        return refuse(format!(
            " sets the pooling mode {mode}, which embergem does not have. It has: {known}."
        ));
    };
    *features = Some(pooled_width(config)?);
    Ok(Module::Pooling {
        mode: (*mode).to_owned(),
    })
}

/// The pooling modes of the old format.
fn old_modes(config: &Object, known: &str) -> Result<Vec<Value>> {
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let is_unknown = |key: &str| key.starts_with("pooling_mode_") && OLD_POOLING.iter().all(|(known, _)| *known != key);
    let unknown = config
        .fields
        .iter()
        .filter(|(key, value)| is_unknown(key) && is_set(value));
    let unknown: Vec<&str> = unknown.map(|(key, _)| key.as_str()).collect();
    if !unknown.is_empty() {
        let reason = format!(
            " sets {}, a pooling mode that embergem does not have. It has: {known}.",
            unknown.join(", ")
        );
        return Err(unsupported(&config.file, reason));
    }
    let mut modes = Vec::new();
    for (key, mode) in OLD_POOLING {
        if config.flag(key, false)? {
            modes.push(Value::from(mode));
        }
    }
    if modes.is_empty() {
        modes.push(Value::from("mean")); // as sentence-transformers reads a config that chooses none
    }
    Ok(modes)
}

fn dense(path: &str, config: &Object, features: &mut Option<usize>) -> Result<Module> {
    settings::check(config, settings::DENSE)?;
    refuse_other_values(config)?;
    if config.flag("use_residual", false)? {
        let reason = ": use_residual is true, which embergem does not have.";
        return Err(unsupported(&config.file, reason));
    }
    let (in_features, out_features) = (config.size("in_features")?, config.size("out_features")?);
    if let Some(features) = features.filter(|features| *features != in_features) {
        let reason = format!(
            ": in_features is {in_features}, but the module before it gives {features}. Download or save the model again."
        );
        return Err(corrupt(&config.file, reason));
    }
    *features = Some(out_features);
    Ok(Module::Dense {
        weights: path.to_owned(),
        in_features,
        out_features,
        bias: config.flag("bias", true)?,
        activation: activation(config)?,
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
        _ => {
            let value = config.get("activation_function").unwrap_or(&Value::Null);
            let known = ACTIVATIONS.map(|(name, _)| name).join(", ");
            let reason =
                format!(": activation_function is {value}, which embergem does not have. It has torch's {known}.");
            Err(unsupported(&config.file, reason))
        }
    }
}

/// Refuses a module that reads or writes another value than the sentence embedding.
fn refuse_other_values(config: &Object) -> Result<()> {
    for key in ["module_input_name", "module_output_name"] {
        match config.get(key) {
            None | Some(Value::Null) => {}
            Some(value) if value == "sentence_embedding" => {}
            Some(value) => {
                let reason = format!(": {key} is {value}. embergem runs modules on sentence_embedding only.");
                return Err(unsupported(&config.file, reason));
            }
        }
    }
    Ok(())
}
