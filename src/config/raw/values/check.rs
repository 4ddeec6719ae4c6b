//! Ranges that settings of several sections share.

use crate::config::error::quoted;
use crate::config::problems::Problems;
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
use crate::config::raw::values::units::{Bytes, Span};

/// A timeout of zero would have run out at the start.
pub(crate) fn positive(key: &str, span: Scalar<Span>, problems: &mut Problems) {
    if span.0.0.is_zero() {
        problems.refuse(key, shown(span), "a duration above 0");
    }
}

pub(crate) fn at_least_one(key: &str, count: Scalar<u32>, problems: &mut Problems) {
    if count.0 == 0 {
        problems.refuse(key, shown(count), "a whole number from 1");
    }
}

pub(crate) fn not_empty(key: &str, size: Scalar<Bytes>, problems: &mut Problems) {
    if size.0.0 == 0 {
        problems.refuse(key, shown(size), "a size above 0");
    }
}

/// A checked value, as it would be written.
pub(crate) fn shown<T: ScalarValue + Copy>(value: Scalar<T>) -> String {
    quoted(&value.0.write())
}
