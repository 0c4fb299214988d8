//! Probes of config.json and modules.json: they compare them with the catalog.

use super::context::Context;
use super::report::{Finding, finding};
use crate::cards::equal;
use crate::catalog::{self, Entry};
use crate::error::Error;
use crate::resolve::Location;
use embergem_checkpoint::Module;
use serde_json::Value;

/// The head has as many dense layers as this kind of model has.
pub(super) fn dense_layers(context: &Context<'_>) -> Finding {
    match context.head {
        None => finding("dense_layers", "compiled", &[]),
        Some(head) => count_dense_layers(head, context.base, context.model_type),
    }
}

/// The error for a checkpoint whose head lacks dense layers that all models of its family have; none if it lacks none.
pub(crate) fn missing_dense_layers(location: &Location, config: &Value, head: &[Module]) -> Option<Error> {
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let found = count_dense_layers(head, None, model_type);
    found.is_error().then(|| not_ready(&location.id, [&found]))
}

/// The error for a model with these failures.
pub(crate) fn not_ready<'a>(name: &str, failures: impl IntoIterator<Item = &'a Finding>) -> Error {
    let failures: Vec<String> = failures.into_iter().map(Finding::to_string).collect();
    Error::ModelNotReady(format!("{name} failed its self-check: {}", failures.join("; ")))
}

fn count_dense_layers(head: &[Module], base: Option<&Entry>, model_type: &str) -> Finding {
    let found = head
        .iter()
        .filter(|module| matches!(module, Module::Dense { .. }))
        .count();
    let of_family = || catalog::shared(model_type, |entry| entry.dense).flatten();
    let wanted = base.and_then(|base| base.dense).or_else(of_family).unwrap_or(0);
    let outcome = if found < wanted { "missing" } else { "present" };
    finding("dense_layers", outcome, &[("found", &found), ("wanted", &wanted)])
}

/// The values of config.json are those of the model in the catalog that it is, or was fine-tuned from. A model with the
/// name of one in the catalog also has vectors of its size.
pub(super) fn config(context: &Context<'_>) -> Finding {
    if let Some(entry) = context.entry.filter(|entry| entry.dimensions != context.dimensions) {
        let outcome = match context.hub_id {
            Some(_) => "other_size",
            None => "other_size_here",
        };
        let values: [(&str, &dyn std::fmt::Display); 3] = [
            ("found", &context.dimensions),
            ("wanted", &entry.dimensions),
            ("model", &entry.id),
        ];
        return finding("config", outcome, &values);
    }
    let (Some(base), Some(have)) = (context.base.filter(|base| !base.config.is_empty()), context.config) else {
        return finding("config", "unknown", &[]);
    };
    let value = |key: &str| have.get(key).unwrap_or(&Value::Null);
    let different: Vec<_> = base
        .config
        .iter()
        .filter(|(key, wanted)| !equal(wanted, value(key)))
        .collect();
    if let Some((key, published)) = different.iter().find(|(key, _)| *key == "radius") {
        let window = base.window.unwrap_or_default();
        let values: [(&str, &dyn std::fmt::Display); 4] = [
            ("reach", value(key)),
            ("published", published),
            ("model", &base.id),
            ("window", &window),
        ];
        return finding("config", "window", &values);
    }
    if !different.is_empty() {
        let values = different
            .iter()
            .map(|(key, wanted)| format!("{key} is {} instead of {wanted}", value(key)));
        let values = values.collect::<Vec<_>>().join(", ");
        return finding("config", "different", &[("values", &values), ("model", &base.id)]);
    }
    finding("config", "same", &[("model", &base.id)])
}
