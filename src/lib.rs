//! Optimizer steps in place on NumPy buffers: fused into one pass, without allocating, and with the
//! bits of the NumPy formula on every CPU.
//!
//! # The way of one step
//!
//! ```text
//! Python    one call into native code per step, however many arrays
//!   python/recipe.rs   the call: numbers and tuples of arrays come in
//!   python/arrays.rs   every array looked at once: dtype, shape, writable, order, overlap → views
//!   rules/…            the numbers → coefficients, in f64, once per step
//!   sweep.rs           the one element loop: load → rule → store
//!   isa.rs             that loop compiled once per instruction level; the best one chosen once
//! Python    returns
//! ```
//!
//! A step does all of it or nothing: every check comes before the first write, and nothing after
//! the first write can fail.
//!
//! The arithmetic of a rule is one pure function of one element in a file of `rules/`. The compiler
//! makes packed code of it for every level; no intrinsics, no fused operations but where they can't
//! change a bit ([`element`]), and so the same bits everywhere.
//!
//! Without the feature `python` the crate is plain Rust, and its tests need no Python.

pub mod element;
pub mod error;
pub mod extras;
pub mod gradient;
pub mod isa;
pub mod rules;
mod sweep;

#[cfg(feature = "python")]
mod python;
