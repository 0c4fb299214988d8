//! The weight files of one model, mapped into memory: tensors by the name that a model uses.

use super::element::{Element, WholeFormat};
use super::gguf::{self, Gguf};
use super::gguf_names::checkpoint_name;
use super::integers::IntegerFormat;
use super::tensor::Tensor;
use crate::error::{Error, Result};
use crate::mapped::{Mapped, Source};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Prefixes that are tried for every model: those that training tools put in front of a model's own tensor names, and
/// those of families in programs that were compiled before a program named the prefixes of its family.
const PREFIXES: [&str; 9] = [
    "",
    "model.",
    "0.auto_model.",
    "language_model.",
    "model.language_model.",
    "bert.",
    "roberta.",
    "mpnet.",
    "encoder_model.",
];

/// The tensors of a model's files.
#[derive(Default)]
pub struct Checkpoint {
    /// Metadata of the GGUF file among the files; an empty object if there is none.
    pub metadata: serde_json::Value,
    tensors: HashMap<String, Entry>,
    prefixes: Vec<String>,
    maps: Vec<Arc<Mapped>>,
}

struct Entry {
    /// The tensor, or the name of an element type that is not supported.
    tensor: std::result::Result<Tensor, String>,
    /// The tensor as whole numbers that stand for themselves, if it can be read so.
    whole: Option<Tensor>,
    path: PathBuf,
}

impl Entry {
    /// The tensor in either reading.
    fn stored(&self) -> Option<&Tensor> {
        self.tensor.as_ref().ok().or(self.whole.as_ref())
    }
}

impl Checkpoint {
    /// Maps the files, given as (prefix, path). Tensors of a file are named with its prefix in front, such as
    /// `2_Dense.`.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be opened, [`Error::Corrupt`] for a damaged file and for a tensor name that
    /// occurs in two files.
    pub fn open<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<Self> {
        let mut checkpoint = Self {
            metadata: serde_json::json!({}),
            ..Self::default()
        };
        for (prefix, path) in files {
            checkpoint.add(prefix, path)?;
        }
        Ok(checkpoint)
    }

    /// Also tries `prefixes` in front of the names that are looked up: those of the model's family.
    #[must_use]
    pub fn with_prefixes(mut self, prefixes: &[String]) -> Self {
        self.prefixes = prefixes.to_vec();
        self
    }

    fn add(&mut self, prefix: &str, path: &Path) -> Result<()> {
        let io_error = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let corrupt = |reason: String| Error::Corrupt {
            path: path.to_owned(),
            reason,
        };
        let file = Source::open(path).map_err(io_error)?;
        if file.size() == 0 {
            return Err(corrupt("it is empty".into()));
        }
        let map = Mapped::whole(&file).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => Error::refused(file.size() as usize),
            _ => io_error(error),
        })?;
        let is_gguf = map.starts_with(gguf::MAGIC);
        let parsed = if is_gguf {
            gguf_tensors(&map)
        } else {
            let tensors = safetensors_tensors(&map).map_err(|error| error.to_string());
            tensors.map(|tensors| (serde_json::json!({}), tensors))
        };
        file.require_unchanged()?; // before an error of the parser, which may have read bytes of two states
        self.maps.push(map);
        let (metadata, tensors) = parsed.map_err(corrupt)?;
        if is_gguf {
            self.metadata = metadata;
        }
        for Named { name, tensor, whole } in tensors {
            let name = format!("{prefix}{name}");
            let entry = Entry {
                tensor,
                whole,
                path: path.to_owned(),
            };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                return Err(corrupt(format!("tensor {name} is also in {}", other.path.display())));
            }
        }
        Ok(())
    }

    /// Checks that no file has changed since it was opened, so that all that was read from the files is of one state.
    ///
    /// # Errors
    /// [`Error::Changed`] with the first file that has changed.
    pub fn require_unchanged(&self) -> Result<()> {
        self.maps.iter().try_for_each(|map| map.source().require_unchanged())
    }

    /// Takes the pages that were read out of this process; see [`Mapped::release_pages`].
    pub fn release_pages(&self) {
        self.maps.iter().for_each(|map| map.release_pages());
    }

    /// Returns every tensor with a supported element type, with its name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let all = self.tensors.iter();
        all.filter_map(|(name, entry)| Some((name.as_str(), entry.stored()?)))
    }

    /// Finds the tensor `name`, with or without a prefix, and checks its shape.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the tensor is absent, or has another shape or an unsupported element type.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        require_shape(name, self.find(name)?, shape)
    }

    /// Like [`Checkpoint::tensor`] for a tensor of whole numbers that stand for themselves: I8 without scales, I32, I64.
    ///
    /// # Errors
    /// The same, and for a tensor of another element type.
    pub fn whole_numbers(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        match &self.entry(name)?.whole {
            Some(tensor) => require_shape(name, tensor, shape),
            None => Err(Error::Tensor {
                name: name.into(),
                reason: "it should contain whole numbers (I8, I32 or I64). Save the model again.".into(),
            }),
        }
    }

    /// Like [`Checkpoint::tensor`], whether its values are floats or whole numbers.
    ///
    /// # Errors
    /// The same.
    pub fn stored(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        match self.entry(name)?.stored() {
            Some(tensor) => require_shape(name, tensor, shape),
            None => self.tensor(name, shape),
        }
    }

    /// Returns the name, with its prefix, of the tensor that is read as `name`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the tensor is absent.
    pub fn stored_name(&self, name: &str) -> Result<&str> {
        self.lookup(name).map(|(stored, _)| stored.as_str())
    }

    /// Returns the name and the file of every tensor.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Path)> {
        let all = self.tensors.iter();
        all.map(|(name, entry)| (name.as_str(), entry.path.as_path()))
    }

    fn lookup(&self, name: &str) -> Result<(&String, &Entry)> {
        let in_file = |name: &str| {
            let mut prefixes = self.known_prefixes();
            prefixes.find_map(|prefix| self.tensors.get_key_value(&format!("{prefix}{name}")))
        };
        let found = in_file(name).or_else(|| in_file(&old_name(name)?));
        found.ok_or_else(|| Error::Tensor {
            name: name.into(),
            reason:
                "the checkpoint does not contain it. The checkpoint is incomplete, or of another architecture than \
                     config.json says."
                    .into(),
        })
    }

    /// Returns the name of a tensor without the longest prefix that is known.
    pub fn without_prefix<'a>(&self, name: &'a str) -> &'a str {
        let stripped = self.known_prefixes().filter_map(|prefix| name.strip_prefix(prefix));
        stripped.min_by_key(|name| name.len()).unwrap_or(name)
    }

    fn known_prefixes(&self) -> impl Iterator<Item = &str> {
        PREFIXES.into_iter().chain(self.prefixes.iter().map(String::as_str))
    }

    /// Finds the tensor `name`, with or without a prefix, whatever its shape.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the tensor is absent or has an unsupported element type.
    pub fn find(&self, name: &str) -> Result<&Tensor> {
        self.entry(name)?.tensor.as_ref().map_err(|element| Error::Tensor {
            name: name.into(),
            reason: format!(
                "its element type is {element}, which embergem does not read. It reads F64, F32, BF16 and F16; from \
                 GGUF also Q8_0, Q4_0, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K; and the integers that `embergem compile` \
                 writes."
            ),
        })
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.lookup(name).map(|(_, entry)| entry)
    }
}

/// The name that BERT's first checkpoints, which were made with TensorFlow, have for a tensor of a LayerNorm.
fn old_name(name: &str) -> Option<String> {
    let (module, kind) = name.rsplit_once('.')?;
    let old = match kind {
        "weight" => "gamma",
        "bias" => "beta",
        _ => return None,
    };
    module.ends_with("LayerNorm").then(|| format!("{module}.{old}"))
}

/// Refuses a tensor that has another shape.
fn require_shape<'a>(name: &str, tensor: &'a Tensor, shape: &[usize]) -> Result<&'a Tensor> {
    if tensor.shape != shape {
        return Err(Error::Tensor {
            name: name.into(),
            reason: format!(
                "its shape is {:?}, and config.json requires {shape:?}. The weights and config.json belong to \
                     different models: download both again.",
                tensor.shape
            ),
        });
    }
    Ok(tensor)
}

/// A tensor of a file.
struct Named {
    name: String,
    /// The tensor, or the name of an unsupported element type.
    tensor: std::result::Result<Tensor, String>,
    /// The tensor as whole numbers that stand for themselves.
    whole: Option<Tensor>,
}

fn safetensors_tensors(map: &Arc<Mapped>) -> std::result::Result<Vec<Named>, SafeTensorError> {
    let parsed = SafeTensors::deserialize(map)?;
    let offset = |view: &TensorView<'_>| view.data().as_ptr() as usize - map.as_ptr() as usize;
    let stored = |view: &TensorView<'_>, element| Tensor {
        map: Arc::clone(map),
        start: offset(view),
        scales_start: 0,
        exponents_start: 0,
        element,
        shape: view.shape().to_vec(),
    };
    let tensor = |name: &str, view: &TensorView<'_>| match view.dtype() {
        Dtype::F64 => Ok(stored(view, Element::F64)),
        Dtype::F32 => Ok(stored(view, Element::F32)),
        Dtype::BF16 => Ok(stored(view, Element::Bf16)),
        Dtype::F16 => Ok(stored(view, Element::F16)),
        dtype @ (Dtype::I8 | Dtype::I16) => {
            let parts = IntegerFormat::find(&parsed, name, dtype, view.shape());
            let parts = parts.map_err(|reason| format!("{dtype:?} {reason}"))?;
            Ok(Tensor {
                scales_start: offset(&parts.scales),
                exponents_start: parts.exponents.as_ref().map_or(0, offset),
                ..stored(view, Element::Integer(parts.format))
            })
        }
        other => Err(format!("{other:?}")),
    };
    let whole = |name: &str, view: &TensorView<'_>| {
        let format = match view.dtype() {
            Dtype::I8 if parsed.tensor(&format!("{name}.scales")).is_err() => WholeFormat::I8,
            Dtype::I32 => WholeFormat::I32,
            Dtype::I64 => WholeFormat::I64,
            _ => return None,
        };
        Some(stored(view, Element::Whole(format)))
    };
    let all = parsed.tensors().into_iter();
    Ok(all
        .map(|(name, view)| Named {
            tensor: tensor(&name, &view),
            whole: whole(&name, &view),
            name,
        })
        .collect())
}

fn gguf_tensors(map: &Arc<Mapped>) -> std::result::Result<(serde_json::Value, Vec<Named>), String> {
    let parsed = Gguf::parse(map)?;
    let architecture = parsed.metadata.get("general.architecture");
    let architecture = architecture
        .and_then(|value| value.as_str())
        .unwrap_or_default()
        .to_owned();
    let tensor = |info: gguf::TensorInfo<'_>| {
        let name = checkpoint_name(&architecture, info.name);
        let tensor = info.element.map(|element| Tensor {
            map: Arc::clone(map),
            start: info.start,
            scales_start: 0,
            exponents_start: 0,
            element,
            shape: info.shape,
        });
        Named {
            name,
            tensor: tensor.map_err(|number| format!("GGUF's number {number}")),
            whole: None,
        }
    };
    let tensors = parsed.tensors.into_iter().map(tensor).collect();
    Ok((serde_json::Value::Object(parsed.metadata), tensors))
}
