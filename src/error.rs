//! The one error type. `python/mod.rs` turns it into Python's exceptions, in one place.

use std::error;
use std::fmt;

/// Why a call was refused. The variant is the kind of Python exception that it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A row that the array does not have.
    Index(String),
    /// The library can't be loaded as the environment wants it.
    Import(String),
    /// An argument of the wrong type or dtype.
    Type(String),
    /// An argument of the right type with a wrong value.
    Value(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(message)
            | Self::Import(message)
            | Self::Type(message)
            | Self::Value(message) => f.write_str(message),
        }
    }
}

impl error::Error for Error {}
