//! The powers of bias corrections as `np.power` computes them, by calling the loop that it runs. The C
//! library's `pow` is another function, and may differ in the last bit.
#![expect(unsafe_code, reason = "a loop of NumPy is called by its address")]

use std::ffi::c_char;
use std::slice;

use numpy::npyffi::{NPY_TYPES, PyUFuncObject};
use pyo3::prelude::*;

use super::once::Once;
use crate::error::Error;

/// `numpy.power`, and where it has its loop for float64.
struct Power {
    ufunc: Py<PyAny>,
    place: usize,
}

/// `np.power(bases, exponent)`, all of one loop: to it, each is as if it were alone.
///
/// # Errors
/// When NumPy's `power` is not NumPy's.
pub(super) fn power(
    py: Python<'_>,
    bases: &[f64],
    mut exponent: f64,
    out: &mut [f64],
) -> PyResult<()> {
    static POWER: Once<Power> = Once::new();
    let power = POWER.get(py, || Power::find(py))?;
    assert_eq!(bases.len(), out.len());
    let size = size_of::<f64>().cast_signed();
    let mut arrays: [*mut c_char; 3] =
        [bases.as_ptr().cast_mut().cast(), (&raw mut exponent).cast(), out.as_mut_ptr().cast()];
    let mut strides = [size, 0, size];
    let mut len = bases.len().cast_signed();
    // SAFETY: `find` has seen that the object is a `numpy.ufunc`, so this is its struct, and that it has
    // a loop of two float64 arrays and a third at this place. Nothing moves them as long as it lives.
    let (run, data) = unsafe {
        let fields = &(*power.ufunc.as_ptr().cast::<PyUFuncObject>()).fields;
        (*fields.functions.add(power.place), *fields.data.add(power.place))
    };
    let Some(run) = run else { return Err(not_numpys().into()) };
    // SAFETY: the loop reads `len` numbers from the first array and the one of the second, and writes
    // `len` to the third, which is as long; it keeps none of the pointers.
    unsafe { run(arrays.as_mut_ptr(), &raw mut len, strides.as_mut_ptr(), data) };
    Ok(())
}

impl Power {
    fn find(py: Python<'_>) -> PyResult<Self> {
        const OF_FLOAT64: [c_char; 3] = [NPY_TYPES::NPY_DOUBLE as c_char; 3];
        let numpy = py.import("numpy")?;
        let ufunc = numpy.getattr("power")?;
        if !ufunc.get_type().is(numpy.getattr("ufunc")?) {
            return Err(not_numpys().into());
        }
        // SAFETY: a `numpy.ufunc` begins with this struct in every NumPy.
        let fields = unsafe { &(*ufunc.as_ptr().cast::<PyUFuncObject>()).fields };
        let count = usize::try_from(fields.ntypes).unwrap_or(0);
        let nargs = usize::try_from(fields.nargs).unwrap_or(0);
        if nargs != 3
            || fields.types.is_null()
            || fields.functions.is_null()
            || fields.data.is_null()
        {
            return Err(not_numpys().into());
        }
        // SAFETY: so many loops have so many types each.
        let types = unsafe { slice::from_raw_parts(fields.types, count * nargs) };
        let place = types.chunks(nargs).position(|types| types == OF_FLOAT64);
        let place = place.ok_or_else(not_numpys)?;
        Ok(Self { ufunc: ufunc.unbind(), place })
    }
}

fn not_numpys() -> Error {
    Error::Import(
        "numpy.power is not NumPy's own; wanted its ufunc, with a loop for float64".to_owned(),
    )
}
