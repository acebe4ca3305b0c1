//! Arrays in code that has to be inlined: the closures of `array::from_fn` and `map` are called by
//! functions of the standard library, which may be compiled apart, so for the baseline.

/// As `array::from_fn`; `filled` is in each place until `of` says what belongs there.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "an iterator takes longer to compile")]
pub(crate) fn from_fn<T: Copy, const N: usize>(filled: T, of: impl Fn(usize) -> T) -> [T; N] {
    let mut array = [filled; N];
    for i in 0..N {
        array[i] = of(i);
    }
    array
}
