//! The options of a group as they were when Python last checked them, and the work of a step that
//! follows from them as long as they stay the same.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyTuple};

use super::job::Work;
use super::once::Once;
use super::recipe::PyRecipe;
use super::rule::Rule;
use crate::error::Error;
use crate::extras::Extras;
use crate::isa::Level;
use crate::program::MAX_HYPERS;

/// What Python says of a group for one step: the work; the learning rate; whether all but the rate
/// and the powers of `t` stays as it is until an option changes; and dicts to update after the step.
pub(super) type Said<'py> =
    (SaidWork<'py>, f64, bool, Vec<(Bound<'py, PyDict>, Bound<'py, PyDict>)>);

/// The recipe and its numbers; sign, weight decay, whether that is decoupled, and the decay of the
/// average.
pub(super) type SaidWork<'py> = (Bound<'py, PyRecipe>, Vec<f64>, (f64, f64, bool, Option<f64>));

/// The options as they were before Python was asked: a learning rate that is called may change them.
pub(super) type Items<'py> = Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>;

/// A group's options and the work of a step.
pub(super) struct Template {
    rule: Rule,
    level: Level,
    numbers: [f64; MAX_HYPERS],
    count: usize,
    /// Where the learning rate is among the numbers, and where the powers of `t` are of which.
    lr: Option<usize>,
    /// Where `t` itself is, of a program.
    t: Option<usize>,
    powers: Vec<(usize, usize)>,
    /// Where weight decay is among them, if the rule does it itself.
    decay: Option<usize>,
    sign: f64,
    weight_decay: f64,
    decoupled: bool,
    average: Option<f64>,
    /// The learning rate, or what gives it.
    rate: Rate,
    /// Every option with its value, if none can change without being replaced.
    options: Option<Vec<(Py<PyAny>, Py<PyAny>)>>,
}

enum Rate {
    Fixed(f64),
    Callable(Py<PyAny>),
}

/// The work of a group in one step, with weight decay and without.
pub(super) type Works = [Work; 2];

impl Template {
    /// What later steps may keep of what Python has said of `options`.
    pub(super) fn of(
        work: SaidWork<'_>,
        rate: f64,
        lasts: bool,
        options: Items<'_>,
    ) -> PyResult<Self> {
        let (recipe, given, (sign, weight_decay, decoupled, average)) = work;
        let (rule, level) = recipe.get().compiled();
        let names = rule.hypers();
        let mut numbers = [0.0; MAX_HYPERS];
        if given.len() != names.len() {
            let has = given.len();
            return Err(Error::Value(format!("{has} numbers were given; wanted {names:?}")).into());
        }
        numbers[..given.len()].copy_from_slice(&given);
        // The rate of this step may be one that its call was given.
        let rate = match options.iter().find(|(name, _)| name.eq("lr").unwrap_or(false)) {
            Some((_, lr)) if lr.is_callable() => Rate::Callable(lr.clone().unbind()),
            Some((_, lr)) => Rate::Fixed(number(lr, "lr", 0.0, f64::INFINITY)?),
            None => Rate::Fixed(rate),
        };
        let fixed = |item: &Bound<'_, PyAny>| {
            item.is_none()
                || item.is_exact_instance_of::<PyFloat>()
                || item.is_exact_instance_of::<PyInt>()
                || item.is_exact_instance_of::<PyBool>()
                || item.is_exact_instance_of::<PyString>()
                || item.is_callable()
        };
        // Parameters do not count: a step sees whether the tree still holds its arrays.
        let is_fixed = |(name, item): &(Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            fixed(item)
                || item.cast_exact::<PyTuple>().is_ok_and(|items| items.iter().all(|i| fixed(&i)))
                || name.eq("params").unwrap_or(false)
        };
        let options = (lasts && options.iter().all(is_fixed)).then(|| {
            options.into_iter().map(|(name, item)| (name.unbind(), item.unbind())).collect()
        });
        let count = given.len();
        // What `HYPERS` calls `x_power` is `x**t`. Where Python says all numbers of every step
        // itself, they stay as it said.
        // A program computes them itself.
        let place = |name: &str| names.iter().position(|&other| other == name);
        let (mut lr, mut t, mut powers) = (None, None, Vec::new());
        if lasts {
            lr = place("lr");
            if matches!(rule, Rule::Program(_)) {
                t = place("t");
            } else {
                powers = rule.powers();
            }
        }
        let decay = place("weight_decay");
        Ok(Self {
            rule: rule.clone(),
            level,
            numbers,
            count,
            lr,
            t,
            powers,
            decay,
            sign,
            weight_decay,
            decoupled,
            average,
            rate,
            options,
        })
    }

    /// Whether the options are those that it was made of, one by one the same objects.
    pub(super) fn is_of(&self, options: &Bound<'_, PyDict>) -> bool {
        let Some(known) = &self.options else { return false };
        known.len() == options.len()
            && options.iter().zip(known).all(|((name, item), (known_name, known_item))| {
                name.is(known_name) && item.is(known_item)
            })
    }

    /// The learning rate of step `t`; a callable is called.
    pub(super) fn rate(&self, py: Python<'_>, t: u64) -> PyResult<f64> {
        match &self.rate {
            Rate::Fixed(rate) => Ok(*rate),
            Rate::Callable(lr) => number(&lr.bind(py).call1((t - 1,))?, "lr", 0.0, f64::INFINITY),
        }
    }

    /// The work of step `t`, whose powers are of the same C function as Python's are.
    ///
    /// # Errors
    /// When a program can't compute its numbers.
    pub(super) fn works(&self, rate: f64, t: u64, scale: f64) -> Result<Works, Error> {
        #[expect(clippy::cast_precision_loss, reason = "t is below 2**53")]
        let power = t as f64;
        let mut numbers = self.numbers;
        if let Some(lr) = self.lr {
            numbers[lr] = rate;
        }
        if let Some(place) = self.t {
            numbers[place] = power;
        }
        for &(place, base) in &self.powers {
            numbers[place] = numbers[base].powf(power);
        }
        let rule = self.rule.bind(&numbers[..self.count])?;
        let (weight_decay, shrink) = if self.decoupled {
            (0.0, 1.0 - rate * self.weight_decay)
        } else {
            (self.weight_decay, 1.0)
        };
        let scale = self.sign * scale;
        let extras = Extras { scale, weight_decay, shrink, average: self.average, ..Extras::NONE };
        let work = Work { rule, level: self.level, extras, clear_gradient: false, t, seed: 0 };
        let extras = Extras { weight_decay: 0.0, shrink: 1.0, ..extras };
        let rule = match self.decay {
            Some(decay) => {
                numbers[decay] = 0.0;
                self.rule.bind(&numbers[..self.count])?
            }
            None => work.rule.clone(),
        };
        let without = Work { rule, extras, ..work };
        Ok([work, without])
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Rate::Callable(lr) = &self.rate {
            visit.call(lr)?;
        }
        self.options.iter().flatten().try_for_each(|(name, item)| {
            visit.call(name)?;
            visit.call(item)
        })
    }
}

/// A finite number of at least `least` and below `below`: checked here if it is a float, else by
/// `instep.checks`.
#[inline]
pub(super) fn number(item: &Bound<'_, PyAny>, name: &str, least: f64, below: f64) -> PyResult<f64> {
    static CHECK: Once<Py<PyAny>> = Once::new();
    if let Ok(float) = item.cast_exact::<PyFloat>() {
        let number = float.value();
        if number.is_finite() && number >= least && number < below {
            return Ok(number);
        }
    }
    let py = item.py();
    let keywords = PyDict::new(py);
    keywords.set_item("least", least)?;
    keywords.set_item("below", below)?;
    CHECK
        .import(py, "instep.checks", "check_number")?
        .call((name, item), Some(&keywords))?
        .extract()
}
