//! The checks of a call, all of them before the first write, and the plan that comes of them.

use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use numpy::prelude::*;
use numpy::{PyReadonlyArray1, PyUntypedArray};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PySlice, PyTuple};

use super::arrays::{Dtype, GRADIENT, Job, Jobs, MAX_ROLES, PARAMETER, View, Work};
use super::seen::Seen;
use crate::error::Error;

/// A call as Python gave it.
pub(super) struct Call<'py> {
    pub(super) groups: Vec<Group<'py>>,
    /// `describe(group, role, index)` is what the caller calls that array.
    pub(super) describe: Bound<'py, PyAny>,
    /// Whether a gradient may be `None`, and its parameter left alone.
    pub(super) optional_gradients: bool,
}

/// Parameters with one recipe and the same numbers.
pub(super) struct Group<'py> {
    pub(super) work: Work,
    /// A tuple for each role: parameters, gradients, each state, averages; all of one length.
    pub(super) roles: Vec<Bound<'py, PyTuple>>,
}

impl<'py> Group<'py> {
    /// # Errors
    /// When the tuples are not of one length, or not as many as the work needs.
    pub(super) fn new(
        work: Work,
        params: Bound<'py, PyTuple>,
        grads: Bound<'py, PyTuple>,
        states: impl IntoIterator<Item = Bound<'py, PyTuple>>,
        averages: Option<Bound<'py, PyTuple>>,
    ) -> PyResult<Self> {
        let mut roles = Vec::with_capacity(MAX_ROLES);
        roles.extend([params, grads]);
        roles.extend(states);
        roles.extend(averages);
        if roles.len() != work.roles() || roles.iter().any(|role| role.len() != roles[0].len()) {
            let what = "params, grads, each state of the recipe and averages, if they are kept, \
                        must be tuples of one length";
            return Err(Error::Value(what.to_owned()).into());
        }
        Ok(Self { work, roles })
    }

    pub(super) fn grads(&self) -> &Bound<'py, PyTuple> {
        &self.roles[GRADIENT]
    }

    /// All tuples but that of the gradients, each with its role.
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, &Bound<'py, PyTuple>)> {
        self.roles.iter().enumerate().filter(|&(role, _)| role != GRADIENT)
    }
}

/// Which array of the call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    group: usize,
    index: usize,
    role: usize,
}

impl<'py> Call<'py> {
    fn get(&self, place: Place) -> PyResult<Borrowed<'_, 'py, PyAny>> {
        self.groups[place.group].roles[place.role].get_borrowed_item(place.index)
    }

    fn is_written(&self, place: Place) -> bool {
        place.role != GRADIENT || self.groups[place.group].work.clear_gradient
    }

    fn name(&self, place: Place) -> PyResult<String> {
        self.describe.call1((place.group, place.role, place.index))?.extract()
    }

    fn works(&self) -> impl Iterator<Item = Work> {
        self.groups.iter().map(|group| group.work)
    }

    pub(super) fn clears_gradients(&self) -> bool {
        self.groups.iter().any(|group| group.work.clear_gradient)
    }

    /// What the caller calls a gradient.
    pub(super) fn gradient_name(&self, group: usize, index: usize) -> PyResult<String> {
        self.name(Place { group, index, role: GRADIENT })
    }

    /// A `TypeError` that begins with the array's name.
    fn type_error(&self, place: Place, what: &str) -> PyErr {
        match self.name(place) {
            Ok(name) => Error::Type(format!("{name} {what}")).into(),
            Err(error) => error,
        }
    }

    /// A `ValueError` that begins with the array's name.
    fn value_error(&self, place: Place, what: &str) -> PyErr {
        match self.name(place) {
            Ok(name) => Error::Value(format!("{name} {what}")).into(),
            Err(error) => error,
        }
    }
}

/// The bytes of one array, for finding arrays that share some.
struct Span {
    bytes: Range<usize>,
    place: Place,
    written: bool,
}

/// All arrays of a call, checked: nothing can fail any more.
pub(super) struct Plan {
    jobs: Jobs,
    works: Vec<Work>,
    rows: Vec<RowValues>,
    /// What later steps compare their arrays with, if the plan may serve them.
    seen: Option<Seen>,
}

/// Values of rows, which no argument of the call may keep alive.
struct RowValues {
    given: Py<PyUntypedArray>,
    /// Those or, of rows that come twice, their sums.
    distinct: Py<PyUntypedArray>,
}

impl Plan {
    /// The plan for a call: that of an earlier one, if its checks hold, or a new one.
    ///
    /// # Errors
    /// As [`Plan::check`].
    pub(super) fn follow(earlier: Option<Self>, call: &Call<'_>) -> PyResult<Self> {
        if let Some(mut plan) = earlier
            && let Some(seen) = &mut plan.seen
            && seen.holds(call, &mut plan.jobs)
        {
            plan.works.clear();
            plan.works.extend(call.works());
            return Ok(plan);
        }
        let mut plan = Self::check(call)?;
        plan.seen = Seen::of(call, &mut plan.jobs)?;
        Ok(plan)
    }

    /// The arrays that it holds for later calls.
    pub(super) fn own(&self) -> &[Py<PyUntypedArray>] {
        self.seen.as_ref().map_or(&[], Seen::own)
    }

    /// Whether a later call may follow it.
    pub(super) fn lasts(&self) -> bool {
        self.seen.is_some()
    }

    /// Looks at every array of the call.
    ///
    /// # Errors
    /// As the README's table says what bad input gets.
    pub(super) fn check(call: &Call<'_>) -> PyResult<Self> {
        let count = call.groups.iter().map(|group| group.roles[PARAMETER].len()).sum();
        let arrays = call.groups.iter().map(|g| g.roles[PARAMETER].len() * g.roles.len()).sum();
        let mut jobs = Jobs::with_capacity(count);
        let mut spans = Vec::with_capacity(arrays);
        let mut suspects = Vec::new();
        // Types first: these checks may run Python code, which must not happen while views live.
        let mut sparse = Vec::new();
        each_parameter(call, |place, roles| {
            for role in 0..roles {
                let place = Place { role, ..place };
                if call.get(place)?.is_exact_instance_of::<PyUntypedArray>() {
                    continue;
                }
                if let Gradient::Rows(rows) = check_type(call, place)? {
                    sparse.push((place, rows));
                }
            }
            Ok(())
        })?;
        let mut given_rows = sparse.iter().peekable();
        each_parameter(call, |place, roles| {
            let first = check_array(call, place)?;
            let mut views = [first; MAX_ROLES];
            let mut rows = None;
            for (role, view) in views[..roles].iter_mut().enumerate().skip(1) {
                let place = Place { role, ..place };
                *view = if let Some((_, given)) = given_rows.next_if(|(at, _)| *at == place) {
                    rows = Some(given);
                    check_rows(call, place, given, &first)?
                } else {
                    check_companion(call, place, &first)?
                };
            }
            if let Some(given) = rows.filter(|rows| !rows.given.is(&rows.values)) {
                // What is cleared in the end is not the sums that the step reads.
                let place = Place { role: GRADIENT, ..place };
                let view = View::of(given.given.as_borrowed(), first.dtype);
                let bytes = view.span().filter(|_| call.is_written(place));
                spans.extend(bytes.map(|bytes| Span { bytes, place, written: true }));
            }
            for (role, view) in views[..roles].iter().enumerate() {
                let place = Place { role, ..place };
                let written = call.is_written(place);
                spans.extend(view.span().map(|bytes| Span { bytes, place, written }));
                if written && !view.is_dense() && !view.is_nested() {
                    suspects.push(place);
                }
            }
            let Place { group, index, .. } = place;
            match rows {
                None => jobs.push(Job::new(&views[..roles], group, index)),
                Some(rows) => {
                    for (&index_of_row, &at) in iter::zip(&rows.indices, &rows.places) {
                        let mut row = views;
                        for (role, view) in row[..roles].iter_mut().enumerate() {
                            *view = view.row(if role == GRADIENT { at } else { index_of_row });
                        }
                        jobs.push(Job::new(&row[..roles], group, index));
                    }
                }
            }
            Ok(())
        })?;
        refuse_folded(call, &suspects)?;
        refuse_shared_memory(call, spans)?;
        let rows = sparse.into_iter().map(|(_, rows)| RowValues {
            given: rows.given.unbind(),
            distinct: rows.values.unbind(),
        });
        let (rows, works) = (rows.collect(), call.works().collect());
        Ok(Self { jobs, works, rows, seen: None })
    }

    /// The number of elements of all parameters.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The root of the sum of the squares of all gradients.
    pub(super) fn gradient_norm(&mut self) -> f64 {
        let squares: Vec<_> = (0..self.jobs.pieces()).map(|_| AtomicU64::new(0)).collect();
        let works = &self.works;
        self.jobs.each_piece(|piece| {
            let sum = piece.sum_of_squares(works[piece.group()].level);
            squares[piece.number()].store(sum.to_bits(), Ordering::Relaxed);
        });
        let squares = squares.into_iter().map(|bits| f64::from_bits(bits.into_inner()));
        // Not by `sum`, whose sum of nothing is -0.
        squares.fold(0.0, |sum, squares| sum + squares).sqrt()
    }

    /// The group and index of the first gradient with an element that is NaN or infinite.
    pub(super) fn first_nonfinite(&mut self) -> Option<(usize, usize)> {
        let first = Mutex::new(None);
        let works = &self.works;
        self.jobs.each_piece(|piece| {
            if !piece.is_finite(works[piece.group()].level) {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                let here = piece.parameter();
                *first = Some(first.map_or(here, |first| here.min(first)));
            }
        });
        first.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step itself, with every gradient multiplied by `scale`.
    pub(super) fn run(&mut self, scale: f64) {
        for work in &mut self.works {
            work.extras.scale *= scale;
        }
        let works = &self.works;
        self.jobs.each_small_piece(|piece| piece.run(works));
    }

    /// Clears the gradients of rows that came twice, if gradients are cleared: of them the step has
    /// only seen the sums.
    pub(super) fn clear_rows(&self, py: Python<'_>) -> PyResult<()> {
        if self.works.iter().any(|work| work.clear_gradient) {
            let ndarray = py.get_type::<PyUntypedArray>();
            for rows in self.rows.iter().filter(|rows| !rows.given.is(&rows.distinct)) {
                ndarray.call_method1(intern!(py, "fill"), (&rows.given, 0))?;
            }
        }
        Ok(())
    }
}

/// Visits the parameters that have a gradient, each as the place of its own array, and the number
/// of its roles.
#[inline(always)]
fn each_parameter(
    call: &Call<'_>,
    mut visit: impl FnMut(Place, usize) -> PyResult<()>,
) -> PyResult<()> {
    for (group, Group { roles, .. }) in call.groups.iter().enumerate() {
        for index in 0..roles[PARAMETER].len() {
            let place = Place { group, index, role: PARAMETER };
            if call.optional_gradients && call.get(Place { role: GRADIENT, ..place })?.is_none() {
                continue;
            }
            visit(place, roles.len())?;
        }
    }
    Ok(())
}

/// What a gradient can be. All other arrays are dense.
enum Gradient<'py> {
    Dense,
    Rows(Rows<'py>),
}

/// A gradient of some rows of its parameter: which, in rising order, and where their values are.
struct Rows<'py> {
    indices: Vec<usize>,
    places: Vec<usize>,
    values: Bound<'py, PyUntypedArray>,
    given: Bound<'py, PyUntypedArray>,
}

/// An ndarray of a subclass, and none with a mask; or, as a gradient, rows.
fn check_type<'py>(call: &Call<'py>, place: Place) -> PyResult<Gradient<'py>> {
    let item = call.get(place)?;
    if !item.is_instance_of::<PyUntypedArray>() {
        if call.optional_gradients && place.role == GRADIENT && is_rows(&item)? {
            return rows(call, place, &item).map(Gradient::Rows);
        }
        let what = format!("is a {}; wanted a numpy.ndarray", item.get_type().name()?);
        return Err(call.type_error(place, &what));
    }
    let masked = item.py().import("numpy.ma")?.getattr("MaskedArray")?;
    if item.is_instance(&masked)? {
        let what = "is a numpy.ma.MaskedArray, whose mask a step would ignore; \
                    wanted a plain numpy.ndarray";
        return Err(call.type_error(place, what));
    }
    Ok(Gradient::Dense)
}

fn is_rows(item: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(item.get_type().is(&item.py().import("instep.rows")?.getattr("Rows")?))
}

/// What an `instep.Rows` has, once the values of equal rows are summed; its indices are checked.
fn rows<'py>(call: &Call<'py>, place: Place, item: &Bound<'py, PyAny>) -> PyResult<Rows<'py>> {
    type Integers<'py> = PyReadonlyArray1<'py, i64>;
    type Distinct<'py> = (Integers<'py>, Integers<'py>, Bound<'py, PyUntypedArray>);
    let (indices, places, values) = item.call_method0("distinct")?.extract::<Distinct<'py>>()?;
    let (indices, places) = (indices.as_slice()?, places.as_slice()?);
    let given = item.getattr("values")?.cast_into::<PyUntypedArray>()?;
    let flags = given.getattr("flags")?;
    if call.is_written(place) && !flags.getattr("writeable")?.extract::<bool>()? {
        let what = "has read-only values, and the step is to clear them; pass a writable array";
        return Err(call.value_error(place, what));
    }
    let parameter = call.get(Place { role: PARAMETER, ..place })?;
    let count = parameter.cast::<PyUntypedArray>()?.shape().first().copied().unwrap_or(0);
    let bad = |index: &i64| !usize::try_from(*index).is_ok_and(|index| index < count);
    if let Some(index) = indices.iter().find(|index| bad(index)) {
        let (name, of) = (call.name(place)?, call.name(Place { role: PARAMETER, ..place })?);
        let what = format!("{name} has the row {index}; {of} has {count} rows, counted from 0");
        return Err(Error::Index(what).into());
    }
    let unsigned = |numbers: &[i64]| numbers.iter().flat_map(|&n| usize::try_from(n)).collect();
    let (indices, places): (Vec<usize>, Vec<usize>) = (unsigned(indices), unsigned(places));
    let distinct = indices.is_sorted_by(|a, b| a < b) && indices.len() == places.len();
    if !distinct || places.iter().any(|&at| values.shape().first().is_none_or(|&n| at >= n)) {
        return Err(call.value_error(place, "has rows that are not distinct"));
    }
    Ok(Rows { indices, places, values, given })
}

/// The values of rows: of the parameter's dtype, and of the shape of its rows.
fn check_rows<'a>(
    call: &Call<'_>,
    place: Place,
    rows: &'a Rows<'_>,
    parameter: &View<'_>,
) -> PyResult<View<'a>> {
    let dtype = Dtype::of(&rows.values.dtype());
    let Some(dtype) = dtype.filter(|&dtype| dtype == parameter.dtype) else {
        let wanted = parameter.dtype.name();
        let what = format!("has values of dtype {}; wanted {wanted}", rows.values.dtype().str()?);
        return Err(call.type_error(place, &what));
    };
    let view = View::of(rows.values.as_borrowed(), dtype);
    if parameter.shape.is_empty() || view.shape.get(1..) != parameter.shape.get(1..) {
        let (has, of) = (shape(view.shape), shape(parameter.shape));
        let what = format!("has values of shape {has}; wanted rows of a parameter of shape {of}");
        return Err(call.value_error(place, &what));
    }
    Ok(view)
}

/// An array of floats, writable where the step writes.
#[inline(always)]
fn check_array<'a>(call: &'a Call<'_>, place: Place) -> PyResult<View<'a>> {
    let item = call.get(place)?;
    let array = item.cast::<PyUntypedArray>()?;
    let Some(dtype) = Dtype::of(&array.dtype()) else {
        let what = format!(
            "has dtype {}; wanted float32 or float64, in this machine's byte order",
            array.dtype().str()?
        );
        return Err(call.type_error(place, &what));
    };
    let view = View::of(array, dtype);
    if call.is_written(place) && !view.is_writable() {
        let what = "is read-only, and a step writes it; pass a writable array";
        return Err(call.value_error(place, what));
    }
    Ok(view)
}

/// A gradient or state: as [`check_array`], and of its parameter's dtype and shape.
#[inline(always)]
fn check_companion<'a>(
    call: &'a Call<'_>,
    place: Place,
    parameter: &View<'_>,
) -> PyResult<View<'a>> {
    let view = check_array(call, place)?;
    if view.dtype != parameter.dtype {
        let (has, wanted) = (view.dtype.name(), parameter.dtype.name());
        let name = call.name(Place { role: PARAMETER, ..place })?;
        let what = format!("has dtype {has}; wanted {wanted}, the dtype of {name}");
        return Err(call.type_error(place, &what));
    }
    if view.shape != parameter.shape {
        let (has, wanted) = (shape(view.shape), shape(parameter.shape));
        let name = call.name(Place { role: PARAMETER, ..place })?;
        let what = format!("has shape {has}; wanted {wanted}, the shape of {name}");
        return Err(call.value_error(place, &what));
    }
    Ok(view)
}

/// A shape as Python prints it.
fn shape(shape: &[isize]) -> String {
    match shape {
        [only] => format!("({only},)"),
        _ => format!("({})", shape.iter().map(isize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Refuses a written array with two elements that share memory.
fn refuse_folded(call: &Call<'_>, suspects: &[Place]) -> PyResult<()> {
    for &place in suspects {
        if overlaps_itself(&memory(call, place)?)? {
            let what = "has elements that share memory with each other, and a step writes it; \
                        pass a copy";
            return Err(call.value_error(place, what));
        }
    }
    Ok(())
}

/// Whether two elements of one array share memory, for an array that [`View::is_nested`] can't
/// clear: along each axis, the first place against all later ones.
fn overlaps_itself(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = array.py();
    let ndim: usize = array.getattr(intern!(py, "ndim"))?.extract()?;
    // Not by `PySlice::new`, which never gives back the numbers that it makes (PyO3 0.30.1).
    let slice = py.get_type::<PySlice>();
    let first = slice.call1((0, 1))?;
    let rest = slice.call1((1, py.None()))?;
    for axis in 0..ndim {
        let mut place = vec![&first; axis + 1];
        let one = PyTuple::new(py, &place)?;
        place[axis] = &rest;
        let others = PyTuple::new(py, place)?;
        if share_memory(&array.get_item(one)?, &array.get_item(others)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two arrays have a byte in common. NumPy solves the equation of their strides; where that
/// is too hard, they are taken to have one.
fn share_memory(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<bool> {
    static SHARES_MEMORY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    const MAX_WORK: usize = 1_000_000;
    let py = a.py();
    match SHARES_MEMORY.import(py, "numpy", "shares_memory")?.call1((a, b, MAX_WORK)) {
        Ok(answer) => answer.extract(),
        // `numpy.exceptions.TooHardError` is a RuntimeError.
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Refuses two arrays that share memory, if the step writes one of them.
fn refuse_shared_memory(call: &Call<'_>, mut spans: Vec<Span>) -> PyResult<()> {
    spans.sort_unstable_by_key(|span| span.bytes.start);
    if are_apart(&spans) {
        return Ok(());
    }
    // The spans of strided arrays may interleave while no byte is shared: look closer.
    for (i, a) in spans.iter().enumerate() {
        for b in spans[i + 1..].iter().take_while(|b| b.bytes.start < a.bytes.end) {
            if !(a.written || b.written) {
                continue;
            }
            if share_memory(&memory(call, a.place)?, &memory(call, b.place)?)? {
                let (first, second) = (a.place.min(b.place), a.place.max(b.place));
                let other = call.name(first)?;
                let what = format!(
                    "shares memory with {other}, and a step writes one of them; pass a copy"
                );
                return Err(call.value_error(second, &what));
            }
        }
    }
    Ok(())
}

/// The memory of an array, or of the values of rows, as an ndarray that is of no subclass: what a
/// subclass overrides may neither answer nor run, as the plan has its pointers by now.
fn memory<'py>(call: &Call<'py>, place: Place) -> PyResult<Bound<'py, PyAny>> {
    let item = call.get(place)?;
    let values = intern!(item.py(), "values");
    let array = if item.is_instance_of::<PyUntypedArray>() {
        item.to_owned()
    } else {
        item.getattr(values)?
    };
    let ndarray = item.py().get_type::<PyUntypedArray>();
    ndarray.call_method1(intern!(item.py(), "view"), (array, &ndarray))
}

/// Whether no written span of `spans`, which are sorted by their starts, overlaps another.
fn are_apart(spans: &[Span]) -> bool {
    let (mut end, mut end_written) = (0, 0);
    spans.iter().all(|Span { bytes, written, .. }| {
        let apart = bytes.start >= if *written { end } else { end_written };
        end = end.max(bytes.end);
        if *written {
            end_written = end_written.max(bytes.end);
        }
        apart
    })
}
