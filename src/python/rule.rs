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
                let bound = program.bind(numbers).map_err(|place| {
                    let given = iter::zip(program.hypers(), numbers);
                    let given: Vec<_> = given.map(|(name, x)| format!("{name}={x:?}")).collect();
                    Error::Value(format!("{place}, with {}", given.join(", ")))
                })?;
                Ok(BoundRule::Program(Arc::clone(program), Arc::new(bound)))
            }
            Self::Program(_) => Err(self.wrong_count(numbers.len())),
        }
    }

    fn wrong_count(&self, has: usize) -> Error {
        Error::Value(format!("hypers has {has} numbers; wanted {:?}", self.hypers()))
    }
}

impl BoundRule {
    /// How many states it has.
    pub(super) fn states(&self) -> usize {
        match self {
            Self::Recipe(recipe, _) => recipe.states.len(),
            Self::Program(program, _) => program.states().len(),
        }
    }
}
