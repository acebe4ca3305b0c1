//! What NumPy or torch says about one array: its address, dtype, shape and strides.
#![expect(unsafe_code, reason = "the structs of NumPy and DLPack are read as they are in memory")]

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::{mem, ptr, slice};

use numpy::PyUntypedArray;
use numpy::npyffi::{
    _PyArray_GET_ITEM_DATA, _PyDataType_GET_ITEM_DATA, NPY_ARRAY_C_CONTIGUOUS,
    NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_TYPES, PyArray_Descr_fields,
};
use pyo3::PyTypeInfo;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyType};

use super::once::Once;
use crate::error::Error;
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

/// The dtypes that the arrays of a call can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F64,
    F16,
    Bf16,
    U16,
    I16,
    U8,
}

/// The number that `NumPy` has given to the bfloat16 of `ml_dtypes`; before anybody has said so, one that
/// no type has.
static BFLOAT16: AtomicI32 = AtomicI32::new(i32::MIN);

impl Dtype {
    /// Has arrays of this type known as those of bfloat16.
    pub(super) fn know_bfloat16(number: i32) {
        BFLOAT16.store(number, Ordering::Relaxed);
    }

    /// Of the number that NumPy has given to a type, in the order of bytes that this machine has.
    fn of(number: i32) -> Option<Self> {
        match number {
            number if number == NPY_TYPES::NPY_FLOAT as i32 => Some(Self::F32),
            number if number == NPY_TYPES::NPY_DOUBLE as i32 => Some(Self::F64),
            number if number == NPY_TYPES::NPY_HALF as i32 => Some(Self::F16),
            number if number == NPY_TYPES::NPY_USHORT as i32 => Some(Self::U16),
            number if number == NPY_TYPES::NPY_SHORT as i32 => Some(Self::I16),
            number if number == NPY_TYPES::NPY_UBYTE as i32 => Some(Self::U8),
            number if number == BFLOAT16.load(Ordering::Relaxed) => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U8 => "uint8",
        }
    }

    /// In bytes.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 => size_of::<f64>(),
            Self::F16 | Self::Bf16 | Self::U16 | Self::I16 => size_of::<u16>(),
            Self::U8 => size_of::<u8>(),
        }
    }

    /// Whether steps without a storage have it.
    pub(super) const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// An array of a call.
pub(super) enum Array {
    Numpy(Py<PyUntypedArray>),
    /// One of the tensors that the call has looked at.
    Torch(Arc<Tensors>, u32),
}

impl From<Py<PyUntypedArray>> for Array {
    fn from(array: Py<PyUntypedArray>) -> Self {
        Self::Numpy(array)
    }
}

impl Array {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Numpy(array) => Self::Numpy(array.clone_ref(py)),
            Self::Torch(tensors, at) => Self::Torch(Arc::clone(tensors), *at),
        }
    }

    /// Lets go of it.
    #[inline(always)]
    pub(super) fn drop_ref(self, py: Python<'_>) {
        if let Self::Numpy(array) = self {
            array.drop_ref(py);
        }
    }

    /// The array itself.
    pub(super) fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Numpy(array) => array.as_any(),
            Self::Torch(tensors, at) => &tensors.list[*at as usize].object,
        }
    }
}

/// An object as an ndarray, if it is one and of no subclass; else the object.
#[inline(always)]
pub(super) fn ndarray(
    object: Bound<'_, PyAny>,
) -> Result<Bound<'_, PyUntypedArray>, Bound<'_, PyAny>> {
    static TYPE: Once<Py<PyType>> = Once::new();
    let py = object.py();
    let known = TYPE.get(py, || Ok(PyUntypedArray::type_object(py).unbind()));
    if known.is_ok_and(|known| known.as_ptr().cast() == object.get_type_ptr()) {
        // SAFETY: its type is that of ndarrays.
        Ok(unsafe { object.cast_into_unchecked() })
    } else {
        Err(object)
    }
}

/// What is said of an array, for as long as no Python code runs.
#[derive(Clone, Copy)]
pub(super) struct View<'q> {
    pub(super) data: *mut u8,
    pub(super) shape: &'q [isize],
    /// In bytes.
    pub(super) strides: &'q [isize],
    flags: i32,
    descr: Descr,
}

/// What NumPy says of a type, in a word: its number and the order of its bytes.
#[derive(Clone, Copy)]
struct Descr(u64);

impl Descr {
    #[inline]
    fn of(fields: &PyArray_Descr_fields) -> Self {
        // Not all machines give C's characters a sign.
        let order = u64::from(fields.byteorder.to_ne_bytes()[0]);
        Self(u64::from(fields.type_num.cast_unsigned()) << 32 | order)
    }

    /// Of a type in the order of bytes that this machine has.
    fn native(number: i32) -> Self {
        Self(u64::from(number.cast_unsigned()) << 32 | u64::from(b'='))
    }

    #[expect(clippy::cast_possible_truncation, reason = "its upper half is meant, and a byte")]
    fn dtype(self) -> Option<Dtype> {
        let (number, order) = ((self.0 >> 32) as u32, self.0 as u8);
        let own = if cfg!(target_endian = "little") { b'<' } else { b'>' };
        // One of single bytes has no order.
        let is_native = [b'=', b'|', own].contains(&order);
        Dtype::of(number.cast_signed()).filter(|_| is_native)
    }
}

/// A bit that the first word of no [`View::kind`] has: no flag and no number of axes takes it.
pub(super) const NO_KIND: u64 = 1 << 63;

impl<'q> View<'q> {
    /// The view of an array. Of a tensor it is what was said when the call looked at it.
    #[inline]
    pub(super) fn of(array: &'q Array, quiet: &'q Quiet) -> Self {
        match array {
            Array::Numpy(array) => Self::of_numpy(array, quiet),
            Array::Torch(tensors, at) => tensors.view(*at as usize),
        }
    }

    #[inline]
    fn of_numpy(array: &'q Py<PyUntypedArray>, _: &'q Quiet) -> Self {
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
        // SAFETY: the descriptor of an ndarray lives as long as the ndarray has it, and begins with
        // these fields in every NumPy.
        let descr = Descr::of(unsafe { &*_PyDataType_GET_ITEM_DATA(fields.descr) });
        Self { data: fields.data.cast(), shape, strides, flags: fields.flags, descr }
    }

    /// `None` for dtypes that a step can't have.
    #[inline]
    pub(super) fn dtype(&self) -> Option<Dtype> {
        self.descr.dtype()
    }

    /// In bytes, as if it were of float64 where its dtype is none of those that a call can have.
    pub(super) fn element_size(&self) -> usize {
        self.dtype().map_or(size_of::<f64>(), Dtype::size)
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

    /// Whether it is one run of elements, in the order of C or of Fortran.
    #[inline]
    pub(super) fn is_contiguous(&self) -> bool {
        self.is_c_contiguous() || self.is_f_contiguous()
    }

    pub(super) fn is_writable(&self) -> bool {
        self.flags & NPY_ARRAY_WRITEABLE != 0
    }

    pub(super) fn is_aligned(&self) -> bool {
        self.data.addr().is_multiple_of(self.element_size())
    }

    /// Whether it has the dtype, the shape and the strides of another array, and is aligned if that is.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.dtype() == other.dtype()
            && (self.shape, self.strides) == (other.shape, other.strides)
            && self.is_aligned() == other.is_aligned()
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

    /// Its flags, as far as they matter, its number of axes and its type.
    #[inline]
    pub(super) fn kind(&self) -> [u64; 2] {
        const FLAGS: i32 = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS | NPY_ARRAY_WRITEABLE;
        let flags = u64::from((self.flags & FLAGS).cast_unsigned());
        [(self.shape.len() as u64) << 32 | flags, self.descr.0]
    }
}

/// The beginning of `DLPackExchangeAPI`, as it is where the major version is 1.
#[repr(C)]
struct Exchange {
    major: u32,
    minor: u32,
    previous: *const c_void,
    allocate: *const c_void,
    from_object: *const c_void,
    to_object: *const c_void,
    look: Option<Look>,
}

/// Fills in what a tensor is like; 0 for success, else with a Python exception.
type Look = unsafe extern "C" fn(tensor: *mut PyObject, out: *mut DlTensor) -> c_int;

/// `DLTensor`.
#[repr(C)]
struct DlTensor {
    data: *mut u8,
    device: i32,
    device_number: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    /// In elements.
    strides: *const i64,
    offset: u64,
}

const CPU: i32 = 1;
const FLOAT: u8 = 2;

/// How torch says what a tensor is like, without making anything for it.
pub(super) struct Dlpack {
    /// `torch.Tensor` and `torch.nn.Parameter`: subclasses may be something else inside.
    kinds: [Py<PyType>; 2],
    look: Look,
    /// Owns the function.
    _capsule: Py<PyCapsule>,
}

impl Dlpack {
    /// Of `torch.Tensor` and `torch.nn.Parameter`.
    ///
    /// # Errors
    /// An `ImportError` for a torch without the table of functions that this takes.
    pub(super) fn of(kinds: [Bound<'_, PyType>; 2]) -> PyResult<Self> {
        let name = c"dlpack_exchange_api";
        let table = kinds[0].getattr("__dlpack_c_exchange_api__");
        let old = || Error::Import("torch is too old; wanted torch 2.13 or newer".to_owned());
        let capsule = table.map_err(|_| old())?.cast_into::<PyCapsule>().map_err(|_| old())?;
        let table = capsule.pointer_checked(Some(name)).map_err(|_| old())?.cast::<Exchange>();
        // SAFETY: DLPack says that what a capsule of that name points to begins with its version, and
        // is `Exchange` where the major one is 1. The capsule lives, and with it the table.
        let look = unsafe {
            let major = (*table.as_ptr()).major;
            if major == 1 { (*table.as_ptr()).look } else { None }
        };
        let look = look.ok_or_else(old)?;
        Ok(Self { kinds: kinds.map(Bound::unbind), look, _capsule: capsule.unbind() })
    }

    /// Whether an object is a tensor, and of no subclass.
    #[inline]
    pub(super) fn is_plain(&self, object: &Bound<'_, PyAny>) -> bool {
        let kind = object.get_type_ptr();
        self.kinds.iter().any(|plain| plain.as_ptr().cast() == kind)
    }
}

/// Tensors of torch, as they were when a call looked at them. **Between the look and the last use of
/// what it said, no Python code runs**, as for a [`View`]: a tensor can be given another memory.
#[derive(Default)]
pub(super) struct Tensors {
    list: Vec<Tensor>,
    /// The shapes and strides, one after the other.
    numbers: Vec<isize>,
}

struct Tensor {
    /// Holds the memory, unless Python code takes it away.
    object: Py<PyAny>,
    data: usize,
    /// Where its shape is among the numbers; its strides follow.
    first: usize,
    ndim: usize,
    flags: i32,
    number: i32,
}

impl Tensors {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { list: Vec::with_capacity(count), numbers: Vec::with_capacity(4 * count) }
    }

    /// Looks at an object. Returns its place here, or `None` for what is no plain tensor with
    /// elements in this machine's memory.
    #[inline]
    pub(super) fn look(&mut self, dlpack: &Dlpack, object: &Bound<'_, PyAny>) -> Option<usize> {
        if !dlpack.is_plain(object) {
            return None;
        }
        // SAFETY: all bits zero are a value of it.
        let mut said: DlTensor = unsafe { mem::zeroed() };
        // SAFETY: the function is torch's, and takes a tensor of torch, which the object is. The
        // interpreter is held, as `object` shows.
        if unsafe { (dlpack.look)(object.as_ptr(), &raw mut said) } != 0 {
            // One without memory of its own. What it says is lost on purpose.
            drop(PyErr::take(object.py()));
            return None;
        }
        let ndim = usize::try_from(said.ndim).ok()?;
        let (shape, strides): (&[i64], &[i64]) = if ndim == 0 {
            (&[], &[])
        } else {
            // SAFETY: a tensor of `ndim` > 0 has that many dimensions and strides. They are the
            // tensor's own, and are read before anything can change it.
            unsafe {
                (slice::from_raw_parts(said.shape, ndim), slice::from_raw_parts(said.strides, ndim))
            }
        };
        let number = match (said.code, said.bits, said.lanes) {
            (FLOAT, 32, 1) => NPY_TYPES::NPY_FLOAT as i32,
            (FLOAT, 64, 1) => NPY_TYPES::NPY_DOUBLE as i32,
            _ => return None,
        };
        let size = Dtype::of(number)?.size().cast_signed();
        let data = said.data.wrapping_add(usize::try_from(said.offset).ok()?);
        let first = self.numbers.len();
        for &n in shape {
            self.numbers.push(isize::try_from(n).ok()?);
        }
        for &stride in strides {
            self.numbers.push(isize::try_from(stride).ok()? * size);
        }
        let (shape, strides) = self.numbers[first..].split_at(ndim);
        let is_empty = shape.contains(&0);
        if said.device != CPU || data.is_null() && !is_empty {
            return None;
        }
        let next = |step: isize, axis: usize| {
            (shape[axis] == 1 || strides[axis] == step).then(|| step * shape[axis])
        };
        let mut flags = NPY_ARRAY_WRITEABLE;
        if is_empty || (0..ndim).rev().try_fold(size, next).is_some() {
            flags |= NPY_ARRAY_C_CONTIGUOUS;
        }
        if is_empty || (0..ndim).try_fold(size, next).is_some() {
            flags |= NPY_ARRAY_F_CONTIGUOUS;
        }
        let object = object.clone().unbind();
        self.list.push(Tensor {
            object,
            data: data.expose_provenance(),
            first,
            ndim,
            flags,
            number,
        });
        Some(self.list.len() - 1)
    }

    #[inline]
    fn view(&self, at: usize) -> View<'_> {
        let tensor = &self.list[at];
        let (shape, strides) =
            self.numbers[tensor.first..][..2 * tensor.ndim].split_at(tensor.ndim);
        let data = ptr::with_exposed_provenance_mut(tensor.data);
        View { data, shape, strides, flags: tensor.flags, descr: Descr::native(tensor.number) }
    }

    /// The number of a tensor that is one number, and whether it is of float64.
    #[expect(clippy::cast_ptr_alignment, reason = "it is aligned")]
    pub(super) fn number(&self, at: usize, _: &Quiet) -> Option<(f64, bool)> {
        let view = self.view(at);
        if view.len() != 1 || !view.is_aligned() {
            return None;
        }
        // SAFETY: the look was at a tensor with one element of that type, aligned, in memory that no
        // Python code has taken away since.
        unsafe {
            Some(match view.dtype()? {
                Dtype::F32 => (view.data.cast::<f32>().read().into(), false),
                Dtype::F64 => (view.data.cast::<f64>().read(), true),
                _ => return None,
            })
        }
    }

    /// Sets it, rounded to its dtype.
    #[expect(clippy::cast_ptr_alignment, reason = "it is aligned")]
    pub(super) fn set_number(&self, at: usize, number: f64, _: &Quiet) {
        let view = self.view(at);
        assert!(view.len() == 1 && view.is_aligned());
        // SAFETY: as in `number`; and nothing has a reference to it.
        unsafe {
            match view.dtype() {
                #[expect(clippy::cast_possible_truncation, reason = "it is rounded")]
                Some(Dtype::F32) => view.data.cast::<f32>().write(number as f32),
                Some(Dtype::F64) => view.data.cast::<f64>().write(number),
                _ => {}
            }
        }
    }
}
