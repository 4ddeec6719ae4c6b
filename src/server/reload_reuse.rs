//! Parts of a table by the settings they were made of.

/// A part for each setting there is. Equal settings have one part between them, also across a reload: a part
/// whose settings stay as they were goes on with all that it has counted, pooled or cached.
#[derive(Debug)]
pub(super) struct ReloadReuse<K, V> {
    entries: Vec<(K, V)>,
    /// Of the table before; what nobody asks for again goes with it.
    previous: Vec<(K, V)>,
}

impl<K: PartialEq + Clone, V: Clone> ReloadReuse<K, V> {
    /// What a new table starts with.
    pub(super) fn after(previous: Option<&Self>) -> Self {
        Self {
            entries: Vec::new(),
            previous: previous.map_or_else(Vec::new, |previous| previous.entries.clone()),
        }
    }

    /// The part of these settings: one that is there, or what `make` makes.
    pub(super) fn get_or_try_insert<E>(
        &mut self,
        key: &K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        // There are as many as routes at most, and this is asked once for each of them.
        let known = |entries: &[(K, V)]| {
            entries
                .iter()
                .find(|(other, _)| other == key)
                .map(|(_, get_or_try_insert)| get_or_try_insert.clone())
        };
        if let Some(get_or_try_insert) = known(&self.entries) {
            return Ok(get_or_try_insert);
        }
        let get_or_try_insert = known(&self.previous).map_or_else(make, Ok)?;
        self.entries.push((key.clone(), get_or_try_insert.clone()));
        Ok(get_or_try_insert)
    }

    /// Those that were asked for.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, get_or_try_insert)| get_or_try_insert)
    }

    /// All parts are made: those that were not asked for are let go.
    pub(super) fn settle(&mut self) {
        self.previous = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::*;

    type Parts = ReloadReuse<&'static str, Arc<()>>;

    fn get_or_try_insert(entries: &mut Parts, key: &'static str) -> Arc<()> {
        let Ok(get_or_try_insert) = entries.get_or_try_insert(&key, || Ok::<_, Infallible>(Arc::new(())));
        get_or_try_insert
    }

    #[test]
    fn equal_settings_share_a_part_and_keep_it_over_a_reload() {
        let mut first = Parts::after(None);
        let (a, b) = (get_or_try_insert(&mut first, "a"), get_or_try_insert(&mut first, "b"));
        assert!(Arc::ptr_eq(&a, &get_or_try_insert(&mut first, "a")) && !Arc::ptr_eq(&a, &b));
        first.settle();

        let mut second = Parts::after(Some(&first));
        assert!(Arc::ptr_eq(&a, &get_or_try_insert(&mut second, "a")));
        get_or_try_insert(&mut second, "c");
        second.settle();
        drop(first);
        assert_eq!(Arc::strong_count(&b), 1, "what nobody asked for is gone");
        let mut third = Parts::after(Some(&second));
        assert!(!Arc::ptr_eq(&b, &get_or_try_insert(&mut third, "b")), "and does not come back");
    }

    #[test]
    fn what_cannot_be_made_is_told_and_not_kept() {
        let mut entries = Parts::after(None);
        assert_eq!(entries.get_or_try_insert(&"a", || Err("no")), Err("no"));
        get_or_try_insert(&mut entries, "a");
    }
}
