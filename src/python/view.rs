//! What NumPy says of one array: where it is, its dtype, shape and strides.
#![expect(unsafe_code, reason = "NumPy's structs are read as they are in memory")]

use std::ops::Range;
use std::slice;

use numpy::PyUntypedArray;
use numpy::npyffi::{
    _PyArray_GET_ITEM_DATA, _PyDataType_GET_ITEM_DATA, NPY_ARRAY_C_CONTIGUOUS,
    NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_TYPES, PyArray_Descr,
};
use pyo3::prelude::*;

use crate::overlap::Elements;

/// Proof that no Python code can run, so that no array can change its shape: a [`View`] borrows it.
///
/// Only [`Quiet::within`] makes one, and lends it to a closure that has no way to the interpreter.
pub(super) struct Quiet(());

impl Quiet {
    /// Calls `look`, which is `Send`: what leads to the interpreter, as every `Bound` does, is not.
    pub(super) fn within<T: Send>(_: Python<'_>, look: impl FnOnce(&Self) -> T + Send) -> T {
        look(&Self(()))
    }
}

/// The dtypes that a step can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F64,
}

impl Dtype {
    /// # Safety
    /// `descr` is the descriptor of an ndarray that is alive.
    unsafe fn of(descr: *const PyArray_Descr) -> Option<Self> {
        // SAFETY: a descriptor begins with these fields in every NumPy, and it is alive.
        let fields = unsafe { &*_PyDataType_GET_ITEM_DATA(descr) };
        // A byte-swapped dtype has the same number.
        if fields.byteorder.cast_unsigned() != b'=' {
            return None;
        }
        match fields.type_num {
            number if number == NPY_TYPES::NPY_FLOAT as i32 => Some(Self::F32),
            number if number == NPY_TYPES::NPY_DOUBLE as i32 => Some(Self::F64),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// In bytes.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 => size_of::<f64>(),
        }
    }
}

/// What NumPy says of an array, for as long as no Python code runs.
#[derive(Clone, Copy)]
pub(super) struct View<'q> {
    pub(super) data: *mut u8,
    pub(super) shape: &'q [isize],
    /// In bytes.
    pub(super) strides: &'q [isize],
    flags: i32,
    /// `None` for those that a step can't have.
    pub(super) dtype: Option<Dtype>,
}

impl<'q> View<'q> {
    /// The view of an array.
    #[inline]
    pub(super) fn of(array: &'q Py<PyUntypedArray>, _: &'q Quiet) -> Self {
        // SAFETY: `array` is an ndarray (its type says so) and alive, so its struct can be read. It
        // is only read here, and nobody writes it meanwhile: that takes Python code, and `Quiet`,
        // which the view borrows, is there only while none can run.
        let fields = unsafe { &*_PyArray_GET_ITEM_DATA(array.as_ptr().cast()) };
        let ndim = usize::try_from(fields.nd).unwrap_or(0);
        let (shape, strides): (&[isize], &[isize]) = if ndim == 0 {
            // NumPy may have null pointers here.
            (&[], &[])
        } else {
            // SAFETY: an ndarray of `ndim` > 0 has that many dimensions and strides. They move only
            // when Python code sets `shape` or `strides`, which `Quiet` excludes.
            unsafe {
                (
                    slice::from_raw_parts(fields.dimensions, ndim),
                    slice::from_raw_parts(fields.strides, ndim),
                )
            }
        };
        // SAFETY: the descriptor of an ndarray lives as long as the ndarray has it.
        let dtype = unsafe { Dtype::of(fields.descr) };
        Self { data: fields.data.cast(), shape, strides, flags: fields.flags, dtype }
    }

    /// In bytes, as if it were of float64 where its dtype is none of those that a step can have.
    pub(super) fn element_size(&self) -> usize {
        self.dtype.map_or(size_of::<f64>(), Dtype::size)
    }

    pub(super) fn len(&self) -> usize {
        self.shape.iter().product::<isize>().unsigned_abs()
    }

    pub(super) fn is_c_contiguous(&self) -> bool {
        self.flags & NPY_ARRAY_C_CONTIGUOUS != 0
    }

    pub(super) fn is_f_contiguous(&self) -> bool {
        self.flags & NPY_ARRAY_F_CONTIGUOUS != 0
    }

    pub(super) fn is_writable(&self) -> bool {
        self.flags & NPY_ARRAY_WRITEABLE != 0
    }

    pub(super) fn is_aligned(&self) -> bool {
        self.data.addr().is_multiple_of(self.element_size())
    }

    /// Where its elements are.
    pub(super) fn elements(&self) -> Elements<'q> {
        let (data, size) = (self.data.addr(), self.element_size());
        Elements { data, shape: self.shape, strides: self.strides, size }
    }

    /// The addresses from the first byte to the one after the last; `None` for an empty array.
    #[inline]
    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.elements().span()
    }

    /// All that checks and walks depend on but the address and the shape, in one number.
    #[inline]
    fn kind(&self) -> isize {
        const FLAGS: i32 = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS | NPY_ARRAY_WRITEABLE;
        let dtype = self.dtype.map_or(0, |dtype| dtype as i32 + 1);
        let misaligned = i32::from(!self.is_aligned());
        ((self.flags & FLAGS) * 8 + dtype * 2 + misaligned) as isize
    }
}

/// What arrays are like, one after the other: all that their checks and walks depend on, but for the
/// address.
#[derive(Default)]
pub(super) struct Layouts {
    numbers: Vec<isize>,
}

impl Layouts {
    pub(super) fn push(&mut self, view: &View<'_>) {
        self.numbers.extend([view.kind(), view.shape.len().cast_signed()]);
        self.numbers.extend(view.shape);
        self.numbers.extend(view.strides);
    }

    /// Compares them with views, one after the other.
    pub(super) fn compare(&self) -> Comparison<'_> {
        Comparison { rest: self.numbers.iter() }
    }
}

pub(super) struct Comparison<'a> {
    rest: slice::Iter<'a, isize>,
}

impl Comparison<'_> {
    /// Whether the next layout is that of the view.
    #[inline(always)]
    pub(super) fn next_is(&mut self, view: &View<'_>) -> bool {
        // Number by number: to compare slices of so few is a call each.
        let mut is = |number| self.rest.next() == Some(&number);
        is(view.kind())
            && is(view.shape.len().cast_signed())
            && view.shape.iter().all(|&n| is(n))
            && view.strides.iter().all(|&stride| is(stride))
    }
}
