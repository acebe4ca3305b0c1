//! Where eps goes when a rule divides by the root of `v`: [`Inside`] the root or [`Outside`] of it.

use crate::element::Float;

/// A place for eps.
pub(crate) trait Place {
    /// The divisor.
    fn root<F: Float>(v: F, eps: F) -> F;
}

/// `sqrt(v + eps)`.
pub(crate) struct Inside;

impl Place for Inside {
    #[inline(always)]
    fn root<F: Float>(v: F, eps: F) -> F {
        (v + eps).sqrt()
    }
}

/// `sqrt(v) + eps`.
pub(crate) struct Outside;

impl Place for Outside {
    #[inline(always)]
    fn root<F: Float>(v: F, eps: F) -> F {
        v.sqrt() + eps
    }
}
