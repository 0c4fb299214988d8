//! Several models by name: loaded, unloaded, loaded again.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::resolve::Location;
use crate::settings::Settings;
use crate::worker::Worker;
use log::info;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// Whether a model is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelStatus {
    /// It is.
    Loaded,
    /// It is not; the next request loads it.
    Unloaded,
    /// It is being loaded again.
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

/// A model and all that is needed to load it again.
pub(crate) struct Entry {
    location: Location,
    settings: Settings,
    names: Vec<String>,
    worker: RwLock<Option<Arc<Worker>>>,
    loading: Mutex<()>,
}

impl Entry {
    /// Loads a model that may be asked for by any of `names`, too. Blocks.
    pub fn load(location: Location, settings: Settings, names: Vec<String>) -> Result<Self> {
        let entry = Self {
            location,
            settings,
            names,
            worker: RwLock::default(),
            loading: Mutex::default(),
        };
        entry.reload()?;
        Ok(entry)
    }

    /// The name that it is listed by.
    pub fn id(&self) -> &str {
        &self.location.id
    }

    /// The model, where it is loaded.
    pub fn worker(&self) -> Option<Arc<Worker>> {
        self.worker.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads it unless it is loaded; of several callers one loads and the others wait. Blocks.
    pub fn reload(&self) -> Result<Arc<Worker>> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = self.worker() {
            return Ok(worker);
        }
        let start = Instant::now();
        let engine = Engine::load(&self.location.id, &self.location.path, &self.settings)?;
        info!("{} loaded in {:.2} s", self.id(), start.elapsed().as_secs_f64());
        let worker = Arc::new(Worker::start(engine, &self.settings)?);
        *self.worker.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&worker));
        Ok(worker)
    }

    /// Frees it once the requests in work are done.
    pub fn unload(&self) {
        *self.worker.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it is in memory.
    pub fn status(&self) -> ModelStatus {
        match self.worker() {
            Some(_) => ModelStatus::Loaded,
            None if self.loading.try_lock().is_err() => ModelStatus::Reloading,
            None => ModelStatus::Unloaded,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.id() == name || self.names.iter().any(|known| known == name)
    }
}

/// Models in the order they were added.
#[derive(Default)]
pub(crate) struct Registry {
    entries: Vec<Arc<Entry>>,
    default: usize,
}

impl Registry {
    /// Adds a model.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        let taken = |name: &String| self.entries.iter().any(|other| other.is_called(name));
        if let Some(name) = entry.names.iter().chain([&entry.location.id]).find(|name| taken(name)) {
            return Err(Error::Management(format!(
                "there are two models called {name:?}; give one an alias"
            )));
        }
        self.entries.push(Arc::new(entry));
        Ok(())
    }

    /// The model called `name`; `None` and "default" are the default.
    pub fn get(&self, name: Option<&str>) -> Result<&Arc<Entry>> {
        match name {
            None | Some("default") => Ok(&self.entries[self.default]),
            Some(name) => Ok(&self.entries[self.place(name)?]),
        }
    }

    /// Ids in the order they were added.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Changes the default.
    pub fn set_default(&mut self, name: &str) -> Result<()> {
        self.default = self.place(name)?;
        Ok(())
    }

    /// Takes a model out; where it was the default, the first of the others is from now on.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let place = self.place(name)?;
        if self.entries.len() == 1 {
            return Err(Error::Management(format!(
                "{name:?} is the last model and cannot be removed; drop the whole"
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
            Error::UnknownModel(format!("the model {name:?} was not found; there is {}", ids.join(", ")))
        })
    }
}
