//! What a setting is, and what [`super::listing`] makes of its list: the typed fields, and the table that all else reads.

use clap::{Arg, ArgAction};

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One text.
    Text,
    /// A whole number, which may also be text, such as `auto` or `5`.
    Number,
    /// True or false.
    Switch,
    /// Texts, with commas between them where they are not a TOML array.
    List,
    /// A text by name: a table in TOML, `NAME=TEXT` in a flag, those with `;` between in a variable.
    Named,
    /// Texts by name, with commas between them where they are not a TOML array.
    NamedLists,
}

/// A setting: all that is known of it but its type and check.
#[derive(Debug)]
pub struct Setting {
    /// As in the file; the flag and the variable are derived from it.
    pub name: &'static str,
    /// What it belongs to, in the help and the documents.
    pub heading: &'static str,
    /// What stands for its value, such as `ADDRESS`.
    pub value: &'static str,
    /// Whether it holds at once when the settings are read again, and needs no restart: whether
    /// [`Live`](crate::ground::live::Live), [`Admission`](crate::admission::Admission) or the log take it up.
    pub live: bool,
    /// What holds where nobody sets it, as a flag would have it; nothing is none.
    pub default: &'static str,
    /// An example of one without a default, as a flag would have it.
    pub(super) example: &'static str,
    /// What is told of the default, where that is not its text.
    pub(super) shown: &'static str,
    pub(super) shape: Shape,
    pub(super) lines: &'static [&'static str],
}

impl Setting {
    /// What a row of the listing leaves out.
    pub(super) const REST: Setting = Setting {
        name: "",
        heading: "",
        value: "",
        live: false,
        default: "",
        example: "",
        shown: "",
        shape: Shape::Text,
        lines: &[],
    };

    /// The flag, such as `--listen`.
    pub fn flag(&self) -> String {
        flag(self.name)
    }

    /// The variable of the environment, such as `FANFARE_LISTEN`.
    pub fn variable(&self) -> String {
        format!("FANFARE_{}", self.name.to_ascii_uppercase())
    }

    /// What the documents say of it, in Markdown. The first sentence is that of the help.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// What holds where nobody sets it, in words.
    pub fn default_in_words(&self) -> &'static str {
        [self.shown, self.default, "none"].into_iter().find(|text| !text.is_empty()).expect("the last one is not")
    }

    /// A value as a flag would have it: the default, or an example where there is none.
    pub fn example(&self) -> &'static str {
        if self.default.is_empty() { self.example } else { self.default }
    }

    pub(super) fn is_named(&self) -> bool {
        matches!(self.shape, Shape::Named | Shape::NamedLists)
    }

    /// The flag as the command line knows it. It takes any text, since what is wrong with one is told with where it came from.
    pub(super) fn arg(&self) -> Arg {
        let first = self.lines.iter().map(|line| line.trim()).take_while(|line| !line.is_empty()).collect::<Vec<_>>();
        let help = format!("{} [default: {}]", first.join(" ").trim_end_matches('.'), self.default_in_words());
        let arg = Arg::new(self.name).long(self.name.replace('_', "-")).value_name(self.value).help(help);
        let arg = arg.help_heading(self.heading);
        match self.shape {
            Shape::Text | Shape::Number => arg,
            Shape::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Shape::List | Shape::Named | Shape::NamedLists => arg.action(ArgAction::Append),
        }
    }
}

/// The setting as a flag, for messages.
pub(super) fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// Says which known name was probably meant, or lists them all.
pub(super) fn suggest<T: AsRef<str>>(given: &str, known: impl Iterator<Item = T>) -> String {
    let known: Vec<T> = known.collect();
    // The names of one family share their prefix, which must not make strangers look alike.
    let bare = |name: &str| name.trim_start_matches("FANFARE_").to_ascii_lowercase().replace('-', "_");
    let near = known
        .iter()
        .map(|name| (strsim::jaro_winkler(&bare(given), &bare(name.as_ref())), name.as_ref()))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => {
            let names: Vec<&str> = known.iter().map(T::as_ref).collect();
            format!("known are {}", names.join(", "))
        }
    }
}

/// Makes of a list of settings the structures of their typed values, and `LISTING`, which is what all else knows of them.
macro_rules! listing {
    ($($(#[doc = $about:literal])+ $group:ident $prefix:literal { $($heading:literal { $(
        $(#[doc = $line:literal])+
        $visible:vis $field:ident: $type:ty = $shape:ident($check:expr), $value:literal $(, $word:ident: $text:literal)*;
    )+ })+ })+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $group {
                $($( $(#[doc = $line])+ $visible $field: $type, )+)+
            }

            impl $group {
                /// Makes typed values of the texts, each checked by itself.
                pub(super) fn read(layers: &Layers) -> Result<$group, SettingsError> {
                    Ok($group { $($( $field: Field::read(layers, concat!($prefix, stringify!($field)), $check)?, )+)+ })
                }
            }
        )+

        /// Every setting but the event types, in the order in which they are printed.
        pub static LISTING: &[Setting] = &[$($($( Setting {
            name: concat!($prefix, stringify!($field)),
            heading: $heading,
            shape: Shape::$shape,
            value: $value,
            lines: &[$($line),+],
            $($word: $text,)*
            ..Setting::REST
        }, )+)+)+];
    };
}
pub(super) use listing;
