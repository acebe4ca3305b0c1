//! The structure of a tree of arrays, and the walk over another tree of the same structure.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// What a tree is made of.
pub(super) enum Tree {
    Leaf,
    List(Vec<Tree>),
    Dict(Vec<(Py<PyAny>, Tree)>),
}

impl Tree {
    /// The structure of a skeleton: lists and dicts, with `None` for every leaf.
    pub(super) fn of(skeleton: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(list) = skeleton.cast::<PyList>() {
            return Ok(Self::List(
                list.iter().map(|item| Self::of(&item)).collect::<PyResult<_>>()?,
            ));
        }
        if let Ok(dict) = skeleton.cast::<PyDict>() {
            let items = dict.iter().map(|(key, item)| Ok((key.unbind(), Self::of(&item)?)));
            return Ok(Self::Dict(items.collect::<PyResult<_>>()?));
        }
        Ok(Self::Leaf)
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Leaf => Self::Leaf,
            Self::List(children) => {
                Self::List(children.iter().map(|child| child.clone_ref(py)).collect())
            }
            Self::Dict(children) => {
                let copy =
                    |(key, child): &(Py<PyAny>, Self)| (key.clone_ref(py), child.clone_ref(py));
                Self::Dict(children.iter().map(copy).collect())
            }
        }
    }

    /// Visits the leaves of a tree in order, as long as it has this structure and is made of lists,
    /// tuples and dicts and of no subclass of them. Returns whether all of it was.
    pub(super) fn walk<'py>(
        &self,
        tree: &Bound<'py, PyAny>,
        visit: &mut impl FnMut(Bound<'py, PyAny>) -> PyResult<bool>,
    ) -> PyResult<bool> {
        match self {
            Self::Leaf => visit(tree.clone()),
            Self::List(children) => {
                if let Ok(list) = tree.cast_exact::<PyList>() {
                    let fits = list.len() == children.len();
                    // The list may change while leaves are visited: that is no error of its own.
                    Ok(fits
                        && all(children.iter().enumerate(), |(i, child)| match list.get_item(i) {
                            Ok(item) => child.visit_or_walk(item, visit),
                            Err(_) => Ok(false),
                        })?)
                } else if let Ok(tuple) = tree.cast_exact::<PyTuple>() {
                    let fits = tuple.len() == children.len();
                    Ok(fits
                        && all(children.iter().zip(tuple.iter()), |(child, item)| {
                            child.visit_or_walk(item, visit)
                        })?)
                } else {
                    Ok(false)
                }
            }
            Self::Dict(children) => {
                let Ok(dict) = tree.cast_exact::<PyDict>() else { return Ok(false) };
                let fits = dict.len() == children.len();
                Ok(fits
                    && all(children.iter(), |(key, child)| match dict.get_item(key)? {
                        Some(item) => child.visit_or_walk(item, visit),
                        None => Ok(false),
                    })?)
            }
        }
    }

    /// The same, without a call for a leaf, as most children are.
    #[inline(always)]
    fn visit_or_walk<'py>(
        &self,
        tree: Bound<'py, PyAny>,
        visit: &mut impl FnMut(Bound<'py, PyAny>) -> PyResult<bool>,
    ) -> PyResult<bool> {
        if matches!(self, Self::Leaf) { visit(tree) } else { self.walk(&tree, visit) }
    }

    /// Visits the keys of all dicts.
    pub(super) fn keys<E>(
        &self,
        visit: &mut impl FnMut(&Py<PyAny>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Leaf => Ok(()),
            Self::List(children) => children.iter().try_for_each(|child| child.keys(visit)),
            Self::Dict(children) => children.iter().try_for_each(|(key, child)| {
                visit(key)?;
                child.keys(visit)
            }),
        }
    }
}

/// Whether something is so of all items; stops at the first that it is not so of.
#[inline(always)]
fn all<T>(
    items: impl Iterator<Item = T>,
    mut is: impl FnMut(T) -> PyResult<bool>,
) -> PyResult<bool> {
    for item in items {
        if !is(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}
