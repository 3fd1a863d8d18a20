//! What can be wrong with a configuration, in words that name the key.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The key as written in the file, with its section: `http.listen`.
    pub key: String,
    /// What is wrong with it, to follow the key in a sentence.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, has an unknown key, or a value of the wrong kind. The text names key and line.
    #[error("the configuration cannot be understood: {0}")]
    Syntax(Box<toml::de::Error>),
    /// A variable of the environment begins with `HOLDFAST_` and means nothing.
    #[error("the environment variable {0} sets no configuration key")]
    UnknownVariable(String),
    /// A variable of the environment has a value of the wrong kind.
    #[error("the environment variable {name} sets {key}, which takes {takes}")]
    Variable {
        /// Name of the variable.
        name: String,
        /// The key it stands for.
        key: String,
        /// What that key takes.
        takes: &'static str,
    },
    /// Values that fail their checks, all of them.
    #[error("the configuration is wrong:{}", list(.0))]
    Values(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
