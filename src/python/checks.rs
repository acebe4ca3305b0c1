//! What is refused: the checks of a call, all of them before the first write.

use std::ptr;

use pyo3::prelude::*;

use super::call::{Call, FIRST_EXPONENTS, Gradient, Kind, Place, Rows};
use super::job::Job;
use super::jobs::Jobs;
use super::view::{Dtype, Quiet, View};
use crate::error::Error;
use crate::overlap;
use crate::rules::MAX_STATES;
use crate::storage::BLOCK;
use crate::walk::{GRADIENT, MAX_ROLES, PARAMETER};

/// Why a call is refused: where, and what is wrong there. Python code makes the message of it, as
/// the caller has the names.
pub(super) struct Refusal {
    place: Place,
    what: What,
}

enum What {
    Dtype,
    DtypeOfAnother { has: Dtype, wanted: Dtype },
    DtypeInStorage { wanted: &'static [Dtype] },
    ManyPlaces,
    RowsOfParts { len: usize },
    Exponents { has: Vec<isize>, in_order: bool, wanted: usize },
    Shape { has: Vec<isize>, wanted: Vec<isize> },
    ReadOnly,
    ReadOnlyRows,
    RowsDtype { wanted: Dtype },
    RowsShape { has: Vec<isize>, of: Vec<isize> },
    Row { index: isize, count: usize },
    Addend { number: usize },
    Folded,
    Shared { with: Place },
}

impl Refusal {
    /// The exception; `name` is what the caller calls an array.
    pub(super) fn into_error(
        self,
        py: Python<'_>,
        call: &Call<'_>,
        name: impl Fn(Place) -> PyResult<String>,
    ) -> PyResult<Error> {
        let Self { place, what } = self;
        let parameter = Place { role: PARAMETER, ..place };
        let dtype = || dtype(py, call, place);
        let here = name(place)?;
        Ok(match what {
            What::Dtype => {
                let (has, wanted) = (dtype()?, wanted_dtype(py, call, place)?);
                Error::Type(format!(
                    "{here} has dtype {has}; wanted float32 or float64, in this machine's byte order: \
                     pass {here}.astype(np.{wanted})"
                ))
            }
            What::DtypeOfAnother { has, wanted } => {
                let (has, wanted) = (has.name(), wanted.name());
                let of = name(parameter)?;
                Error::Type(format!(
                    "{here} has dtype {has}; wanted {wanted}, the dtype of {of}: \
                     pass {here}.astype(np.{wanted})"
                ))
            }
            What::DtypeInStorage { wanted } => {
                let wanted: Vec<_> = wanted.iter().map(|dtype| dtype.name()).collect();
                let with = if place.role == PARAMETER {
                    String::new()
                } else {
                    format!(", as {} is stored", name(parameter)?)
                };
                let (has, wanted) = (dtype()?, wanted.join(" or "));
                Error::Type(format!("{here} has dtype {has}; wanted {wanted}{with}"))
            }
            What::ManyPlaces => Error::Value(format!(
                "{here} has 2**32 elements or more, which are rounded stochastically in C order only; \
                 wanted all of its arrays in C order, and no Rows"
            )),
            What::RowsOfParts { len } => Error::Value(format!(
                "{here} is Rows of {len} elements, and states in 8 bits have blocks of {BLOCK}; wanted \
                 rows of a multiple of that, or an array"
            )),
            What::Exponents { has, in_order, wanted } => {
                let order = if in_order { "" } else { ", not in C order" };
                let (has, of) = (shape(&has), name(parameter)?);
                Error::Value(format!(
                    "{here} has shape {has}{order}; wanted ({wanted},) in C order, an exponent for each \
                     {BLOCK} elements of {of}"
                ))
            }
            What::Shape { has, wanted } => {
                let of = name(parameter)?;
                let (has, wanted) = (shape(&has), shape(&wanted));
                Error::Value(format!("{here} has shape {has}; wanted {wanted}, the shape of {of}"))
            }
            What::ReadOnly => Error::Value(format!(
                "{here} is read-only, and a step writes it; pass a writable array"
            )),
            What::ReadOnlyRows => Error::Value(format!(
                "{here} has read-only values, and the step sets them to zero; pass a writable array"
            )),
            What::RowsDtype { wanted } => {
                let wanted = wanted.name();
                Error::Type(format!("{here} has values of dtype {}; wanted {wanted}", dtype()?))
            }
            What::RowsShape { has, of } => {
                let (has, of) = (shape(&has), shape(&of));
                Error::Value(format!(
                    "{here} has values of shape {has}; wanted rows of a parameter of shape {of}"
                ))
            }
            What::Row { index, count } => {
                let of = name(parameter)?;
                Error::Index(format!(
                    "{here} has the row {index}; {of} has {count} rows, counted from 0"
                ))
            }
            What::Addend { number } => Error::Value(format!(
                "what is added to {here} as number {number} is not like it; wanted the same dtype, shape, \
                 strides and alignment"
            )),
            What::Folded => Error::Value(format!(
                "{here} has elements that share memory with each other, and a step writes it; \
                 pass a copy"
            )),
            What::Shared { with } => {
                let (other, are_tied) = (name(with)?, [place.role, with.role] == [PARAMETER; 2]);
                let remedy = if are_tied {
                    "both of them; step only one, with the sum of the gradients of both, or pass a copy"
                } else {
                    "one of them; pass a copy"
                };
                Error::Value(format!(
                    "{here} shares memory with {other}, and a step writes {remedy}"
                ))
            }
        })
    }
}

/// The dtype of the array at a place, as Python prints it.
fn dtype(py: Python<'_>, call: &Call<'_>, place: Place) -> PyResult<String> {
    let Some(array) = call.array(place) else { return Ok(String::new()) };
    Ok(array.object().bind(py).getattr("dtype")?.str()?.to_string())
}

/// The dtype that an array of none that a step can have is to be converted to: that of its parameter.
fn wanted_dtype(py: Python<'_>, call: &Call<'_>, place: Place) -> PyResult<&'static str> {
    let own = dtype(py, call, Place { role: PARAMETER, ..place })?;
    Ok(if own == "float64" { "float64" } else { "float32" })
}

/// A shape as Python prints it.
fn shape(shape: &[isize]) -> String {
    match shape {
        [only] => format!("({only},)"),
        _ => format!("({})", shape.iter().map(isize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// An array of a call, for finding those that share memory.
struct Member<'q> {
    view: View<'q>,
    start: usize,
    end: usize,
    place: Place,
    written: bool,
}

/// The jobs of a call, after a look at every array.
///
/// # Errors
/// As the documentation's table says what bad input gets.
pub(super) fn check<'q>(call: &Call<'q>, quiet: &'q Quiet) -> Result<Jobs, Refusal> {
    let mut jobs = Jobs::with_capacity(call.parameters.len());
    let mut members = Vec::with_capacity(call.parameters.len() * 4);
    for (parameter, gradient) in call.grads.iter().enumerate() {
        if matches!(gradient, Gradient::Absent) {
            continue;
        }
        let work = call.parameters[parameter].work;
        let (mut views, roles, dtype) = own_views(call, parameter, quiet)?;
        let place = Place { parameter, role: GRADIENT };
        let kind = &call.parameters[parameter].kind;
        let job = match gradient {
            Gradient::Absent => continue,
            Gradient::Dense(_) | Gradient::Sum(_) => {
                let (array, addends) = gradient.terms().split_first().expect("a sum has terms");
                let view = View::of(array, quiet);
                views[GRADIENT] = companion(call, place, view, &views[PARAMETER], dtype)?;
                check_states(call, parameter, &views[..roles], dtype)?;
                let mut data = Vec::with_capacity(addends.len());
                for (number, array) in addends.iter().enumerate() {
                    let addend = View::of(array, quiet);
                    if !addend.is_like(&view) {
                        return Err(Refusal { place, what: What::Addend { number } });
                    }
                    data.push(addend.data);
                    members.extend(Member::of(addend, place, false));
                }
                Job::new(&views[..roles], dtype, parameter, work, kind).with_addends(data)
            }
            Gradient::Rows(rows) => {
                views[GRADIENT] = of_rows(call, place, rows, &views[PARAMETER], dtype, quiet)?;
                check_states(call, parameter, &views[..roles], dtype)?;
                if let Some(given) = &rows.given {
                    // What is cleared in the end is not the sums that the step reads.
                    let view = View::of(given, quiet);
                    members.extend(Member::of(view, place, call.writes_gradients));
                }
                Job::of_rows(&views[..roles], dtype, parameter, work, kind, rows.indices.clone())
            }
        };
        if matches!(kind, Kind::Stored(storage) if storage.has_codes()) && job.is_of_rows() {
            let len = views[PARAMETER].shape[1..].iter().product::<isize>().unsigned_abs();
            if !len.is_multiple_of(BLOCK) {
                return Err(Refusal { place, what: What::RowsOfParts { len } });
            }
        }
        let exponents = exponents(call, parameter, views[PARAMETER].len(), quiet, &mut members)?;
        let job = job.with_exponents(exponents);
        if !job.places_are_known() {
            return Err(Refusal {
                place: Place { role: PARAMETER, ..place },
                what: What::ManyPlaces,
            });
        }
        for (role, view) in views[..roles].iter().enumerate() {
            let place = Place { parameter, role };
            let written = call.is_written(place);
            members.extend(Member::of(*view, place, written));
            if written && !view.is_contiguous() && overlap::overlaps_itself(&view.elements()) {
                return Err(Refusal { place, what: What::Folded });
            }
        }
        jobs.push(job);
    }
    refuse_shared_memory(members)?;
    Ok(jobs)
}

/// The views of a parameter, which is checked, and of what stays with it, which is not yet, by role,
/// that of the gradient still open; how many roles there are, and the dtype wanted of all.
#[inline]
pub(super) fn own_views<'q>(
    call: &Call<'q>,
    parameter: usize,
    quiet: &'q Quiet,
) -> Result<([View<'q>; MAX_ROLES], usize, Dtype), Refusal> {
    let mut arrays = call.parameters[parameter].arrays();
    let Some((_, first)) = arrays.next() else { unreachable!("every parameter has an array") };
    let place = Place { parameter, role: PARAMETER };
    let first = View::of(first, quiet);
    let dtype = match &call.parameters[parameter].kind {
        Kind::Floats => first.dtype().filter(|dtype| dtype.is_float()).ok_or(What::Dtype),
        Kind::Bits => first.dtype().ok_or(What::Dtype),
        Kind::Stored(storage) => {
            let wanted = storage.dtypes(PARAMETER);
            let dtype = first.dtype().filter(|dtype| wanted.contains(dtype));
            dtype.ok_or(What::DtypeInStorage { wanted })
        }
    };
    let dtype = dtype.map_err(|what| Refusal { place, what })?;
    if !first.is_writable() {
        return Err(Refusal { place, what: What::ReadOnly });
    }
    let mut views = [first; MAX_ROLES];
    let mut roles = GRADIENT + 1;
    for (role, array) in arrays {
        views[role] = View::of(array, quiet);
        roles = role + 1;
    }
    Ok((views, roles, dtype))
}

/// What stays with a parameter goes with it.
#[inline]
fn check_states(
    call: &Call<'_>,
    parameter: usize,
    views: &[View<'_>],
    dtype: Dtype,
) -> Result<(), Refusal> {
    for (role, &view) in views.iter().enumerate().skip(GRADIENT + 1) {
        companion(call, Place { parameter, role }, view, &views[PARAMETER], dtype)?;
    }
    Ok(())
}

/// Where the exponents of the states of a parameter of so many elements are, if they have 8 bits.
fn exponents<'q>(
    call: &Call<'q>,
    parameter: usize,
    len: usize,
    quiet: &'q Quiet,
    members: &mut Vec<Member<'q>>,
) -> Result<[*mut u8; MAX_STATES], Refusal> {
    let mut data = [ptr::null_mut(); MAX_STATES];
    for (k, array) in call.parameters[parameter].exponents.iter().enumerate() {
        let (view, wanted) = (View::of(array, quiet), len.div_ceil(BLOCK));
        let place = Place { parameter, role: FIRST_EXPONENTS + k };
        let in_order = view.is_c_contiguous();
        let what = if view.dtype() != Some(Dtype::U8) {
            Some(What::DtypeInStorage { wanted: &[Dtype::U8] })
        } else if view.len() != wanted || !in_order {
            Some(What::Exponents { has: view.shape.to_vec(), in_order, wanted })
        } else {
            (!view.is_writable()).then_some(What::ReadOnly)
        };
        if let Some(what) = what {
            return Err(Refusal { place, what });
        }
        data[k] = view.data;
        members.extend(Member::of(view, place, true));
    }
    Ok(data)
}

/// A gradient or state: of its parameter's dtype and shape, and writable where the call writes it.
#[inline]
fn companion<'q>(
    call: &Call<'_>,
    place: Place,
    view: View<'q>,
    parameter: &View<'_>,
    wanted: Dtype,
) -> Result<View<'q>, Refusal> {
    let what = match wrong_dtype(call, place, view.dtype(), wanted) {
        Some(what) => what,
        _ if call.is_written(place) && !view.is_writable() => What::ReadOnly,
        _ if view.shape != parameter.shape => {
            What::Shape { has: view.shape.to_vec(), wanted: parameter.shape.to_vec() }
        }
        _ => return Ok(view),
    };
    Err(Refusal { place, what })
}

/// What is wrong with the dtype of an array that goes with a parameter of dtype `wanted`.
#[inline]
fn wrong_dtype(call: &Call<'_>, place: Place, has: Option<Dtype>, wanted: Dtype) -> Option<What> {
    if let Kind::Stored(storage) = &call.parameters[place.parameter].kind {
        let wanted = storage.dtypes(place.role);
        let is_wanted = has.is_some_and(|has| wanted.contains(&has));
        return (!is_wanted).then_some(What::DtypeInStorage { wanted });
    }
    match has {
        Some(has) if has == wanted => None,
        // Of those that no step without a storage has, a message has nothing to say.
        Some(has) if has.is_float() => Some(What::DtypeOfAnother { has, wanted }),
        _ => Some(What::Dtype),
    }
}

/// The values of rows: of the parameter's dtype, and of the shape of its rows.
pub(super) fn of_rows<'q>(
    call: &Call<'_>,
    place: Place,
    rows: &'q Rows,
    parameter: &View<'_>,
    wanted: Dtype,
    quiet: &'q Quiet,
) -> Result<View<'q>, Refusal> {
    let values = View::of(&rows.values, quiet);
    let given = rows.given.as_ref().map_or(values, |given| View::of(given, quiet));
    let refuse = |what| Err(Refusal { place, what });
    match wrong_dtype(call, place, values.dtype(), wanted) {
        Some(What::DtypeInStorage { wanted }) => return refuse(What::DtypeInStorage { wanted }),
        Some(_) => return refuse(What::RowsDtype { wanted }),
        None => {}
    }
    if call.writes_gradients && !given.is_writable() {
        return refuse(What::ReadOnlyRows);
    }
    let count = parameter.shape.first().copied().unwrap_or(0).unsigned_abs();
    let fits = values.shape.first() == Some(&rows.indices.as_slice().len().cast_signed());
    if parameter.shape.is_empty() || values.shape.get(1..) != parameter.shape.get(1..) || !fits {
        let (has, of) = (values.shape.to_vec(), parameter.shape.to_vec());
        return refuse(What::RowsShape { has, of });
    }
    if rows.indices.end() > count {
        let first = rows.indices.as_slice().iter().find(|&&index| index >= count);
        let index = first.copied().unwrap_or(count).cast_signed();
        return refuse(What::Row { index, count });
    }
    Ok(values)
}

impl<'q> Member<'q> {
    /// `None` for an empty array.
    fn of(view: View<'q>, place: Place, written: bool) -> Option<Self> {
        let span = view.span()?;
        Some(Self { view, start: span.start, end: span.end, place, written })
    }
}

/// Refuses two arrays that share memory, if the call writes one of them.
fn refuse_shared_memory(mut members: Vec<Member<'_>>) -> Result<(), Refusal> {
    members.sort_unstable_by_key(|member| member.start);
    let mut rest = members.as_slice();
    while !rest.is_empty() {
        let (together, others) = rest.split_at(together(rest));
        rest = others;
        let elements = together.iter().map(|member| (member.view.elements(), member.written));
        // The spans of strided arrays may interleave while no byte is shared: look closer.
        if !are_apart(together) && !overlap::interleave(&elements) {
            refuse_a_pair(together)?;
        }
    }
    Ok(())
}

/// How many of the first members have spans that touch one another.
fn together(members: &[Member<'_>]) -> usize {
    let mut end = members[0].end;
    members
        .iter()
        .take_while(|member| {
            let touches = member.start < end;
            end = end.max(member.end);
            touches
        })
        .count()
}

fn refuse_a_pair(members: &[Member<'_>]) -> Result<(), Refusal> {
    for (i, a) in members.iter().enumerate() {
        for b in members[i + 1..].iter().take_while(|b| b.start < a.end) {
            let share = || overlap::share_memory(&a.view.elements(), &b.view.elements());
            if (a.written || b.written) && share() {
                let (with, place) = (a.place.min(b.place), a.place.max(b.place));
                return Err(Refusal { place, what: What::Shared { with } });
            }
        }
    }
    Ok(())
}

/// Whether no written span of `members`, which are sorted by their starts, overlaps another.
fn are_apart(members: &[Member<'_>]) -> bool {
    let (mut end, mut end_written) = (0, 0);
    members.iter().all(|&Member { start, end: own_end, written, .. }| {
        let apart = start >= if written { end } else { end_written };
        end = end.max(own_end);
        if written {
            end_written = end_written.max(own_end);
        }
        apart
    })
}
