//! What a step runs: a compiled recipe or a program, before it has the numbers of the step and after.

use std::iter;
use std::sync::Arc;

use crate::error::Error;
use crate::program::{Bound, Program};
use crate::recipes::Recipe;
use crate::rules::Coefficients;

/// A rule.
#[derive(Clone)]
pub(super) enum Rule {
    Recipe(&'static Recipe),
    Program(Arc<Program>),
}

/// A rule with its numbers for one step.
#[derive(Clone)]
pub(super) enum BoundRule {
    Recipe(&'static Recipe, Coefficients),
    Program(Arc<Program>, Arc<Bound>),
    /// A program that is to have the norms of arrays among these numbers, before it is run.
    Normed(Arc<Program>, Arc<[f64]>),
}

impl Rule {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Recipe(recipe) => recipe.name,
            Self::Program(program) => program.name(),
        }
    }

    /// The names of the hyper-parameters.
    pub(super) fn hypers(&self) -> Vec<&str> {
        match self {
            Self::Recipe(recipe) => recipe.hypers.to_vec(),
            Self::Program(program) => program.hypers().iter().map(String::as_str).collect(),
        }
    }

    /// The names of the states.
    pub(super) fn states(&self) -> Vec<&str> {
        match self {
            Self::Recipe(recipe) => recipe.states.to_vec(),
            Self::Program(program) => program.states().iter().map(String::as_str).collect(),
        }
    }

    /// Which hyper-parameters are powers of `t`, `x**t` called `x_power`, with the places of their bases.
    pub(super) fn powers(&self) -> Vec<(usize, usize)> {
        let names = self.hypers();
        let place = |name: &str| names.iter().position(|&other| other == name);
        let bases = names.iter().map(|name| name.strip_suffix("_power").and_then(place));
        bases.enumerate().filter_map(|(power, base)| Some((power, base?))).collect()
    }

    /// The rule with the numbers of a step.
    ///
    /// # Errors
    /// When they are not as many as its own, or something can't be computed of them.
    pub(super) fn bind(&self, numbers: &[f64]) -> Result<BoundRule, Error> {
        match self {
            Self::Recipe(recipe) => recipe
                .coefficients(numbers)
                .map(|coefficients| BoundRule::Recipe(recipe, coefficients))
                .ok_or_else(|| self.wrong_count(numbers.len())),
            Self::Program(program) if numbers.len() == program.hypers().len() => {
                if program.norms().is_empty() {
                    bound(program, numbers)
                } else {
                    Ok(BoundRule::Normed(Arc::clone(program), numbers.into()))
                }
            }
            Self::Program(_) => Err(self.wrong_count(numbers.len())),
        }
    }

    fn wrong_count(&self, has: usize) -> Error {
        Error::Value(format!("hypers has {has} numbers; wanted {:?}", self.hypers()))
    }
}

fn bound(program: &Arc<Program>, numbers: &[f64]) -> Result<BoundRule, Error> {
    let bound = program.bind(numbers).map_err(|place| {
        let given = iter::zip(program.hypers(), numbers);
        let given: Vec<_> = given.map(|(name, x)| format!("{name}={x:?}")).collect();
        Error::Value(format!("{place}, with {}", given.join(", ")))
    })?;
    Ok(BoundRule::Program(Arc::clone(program), Arc::new(bound)))
}

impl BoundRule {
    /// How many states it has.
    pub(super) fn states(&self) -> usize {
        match self {
            Self::Recipe(recipe, _) => recipe.states.len(),
            Self::Program(program, _) | Self::Normed(program, _) => program.states().len(),
        }
    }

    /// The roles of which it has to have norms.
    pub(super) fn normed_roles(&self) -> impl Iterator<Item = usize> {
        let norms = match self {
            Self::Normed(program, _) => program.norms(),
            _ => &[],
        };
        norms.iter().map(|&(_, role)| role)
    }

    /// The rule with the norms of its arrays, by role.
    ///
    /// # Errors
    /// When something can't be computed of them.
    pub(super) fn with_norms(&self, norms: [f64; 2]) -> Result<Self, Error> {
        let Self::Normed(program, numbers) = self else { return Ok(self.clone()) };
        let mut numbers = numbers.to_vec();
        for &(hyper, role) in program.norms() {
            numbers[hyper] = norms[role];
        }
        bound(program, &numbers)
    }
}
