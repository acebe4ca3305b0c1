//! Tiles: buffers on the stack, and the copies between them and the memory of strided arrays.
#![expect(unsafe_code, reason = "the elements of strided arrays are reached by raw pointers")]

use std::mem::MaybeUninit;
use std::slice;

use crate::element::Bits;
use crate::extras::Extras;
use crate::isa;
use crate::walk::{Copying, Loop};

/// How many turns of an outer loop are done at once.
const AT_ONCE: usize = 8;

/// Room for the tiles of a block, or for one tile. Nothing is written to it before it is used: for a small array, to
/// clear it would take longer than the step.
#[repr(align(64))]
pub(super) struct Tiles<const BYTES: usize>(MaybeUninit<[u8; BYTES]>);

/// Room for what goes between the extra work of a step and its rule.
#[repr(align(64))]
pub(super) struct Scratch(MaybeUninit<[u8; Extras::TILE * size_of::<f64>()]>);

/// Room for the sum of gradients, and for what is added to it.
pub(super) struct Sums {
    pub(super) sum: Tiles<{ Extras::TILE * size_of::<f64>() }>,
    pub(super) addend: Tiles<{ Extras::TILE * size_of::<f64>() }>,
}

impl Sums {
    pub(super) fn new() -> Self {
        Self { sum: Tiles::new(), addend: Tiles::new() }
    }
}

impl<const BYTES: usize> Tiles<BYTES> {
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// Pointers to tiles of so many elements, by number: aligned, within this buffer, and apart from
    /// each other.
    pub(super) fn tiles<F: Bits>(&mut self) -> impl Fn(usize, usize) -> *mut F + use<F, BYTES> {
        let start = self.0.as_mut_ptr().cast::<F>();
        move |number, len| {
            assert!((number + 1) * len * size_of::<F>() <= BYTES);
            start.wrapping_add(number * len)
        }
    }

    /// The tile of so many elements, after `fill` has written each of them.
    ///
    /// # Safety
    /// `fill` has to do so.
    pub(super) unsafe fn filled<F: Bits>(
        &mut self,
        len: usize,
        fill: impl FnOnce(*mut F),
    ) -> &mut [F] {
        let tile = self.tiles()(0, len);
        fill(tile);
        // SAFETY: `tile` is the beginning of so many elements of this buffer, which is borrowed
        // mutably; they are written.
        unsafe { slice::from_raw_parts_mut(tile, len) }
    }
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// So many zeros.
    pub(super) fn zeros<F: Bits>(&mut self, len: usize) -> &mut [F] {
        assert!(len <= Extras::TILE);
        let room = self.0.as_mut_ptr().cast::<F>();
        // SAFETY: the buffer has room for so many elements, of f64 even; it is aligned, and borrowed
        // mutably. Bytes of zeros are elements of zero.
        unsafe {
            room.write_bytes(0, len);
            slice::from_raw_parts_mut(room, len)
        }
    }
}

/// Copies elements from an array, whose first is at `array`, to a tile.
///
/// # Safety
/// `what` leads to elements of type `F` that the array has, which nobody writes meanwhile, and to as
/// many places of memory behind `tile` that may be written. The tile is aligned; the array need not be.
pub(super) unsafe fn gather<F: Bits>(what: &Copying<'_>, array: *const u8, tile: *mut F) {
    // SAFETY: as said above; the array is only read.
    unsafe { copy::<F, true>(what, array.cast_mut(), tile) }
}

/// Copies a tile back.
///
/// # Safety
/// As [`gather`], but that the tile is read: all of its places are written; and the elements of the
/// array are written: nobody else reads or writes them meanwhile.
pub(super) unsafe fn scatter<F: Bits>(what: &Copying<'_>, array: *mut u8, tile: *const F) {
    // SAFETY: as said above; the tile is only read.
    unsafe { copy::<F, false>(what, array, tile.cast_mut()) }
}

/// # Safety
/// As [`gather`] if `IN`, else as [`scatter`].
unsafe fn copy<F: Bits, const IN: bool>(what: &Copying<'_>, array: *mut u8, tile: *mut F) {
    let start = array.wrapping_offset(what.offset);
    let Some((rows, step, place)) = what.rows else {
        // SAFETY: the caller's word.
        return unsafe { each::<F, IN>(what.loops, start, tile) };
    };
    let at = |row: usize| start.wrapping_offset(step * row.cast_signed());
    match *what.loops {
        [] => {
            for (i, &row) in rows.iter().enumerate() {
                // SAFETY: the caller's word, for each of the rows.
                unsafe { one::<F, IN>(at(row), tile.wrapping_add(i * place)) }
            }
        }
        [only] => {
            for (i, &row) in rows.iter().enumerate() {
                // SAFETY: as above.
                unsafe { line::<F, IN>(only, at(row), tile.wrapping_add(i * place)) }
            }
        }
        _ => {
            for (i, &row) in rows.iter().enumerate() {
                // SAFETY: as above.
                unsafe { each::<F, IN>(what.loops, at(row), tile.wrapping_add(i * place)) }
            }
        }
    }
}

/// # Safety
/// As [`gather`] if `IN`, else as [`scatter`], for the loops from `memory` and `tile` on.
unsafe fn each<F: Bits, const IN: bool>(loops: &[Loop], memory: *mut u8, tile: *mut F) {
    match *loops {
        // SAFETY: the caller's word.
        [] => unsafe { one::<F, IN>(memory, tile) },
        // SAFETY: as above.
        [only] => unsafe { line::<F, IN>(only, memory, tile) },
        // SAFETY: as above; the loops may be in any order.
        [outer, inner] if outer.place == 1 => unsafe {
            across::<F, IN>(outer, inner, memory, tile);
        },
        [outer, inner] => {
            for i in 0..outer.len {
                let (memory, tile) = outer.at(i, memory, tile);
                // SAFETY: as above, for each turn of the outer loop.
                unsafe { line::<F, IN>(inner, memory, tile) }
            }
        }
        [outer, ref inner @ ..] => {
            for i in 0..outer.len {
                let (memory, tile) = outer.at(i, memory, tile);
                // SAFETY: as above.
                unsafe { each::<F, IN>(inner, memory, tile) }
            }
        }
    }
}

impl Loop {
    #[inline(always)]
    fn at<F>(self, i: usize, memory: *mut u8, tile: *mut F) -> (*mut u8, *mut F) {
        let step = self.step * i.cast_signed();
        (memory.wrapping_offset(step), tile.wrapping_add(self.place * i))
    }
}

/// Two loops, of which the outer goes along the tile and the inner along the memory: a few turns of
/// the outer one at once, so that neither end is done line after line.
///
/// # Safety
/// As [`each`].
unsafe fn across<F: Bits, const IN: bool>(outer: Loop, inner: Loop, memory: *mut u8, tile: *mut F) {
    let last = inner.step * (inner.len - 1).cast_signed();
    let whole = outer.len - outer.len % AT_ONCE;
    for i in (0..whole).step_by(AT_ONCE) {
        let (memory, tile) = outer.at(i, memory, tile);
        for next in AT_ONCE..2 * AT_ONCE {
            // The CPU doesn't see by itself where this goes on.
            let (next, _) = outer.at(next, memory, tile);
            isa::prefetch_at(next);
            isa::prefetch_at(next.wrapping_offset(last));
        }
        for k in 0..inner.len {
            let (memory, tile) = inner.at(k, memory, tile);
            for j in 0..AT_ONCE {
                let (memory, tile) = (Loop { place: 1, ..outer }).at(j, memory, tile);
                // SAFETY: the caller's word, for each turn of both loops.
                unsafe { one::<F, IN>(memory, tile) }
            }
        }
    }
    for i in whole..outer.len {
        let (memory, tile) = outer.at(i, memory, tile);
        // SAFETY: as above.
        unsafe { line::<F, IN>(inner, memory, tile) }
    }
}

/// One loop, made for the steps that are worth it.
///
/// # Safety
/// As [`each`].
#[inline(always)]
unsafe fn line<F: Bits, const IN: bool>(line: Loop, memory: *mut u8, tile: *mut F) {
    let size = size_of::<F>().cast_signed();
    let Loop { len, step, place } = line;
    if place == 1 && step == size && len > 8 {
        let bytes = tile.cast::<u8>();
        let (from, to) = if IN { (memory, bytes) } else { (bytes, memory) };
        // SAFETY: the caller's word for the elements, which follow one another at both ends; a tile is
        // no part of an array.
        unsafe { from.copy_to_nonoverlapping(to, len * size_of::<F>()) }
    } else if IN && place == 1 && step == 0 {
        // SAFETY: the caller's word: an element, and a tile with room for `len`, which is not 0.
        unsafe {
            let element = memory.cast::<F>().read_unaligned();
            (0..len).for_each(|i| tile.add(i).write(element));
        }
    } else if place == 1 && step == -size {
        // The compiler makes packed code of loops whose steps it knows.
        // SAFETY: the caller's word.
        unsafe { by_ones::<F, IN>(Loop { len, step: -size, place: 1 }, memory, tile) }
    } else if place == 1 && step == 2 * size {
        // SAFETY: as above.
        unsafe { by_ones::<F, IN>(Loop { len, step: 2 * size, place: 1 }, memory, tile) }
    } else {
        // SAFETY: as above.
        unsafe { by_ones::<F, IN>(line, memory, tile) }
    }
}

/// # Safety
/// As [`each`].
#[inline(always)]
unsafe fn by_ones<F: Bits, const IN: bool>(line: Loop, memory: *mut u8, tile: *mut F) {
    for i in 0..line.len {
        let (memory, tile) = line.at(i, memory, tile);
        // SAFETY: the caller's word, for each turn.
        unsafe { one::<F, IN>(memory, tile) }
    }
}

/// # Safety
/// As [`each`], for one element.
#[inline(always)]
unsafe fn one<F: Bits, const IN: bool>(memory: *mut u8, tile: *mut F) {
    let element = memory.cast::<F>();
    // SAFETY: the caller's word; any bytes are a float, and those of an array need not be aligned.
    unsafe {
        if IN {
            tile.write(element.read_unaligned());
        } else {
            element.write_unaligned(tile.read());
        }
    }
}
