//! Probes of the steps from text to tokens.

use super::context::Context;
use super::report::{Finding, PROBES, finding};
use crate::catalog;
use crate::error::{Error, Result};
use embergem_checkpoint::Module;
use embergem_text::{Overlong, Template, prompt_sets};
use std::collections::BTreeSet;

/// Every text begins and ends with the special tokens that the model was trained with.
pub(super) fn special_tokens(context: &Context<'_>) -> Result<Finding> {
    let roles = context.special_tokens;
    if roles.is_empty() {
        return Ok(finding("special_tokens", "none", &[]));
    }
    let texts = &PROBES.special_token_texts;
    let rows = texts
        .iter()
        .map(|text| tokens(context, text, None))
        .collect::<Result<Vec<_>>>()?;
    if rows.iter().any(|row| row.len() <= roles.len()) {
        let values: [(&str, &dyn std::fmt::Display); 2] = [("text", &texts[0]), ("tokens", &rows[0].len())];
        return Ok(finding("special_tokens", "short", &values));
    }
    let firsts = rows.iter().map(|row| row[0]).collect();
    let lasts = rows.iter().map(|row| row[row.len() - 1]).collect();
    for (role, different, ids, wanted) in [
        (
            "opening",
            "different_opening",
            firsts,
            context.base.and_then(|base| base.opening),
        ),
        (
            "closing",
            "different_closing",
            lasts,
            context.base.and_then(|base| base.closing),
        ),
    ] {
        let ids: BTreeSet<u32> = ids;
        let found = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ");
        match wanted {
            Some(wanted) if ids != BTreeSet::from([wanted]) => {
                return Ok(finding(
                    "special_tokens",
                    role,
                    &[("found", &found), ("wanted", &wanted)],
                ));
            }
            _ if ids.len() > 1 && roles.iter().any(|known| known == role) => {
                return Ok(finding("special_tokens", different, &[("found", &found)]));
            }
            _ => {}
        }
    }
    Ok(finding("special_tokens", "present", &[]))
}

/// A text that is cut has exactly the limit and keeps its closing token.
pub(super) fn truncation(context: &Context<'_>) -> Result<Finding> {
    let limit = context.limit;
    if !context.special_tokens.iter().any(|role| role == "closing") {
        return Ok(finding("truncation", "none", &[]));
    }
    let text = PROBES.repeated_text.repeat((limit + 8).min(1 << 16));
    let row = context.text.prepare_one(0, &text, None, None, Overlong::Count)?;
    if row.length <= limit {
        return Ok(finding("truncation", "untested", &[]));
    }
    let wanted = tokens(context, &PROBES.short_texts[0], None)?
        .last()
        .copied()
        .unwrap_or_default();
    let (found, count) = (row.ids.last().copied().unwrap_or_default(), row.ids.len());
    if count != limit || found != wanted {
        let values: [(&str, &dyn std::fmt::Display); 4] = [
            ("limit", &limit),
            ("tokens", &count),
            ("found", &found),
            ("wanted", &wanted),
        ];
        return Ok(finding("truncation", "lost", &values));
    }
    Ok(finding(
        "truncation",
        "kept",
        &[("length", &row.length), ("tokens", &count)],
    ))
}

/// The tasks of the model have the prompts that it was trained with.
pub(super) fn prompts(context: &Context<'_>) -> Result<Finding> {
    let tasks: Vec<&str> = context.text.tasks().collect();
    let Some(base) = context.base else {
        if tasks.is_empty() {
            return Ok(undeclared(context));
        }
        return Ok(finding("prompts", "own", &[("tasks", &tasks.join(", "))]));
    };
    let Some(set) = &base.prompts else {
        let (outcome, tasks) = if tasks.is_empty() {
            ("promptless", String::new())
        } else {
            ("own", tasks.join(", "))
        };
        return Ok(finding("prompts", outcome, &[("tasks", &tasks), ("model", &base.id)]));
    };
    let sets = prompt_sets().map_err(Error::UnsupportedModel)?;
    let mut different = Vec::new();
    // A checkpoint that declares prompts does not get the names that begin with a capital from the set.
    for (task, pattern) in sets[set]
        .iter()
        .filter(|(task, _)| task.starts_with(char::is_lowercase))
    {
        let template = Template::parse(pattern).ok_or_else(|| Error::UnsupportedModel(pattern.clone()))?;
        let wanted = tokens(context, &template.render(&PROBES.prompted_text, Some("none")), None)?;
        if wanted != tokens(context, &PROBES.prompted_text, Some(task))? {
            different.push(task.as_str());
        }
    }
    let outcome = if different.is_empty() { "same" } else { "different" };
    Ok(finding(
        "prompts",
        outcome,
        &[("tasks", &different.join(", ")), ("model", &base.id)],
    ))
}

/// Reports a model without prompts that nothing names: models of its shape may have prompts.
fn undeclared(context: &Context<'_>) -> Finding {
    let pooling = context.head.unwrap_or_default().iter().find_map(|module| match module {
        Module::Pooling { mode } => Some(mode.as_str()),
        _ => None,
    });
    let similar = catalog::entries().iter().filter(|entry| {
        entry.layers.is_some() && entry.family == context.model_type && entry.pooling.as_deref() == pooling
    });
    let similar = similar.filter(|entry| context.config.is_some_and(|config| entry.has_shape(config)));
    let prompted: Vec<&str> = similar
        .filter(|entry| entry.prompts.is_some())
        .map(|entry| entry.id.as_str())
        .collect();
    if prompted.is_empty() {
        return finding("prompts", "undeclared", &[]);
    }
    let directories: Vec<&str> = prompted.iter().filter_map(|id| id.rsplit('/').next()).collect();
    let values: [(&str, &dyn std::fmt::Display); 2] = [
        ("models", &prompted.join(", ")),
        ("directories", &directories.join(" or ")),
    ];
    finding("prompts", "similar", &values)
}

/// The limit is the one that the model was published with.
pub(super) fn limit(context: &Context<'_>) -> Finding {
    let limit = context.limit;
    match context.base.filter(|base| base.limit != limit) {
        None => finding("limit", "same", &[("limit", &limit)]),
        Some(base) => {
            let values: [(&str, &dyn std::fmt::Display); 3] =
                [("limit", &limit), ("model", &base.id), ("published", &base.limit)];
            finding("limit", "different", &values)
        }
    }
}

/// Ids of one text, cut to the limit.
pub(super) fn tokens(context: &Context<'_>, text: &str, task: Option<&str>) -> Result<Vec<u32>> {
    let prompt = context.text.prompt(task, false)?;
    Ok(context.text.prepare_one(0, text, prompt, None, Overlong::Cut)?.ids)
}
