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
    /// What it may be asked for by; it is listed by the first.
    names: Vec<String>,
    held: RwLock<Held>,
    loading: Mutex<()>,
}

/// What a model holds in memory.
#[derive(Default)]
struct Held {
    worker: Option<Arc<Worker>>,
    /// How often it was told to let go of that.
    unloads: u64,
}

impl Entry {
    /// Loads a model that may be asked for by any of `names` and is listed by the first. Blocks.
    pub fn load(location: Location, settings: Settings, names: Vec<String>) -> Result<Self> {
        let entry = Self {
            location,
            settings,
            names,
            held: RwLock::default(),
            loading: Mutex::default(),
        };
        entry.reload()?;
        Ok(entry)
    }

    /// The name that it is listed by.
    pub fn id(&self) -> &str {
        &self.names[0]
    }

    /// The model, where it is loaded. One whose threads have died is not.
    pub fn worker(&self) -> Option<Arc<Worker>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.worker.clone().filter(|worker| !worker.is_closed())
    }

    /// Loads it unless it is loaded; of several callers one loads and the others wait. Blocks.
    pub fn reload(&self) -> Result<Arc<Worker>> {
        self.reload_by(|| {
            let start = Instant::now();
            let engine = Engine::load(self.id(), &self.location, &self.settings)?;
            info!("{} loaded in {:.2} s", self.id(), start.elapsed().as_secs_f64());
            Worker::start(engine, &self.settings)
        })
    }

    /// Where it is unloaded meanwhile, who waits for it gets it, and nobody else.
    fn reload_by(&self, load: impl FnOnce() -> Result<Worker>) -> Result<Arc<Worker>> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = self.worker() {
            return Ok(worker);
        }
        let before = self.held.read().unwrap_or_else(PoisonError::into_inner).unloads;
        let worker = Arc::new(load()?);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.unloads == before {
            held.worker = Some(Arc::clone(&worker));
        }
        Ok(worker)
    }

    /// Frees it once the requests in work are done.
    pub fn unload(&self) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.unloads += 1;
        held.worker = None;
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
        self.names.iter().any(|known| known == name)
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
    pub fn add(&mut self, entry: Entry) {
        self.entries.push(Arc::new(entry));
    }

    /// The names that a model can have, its id first: those of its own, and its alias. Where another model has one of its
    /// own, the alias alone is its name.
    ///
    /// # Errors
    /// [`Error::Management`] where no name is left for it.
    pub fn names(&self, own: [&str; 2], alias: Option<String>) -> Result<Vec<String>> {
        let taken = |name: &&str| self.entries.iter().any(|other| other.is_called(name));
        if let Some(alias) = alias.as_deref().filter(taken) {
            return Err(Error::Management(format!(
                "there are two models called {alias:?}; give one another alias"
            )));
        }
        match (own.iter().find(|name| taken(name)), alias) {
            (None, alias) => Ok(own.map(str::to_owned).into_iter().chain(alias).collect()),
            (Some(_), Some(alias)) => Ok(vec![alias]),
            (Some(name), None) => Err(Error::Management(format!(
                "there are two models called {name:?}; add one with add_model_with_alias"
            ))),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let location = Location {
            id: "tiny".to_owned(),
            path: concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/goldens/bert_mean").into(),
        };
        Entry::load(location, Settings::default(), vec!["tiny".to_owned()]).unwrap()
    }

    #[test]
    fn a_model_whose_threads_have_died_is_loaded_again() {
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
    fn what_is_unloaded_while_it_loads_is_not_kept() {
        let entry = entry();
        entry.unload();
        let load = || {
            let engine = Engine::load(entry.id(), &entry.location, &entry.settings)?;
            assert_eq!(entry.status(), ModelStatus::Reloading);
            entry.unload();
            Worker::start(engine, &entry.settings)
        };
        let worker = entry.reload_by(load).unwrap();
        assert!(!worker.is_closed(), "who asked for it has it");
        assert_eq!(entry.status(), ModelStatus::Unloaded);
    }
}
