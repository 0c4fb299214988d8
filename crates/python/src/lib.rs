//! The Python module `embergem._native`. It converts arguments, releases the GIL and maps errors, and has no logic of
//! its own.

use pyo3::prelude::*;

mod allocator;
mod checkpoint;
mod errors;
mod fingerprint;
mod gil;
mod matryoshka;
mod model;
mod notes;
mod panics;
mod strings;
mod tensors;
mod text;
mod token_ids;

/// The native part of embergem.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    panics::set_hook();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(matryoshka::cut, module)?)?;
    module.add_function(wrap_pyfunction!(fingerprint::fingerprint, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::read_checkpoint, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::read_modules, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::parse_modules, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::dense_files, module)?)?;
    module.add("BUILDS", (embergem_core::BUILD, embergem_text::BUILD))?;
    module.add("LEAST_BATCH_BUDGET", embergem_core::BATCH_BUDGETS[0])?;
    module.add_function(wrap_pyfunction!(model::kept_packed, module)?)?;
    module.add_function(wrap_pyfunction!(model::packed_limit, module)?)?;
    module.add_function(wrap_pyfunction!(model::available_memory, module)?)?;
    module.add_function(wrap_pyfunction!(model::instruction_sets, module)?)?;
    module.add_function(wrap_pyfunction!(tensors::require_all_read, module)?)?;
    module.add_function(wrap_pyfunction!(text::prompt_sets, module)?)?;
    module.add_class::<model::CancelToken>()?;
    module.add_class::<model::LoadProgress>()?;
    module.add_class::<model::Model>()?;
    module.add_class::<notes::FileStates>()?;
    module.add_class::<notes::Note>()?;
    module.add_class::<tensors::Tensors>()?;
    module.add_class::<text::TextPipeline>()?;
    Ok(())
}
