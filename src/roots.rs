//! Square roots on the multipliers, correctly rounded.

use crate::element::{Element, Float};
use crate::isa::{self, Kernel, Level};
use crate::registers::{Instructions, Register, Registers};

/// Far enough above the subnormal numbers for a remainder, down to 2^-106 of the radicand, to be exact.
const SMALLEST_RADICAND: f64 = 1e-280;

/// The square roots, or NaN where this way can't tell: on the multipliers, if there is such a way.
///
/// Only to be used if they [`are_right`].
#[inline(always)]
pub(crate) fn root<V: Instructions>(x: Register<V>) -> Register<V> {
    match x.estimate() {
        // Infinity makes a NaN by itself.
        Some(estimate) => {
            let smallest = V::Element::nearest(SMALLEST_RADICAND);
            x.guarded(smallest, x, refined(x, estimate))
        }
        None => x.sqrt(),
    }
}

/// The square root of `x`, correctly rounded, from 1/sqrt(x) times `1 + e`, `abs(e) <= 2^-14`.
///
/// # Why it is correctly rounded
///
/// Take radicands in [1, 4), with roots in [1, 2): scaling by powers of 4 is exact. Let u = 2^-53.
///
/// `g = x*y` is rounded, in error by u of its size, and `h = -y/2` is not. So `g*h = -x*y*y/2*(1 + u')`,
/// `abs(u') <= u`, and `r = 1/2 + g*h` is known but for a rounding of 2^-13*u. `1 + t`, with `t = r +
/// 3/2*r^2 + 5/2*r^3`, is `1/sqrt(1 - 2*r)` but for `35/8*r^4 < 0.55*u`. So but for less than 0.6*u of
/// their sizes, the next `g` and `-2*h` are, before they are rounded, `sqrt(x)*sqrt(1 + u')` and its
/// inverse's like: `g` is off by less than `(0.5 + 0.6)*2*u`, and by u more once rounded (half of a unit
/// in the last place): 3.2*u in all. `-2*h` is off by less than `(0.5 + 0.6 + 1)*u` of its size: 2.1*u.
///
/// `d = g*g - x` is rounded, by u of its size. `g + d*h`, before it is rounded, differs from the root by
/// less than `3.2*u*(2.1 + 1)*u` for what `h` and `d` are off, and `(3.2*u)^2/2*(1 + 4*u)` for the
/// square that is left out: less than 15.2*u^2.
///
/// The middle between two neighbors in [1, 2) is `M*u`, `M` odd and below 2^54, and `x` is `(M*M +
/// j)*u^2` for a whole number `j`, which is not 0, since `M*M` has too many digits. So the root is
/// `abs(j)*u^2/(sqrt(x) + M*u)`, more than `abs(j)*u^2/4`, away from the middle, and can come to lie
/// on its other side only if `abs(j) < 61`. Of the 47 radicands with `abs(j) <= 128`, all but one come
/// out right from any estimate; that one, the last before 4, from all but one in 240. So [`are_right`]
/// tries them on the CPU at hand before any root is taken this way.
#[inline(always)]
fn refined<V: Instructions>(x: Register<V>, y: Register<V>) -> Register<V> {
    let number = |x| Register::of(V::Element::nearest(x));
    let g = x * y;
    // Negative, which saves negations.
    let h = number(-0.5) * y;
    let r = g.mul_add(h, number(0.5));
    let t = r.mul_add(number(2.5), number(1.5)).mul_add(r, number(1.0)) * r;
    let g = g.mul_add(t, g);
    let h = h.mul_add(t, h);
    let d = g.mul_sub(g, x);
    d.mul_add(h, g)
}

/// Whether [`root`] is there at a level, and right for every radicand on this CPU: those in doubt are
/// tried, with every exponent, on the estimates that this CPU makes.
pub(crate) fn are_right(level: Level) -> bool {
    let mut right = false;
    isa::run(level, Trial { right: &mut right });
    right
}

struct Trial<'a> {
    right: &'a mut bool,
}

impl Kernel for Trial<'_> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        #[cfg(target_arch = "x86_64")]
        if WIDTH == 64 {
            *self.right = try_all::<<f64 as Registers>::Of64>(root);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = self.right;
    }
}

/// Whether the roots are right for the radicands in doubt, and for some all over the range: an emulated
/// CPU has been seen whose estimate for 2 is 1.
#[inline(always)]
fn try_all<V: Instructions<Element = f64>>(root: impl Fn(Register<V>) -> Register<V>) -> bool {
    let mut radicands = radicands_near_middles(128);
    radicands.extend([1.0, 2.0, 1.0 + f64::EPSILON, 2.0 + 2.0 * f64::EPSILON, 2.0 - f64::EPSILON]);
    radicands.resize(radicands.len().next_multiple_of(V::N), 1.0);
    let in_doubt = radicands.len();
    radicands.extend((0..1_536).map(|i| 1.0 + f64::from(i) / 512.0));
    let bits = |x: Register<V>| {
        let mut elements = [0.0; 8];
        x.store(&mut elements);
        elements.map(f64::to_bits)
    };
    let right = |radicands: &[f64], power: i64| {
        let scale = Register::of(f64::from_bits((1023 + 2 * power).cast_unsigned() << 52));
        radicands.chunks_exact(V::N).all(|chunk| {
            let x = Register::<V>::load(chunk) * scale;
            bits(root(x)) == bits(x.sqrt())
        })
    };
    // The powers of 4 that leave them in the range.
    right(&radicands, 0) && (-465..=510).all(|power| right(&radicands[..in_doubt], power))
}

/// All radicands of 53 digits in [1, 4) that are `(M*M + j)*u^2`, `abs(j) <= most`, u = 2^-53, for
/// the middle `M*u` of two neighbors.
///
/// As whole numbers `X`, they are `X*2^n = M*M + j`, with `n = 54` below 2 and `n = 55` from 2 on.
/// So `-j` is the square of an odd number modulo 2^n, which takes `-j = 1` modulo 8. Of such a number,
/// a root modulo 2^k is one modulo 2^(k+1), or becomes one by adding 2^(k-1) (Hensel's lemma); the
/// others modulo 2^n are its negative, and both plus 2^(n-1).
#[expect(clippy::cast_precision_loss, reason = "whole numbers of 53 digits")]
fn radicands_near_middles(most: i128) -> Vec<f64> {
    let mut found = Vec::new();
    for j in (-most..=most).filter(|j| (-j).rem_euclid(8) == 1) {
        for n in [54, 55] {
            let modulus = 1_i128 << n;
            let mut root = 1_i128;
            for k in 3..n {
                if (root * root + j) & ((2 << k) - 1) != 0 {
                    root += 1 << (k - 1);
                }
            }
            for root in [root, -root, root + modulus / 2, modulus / 2 - root] {
                let root = root.rem_euclid(modulus);
                assert_eq!((root * root + j).rem_euclid(modulus), 0);
                // M is in [2^53, 2^54): with n = 55 at most one of root and root - 2^54 is.
                for middle in [root, root + modulus, root - modulus / 2] {
                    let x = (middle * middle + j) >> n;
                    let exact = x << n == middle * middle + j;
                    let is_in = (1 << 53..1 << 54).contains(&middle) && x >> 52 == 1;
                    if exact && is_in {
                        found.push(x as f64 * 2.0_f64.powi(n - 106));
                    }
                }
            }
        }
    }
    found.sort_by(f64::total_cmp);
    found.dedup();
    found
}

/// Where square roots are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// On the divider.
    Divider,
    /// Half of them on the divider, half on the multipliers: both work at the same time.
    Half,
    /// On the multipliers.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::Portable;

    /// Four numbers at once, for CPUs without such registers: the same operations, fused ones as slow calls.
    type Anywhere = Portable<f64>;

    /// Whether the root comes out right from an estimate that is `off`.
    fn is_right(x: f64, off: f64) -> bool {
        let y = (1.0 + off) / x.sqrt();
        refined::<Anywhere>(Register::of(x), Register::of(y)).first().to_bits()
            == x.sqrt().to_bits()
    }

    #[test]
    fn the_47_radicands_nearest_to_middles_are_found() {
        let radicands = radicands_near_middles(128);
        assert_eq!(radicands.len(), 47);
        for x in radicands {
            let (root, half) = (x.sqrt(), f64::EPSILON / 2.0);
            // Of the squares of the two middles beside the root, one is x but for 128 units at most.
            let near = [half, -half].into_iter().any(|half| {
                // (root + half)^2 - x, each step of it exact or far more exact than needed.
                let remainder = root.mul_add(root, -x);
                let difference = 2.0 * half * root + remainder + half * half;
                difference.abs() <= 130.0 * half * half
            });
            assert!(near, "{x:e}");
        }
    }

    /// The one radicand that depends on the estimate.
    const LAST_BEFORE_4: f64 = 4.0 - 2.0 * f64::EPSILON;

    #[test]
    fn roots_nearest_to_middles_are_right_whatever_the_estimate_but_for_one() {
        let radicands = radicands_near_middles(128);
        assert!(radicands.contains(&LAST_BEFORE_4));
        for x in radicands {
            let offs = (-4_096..=4_096).map(|i| f64::from(i) * 2.0_f64.powi(-26));
            let wrong = offs.filter(|&off| !is_right(x, off)).count();
            assert_eq!(wrong > 0, x == LAST_BEFORE_4, "{x:e}, {wrong}");
        }
    }

    #[test]
    fn a_cpu_with_an_unlucky_estimate_is_found_out() {
        let with =
            |off: f64| try_all::<Anywhere>(|x| refined(x, Register::of(1.0 + off) / x.sqrt()));
        assert!(with(0.0) && with(2.0_f64.powi(-14)) && with(-2.0_f64.powi(-14)));
        let mut offs = (-4_096..=4_096).map(|i| f64::from(i) * 2.0_f64.powi(-26));
        // 2 taken for 1.
        assert!(!try_all::<Anywhere>(|x| {
            let mut estimates = [0.0; Anywhere::N];
            x.store(&mut estimates);
            let is_power = |x: f64| x.to_bits() << 12 == 0;
            let estimates = estimates.map(|x| if is_power(x) { 1.0 } else { 1.0 / x.sqrt() });
            refined(x, Register::load(&estimates))
        }));
        let unlucky = offs.find(|&off| !is_right(LAST_BEFORE_4, off));
        assert!(!with(unlucky.expect("one in 240")));
    }

    #[test]
    fn only_the_widest_registers_have_an_estimate() {
        for level in Level::available() {
            assert!(!are_right(level) || level.width() == 64);
        }
    }

    /// Roots of a slice in place, in the registers of the level, where there is a quick way.
    struct Each<'a>(&'a mut [f64]);

    impl Kernel for Each<'_> {
        #[inline(always)]
        fn run<const WIDTH: usize>(self) {
            #[cfg(target_arch = "x86_64")]
            if WIDTH == 64 {
                type V = <f64 as Registers>::Of64;
                for chunk in self.0.chunks_exact_mut(V::N) {
                    root(Register::<V>::load(chunk)).store(chunk);
                }
                return;
            }
            for x in self.0 {
                *x = x.sqrt();
            }
        }
    }

    fn check(level: Level, radicands: &[f64]) {
        let mut found = radicands.to_vec();
        isa::run(level, Each(&mut found));
        for (&x, &root) in radicands.iter().zip(&found) {
            let unknown =
                root.is_nan() && !((SMALLEST_RADICAND..f64::INFINITY).contains(&x) || x == 0.0);
            assert!(unknown || root.to_bits() == x.sqrt().to_bits(), "{x:e} gave {root:e}");
        }
    }

    #[test]
    fn roots_of_this_cpu_are_right_or_nan() {
        let mut radicands = vec![
            0.0,
            -0.0,
            5e-324,
            f64::MIN_POSITIVE,
            1e-280,
            9e-281,
            f64::MAX,
            f64::INFINITY,
            -1.0,
            -0.5,
            f64::NEG_INFINITY,
            f64::NAN,
            1.0,
            2.0,
            3.0,
            4.0 - f64::EPSILON,
        ];
        for scale in [-900, -300, 0, 2, 300, 1_020] {
            let near = radicands_near_middles(1 << 9).into_iter();
            radicands.extend(near.map(|x| x * 2.0_f64.powi(scale)));
        }
        radicands.resize(radicands.len().next_multiple_of(8), 1.0);
        for level in Level::available().into_iter().filter(|&level| are_right(level)) {
            check(level, &radicands);
        }
    }

    /// `make verify-roots`: hundreds of millions of radicands, of many kinds.
    #[test]
    #[ignore = "takes minutes"]
    #[expect(clippy::cast_precision_loss, reason = "a number below 33")]
    fn verify_roots() {
        let near = radicands_near_middles(1 << 14);
        for &x in &near {
            for i in -128..=128 {
                let right = is_right(x, f64::from(i) * 2.0_f64.powi(-21));
                assert!(right || x == LAST_BEFORE_4, "{x:e}");
            }
        }
        let level = Level::available().pop().expect("the baseline");
        let are_right = are_right(level);
        let (mut state, mut count, mut radicands) = (1_u64, near.len(), vec![0.0; 1 << 12]);
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let z = (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z ^ z >> 32
        };
        for round in 0..100_000 {
            for x in &mut radicands {
                let (bits, more) = (next(), next());
                let one = 0x3ff << 52;
                *x = match round % 4 {
                    // Any positive bits; ordinary sizes; near squares of floats; nearly all bits set.
                    0 => f64::from_bits(bits >> 1),
                    1 => f64::from_bits((bits >> 12 | one) + ((more % 64) << 52)),
                    2 => {
                        let root = f64::from_bits(bits >> 12 | one);
                        f64::from_bits((root * root).to_bits() + more % 5 - 2)
                    }
                    _ => f64::from_bits((bits >> 12 | bits >> 15 | more >> 13 | one) & !(more % 3)),
                };
                // With an estimate as far off as one may be.
                if round % 16 < 4 && *x > SMALLEST_RADICAND && *x < f64::MAX {
                    let off = (more % 33) as f64 * 2.0_f64.powi(-18) - 2.0_f64.powi(-14);
                    assert!(is_right(*x, off), "{x:e}, {off:e}");
                }
            }
            if are_right {
                check(level, &radicands);
            }
            count += radicands.len();
        }
        assert!(count > 400_000_000, "{count}");
    }
}
