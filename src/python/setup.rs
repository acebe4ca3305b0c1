//! The parameters and groups of an optimizer, and the gradients that go with them.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::call::{Gradient, Parameter, Place};
use super::tree::Tree;
use crate::error::Error;
use crate::walk::{GRADIENT, PARAMETER};

/// The parameters and groups of an optimizer. A step works with those that there were when it began.
#[derive(Default)]
pub(super) struct Setup {
    pub(super) parameters: Vec<Parameter>,
    /// Whether steps leave a parameter alone.
    pub(super) frozen: Vec<bool>,
    pub(super) roots: Vec<Root>,
    /// The options of each group.
    pub(super) groups: Vec<Py<PyDict>>,
    /// Whether gradients come as a list with a tree for each root, or as the tree of the only one.
    pub(super) is_list: bool,
}

/// A tree of parameters.
pub(super) struct Root {
    tree: Tree,
    watched: Watched,
    count: usize,
}

/// How each step sees that the lists and dicts of parameters still hold their arrays.
enum Watched {
    /// There are none, only an array.
    Nothing,
    /// By a look at these.
    Here(Py<PyAny>),
    /// By asking Python: they are of other kinds.
    InPython,
}

impl Root {
    /// The parameters of a tree, with what it takes to see that it still holds their arrays.
    pub(super) fn new(
        skeleton: &Bound<'_, PyAny>,
        params: Bound<'_, PyAny>,
        parameters: &[Parameter],
    ) -> PyResult<Self> {
        let tree = Tree::of(skeleton)?;
        let watched = if matches!(tree, Tree::Leaf) {
            Watched::Nothing
        } else if holds(&tree, &params, parameters)? {
            Watched::Here(params.unbind())
        } else {
            Watched::InPython
        };
        Ok(Self { tree, watched, count: parameters.len() })
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let watched = match &self.watched {
            Watched::Nothing => Watched::Nothing,
            Watched::Here(params) => Watched::Here(params.clone_ref(py)),
            Watched::InPython => Watched::InPython,
        };
        Self { tree: self.tree.clone_ref(py), watched, count: self.count }
    }
}

impl Setup {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            parameters: self.parameters.iter().map(|own| own.clone_ref(py)).collect(),
            frozen: self.frozen.clone(),
            roots: self.roots.iter().map(|root| root.clone_ref(py)).collect(),
            groups: self.groups.iter().map(|options| options.clone_ref(py)).collect(),
            is_list: self.is_list,
        }
    }

    /// Adds the parameters of a tree.
    pub(super) fn add(&mut self, root: Root, parameters: Vec<Parameter>) {
        self.frozen.resize(self.parameters.len() + parameters.len(), false);
        self.parameters.extend(parameters);
        self.roots.push(root);
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for parameter in &self.parameters {
            parameter.arrays().try_for_each(|(_, array)| visit.call(array.object()))?;
            parameter.exponents.iter().try_for_each(|array| visit.call(array.object()))?;
        }
        for root in &self.roots {
            if let Watched::Here(params) = &root.watched {
                visit.call(params)?;
            }
            root.tree.keys(&mut |key| visit.call(key))?;
        }
        self.groups.iter().try_for_each(|options| visit.call(options))
    }

    /// The gradients of a step, one for each parameter; Python code may run.
    ///
    /// # Errors
    /// What `Optimizer._leaves` raises of a tree of another structure; something that is no gradient;
    /// a tree of parameters that holds other arrays than it did.
    pub(super) fn gradients(
        &self,
        optimizer: &Bound<'_, PyAny>,
        grads: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Gradient>> {
        let mut given = Vec::with_capacity(self.parameters.len());
        let fits = self.walk(grads, &mut |item| {
            let gradient = self.gradient(optimizer, given.len(), item)?;
            given.push(gradient);
            Ok(true)
        })?;
        if !fits {
            // Other kinds of containers, and errors, are Python's.
            let leaves = optimizer.call_method1("_leaves", (grads,))?;
            given.clear();
            for item in leaves.cast::<PyTuple>()?.iter() {
                let gradient = self.gradient(optimizer, given.len(), item)?;
                given.push(gradient);
            }
        }
        self.refuse_detached(optimizer)?;
        if given.len() != self.parameters.len() {
            let (has, wanted) = (given.len(), self.parameters.len());
            return Err(Error::Value(format!("grads has {has} arrays; wanted {wanted}")).into());
        }
        Ok(given)
    }

    /// Visits the leaves of gradients, if they are lists and dicts as the parameters are.
    fn walk<'py>(
        &self,
        grads: &Bound<'py, PyAny>,
        visit: &mut impl FnMut(Bound<'py, PyAny>) -> PyResult<bool>,
    ) -> PyResult<bool> {
        if !self.is_list {
            return match self.roots.as_slice() {
                [root] => root.tree.walk(grads, visit),
                _ => Ok(false),
            };
        }
        let Ok(list) = grads.cast_exact::<PyList>() else { return Ok(false) };
        if list.len() != self.roots.len() {
            return Ok(false);
        }
        for (root, tree) in self.roots.iter().zip(list.iter()) {
            if !root.tree.walk(&tree, visit)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[inline(always)]
    fn gradient(
        &self,
        optimizer: &Bound<'_, PyAny>,
        parameter: usize,
        item: Bound<'_, PyAny>,
    ) -> PyResult<Gradient> {
        if self.frozen.get(parameter).copied().unwrap_or(false) {
            return Ok(Gradient::Absent);
        }
        Gradient::given(item, || describe(optimizer, Place { parameter, role: GRADIENT }))
    }

    /// Checks that the trees of parameters still hold their arrays; Python code may run.
    pub(super) fn refuse_detached(&self, optimizer: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = optimizer.py();
        let mut first = 0;
        for root in &self.roots {
            let parameters = &self.parameters[first..first + root.count];
            let is_doubtful = match &root.watched {
                Watched::Nothing => false,
                Watched::Here(params) => !holds(&root.tree, params.bind(py), parameters)?,
                Watched::InPython => true,
            };
            if is_doubtful {
                // It looks at all of them.
                optimizer.call_method0("_refuse_detached")?;
                return Ok(());
            }
            first += root.count;
        }
        Ok(())
    }
}

/// What errors call an array of an optimizer.
pub(super) fn describe(optimizer: &Bound<'_, PyAny>, place: Place) -> PyResult<String> {
    optimizer.call_method1("_describe", (place.parameter, place.role))?.extract()
}

/// Whether a tree still holds the arrays of these parameters.
fn holds(tree: &Tree, params: &Bound<'_, PyAny>, parameters: &[Parameter]) -> PyResult<bool> {
    let mut parameters = parameters.iter();
    tree.walk(params, &mut |item| {
        let own = parameters.next().and_then(|parameter| parameter.array(PARAMETER));
        Ok(own.is_some_and(|own| item.is(own.object())))
    })
}
