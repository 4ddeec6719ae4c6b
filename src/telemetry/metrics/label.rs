//! Labels: enums, so that every value is known in advance and no client can invent one.

/// A set of label values that is known in full.
pub trait Label: Copy + 'static {
    /// Every value, in the order of their discriminants.
    const ALL: &'static [Self];
    /// As it stands in the metric.
    fn as_str(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Declares the labels of one file: enums with the text of each value. Enums of other rooms that are labels as well
/// follow after a semicolon each, with their variants in the order of their discriminants.
///
/// The test of all of them is made here too, so that none can be left out; that is why a file has one `labels!`.
macro_rules! labels {
    (
        $($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ })+
        $(; $foreign:ident { $($foreign_variant:ident = $foreign_text:literal,)+ })*
    ) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            $vis enum $name { $($(#[$doc])* $variant,)+ }

            labels!(@impl $name { $($variant = $text,)+ });
        )+
        $(labels!(@impl $foreign { $($foreign_variant = $foreign_text,)+ });)*

        #[cfg(test)]
        #[test]
        fn every_label_has_its_place_and_a_name_of_its_own() {
            $(super::label::check::<$name>();)+
            $(super::label::check::<$foreign>();)*
        }
    };
    (@impl $name:ident { $($variant:ident = $text:literal,)+ }) => {
        impl super::label::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use labels;

/// Holds a label to what [`Label`] promises, and its texts to what Prometheus' users expect of them.
#[cfg(test)]
pub(super) fn check<L: Label + std::fmt::Debug + PartialEq>() {
    for (at, label) in L::ALL.iter().enumerate() {
        assert_eq!(label.index(), at);
        let text = label.as_str();
        assert!(
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        );
        assert!(L::ALL[..at].iter().all(|other| other.as_str() != text), "{text} twice");
    }
}
