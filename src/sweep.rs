//! The only element loop: load, rule, store.

use std::array;
use std::marker::PhantomData;

use crate::element::{Element, Float, Reciprocal};
use crate::environment;
use crate::isa::{self, Kernel, Level};
use crate::rules::{Coefficients, Rule};

/// The elements that are computed before any of them is stored, where results are looked at first.
const BLOCK: usize = 64;

/// As many elements as the widest registers hold. What is left over goes through narrower ones.
const WIDE: usize = 16;

/// How far ahead of itself the sweep asks for memory: the divider keeps the CPU from looking ahead
/// far enough by itself. Measured for Adam on arrays that no cache holds: a tenth faster.
const AHEAD: usize = 4 * BLOCK;

/// One step over slices of the same length: parameter, gradient, state.
pub type Step<F> = fn(Level, &Coefficients, &mut [F], &[F], &mut [&mut [F]]);

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
    let exact: [f64; C] = array::from_fn(|i| coefficients[i]);
    let coefficients = exact.map(F::nearest);
    isa::run(level, Sweep::<R, F, H, C, S> { coefficients, exact, p, g, state, rule: PhantomData });
}

struct Sweep<'a, R, F, const H: usize, const C: usize, const S: usize> {
    coefficients: [F; C],
    /// The coefficients before they were rounded.
    exact: [f64; C],
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
        let quick = fma && R::DIVIDES_BY_COEFFICIENTS && self.p.len() >= BLOCK;
        if quick && environment::has_default_floats() {
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
    /// The elements up to `at`, and those from it on.
    #[inline(always)]
    fn split(self, at: usize) -> (Self, Self) {
        let Self { coefficients, exact, rule, .. } = self;
        let ((p, p_rest), (g, g_rest)) = (self.p.split_at_mut(at), self.g.split_at(at));
        let mut rests = [const { None }; S];
        let mut rest = rests.iter_mut();
        let state = self.state.map(|s| {
            let (s, s_rest) = s.split_at_mut(at);
            *rest.next().expect("one for each state") = Some(s_rest);
            s
        });
        let state_rest = rests.map(|s| s.expect("one for each state"));
        (
            Self { coefficients, exact, p, g, state, rule },
            Self { coefficients, exact, p: p_rest, g: g_rest, state: state_rest, rule },
        )
    }

    #[inline(always)]
    fn plain(self) {
        let n = self.p.len();
        let (wide, rest) = self.split(n - n % WIDE);
        wide.each();
        rest.first_at_once::<{ WIDE / 2 }>().first_at_once::<{ WIDE / 4 }>().each();
    }

    /// Does the first `N` elements, if there are as many, and returns the others. All are loaded
    /// before any is stored, or the compiler would take one after the other.
    #[inline(always)]
    fn first_at_once<const N: usize>(self) -> Self {
        if self.p.len() < N {
            return self;
        }
        let (mut first, others) = self.split(N);
        let (p, g) = (block::<F, N>(first.p), first.g);
        let mut state = first.state.each_mut().map(|s| block::<F, N>(s));
        let (mut new, mut states) = (*p, state.each_mut().map(|s| **s));
        for i in 0..N {
            let old = array::from_fn(|k| states[k][i]);
            let (x, xs) = R::update_exactly(first.coefficients, first.exact, new[i], g[i], old);
            new[i] = x;
            for k in 0..S {
                states[k][i] = xs[k];
            }
        }
        *p = new;
        for k in 0..S {
            *state[k] = states[k];
        }
        others
    }

    #[inline(always)]
    fn each(self) {
        let n = self.p.len();
        // Cut to one length, so that the compiler drops the bounds checks of the loop.
        let (p, g, state) = (self.p, &self.g[..n], self.state.map(|s| &mut s[..n]));
        for i in 0..n {
            let old = array::from_fn(|k| state[k][i]);
            let (new, states) = R::update_exactly(self.coefficients, self.exact, p[i], g[i], old);
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
            let p = block::<F, BLOCK>(&mut self.p[start..]);
            let g = &self.g[start..start + BLOCK];
            let state = self.state.each_mut().map(|s| block::<F, BLOCK>(&mut s[start..]));
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
        self.split(whole).1.plain();
    }
}

/// The first elements of a slice, with their number known to the compiler.
#[inline(always)]
fn block<F, const N: usize>(slice: &mut [F]) -> &mut [F; N] {
    slice.first_chunk_mut().expect("a whole block")
}
