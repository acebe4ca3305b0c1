//! Optimizer steps in place on NumPy buffers: fused into one pass, without allocating, and bit-for-bit
//! identical to the NumPy formula on every CPU.
//!
//! # The way of one step
//!
//! ```text
//! Python    one call into native code per step, however many arrays
//!   python/step.rs     the call: numbers and tuples of arrays come in (recipe.rs: the plain one)
//!   python/plan.rs     every array looked at once: type, dtype, shape, writable (overlap.rs: overlap)
//!   python/seen.rs     the plan of the step before, if every array is as it was
//!   python/pieces.rs   the elements: slices of dense arrays (tiles.rs: tiles of strided ones)
//!   walk.rs            the order and the blocks of arrays that are not dense
//!   parallel.rs        the arrays as one index space, in chunks that threads claim one by one
//!                      (parallel/pool.rs: the threads; worth.rs: whether that pays; environment.rs:
//!                      what a thread has of its own; team.rs: the threads that torch computes with)
//!   rules/…            the numbers → coefficients, in f64, once per step
//!   extras.rs          weight decay, scaling, averaging, around the rule while in cache
//!   sweep.rs           the one element loop: load → rule → store
//!   sweep/stored.rs    that loop over arrays of 16 bits (storage.rs: what they hold, and the noise
//!                      that rounds; word.rs: the integers that it takes; python/pieces/stored.rs:
//!                      tiles where there is no loop for them)
//!   program/           in its place for a user's own rule: instructions on blocks of elements
//!   quick.rs           the floats of that loop if there are quicker ways: division.rs, roots.rs
//!   isa.rs             that loop compiled once per instruction level; the best one chosen once
//! Python    returns
//! ```
//!
//! A step does everything or nothing: every check comes before the first write, and nothing can fail
//! after it.
//!
//! The arithmetic of a rule is one pure function of one element in a file of `rules/`. The compiler
//! makes packed code of it for every level. There are no intrinsics in it and no fused operations, but
//! the floats that it runs with may use them to divide and take roots, if a proof says that no bit can
//! change (`division.rs`, `roots.rs`). So the result is bit-for-bit identical at every level.
//!
//! Without the feature `python` the crate is plain Rust, and its tests need no Python.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_imports,
        reason = "the quick ways take registers that only x86-64 has here"
    )
)]

mod arrays;
mod division;
pub mod element;
pub mod environment;
pub mod error;
pub mod extras;
pub mod gradient;
pub mod isa;
pub mod overlap;
pub mod parallel;
pub mod program;
mod quick;
pub mod recipes;
mod registers;
mod roots;
pub mod rules;
pub mod storage;
pub mod sweep;
pub mod team;
pub mod walk;
mod word;
mod worth;

#[cfg(feature = "python")]
mod python;
