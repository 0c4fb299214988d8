//! Models by name. They can be unloaded and loaded again.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::LoadOptions;
use crate::resolve::Location;
use crate::worker::Worker;
use log::info;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// Whether a model is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelStatus {
    /// The model is in memory.
    Loaded,
    /// The model is not in memory. The next request loads it.
    Unloaded,
    /// The model is being loaded.
    Reloading,
}

impl fmt::Display for ModelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loaded => "loaded",
            Self::Unloaded => "unloaded",
            Self::Reloading => "reloading",
        })
    }
}

/// A model, with the options to load it again.
pub(crate) struct Entry {
    location: Location,
    options: LoadOptions,
    /// Names by which requests can name it. The first is its id.
    names: Vec<String>,
    memory: RwLock<InMemory>,
    loading: Mutex<()>,
}

/// A model's part in memory.
#[derive(Default)]
struct InMemory {
    worker: Option<Arc<Worker>>,
    /// Number of calls of `unload`.
    unloads: u64,
}

impl Entry {
    /// Loads a model under these names; the first is its id. Blocks.
    pub fn load(location: Location, options: LoadOptions, names: Vec<String>) -> Result<Self> {
        let entry = Self {
            location,
            options,
            names,
            memory: RwLock::default(),
            loading: Mutex::default(),
        };
        entry.reload()?;
        Ok(entry)
    }

    /// The id of the model.
    pub fn id(&self) -> &str {
        &self.names[0]
    }

    /// The model, if it is loaded. A model whose threads have ended counts as not loaded.
    pub fn worker(&self) -> Option<Arc<Worker>> {
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.worker.clone().filter(|worker| !worker.is_closed())
    }

    /// Loads the model unless it is loaded. If several callers call it, one loads and the others wait. Blocks.
    pub fn reload(&self) -> Result<Arc<Worker>> {
        self.reload_by(|| {
            let start = Instant::now();
            let engine = Engine::load(self.id(), &self.location, &self.options)?;
            info!("{} loaded in {:.2} s", self.id(), start.elapsed().as_secs_f64());
            Worker::start(engine, &self.options)
        })
    }

    /// Loads the model with `load`. If `unload` is called meanwhile, only the callers of this method get the model.
    fn reload_by(&self, load: impl FnOnce() -> Result<Worker>) -> Result<Arc<Worker>> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = self.worker() {
            return Ok(worker);
        }
        let unloads = self.memory.read().unwrap_or_else(PoisonError::into_inner).unloads;
        let worker = Arc::new(load()?);
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        if memory.unloads == unloads {
            memory.worker = Some(Arc::clone(&worker));
        }
        Ok(worker)
    }

    /// Frees the memory when the running requests are done.
    pub fn unload(&self) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.unloads += 1;
        memory.worker = None;
    }

    /// Whether the model is in memory.
    pub fn status(&self) -> ModelStatus {
        match self.worker() {
            Some(_) => ModelStatus::Loaded,
            None if self.loading.try_lock().is_err() => ModelStatus::Reloading,
            None => ModelStatus::Unloaded,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// Models in the order in which they were added.
#[derive(Default)]
pub(crate) struct Registry {
    entries: Vec<Arc<Entry>>,
    default: usize,
}

impl Registry {
    /// Adds a model.
    pub fn add(&mut self, entry: Entry) {
        self.entries.push(Arc::new(entry));
    }

    /// The names of a new model, its id first: its own names and its alias, or only the alias if another model has one of
    /// its own names.
    ///
    /// # Errors
    /// [`Error::Management`] if other models have all of its names.
    pub fn names(&self, own: [&str; 2], alias: Option<String>) -> Result<Vec<String>> {
        let taken = |name: &&str| self.entries.iter().any(|other| other.is_called(name));
        if let Some(alias) = alias.as_deref().filter(taken) {
            return Err(Error::Management(format!(
                "Two models are called {alias:?}. Give one of them another alias."
            )));
        }
        match (own.iter().find(|name| taken(name)), alias) {
            (None, alias) => Ok(own.map(str::to_owned).into_iter().chain(alias).collect()),
            (Some(_), Some(alias)) => Ok(vec![alias]),
            (Some(name), None) => Err(Error::Management(format!(
                "Two models are called {name:?}. Add one of them with add_model_with_alias."
            ))),
        }
    }

    /// The model called `name`; `None` and "default" mean the default model.
    pub fn get(&self, name: Option<&str>) -> Result<&Arc<Entry>> {
        match name {
            None | Some("default") => Ok(&self.entries[self.default]),
            Some(name) => Ok(&self.entries[self.place(name)?]),
        }
    }

    /// All models, in the order in which they were added.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Changes the default model.
    pub fn set_default(&mut self, name: &str) -> Result<()> {
        self.default = self.place(name)?;
        Ok(())
    }

    /// Removes a model. If it was the default, the first of the others becomes the default.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let place = self.place(name)?;
        if self.entries.len() == 1 {
            return Err(Error::Management(format!(
                "{name:?} is the last model, which cannot be removed. Drop the EmbeddingModel instead."
            )));
        }
        self.entries.remove(place);
        self.default = match self.default {
            default if default == place => 0,
            default if default > place => default - 1,
            default => default,
        };
        Ok(())
    }

    fn place(&self, name: &str) -> Result<usize> {
        let place = self.entries.iter().position(|entry| entry.is_called(name));
        place.ok_or_else(|| {
            let ids: Vec<_> = self.entries.iter().map(|entry| entry.id()).collect();
            Error::UnknownModel(format!("No model is called {name:?}. Loaded are: {}.", ids.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let location = Location {
            id: "tiny".to_owned(),
            path: concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/goldens/bert_mean").into(),
        };
        Entry::load(location, LoadOptions::default(), vec!["tiny".to_owned()]).unwrap()
    }

    #[test]
    fn a_model_whose_threads_have_ended_is_loaded_again() {
        let entry = entry();
        let dead = entry.worker().unwrap();
        dead.close();
        assert!(entry.worker().is_none());
        assert_eq!(entry.status(), ModelStatus::Unloaded);
        let again = entry.reload().unwrap();
        assert!(!Arc::ptr_eq(&dead, &again));
        assert_eq!(entry.status(), ModelStatus::Loaded);
    }

    #[test]
    fn a_model_that_is_unloaded_while_it_loads_does_not_stay_loaded() {
        let entry = entry();
        entry.unload();
        let load = || {
            let engine = Engine::load(entry.id(), &entry.location, &entry.options)?;
            assert_eq!(entry.status(), ModelStatus::Reloading);
            entry.unload();
            Worker::start(engine, &entry.options)
        };
        let worker = entry.reload_by(load).unwrap();
        assert!(!worker.is_closed(), "the caller of the load has it");
        assert_eq!(entry.status(), ModelStatus::Unloaded);
    }
}
