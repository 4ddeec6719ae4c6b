//! Values that a snapshot takes over from the one before, because the settings that they were made of are equal.
//!
//! While a snapshot is made they are [`Reusing`]; [`Reusing::finish`] keeps those that were used.

use std::convert::Infallible;

/// A value for each different setting. Equal settings share a value, also across a reload: a value whose settings have not
/// changed keeps all that it has counted, pooled or cached.
#[derive(Debug)]
pub(super) struct Reused<K, V> {
    entries: Vec<(K, V)>,
}

/// The same while a snapshot is made.
#[derive(Debug)]
pub(super) struct Reusing<'a, K, V> {
    entries: Vec<(K, V)>,
    /// Of the snapshot before.
    previous: &'a [(K, V)],
}

impl<K, V> Reused<K, V> {
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }
}

impl<'a, K: PartialEq + Clone, V: Clone> Reusing<'a, K, V> {
    /// What a new snapshot starts with.
    pub(super) fn after(previous: Option<&'a Reused<K, V>>) -> Self {
        Self { entries: Vec::new(), previous: previous.map_or(&[], |previous| &previous.entries) }
    }

    /// The value of these settings: an existing one, or that of `make`.
    pub(super) fn get_or_try_insert<E>(
        &mut self,
        key: &K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        // There are as many as routes at most, and this is asked once for each of them.
        let find = |entries: &[(K, V)]| {
            entries.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
        };
        if let Some(value) = find(&self.entries) {
            return Ok(value);
        }
        let value = find(self.previous).map_or_else(make, Ok)?;
        self.entries.push((key.clone(), value.clone()));
        Ok(value)
    }

    /// As [`Reusing::get_or_try_insert`], where nothing can fail.
    pub(super) fn get_or_insert(&mut self, key: &K, make: impl FnOnce() -> V) -> V {
        let Ok(value) = self.get_or_try_insert(key, || Ok::<_, Infallible>(make()));
        value
    }

    /// Those of the snapshot before.
    pub(super) fn previous(&self) -> &'a [(K, V)] {
        self.previous
    }

    /// The values that were used; the others go with the snapshot before.
    pub(super) fn finish(self) -> Reused<K, V> {
        Reused { entries: self.entries }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    type Values<'a> = Reusing<'a, &'static str, Arc<()>>;

    fn value(values: &mut Values<'_>, key: &'static str) -> Arc<()> {
        values.get_or_insert(&key, || Arc::new(()))
    }

    #[test]
    fn equal_settings_share_a_part_and_keep_it_over_a_reload() {
        let mut first = Values::after(None);
        let (a, b) = (value(&mut first, "a"), value(&mut first, "b"));
        assert!(Arc::ptr_eq(&a, &value(&mut first, "a")) && !Arc::ptr_eq(&a, &b));
        let first = first.finish();

        let mut second = Values::after(Some(&first));
        assert!(Arc::ptr_eq(&a, &value(&mut second, "a")));
        value(&mut second, "c");
        let second = second.finish();
        drop(first);
        assert_eq!(Arc::strong_count(&b), 1, "what nobody asked for is gone");
        let mut third = Values::after(Some(&second));
        assert!(!Arc::ptr_eq(&b, &value(&mut third, "b")), "and does not come back");
    }

    #[test]
    fn what_cannot_be_made_is_told_and_not_kept() {
        let mut values = Values::after(None);
        assert_eq!(values.get_or_try_insert(&"a", || Err("no")), Err("no"));
        value(&mut values, "a");
    }
}
