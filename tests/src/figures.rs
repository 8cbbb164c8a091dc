//! What a benchmark measures, chosen on its command line.

use std::{env, panic, process::ExitCode};

/// Measures those of `figures` that the command line names, or all; fails if a claim of one does not hold. The first part of a
/// name, up to a hyphen, stands for all that begin with it.
#[must_use]
pub fn measure_chosen(figures: &[(&str, fn())]) -> ExitCode {
    // Cargo adds flags of its own.
    let chosen: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let names: Vec<&str> = figures.iter().map(|(name, _)| *name).collect();
    let stands_for = |word: &str, name: &str| {
        name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if let Some(unknown) = chosen.iter().find(|word| !names.iter().any(|name| stands_for(word, name))) {
        eprintln!("there is no figure {unknown:?}: choose from {}", names.join(", "));
        return ExitCode::from(2);
    }
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|word| stands_for(word, name));
    let mut code = ExitCode::SUCCESS;
    for (_, measure) in figures.iter().filter(|(name, _)| is_chosen(name)) {
        // The panic has said what is broken; the other figures are wanted all the same.
        if panic::catch_unwind(measure).is_err() {
            code = ExitCode::FAILURE;
        }
    }
    code
}
