//! What was asked: the arrays of a call, parameter by parameter.

use std::collections::TryReserveError;
use std::sync::Arc;
use std::{iter, slice};

use numpy::{PyReadonlyArray1, PyUntypedArray};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use super::once::Once;
use super::storage::{self, Storage};
use super::view::{self, Array};
use crate::error::Error;
use crate::walk::{GRADIENT, Indices, MAX_ROLES};

/// What a [`Place`] has as the role of the exponents of the first state.
pub(super) const FIRST_EXPONENTS: usize = MAX_ROLES;

/// A parameter with its states and, if one is kept, its average: the arrays that stay from step to
/// step.
pub(super) struct Parameter {
    /// By role, without that of the gradient.
    arrays: [Option<Array>; MAX_ROLES - 1],
    /// The exponents of its states, where these have 8 bits.
    pub(super) exponents: Vec<Array>,
    /// The number of its work in a step.
    pub(super) work: usize,
    pub(super) kind: Kind,
}

/// What arrays may go with a parameter.
#[derive(Clone)]
pub(super) enum Kind {
    /// Those of its own dtype, float32 or float64.
    Floats,
    /// Those of its own dtype, of any kind: bits are copied.
    Bits,
    /// Those of a storage.
    Stored(Arc<Storage>),
}

impl Parameter {
    /// The arrays are at most as many as there are roles, the parameter first.
    pub(super) fn new(arrays: impl IntoIterator<Item: Into<Array>>, work: usize) -> Self {
        let mut arrays = arrays.into_iter().map(Into::into);
        Self::with_arrays(std::array::from_fn(|_| arrays.next()), work)
    }

    /// The same of an array of them; behind the last one all places are empty.
    #[inline(always)]
    pub(super) fn with_arrays(arrays: [Option<Array>; MAX_ROLES - 1], work: usize) -> Self {
        Self { arrays, exponents: Vec::new(), work, kind: Kind::Floats }
    }

    /// Lets go of it: with the interpreter at hand in less time than without.
    #[inline]
    pub(super) fn drop_ref(self, py: Python<'_>) {
        for array in self.arrays.into_iter().map_while(|array| array) {
            array.drop_ref(py);
        }
    }

    /// The arrays of a storage, in the order of their roles, with the exponents of the states before the
    /// average.
    ///
    /// # Errors
    /// When there is no such storage.
    pub(super) fn stored<A: Into<Array>>(
        mut arrays: Vec<A>,
        work: usize,
        said: &storage::Said,
    ) -> Result<Self, Error> {
        let storage = Storage::of(said)?;
        let first = (storage.average() - 1).min(arrays.len());
        let last = (first + storage.exponents()).min(arrays.len());
        let exponents: Vec<A> = arrays.drain(first..last).collect();
        let own = Self::new(arrays, work).with_kind(Kind::Stored(Arc::new(storage)));
        Ok(Self { exponents: exponents.into_iter().map(Into::into).collect(), ..own })
    }

    pub(super) fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        let arrays = self.arrays.each_ref();
        Self {
            arrays: arrays.map(|a| a.as_ref().map(|a| a.clone_ref(py))),
            exponents: self.exponents.iter().map(|a| a.clone_ref(py)).collect(),
            work: self.work,
            kind: self.kind.clone(),
        }
    }

    /// The arrays, each with its role.
    #[inline]
    pub(super) fn arrays(&self) -> impl Iterator<Item = (usize, &Array)> {
        let arrays = self.arrays.iter().map_while(Option::as_ref);
        arrays.enumerate().map(|(k, array)| (if k < GRADIENT { k } else { k + 1 }, array))
    }

    /// The array of a role that is not the gradient's.
    pub(super) fn array(&self, role: usize) -> Option<&Array> {
        if role >= FIRST_EXPONENTS {
            return self.exponents.get(role - FIRST_EXPONENTS);
        }
        self.arrays[if role < GRADIENT { role } else { role - 1 }].as_ref()
    }
}

/// What was given as the gradient of a parameter.
pub(super) enum Gradient {
    /// Nothing: the parameter does not change.
    Absent,
    Dense(Array),
    /// Several arrays that are alike, which are added in this order.
    Sum(Box<Terms>),
    Rows(Box<Rows>),
}

/// The arrays of a sum. Boxed, so that the gradients of most calls are small.
pub(super) struct Terms(Vec<Array>);

/// The gradient of some rows, each once.
pub(super) struct Rows {
    pub(super) indices: Arc<Indices>,
    /// One for each index, in their order.
    pub(super) values: Array,
    /// The values as the caller gave them, where `values` are sums of those of equal rows.
    pub(super) given: Option<Array>,
}

/// The arrays of a call.
pub(super) struct Call<'a> {
    pub(super) parameters: &'a [Parameter],
    /// One for each parameter.
    pub(super) grads: &'a [Gradient],
    /// Whether the call writes gradients.
    pub(super) writes_gradients: bool,
}

/// Which array of a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) parameter: usize,
    pub(super) role: usize,
}

impl<'a> Call<'a> {
    pub(super) fn is_written(&self, place: Place) -> bool {
        place.role != GRADIENT || self.writes_gradients
    }

    /// The array at a place; of rows, their values.
    pub(super) fn array(&self, place: Place) -> Option<&'a Array> {
        if place.role != GRADIENT {
            return self.parameters[place.parameter].array(place.role);
        }
        match &self.grads[place.parameter] {
            Gradient::Absent => None,
            Gradient::Dense(array) => Some(array),
            Gradient::Sum(terms) => terms.0.first(),
            Gradient::Rows(rows) => Some(&rows.values),
        }
    }
}

impl Gradient {
    /// The arrays that are added; the only one, if it is one. None of rows.
    #[inline]
    pub(super) fn terms(&self) -> &[Array] {
        match self {
            Self::Dense(array) => slice::from_ref(array),
            Self::Sum(terms) => &terms.0,
            Self::Absent | Self::Rows(_) => &[],
        }
    }

    /// The same with arrays that are added to it, in order, if it is an array.
    ///
    /// # Errors
    /// A `TypeError` for what is no ndarray.
    pub(super) fn with_addends(
        self,
        addends: &[Bound<'_, PyAny>],
        name: impl Fn() -> PyResult<String>,
    ) -> PyResult<Self> {
        match self {
            Self::Dense(first) if !addends.is_empty() => {
                let others = addends.iter().map(|item| array(item, &name));
                let terms = iter::once(Ok(first)).chain(others).collect::<PyResult<_>>()?;
                Ok(Self::Sum(Box::new(Terms(terms))))
            }
            own => Ok(own),
        }
    }

    /// Lets go of it: with the interpreter at hand in less time than without.
    #[inline(always)]
    pub(super) fn drop_ref(self, py: Python<'_>) {
        if let Self::Dense(array) = self {
            array.drop_ref(py);
        }
    }

    /// The array of a gradient, or the values of rows.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let array = match self {
            Self::Absent => return None,
            Self::Dense(array) => array,
            Self::Sum(terms) => terms.0.first()?,
            Self::Rows(rows) => rows.given.as_ref().unwrap_or(&rows.values),
        };
        Some(array.object().bind(py).as_any().clone())
    }

    /// What was given in the place of a gradient; Python code may run.
    ///
    /// # Errors
    /// A `TypeError` for what is neither an ndarray without a mask, nor `None`, nor `Rows`; what
    /// `Rows` themselves raise.
    #[inline(always)]
    pub(super) fn given(
        item: Bound<'_, PyAny>,
        name: impl FnOnce() -> PyResult<String>,
    ) -> PyResult<Self> {
        match plain(item)? {
            Ok(array) => Ok(Self::Dense(array)),
            Err(item) => Self::unlike_most(&item, name),
        }
    }

    /// The same of what is no plain array.
    #[cold]
    #[inline(never)]
    fn unlike_most(
        item: &Bound<'_, PyAny>,
        name: impl FnOnce() -> PyResult<String>,
    ) -> PyResult<Self> {
        if item.is_none() {
            return Ok(Self::Absent);
        }
        if is_rows(item)? {
            return Rows::given(item).map(|rows| Self::Rows(Box::new(rows)));
        }
        array(item, name).map(Self::Dense)
    }
}

/// An object that is an ndarray and not a subclass, except `numpy.memmap`, whose elements are stored alike;
/// else the object.
///
/// # Errors
/// None, once NumPy was imported.
#[inline(always)]
pub(super) fn plain(item: Bound<'_, PyAny>) -> PyResult<Result<Array, Bound<'_, PyAny>>> {
    match view::ndarray(item) {
        Ok(array) => Ok(Ok(array.unbind().into())),
        Err(item) => memmap(item),
    }
}

/// A `numpy.memmap`, or the object.
#[cold]
#[inline(never)]
fn memmap(item: Bound<'_, PyAny>) -> PyResult<Result<Array, Bound<'_, PyAny>>> {
    static MEMMAP: Once<Py<PyAny>> = Once::new();
    let is_map = item.get_type().is(MEMMAP.import(item.py(), "numpy", "memmap")?);
    match item.cast_into::<PyUntypedArray>() {
        Ok(array) if is_map => Ok(Ok(array.unbind().into())),
        Ok(array) => Ok(Err(array.into_any())),
        Err(error) => Ok(Err(error.into_inner())),
    }
}

/// An ndarray, which may be of a subclass, but of none with a mask.
///
/// # Errors
/// A `TypeError` for anything else.
pub(super) fn array(
    item: &Bound<'_, PyAny>,
    name: impl FnOnce() -> PyResult<String>,
) -> PyResult<Array> {
    if let Ok(array) = plain(item.clone())? {
        return Ok(array);
    }
    let Ok(array) = item.cast::<PyUntypedArray>() else {
        let kind = item.py().import("instep.checks")?.call_method1("kind_of", (item,))?;
        let what = format!("{} is {kind}; wanted a numpy.ndarray", name()?);
        return Err(Error::Type(what).into());
    };
    let checks = item.py().import("instep.checks")?;
    if checks.call_method1("is_masked", (item,))?.is_truthy()? {
        let what = format!(
            "{} is a numpy.ma.MaskedArray, whose mask a step would ignore; \
             wanted a plain numpy.ndarray",
            name()?
        );
        return Err(Error::Type(what).into());
    }
    Ok(array.clone().unbind().into())
}

fn is_rows(item: &Bound<'_, PyAny>) -> PyResult<bool> {
    static ROWS: Once<Py<PyAny>> = Once::new();
    Ok(item.get_type().is(ROWS.import(item.py(), "instep.rows", "Rows")?))
}

impl Rows {
    /// An `instep.Rows`, with the values of equal rows summed.
    fn given(item: &Bound<'_, PyAny>) -> PyResult<Self> {
        type Integers<'py> = PyReadonlyArray1<'py, i64>;
        let given = item.getattr("values")?.cast_into::<PyUntypedArray>()?;
        let indices = item.call_method0("int64")?.extract::<Integers<'_>>()?;
        let indices = rows(indices.as_slice()?)?;
        if indices.are_distinct().map_err(|error| no_memory(&error))? {
            return Ok(Self {
                indices: Arc::new(indices),
                values: given.unbind().into(),
                given: None,
            });
        }
        drop(indices);
        let summed = item.call_method0("summed")?;
        let (indices, values) = summed.extract::<(Integers<'_>, Bound<'_, PyUntypedArray>)>()?;
        let indices = Arc::new(rows(indices.as_slice()?)?);
        Ok(Self { indices, values: values.unbind().into(), given: Some(given.unbind().into()) })
    }
}

fn rows(numbers: &[i64]) -> PyResult<Indices> {
    Indices::new(numbers).map_err(|error| no_memory(&error))
}

fn no_memory(error: &TryReserveError) -> PyErr {
    PyMemoryError::new_err(format!("the indices of rows: {error}"))
}
