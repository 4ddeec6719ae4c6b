//! Parts of a table by the settings they were made of.

/// A part for each setting there is. Equal settings have one part between them, also across a reload: a part
/// whose settings stay as they were goes on with all that it has counted, pooled or cached.
#[derive(Debug)]
pub(super) struct Carried<K, V> {
    parts: Vec<(K, V)>,
    /// Of the table before; what nobody asks for again goes with it.
    old: Vec<(K, V)>,
}

impl<K: PartialEq + Clone, V: Clone> Carried<K, V> {
    /// What a new table starts with.
    pub(super) fn after(previous: Option<&Self>) -> Self {
        Self { parts: Vec::new(), old: previous.map_or_else(Vec::new, |previous| previous.parts.clone()) }
    }

    /// The part of these settings: one that is there, or what `make` makes.
    pub(super) fn part<E>(&mut self, key: &K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        // There are as many as routes at most, and this is asked once for each of them.
        let known =
            |parts: &[(K, V)]| parts.iter().find(|(other, _)| other == key).map(|(_, part)| part.clone());
        if let Some(part) = known(&self.parts) {
            return Ok(part);
        }
        let part = known(&self.old).map_or_else(make, Ok)?;
        self.parts.push((key.clone(), part.clone()));
        Ok(part)
    }

    /// Those that were asked for.
    pub(super) fn parts(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().map(|(_, part)| part)
    }

    /// All parts are made: those that were not asked for are let go.
    pub(super) fn settle(&mut self) {
        self.old = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::*;

    type Parts = Carried<&'static str, Arc<()>>;

    fn part(parts: &mut Parts, key: &'static str) -> Arc<()> {
        let Ok(part) = parts.part(&key, || Ok::<_, Infallible>(Arc::new(())));
        part
    }

    #[test]
    fn equal_settings_share_a_part_and_keep_it_over_a_reload() {
        let mut first = Parts::after(None);
        let (a, b) = (part(&mut first, "a"), part(&mut first, "b"));
        assert!(Arc::ptr_eq(&a, &part(&mut first, "a")) && !Arc::ptr_eq(&a, &b));
        first.settle();

        let mut second = Parts::after(Some(&first));
        assert!(Arc::ptr_eq(&a, &part(&mut second, "a")));
        part(&mut second, "c");
        second.settle();
        drop(first);
        assert_eq!(Arc::strong_count(&b), 1, "what nobody asked for is gone");
        let mut third = Parts::after(Some(&second));
        assert!(!Arc::ptr_eq(&b, &part(&mut third, "b")), "and does not come back");
    }

    #[test]
    fn what_cannot_be_made_is_told_and_not_kept() {
        let mut parts = Parts::after(None);
        assert_eq!(parts.part(&"a", || Err("no")), Err("no"));
        part(&mut parts, "a");
    }
}
