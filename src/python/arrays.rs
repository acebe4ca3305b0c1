//! NumPy arrays → checked flat views. The only door for raw pointers.
//!
//! [`Plan::check`] looks at every array of a call once, before anything is written. It refuses the
//! call or returns a plan with all that the sweep needs; [`Plan::run`] can't fail.
#![expect(
    unsafe_code,
    reason = "NumPy's buffers come as raw pointers, and a sweep runs over slices"
)]

use std::ops::Range;
use std::{array, iter, slice};

use numpy::npyffi::{
    _PyArray_GET_ITEM_DATA, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_WRITEABLE,
};
use numpy::prelude::*;
use numpy::{PyArrayDescr, PyUntypedArray};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyTuple};

use crate::element::Element;
use crate::error::Error;
use crate::isa::Level;
use crate::rules::{Coefficients, MAX_STATES, Recipe, Step};

/// The roles of the arrays of one parameter: itself, its gradient, its states.
const PARAMETER: usize = 0;
const GRADIENT: usize = 1;
const MAX_ROLES: usize = 2 + MAX_STATES;

/// The elements that a strided array is gathered into a buffer by.
const TILE: usize = 256;

/// The arrays of a call as Python gave them: a tuple for each role, all of one length.
pub(super) struct Arrays<'a, 'py> {
    /// Parameters, gradients, then each state.
    pub(super) roles: Vec<&'a Bound<'py, PyTuple>>,
    /// `describe(role, index)` is what the caller calls that array.
    pub(super) describe: &'a Bound<'py, PyAny>,
}

impl<'a, 'py> Arrays<'a, 'py> {
    fn get(&self, place: Place) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        self.roles[place.role].get_borrowed_item(place.index)
    }

    fn name(&self, place: Place) -> PyResult<String> {
        self.describe.call1((place.role, place.index))?.extract()
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dtype {
    F32,
    F64,
}

impl Dtype {
    fn of(descr: &Bound<'_, PyArrayDescr>) -> Option<Self> {
        use numpy::npyffi::NPY_TYPES::{NPY_DOUBLE, NPY_FLOAT};
        // A byte-swapped dtype has the same number.
        if descr.is_native_byteorder() != Some(true) {
            return None;
        }
        let number = descr.num();
        if number == NPY_FLOAT as i32 {
            Some(Self::F32)
        } else if number == NPY_DOUBLE as i32 {
            Some(Self::F64)
        } else {
            None
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    const fn size(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 => size_of::<f64>(),
        }
    }
}

/// What NumPy says of one array.
#[derive(Clone, Copy)]
struct View<'a> {
    data: *mut u8,
    shape: &'a [isize],
    /// In bytes.
    strides: &'a [isize],
    flags: i32,
    dtype: Dtype,
}

impl<'a> View<'a> {
    fn of<'py>(array: Borrowed<'a, 'py, PyUntypedArray>, dtype: Dtype) -> Self {
        // SAFETY: `array` is an ndarray (its type says so) and we are attached to the interpreter,
        // so its C struct can be read. The struct is only read here, and lives as long as `'a`.
        let fields = unsafe { &*_PyArray_GET_ITEM_DATA(array.as_array_ptr()) };
        let ndim = usize::try_from(fields.nd).unwrap_or(0);
        let (shape, strides): (&[isize], &[isize]) = if ndim == 0 {
            // NumPy may have null pointers here.
            (&[], &[])
        } else {
            // SAFETY: an ndarray of `ndim` > 0 has that many dimensions and strides. They move only
            // when Python code sets `shape` or `strides`; none runs while a `View` lives, which is
            // within `Plan::check`.
            unsafe {
                (
                    slice::from_raw_parts(fields.dimensions, ndim),
                    slice::from_raw_parts(fields.strides, ndim),
                )
            }
        };
        Self { data: fields.data.cast(), shape, strides, flags: fields.flags, dtype }
    }

    fn len(&self) -> usize {
        self.shape.iter().product::<isize>().unsigned_abs()
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag != 0
    }

    fn is_dense(&self) -> bool {
        self.has(NPY_ARRAY_C_CONTIGUOUS) || self.has(NPY_ARRAY_F_CONTIGUOUS)
    }

    fn is_aligned(&self) -> bool {
        self.data.addr().is_multiple_of(self.dtype.size())
    }

    /// The addresses from the first byte to the one after the last; `None` for an empty array.
    fn span(&self) -> Option<Range<usize>> {
        let (mut start, mut end) = (self.data.addr(), self.data.addr() + self.dtype.size());
        for (&n, &stride) in iter::zip(self.shape, self.strides) {
            let reach = (n.checked_sub(1).filter(|&n| n >= 0)? * stride).unsigned_abs();
            if stride < 0 {
                start -= reach;
            } else {
                end += reach;
            }
        }
        Some(start..end)
    }

    /// Whether every axis steps over all that the axes inside it reach, so that no two elements
    /// can share a byte.
    fn is_nested(&self) -> bool {
        let mut axes: Vec<_> = iter::zip(self.shape, self.strides)
            .filter(|&(&n, _)| n > 1)
            .map(|(&n, &stride)| (stride.unsigned_abs(), n.unsigned_abs()))
            .collect();
        axes.sort_unstable();
        let mut reach = self.dtype.size();
        axes.into_iter().all(|(stride, n)| {
            let clear = stride >= reach;
            reach += stride * (n - 1);
            clear
        })
    }
}

/// One parameter with its gradient and states: where they are and how to walk them.
struct Job {
    dtype: Dtype,
    len: usize,
    data: [*mut u8; MAX_ROLES],
    /// From the outermost to the innermost; empty when every array is one dense run of elements
    /// in the same order.
    axes: Vec<Axis>,
}

#[derive(Clone, Copy)]
struct Axis {
    len: usize,
    /// In bytes, for each role.
    steps: [isize; MAX_ROLES],
}

impl Job {
    /// `views` of one shape and dtype, one for each role.
    fn new(views: &[View<'_>]) -> Self {
        let first = views[PARAMETER];
        let all = |flag| views.iter().all(|view| view.has(flag));
        let aligned = views.iter().all(View::is_aligned);
        let dense = aligned && (all(NPY_ARRAY_C_CONTIGUOUS) || all(NPY_ARRAY_F_CONTIGUOUS));
        let mut data = [first.data; MAX_ROLES];
        for (data, view) in iter::zip(&mut data, views) {
            *data = view.data;
        }
        let axes = if dense { Vec::new() } else { axes(views, aligned) };
        Self { dtype: first.dtype, len: first.len(), data, axes }
    }

    fn sweep<F: Element>(&mut self, states: usize, step: Step<F>, level: Level, c: &Coefficients) {
        if self.axes.is_empty() {
            let (p, g, mut state) = self.slices(states);
            step(level, c, p, g, &mut state[..states]);
            return;
        }
        let mut tiles = [[F::default(); TILE]; MAX_ROLES];
        for start in (0..self.len).step_by(TILE) {
            let n = TILE.min(self.len - start);
            self.gather(start, n, &mut tiles[..2 + states]);
            let [p, g, state @ ..] = tiles.each_mut().map(|tile| &mut tile[..n]);
            let mut state: [&mut [F]; MAX_STATES] = state;
            step(level, c, p, g, &mut state[..states]);
            self.scatter(start, n, &tiles[..2 + states]);
        }
    }

    /// The dense arrays as slices: parameter, gradient, states.
    fn slices<F: Element>(&mut self, states: usize) -> (&mut [F], &[F], [&mut [F]; MAX_STATES]) {
        assert!(self.axes.is_empty() && size_of::<F>() == self.dtype.size());
        let [p, g, state @ ..] = self.data.map(<*mut u8>::cast::<F>);
        // SAFETY: without axes, `Job::new` has seen `len` > 0 aligned elements in one run behind
        // each pointer, of the one dtype that is as large as `F`, in arrays that outlive the job
        // (see `Plan`'s `Send`). `Plan::check` has refused written arrays that share memory with
        // another, and the slices borrow the job mutably, so they are the only ones. The gradient,
        // which may be shared, is only read.
        unsafe {
            (
                slice::from_raw_parts_mut(p, self.len),
                slice::from_raw_parts(g, self.len),
                array::from_fn(|k| match state.get(k).filter(|_| k < states) {
                    Some(&data) => slice::from_raw_parts_mut(data, self.len),
                    None => &mut [],
                }),
            )
        }
    }

    /// Copies `n` elements from `start` on, in the order of the axes, into a tile for each role.
    fn gather<F: Element>(&self, start: usize, n: usize, tiles: &mut [[F; TILE]]) {
        assert!(start + n <= self.len && size_of::<F>() == self.dtype.size());
        self.runs(start, n, |at, run, places, steps| {
            for (role, tile) in tiles.iter_mut().enumerate() {
                for (i, element) in tile[at..at + run].iter_mut().enumerate() {
                    let place = self.data[role].wrapping_offset(places[role]);
                    let place = place.wrapping_offset(steps[role] * i.cast_signed());
                    // SAFETY: `runs` visits index tuples within the shape, so this is the address
                    // of an element of the array, whose dtype is as large as `F`; any bytes are a
                    // float, and none need be aligned. The array outlives the job (`Plan`'s `Send`).
                    *element = unsafe { place.cast::<F>().read_unaligned() };
                }
            }
        });
    }

    /// Copies the tiles back, but for the gradient's.
    fn scatter<F: Element>(&mut self, start: usize, n: usize, tiles: &[[F; TILE]]) {
        assert!(start + n <= self.len && size_of::<F>() == self.dtype.size());
        self.runs(start, n, |at, run, places, steps| {
            for (role, tile) in tiles.iter().enumerate().filter(|&(role, _)| role != GRADIENT) {
                for (i, &element) in tile[at..at + run].iter().enumerate() {
                    let place = self.data[role].wrapping_offset(places[role]);
                    let place = place.wrapping_offset(steps[role] * i.cast_signed());
                    // SAFETY: as in `gather`; and the array is writable, which `check_array` has
                    // seen, and shares memory with no other of the call, nor with itself.
                    unsafe { place.cast::<F>().write_unaligned(element) };
                }
            }
        });
    }

    /// Visits `n` elements from `start` on, a run of the innermost axis at a time: how many came
    /// before, the run's length, and where in each array it starts and how it steps, in bytes.
    #[inline(always)]
    fn runs(
        &self,
        start: usize,
        n: usize,
        mut visit: impl FnMut(usize, usize, [isize; MAX_ROLES], [isize; MAX_ROLES]),
    ) {
        let Some(inner) = self.axes.last() else { return };
        let mut done = 0;
        while done < n {
            let mut index = start + done;
            let run = (inner.len - index % inner.len).min(n - done);
            let mut places = [0; MAX_ROLES];
            for axis in self.axes.iter().rev() {
                let along = (index % axis.len).cast_signed();
                index /= axis.len;
                for (place, step) in iter::zip(&mut places, axis.steps) {
                    *place += along * step;
                }
            }
            visit(done, run, places, inner.steps);
            done += run;
        }
    }
}

/// The axes of `views` in the order of the parameter's memory, with those that run on from one
/// another made one.
fn axes(views: &[View<'_>], aligned: bool) -> Vec<Axis> {
    let first = views[PARAMETER];
    let step = |role: usize, axis: usize| views.get(role).map_or(0, |view| view.strides[axis]);
    let mut axes: Vec<_> = (0..first.shape.len())
        .filter(|&axis| first.shape[axis] != 1)
        .map(|axis| Axis {
            len: first.shape[axis].unsigned_abs(),
            steps: array::from_fn(|role| step(role, axis)),
        })
        .collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.steps[PARAMETER].unsigned_abs()));
    axes.dedup_by(|inner, outer| {
        let reach = inner.steps.map(|step| step * inner.len.cast_signed());
        let runs_on = outer.steps == reach;
        if runs_on {
            *outer = Axis { len: outer.len * inner.len, ..*inner };
        }
        runs_on
    });
    let size = first.dtype.size().cast_signed();
    let is_dense = |axis: &Axis| axis.steps[..views.len()].iter().all(|&step| step == size);
    match axes.as_slice() {
        [only] if aligned && is_dense(only) => axes.clear(),
        // One element, but misaligned: walk it.
        [] => axes.push(Axis { len: 1, steps: [size; MAX_ROLES] }),
        _ => {}
    }
    axes
}

/// The bytes of one array, for finding arrays that share some.
struct Span {
    bytes: Range<usize>,
    place: Place,
}

/// Which array of the call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    index: usize,
    role: usize,
}

impl Place {
    fn is_written(self) -> bool {
        self.role != GRADIENT
    }
}

/// All arrays of a call, checked.
pub(super) struct Plan {
    jobs: Vec<Job>,
    roles: usize,
    len: usize,
}

// SAFETY: the raw pointers go to buffers that live as long as the call that made the plan: its
// arguments hold references to the arrays. No two of them share memory where one is written
// (`check` refuses that), so it does not matter which thread runs the plan.
unsafe impl Send for Plan {}

impl Plan {
    /// Looks at every array of the call. After this, nothing can fail.
    ///
    /// # Errors
    /// As the table of the README says what bad input gets.
    pub(super) fn check(arrays: &Arrays<'_, '_>) -> PyResult<Self> {
        let roles = arrays.roles.len();
        let count = arrays.roles[PARAMETER].len();
        let mut plan = Self { jobs: Vec::with_capacity(count), roles, len: 0 };
        let mut spans = Vec::with_capacity(count * roles);
        let mut suspects = Vec::new();
        // Types first: these checks may run Python code, which must not happen while views live.
        for index in 0..count {
            for role in 0..roles {
                check_type(arrays, Place { index, role })?;
            }
        }
        for index in 0..count {
            let first = check_array(arrays, Place { index, role: PARAMETER })?;
            let mut views = [first; MAX_ROLES];
            for (role, view) in views[..roles].iter_mut().enumerate().skip(1) {
                *view = check_companion(arrays, Place { index, role }, &first)?;
            }
            for (role, view) in (0..).zip(&views[..roles]) {
                let place = Place { index, role };
                spans.extend(view.span().map(|bytes| Span { bytes, place }));
                if place.is_written() && !view.is_dense() && !view.is_nested() {
                    suspects.push(place);
                }
            }
            let job = Job::new(&views[..roles]);
            if job.len > 0 {
                plan.len += job.len;
                plan.jobs.push(job);
            }
        }
        refuse_folded(arrays, &suspects)?;
        refuse_shared_memory(arrays, spans)?;
        Ok(plan)
    }

    /// The number of elements of all parameters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The step itself.
    pub(super) fn run(mut self, recipe: &Recipe, level: Level, coefficients: &Coefficients) {
        let states = self.roles - 2;
        for job in &mut self.jobs {
            match job.dtype {
                Dtype::F32 => job.sweep(states, recipe.step_f32, level, coefficients),
                Dtype::F64 => job.sweep(states, recipe.step_f64, level, coefficients),
            }
        }
    }
}

/// An ndarray, and none with a mask.
fn check_type(arrays: &Arrays<'_, '_>, place: Place) -> PyResult<()> {
    let item = arrays.get(place)?;
    if item.is_exact_instance_of::<PyUntypedArray>() {
        return Ok(());
    }
    if !item.is_instance_of::<PyUntypedArray>() {
        let what = format!("is a {}; wanted a numpy.ndarray", item.get_type().name()?);
        return Err(arrays.type_error(place, &what));
    }
    let masked = item.py().import("numpy.ma")?.getattr("MaskedArray")?;
    if item.is_instance(&masked)? {
        let what = "is a numpy.ma.MaskedArray, whose mask a step would ignore; \
                    wanted a plain numpy.ndarray";
        return Err(arrays.type_error(place, what));
    }
    Ok(())
}

/// An array of floats, writable where the step writes.
#[inline(always)]
fn check_array<'a>(arrays: &Arrays<'a, '_>, place: Place) -> PyResult<View<'a>> {
    let item = arrays.get(place)?;
    let array = item.cast::<PyUntypedArray>()?;
    let Some(dtype) = Dtype::of(&array.dtype()) else {
        let what = format!(
            "has dtype {}; wanted float32 or float64, in this machine's byte order",
            array.dtype().str()?
        );
        return Err(arrays.type_error(place, &what));
    };
    let view = View::of(array, dtype);
    if place.is_written() && !view.has(NPY_ARRAY_WRITEABLE) {
        let what = "is read-only, and a step writes it; pass a writable array";
        return Err(arrays.value_error(place, what));
    }
    Ok(view)
}

/// A gradient or state: as [`check_array`], and of its parameter's dtype and shape.
#[inline(always)]
fn check_companion<'a>(
    arrays: &Arrays<'a, '_>,
    place: Place,
    parameter: &View<'_>,
) -> PyResult<View<'a>> {
    let view = check_array(arrays, place)?;
    if view.dtype != parameter.dtype {
        let (has, wanted) = (view.dtype.name(), parameter.dtype.name());
        let name = arrays.name(Place { role: PARAMETER, ..place })?;
        let what = format!("has dtype {has}; wanted {wanted}, the dtype of {name}");
        return Err(arrays.type_error(place, &what));
    }
    if view.shape != parameter.shape {
        let (has, wanted) = (shape(view.shape), shape(parameter.shape));
        let name = arrays.name(Place { role: PARAMETER, ..place })?;
        let what = format!("has shape {has}; wanted {wanted}, the shape of {name}");
        return Err(arrays.value_error(place, &what));
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
fn refuse_folded(arrays: &Arrays<'_, '_>, suspects: &[Place]) -> PyResult<()> {
    for &place in suspects {
        if overlaps_itself(&*arrays.get(place)?)? {
            let what = "has elements that share memory with each other, and a step writes it; \
                        pass a copy";
            return Err(arrays.value_error(place, what));
        }
    }
    Ok(())
}

/// Whether two elements of one array share memory, for an array that [`View::is_nested`] can't
/// clear: along each axis, the first place against all later ones.
fn overlaps_itself(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = array.py();
    let ndim: usize = array.getattr(intern!(py, "ndim"))?.extract()?;
    let first = PySlice::new(py, 0, 1, 1);
    let rest = PySlice::new(py, 1, isize::MAX, 1);
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

/// Whether two arrays have a byte in common. `NumPy` solves the equation of their strides; where
/// that is too hard, they are taken to have one.
fn share_memory(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<bool> {
    const MAX_WORK: usize = 1_000_000;
    let py = a.py();
    let function = py.import(intern!(py, "numpy"))?.getattr(intern!(py, "shares_memory"))?;
    match function.call1((a, b, MAX_WORK)) {
        Ok(answer) => answer.extract(),
        // `numpy.exceptions.TooHardError` is a RuntimeError.
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Refuses two arrays that share memory, if the step writes one of them.
fn refuse_shared_memory(arrays: &Arrays<'_, '_>, mut spans: Vec<Span>) -> PyResult<()> {
    spans.sort_unstable_by_key(|span| span.bytes.start);
    if are_apart(&spans) {
        return Ok(());
    }
    // The spans of strided arrays may interleave while no byte is shared: look closer.
    for (i, a) in spans.iter().enumerate() {
        for b in spans[i + 1..].iter().take_while(|b| b.bytes.start < a.bytes.end) {
            if !(a.place.is_written() || b.place.is_written()) {
                continue;
            }
            if share_memory(&*arrays.get(a.place)?, &*arrays.get(b.place)?)? {
                let (first, second) = (a.place.min(b.place), a.place.max(b.place));
                let other = arrays.name(first)?;
                let what = format!(
                    "shares memory with {other}, and a step writes one of them; pass a copy"
                );
                return Err(arrays.value_error(second, &what));
            }
        }
    }
    Ok(())
}

/// Whether no written span of `spans`, which are sorted by their starts, overlaps another.
fn are_apart(spans: &[Span]) -> bool {
    let (mut end, mut end_written) = (0, 0);
    spans.iter().all(|Span { bytes, place }| {
        let apart = bytes.start >= if place.is_written() { end } else { end_written };
        end = end.max(bytes.end);
        if place.is_written() {
            end_written = end_written.max(bytes.end);
        }
        apart
    })
}
