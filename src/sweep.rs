//! The only element loop: load, rule, store.

use std::array;
use std::marker::PhantomData;

use crate::element::{Element, Float, Reciprocal};
use crate::isa::{self, Kernel, Level};
use crate::rules::{Coefficients, Rule};

/// The elements that are computed before any of them is stored, where results are looked at first.
const BLOCK: usize = 64;

/// How far ahead of itself the sweep asks for memory: the divider keeps the CPU from looking ahead
/// far enough by itself. Measured for Adam on arrays that no cache holds: a tenth faster.
const AHEAD: usize = 4 * BLOCK;

/// Sweeps rule `R` over slices of one length, with the instructions of `level`.
///
/// # Panics
/// When the slices differ in length, or there are not `S` state slices.
pub(crate) fn step<R, F, const H: usize, const C: usize, const S: usize>(
    level: Level,
    coefficients: &Coefficients,
    p: &mut [F],
    g: &[F],
    state: &mut [&mut [F]],
) where
    R: Rule<H, C, S>,
    F: Element,
    Reciprocal<F>: Float,
{
    let state: &mut [&mut [F]; S] = state.try_into().expect("one slice for each state");
    let state = state.each_mut().map(|slice| &mut **slice);
    let coefficients = array::from_fn(|i| F::nearest(coefficients[i]));
    isa::run(level, Sweep::<R, F, H, C, S> { coefficients, p, g, state, rule: PhantomData });
}

struct Sweep<'a, R, F, const H: usize, const C: usize, const S: usize> {
    coefficients: [F; C],
    p: &'a mut [F],
    g: &'a [F],
    state: [&'a mut [F]; S],
    rule: PhantomData<R>,
}

impl<R, F, const H: usize, const C: usize, const S: usize> Kernel for Sweep<'_, R, F, H, C, S>
where
    R: Rule<H, C, S>,
    F: Element,
    Reciprocal<F>: Float,
{
    #[inline(always)]
    fn run(self, fma: bool) {
        if fma && R::DIVIDES_BY_COEFFICIENTS && self.p.len() >= BLOCK {
            self.quick();
        } else {
            self.plain();
        }
    }
}

impl<R, F, const H: usize, const C: usize, const S: usize> Sweep<'_, R, F, H, C, S>
where
    R: Rule<H, C, S>,
    F: Element,
    Reciprocal<F>: Float,
{
    #[inline(always)]
    fn plain(self) {
        let n = self.p.len();
        // Cut to one length, so that the compiler drops the bounds checks of the loop.
        let (p, g, state) = (self.p, &self.g[..n], self.state.map(|s| &mut s[..n]));
        for i in 0..n {
            let old = array::from_fn(|k| state[k][i]);
            let (new, states) = R::update(self.coefficients, p[i], g[i], old);
            p[i] = new;
            for k in 0..S {
                state[k][i] = states[k];
            }
        }
    }

    /// Block by block with [`Reciprocal`]; a block with a NaN in its parameters is done again, plainly,
    /// as is what remains after the last whole block.
    #[inline(always)]
    fn quick(mut self) {
        let quick = self.coefficients.map(Reciprocal);
        let mut new = [F::default(); BLOCK];
        let mut states = [[F::default(); BLOCK]; S];
        let whole = self.p.len() - self.p.len() % BLOCK;
        for start in (0..whole).step_by(BLOCK) {
            isa::prefetch(self.p, start + AHEAD, BLOCK);
            isa::prefetch(self.g, start + AHEAD, BLOCK);
            for s in &self.state {
                isa::prefetch(s, start + AHEAD, BLOCK);
            }
            let p = block(&mut self.p[start..]);
            let g = &self.g[start..start + BLOCK];
            let state = self.state.each_mut().map(|s| block(&mut s[start..]));
            let mut nan = false;
            for i in 0..BLOCK {
                let old = array::from_fn(|k| Reciprocal(state[k][i]));
                let (x, xs) = R::update(quick, Reciprocal(p[i]), Reciprocal(g[i]), old);
                new[i] = x.0;
                nan |= new[i].is_nan();
                for k in 0..S {
                    states[k][i] = xs[k].0;
                }
            }
            if nan {
                let state = state.map(<[F; BLOCK]>::as_mut_slice);
                Sweep::<R, F, H, C, S> { p, g, state, ..self }.plain();
            } else {
                *p = new;
                for k in 0..S {
                    *state[k] = states[k];
                }
            }
        }
        let (p, g) = (&mut self.p[whole..], &self.g[whole..]);
        let state = self.state.map(|s| &mut s[whole..]);
        Self { p, g, state, ..self }.plain();
    }
}

/// The first elements of a slice, with their number known to the compiler.
#[inline(always)]
fn block<F>(slice: &mut [F]) -> &mut [F; BLOCK] {
    slice.first_chunk_mut().expect("a whole block")
}
