//! The numbers of a program: what a step computes of its hyper-parameters, in `f64`, as Python does.

use std::cmp::Ordering;

/// The operations, each with its name and how many operands it has.
#[derive(Clone, Copy)]
enum Operation {
    One(fn(f64) -> Option<f64>),
    Two(fn(f64, f64) -> Option<f64>),
    Where,
}

use Operation::{One, Two, Where};

static OPERATIONS: &[(&str, Operation)] = &[
    ("neg", One(|x| Some(-x))),
    ("abs", One(|x| Some(x.abs()))),
    ("sqrt", One(|x| (x >= 0.0 || x.is_nan()).then(|| x.sqrt()))),
    ("np.sqrt", One(|x| Some(x.sqrt()))),
    ("exp", One(|x| finite_of(x.exp(), x))),
    ("log", One(|x| (x > 0.0 || x.is_nan()).then(|| x.ln()))),
    ("sin", One(|x| (!x.is_infinite()).then(|| x.sin()))),
    ("cos", One(|x| (!x.is_infinite()).then(|| x.cos()))),
    ("tanh", One(|x| Some(x.tanh()))),
    ("floor", One(|x| x.is_finite().then(|| x.floor()))),
    ("ceil", One(|x| x.is_finite().then(|| x.ceil()))),
    ("add", Two(|x, y| Some(x + y))),
    ("sub", Two(|x, y| Some(x - y))),
    ("mul", Two(|x, y| Some(x * y))),
    ("div", Two(|x, y| (y != 0.0).then(|| x / y))),
    ("floordiv", Two(|x, y| floor_and_remainder(x, y).map(|(floor, _)| floor))),
    ("mod", Two(|x, y| floor_and_remainder(x, y).map(|(_, remainder)| remainder))),
    ("pow", Two(power)),
    // Of two that are equal, Python takes the first and NumPy the second.
    ("max", Two(|x, y| Some(if y > x { y } else { x }))),
    ("min", Two(|x, y| Some(if y < x { y } else { x }))),
    ("maximum", Two(|x, y| Some(if x > y || x.is_nan() { x } else { y }))),
    ("minimum", Two(|x, y| Some(if x < y || x.is_nan() { x } else { y }))),
    ("lt", Two(|x, y| truth(x < y))),
    ("le", Two(|x, y| truth(x <= y))),
    ("gt", Two(|x, y| truth(x > y))),
    ("ge", Two(|x, y| truth(x >= y))),
    ("eq", Two(|x, y| truth(x.partial_cmp(&y) == Some(Ordering::Equal)))),
    ("ne", Two(|x, y| truth(x.partial_cmp(&y) != Some(Ordering::Equal)))),
    ("where", Where),
];

#[expect(clippy::unnecessary_wraps, reason = "as the others")]
fn truth(is: bool) -> Option<f64> {
    Some(f64::from(u8::from(is)))
}

/// A result that may be infinite only if an operand is.
fn finite_of(result: f64, operand: f64) -> Option<f64> {
    (!result.is_infinite() || operand.is_infinite()).then_some(result)
}

/// As Python's `**`, of the same C function, where its result is a float.
fn power(x: f64, y: f64) -> Option<f64> {
    let is_complex = x < 0.0 && x.is_finite() && y.is_finite() && y.fract() != 0.0;
    if is_complex || x == 0.0 && y < 0.0 {
        return None;
    }
    let power = x.powf(y);
    (!power.is_infinite() || x.is_infinite() || y.is_infinite()).then_some(power)
}

/// As Python's `divmod`.
fn floor_and_remainder(x: f64, y: f64) -> Option<(f64, f64)> {
    if y == 0.0 {
        return None;
    }
    let mut remainder = x % y;
    let mut quotient = (x - remainder) / y;
    if remainder == 0.0 {
        remainder = 0.0_f64.copysign(y);
    } else if (y < 0.0) != (remainder < 0.0) {
        remainder += y;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return Some((0.0_f64.copysign(x / y), remainder));
    }
    let floor = quotient.floor();
    Some((if quotient - floor > 0.5 { floor + 1.0 } else { floor }, remainder))
}

/// One number: where it comes from.
#[derive(Clone, Debug)]
enum Number {
    Constant(f64),
    Hyper(usize),
    Computed { operation: usize, operands: [usize; 3] },
}

/// How the numbers of a step are computed, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    all: Vec<Number>,
}

impl Numbers {
    /// Adds a number: `const` or `hyper`, of an index, or an operation on earlier numbers.
    ///
    /// Returns `None` if it is none of these.
    pub(super) fn push(
        &mut self,
        name: &str,
        operands: &[usize],
        constants: &[f64],
        hypers: usize,
    ) -> Option<()> {
        let number = match (name, operands) {
            ("const", &[i]) => Number::Constant(*constants.get(i)?),
            ("hyper", &[i]) if i < hypers => Number::Hyper(i),
            _ => {
                let operation = OPERATIONS.iter().position(|&(known, _)| known == name)?;
                let count = match OPERATIONS[operation].1 {
                    One(_) => 1,
                    Two(_) => 2,
                    Where => 3,
                };
                let mut places = [0; 3];
                if operands.len() != count || operands.iter().any(|&i| i >= self.all.len()) {
                    return None;
                }
                places[..count].copy_from_slice(operands);
                Number::Computed { operation, operands: places }
            }
        };
        self.all.push(number);
        Some(())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them.
    ///
    /// # Errors
    /// The first that can't be computed: Python would raise, or give a complex number.
    pub(super) fn of(&self, hypers: &[f64]) -> Result<Vec<f64>, usize> {
        let mut values = Vec::with_capacity(self.all.len());
        for (i, number) in self.all.iter().enumerate() {
            values.push(match *number {
                Number::Constant(value) => value,
                Number::Hyper(hyper) => hypers[hyper],
                Number::Computed { operation, operands } => {
                    // The first ones stand in for operands that the operation does not have.
                    let [x, y, z] = operands.map(|operand| values[operand]);
                    match OPERATIONS[operation].1 {
                        One(f) => f(x).ok_or(i)?,
                        Two(f) => f(x, y).ok_or(i)?,
                        Where => {
                            if x == 0.0 {
                                z
                            } else {
                                y
                            }
                        }
                    }
                }
            });
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_raises_for_is_refused() {
        assert_eq!(power(-8.0, 1.0 / 3.0), None);
        assert_eq!(power(0.0, -1.0), None);
        assert_eq!(power(10.0, 400.0), None);
        assert_eq!(power(-2.0, 3.0), Some(-8.0));
        assert_eq!(floor_and_remainder(1.0, 0.0), None);
    }

    #[test]
    fn floors_and_remainders_are_those_of_python() {
        assert_eq!(floor_and_remainder(7.0, -2.0), Some((-4.0, -1.0)));
        assert_eq!(floor_and_remainder(-7.0, 2.0), Some((-4.0, 1.0)));
        assert_eq!(floor_and_remainder(6.0, 3.0), Some((2.0, 0.0)));
    }
}
